"""The source: where a part of the corpus lies, how it is stored, and its documents' tags."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from corpus.settings import Settings

Format = Literal["html", "pdf", "text", "epub", "docx", "jsonl", "parquet", "warc", "zip"]
Media = Literal["html", "pdf", "text", "epub", "docx"]

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "html": (".html", ".htm", ".shtml", ".xhtml", ".xml"),
    "pdf": (".pdf",),
    "text": (".txt", ".md", ".markdown", ".text"),
    "epub": (".epub",),
    "docx": (".docx",),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet",),
    "warc": (".warc",),
    "zip": (".zip",),
}
"""Which files of a folder belong to a source of that format; a glob or a file is taken as it is."""

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".lz4")
"""Suffixes under which any format but Parquet may be compressed."""


class Source(Settings):
    """One entry of a recipe's `sources`."""

    name: str = Field(pattern=r"^[\w.-]+$", max_length=100)
    """Names the source in every document; part of the documents' ids, so renaming changes them."""

    path: str | list[str]
    """A file, a folder (all its files of this format), a glob (`**` crosses folders), or several.

    Any address that fsspec opens (`s3://…`, `hdfs://…`, `https://…`). Relative paths start at the
    folder in which the command runs.
    """

    format: Format
    """How the documents are stored: `html`, `pdf`, `text`, `epub` and `docx` hold one a file;
    `jsonl` and `parquet` hold one a row, `warc` one a response, `zip` one a member.
    Files ending in .gz, .bz2, .xz, .zst or .lz4 are decompressed."""

    lang: str | None = None
    """`zh`, `en` or another language code; `auto` or nothing leaves it to the language stage."""

    domain: Literal["general", "finance"] | None = None
    """The documents' domain, where it is known."""

    kind: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_-]*$")
    """encyclopedia, book, textbook, exam, paper, law, news, report, filing, announcement, qa,
    forum, social, web …, where it is known."""

    priority: int = 0
    """Of two duplicates the one from the source of higher priority is kept."""

    content: str = "text"
    """`jsonl`, `parquet`: the field that holds the document."""

    media: Media = "text"
    """`jsonl`, `parquet`: what that field holds (`pdf`, `epub`, `docx` only in Parquet's binary
    columns); `zip`: what its members are."""

    columns: dict[Literal["url", "title", "date"], str] = Field(default={})
    """`jsonl`, `parquet`: the fields that hold these, where they bear another name."""

    extra: list[str] = Field(default=["id"])
    """`jsonl`, `parquet`: fields to keep, as text, in the documents' `extra`; missing ones are
    passed over."""

    max_mb: int = Field(default=256, ge=1, le=1024)
    """A larger document is dropped by the rule `too_large` before it is read whole (MB of 10^6)."""

    @field_validator("path")
    @classmethod
    def _paths_exist(cls, value: str | list[str]) -> str | list[str]:
        if not value or not all(value if isinstance(value, list) else [value]):
            raise ValueError("an empty path")
        return value

    @model_validator(mode="after")
    def _media_fits(self) -> Self:
        if self.media not in ("html", "text") and self.format == "jsonl":
            raise ValueError("JSON holds no bytes: media must be text or html")
        return self

    @property
    def paths(self) -> list[str]:
        """`path` as a list."""
        return self.path if isinstance(self.path, list) else [self.path]

    @property
    def known_lang(self) -> str | None:
        """`lang`, None for `auto`."""
        return None if self.lang == "auto" else self.lang
