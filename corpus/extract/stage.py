"""The stage `extract`: RAW records in, documents of clean text out, or the reason why not."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from corpus.document import DOCUMENT, RAW
from corpus.extract.documents import warm_up
from corpus.extract.pdf_neural import require_model
from corpus.extract.sandbox import Outcome, Sandbox
from corpus.extract.settings import ExtractSettings
from corpus.stage import BatchStage, Read, verdicts

FUNCTION = "corpus.extract.documents:extract_in_sandbox"
TAGS = ("source", "lang", "domain", "kind", "url", "title", "date", "extra")


class Extract(BatchStage):
    """Text out of HTML, PDF and plain text.

    Drops, by rule: what reading failed on (`unreadable`, `bad_json`, `no_content`, `too_large`),
    `empty`, `no_text`, `list_page`, `not_html` and the like, `broken_pdf`, `encrypted`,
    `needs_ocr`, `too_short`, and what the sandbox ended: `timeout`, `memory`, `crash`, `error`.
    The evidence is the document's locator and a message. What the source says of a document (tags,
    title, date, url) wins over what is found in it.
    """

    Config = ExtractSettings
    rewrites_text: ClassVar[bool] = True
    function: ClassVar[str] = FUNCTION
    config: ExtractSettings

    @property
    def needs(self) -> Sequence[str]:
        return [name for name in RAW.names if name != "doc_id"]

    @property
    def adds(self) -> pa.Schema:
        found = [DOCUMENT.field(name) for name in DOCUMENT.names if name != "doc_id"]
        return pa.schema([*found, RAW.field("media"), RAW.field("locator")])

    def prepare(self, read: Read) -> None:
        # Compiled here once and cached, what the workers run is loaded by them in no time.
        warm_up()
        if self.config.pdf.layout == "neural":
            require_model()

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns: dict[str, list[Any]] = {name: [] for name in ("text", "rule", "value", "evidence")}
        tags: dict[str, list[Any]] = {name: batch.column(name).to_pylist() for name in TAGS}
        media = batch.column("media").to_pylist()
        locators = batch.column("locator").to_pylist()
        failures = batch.column("failure").to_pylist()
        payloads = batch.column("payload")
        for row in range(batch.num_rows):
            found = self._one(media[row], locators[row], payloads[row].as_py(), failures[row])
            rule, message = found.get("reason"), found.get("message", "")
            text = found.get("text") or None
            signs = len("".join(text.split())) if text else 0
            short = rule is None and signs < self.config.min_characters
            columns["text"].append(text)
            columns["rule"].append("too_short" if short else rule)
            columns["value"].append(float(signs) if short else None)
            evidence = {"locator": locators[row], "message": message}
            columns["evidence"].append(evidence if rule or short else None)
            for name in ("title", "date", "url"):
                tags[name][row] = tags[name][row] or found.get(name)
            tags["extra"][row] = [
                *{**found.get("extra", {}), **dict(tags["extra"][row] or ())}.items()
            ]
        rules = columns["rule"]
        least = float(self.config.min_characters)
        verdict = verdicts(
            rules,
            columns["value"],
            [least if rule == "too_short" else None for rule in rules],
            columns["evidence"],
        )
        data = {**tags, "text": columns["text"], "media": media, "locator": locators}
        schema = self.output_schema()
        arrays = [
            batch.column("doc_id")
            if field.name == "doc_id"
            else verdict
            if field.name == "verdict"
            else pa.array(data[field.name], field.type)
            for field in schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _one(
        self, media: str, locator: str, payload: bytes | None, failure: str | None
    ) -> Mapping[str, Any]:
        """The fields of `Extracted` that matter."""
        if failure is not None or payload is None:
            rule, _, message = (failure or "unreadable: no payload").partition(": ")
            return {"reason": rule, "message": message}
        sandbox = _sandbox(self.function, self.config.timeout_s, self.config.memory_mb)
        settings = self.config.model_dump(mode="json")
        request = {"media": media, "locator": locator, "settings": settings}
        outcome: Outcome = sandbox.call(request, payload)
        if outcome.status != "ok":
            return {"reason": outcome.status, "message": outcome.message}
        return outcome.reply


@functools.cache
def _sandbox(function: str, timeout_s: float, memory_mb: int) -> Sandbox:
    """One for each Spark worker: it lives as long as that process."""
    return Sandbox(function, cpu_s=timeout_s, wall_s=3 * timeout_s, memory_mb=memory_mb)
