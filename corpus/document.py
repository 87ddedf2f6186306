"""The document: one row of Parquet, the unit that every stage keeps or drops.

Contract 1 of the design. This module imports neither pyspark nor torch; Spark gets the same
schema from `spark_type` in `corpus.stage`.
"""

import hashlib

import pyarrow as pa

LANGS = ("zh", "en", "other")
DOMAINS = ("general", "finance")

DOCUMENT = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),  # 32 hex digits, see `document_id`
        pa.field("text", pa.string()),
        pa.field("source", pa.string(), nullable=False),  # the recipe's name for it
        pa.field("lang", pa.string()),  # zh | en | …, null until known
        pa.field("domain", pa.string()),  # general | finance, null until known
        pa.field("kind", pa.string()),  # law, filing, book, web, …, null until known
        pa.field("url", pa.string()),
        pa.field("title", pa.string()),
        pa.field("date", pa.string()),  # ISO 8601, as far as it is known
        pa.field("extra", pa.map_(pa.string(), pa.string())),
    ]
)

# What a source yields before extraction: the document's tags and its bytes as they were found.
RAW = pa.schema(
    [DOCUMENT.field(name) for name in DOCUMENT.names if name != "text"]
    + [
        pa.field("locator", pa.string(), nullable=False),  # path, path#line, path!member
        pa.field("media", pa.string(), nullable=False),  # html | pdf | text | epub | docx
        pa.field("payload", pa.binary()),  # null where reading failed
        pa.field("failure", pa.string()),  # why reading failed, else null
    ]
)

# Why a document was dropped; null in a stage's output where it was kept.
VERDICT = pa.struct(
    [
        pa.field("rule", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("threshold", pa.float64()),
        # What a person needs to believe it. For a duplicate: kept (the twin's doc_id), scope.
        pa.field("evidence", pa.map_(pa.string(), pa.string())),
    ]
)


def document_id(source: str, locator: str) -> str:
    """The 128-bit BLAKE2b hash, in hex, of where a document comes from: stable across runs."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(source.encode("utf-8", "surrogatepass"))
    digest.update(b"\0")
    digest.update(locator.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
