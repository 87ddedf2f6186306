"""The stage `clean`: rewrites the text, and says in `clean_edits` what each rule changed.

Characters, lines and personal data are cleaned until nothing changes any more, so cleaning what is
clean already changes nothing. A document that a line rule leaves empty is dropped with its name.
"""

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator

from corpus.clean import lines, mojibake, pages, personal, prefilter
from corpus.clean.characters import clean_characters
from corpus.clean.marked import cut_marked
from corpus.clean.personal import Policy
from corpus.clean.script import Conversion, convert
from corpus.settings import Settings
from corpus.stage import BatchStage, verdicts

DISCLAIMER = "disclaimer"
EDITS = pa.map_(pa.string(), pa.int64())
ROUNDS = 8  # texts settle in two or three; hypothesis has found none that needs five

# Where so many characters were lost, what is left is no text either: a wrong decoding, a font with
# code points of its own. (Single ones are slips, and are removed.)
DAMAGE = {"replacement-characters": 0.01, "private-characters": 0.05, "control-characters": 0.05}

PERSONAL_KINDS = frozenset(kind.name for kind in personal.KINDS)


class CleanSettings(Settings):
    """What is cleaned, and how hard."""

    mojibake: bool = True
    """Lead UTF-8 that was read as Latin-1, Windows-1252 or GBK back to text, where that is
    certain."""
    characters: bool = True
    """Mend characters: one Unicode form, half-width letters and digits, no invisible ones."""
    script: Conversion | None = None
    """Convert Chinese characters by OpenCC: `t2s` traditional to simplified, `tw2sp` Taiwan's with
    its words, and so on. Fenced code stays as it is. Needs the package opencc."""
    lines: bool = True
    """Remove lines that are page furniture."""
    keep_lines: tuple[str, ...] = ()
    """Names of line rules that are not to be used (`copyright`, `repeated-line`, …)."""
    repeats: int = Field(default=10, ge=2)
    """A short line that stands this often in one document is kept only the first time."""
    repeat_kinds: tuple[str, ...] = ("web", "news", "forum", "social", "blog")
    """The kinds of documents in which such a line is furniture. In tables, statutes and verse it is
    content (单位：万元); running headers are found in every kind, by their regularity."""
    personal: dict[str, Policy] = Field(default_factory=dict)
    """For each kind of personal data keep, mask (with a placeholder such as [MOBILE]) or drop (the
    document). What is not named is masked."""

    @field_validator("keep_lines")
    @classmethod
    def _known_rules(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(names) - lines.NAMES)
        if unknown:
            raise ValueError(f"no such line rule: {unknown[0]}; there are {sorted(lines.NAMES)}")
        return names

    @field_validator("personal")
    @classmethod
    def _known_kinds(cls, policies: dict[str, Policy]) -> dict[str, Policy]:
        unknown = sorted(set(policies) - PERSONAL_KINDS)
        if unknown:
            raise ValueError(
                f"no such kind: {unknown[0]}; there are {sorted(PERSONAL_KINDS)}, "
                f"each {', '.join(get_args(Policy))}"
            )
        return policies


class Clean(BatchStage):
    """Cleans each document by itself."""

    Config = CleanSettings
    config: CleanSettings
    rewrites_text: ClassVar[bool] = True

    @property
    def needs(self) -> Sequence[str]:
        return ("text", "kind", "extra")

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([pa.field("clean_edits", EDITS)])

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        kinds = batch.column("kind").to_pylist()
        given = batch.column("text").to_pylist()
        cut = {}
        if self.config.lines and DISCLAIMER not in self.config.keep_lines:
            cut = cut_marked(given, batch.column("extra"))
        for row, (text, _) in cut.items():
            given[row] = text
        texts, edits, reasons = clean_texts(given, self.config, kinds)
        for row, (_, characters) in cut.items():
            edits[row][DISCLAIMER] += characters
        return pa.RecordBatch.from_arrays(
            [
                batch.column("doc_id"),
                pa.array([sorted(entry.items()) for entry in edits], EDITS),
                pa.array(texts, pa.string()),
                verdicts(reasons, evidence=list(map(_evidence, reasons, edits))),
            ],
            ["doc_id", "clean_edits", "text", "verdict"],
        )


def _evidence(reason: str | None, edits: Counter[str]) -> dict[str, str] | None:
    if reason is None:
        return None
    return {"edits": ", ".join(f"{rule} {count}" for rule, count in edits.most_common(8))}


def clean_texts(
    texts: Sequence[str | None], settings: CleanSettings, kinds: Sequence[str | None]
) -> tuple[list[str], list[Counter[str]], list[str | None]]:
    """Each text cleaned, its edits (characters removed or changed by rule), and why it is dropped.

    A text is dropped where nothing visible is left (by the rule that took most, or `empty` if
    there was nothing to begin with), where too much of it was damaged (`DAMAGE`), and where it
    holds personal data whose policy is drop.
    """
    cleaned = [text or "" for text in texts]
    edits: list[Counter[str]] = [Counter() for _ in texts]
    reasons: list[str | None] = [None if text.strip() else "empty" for text in cleaned]
    pending = list(range(len(cleaned)))
    for _ in range(ROUNDS):
        if not pending:
            break
        before = [cleaned[row] for row in pending]
        after = before
        if settings.mojibake:
            flags = _flags(after)
            after = [
                mojibake.repair(text, int(flag), edits[row]) if flag & prefilter.DEBRIS else text
                for row, text, flag in zip(pending, after, flags, strict=True)
            ]
        if settings.characters:
            flags = _flags(after)
            after = [
                clean_characters(text, int(flag), edits[row]) if flag & prefilter.MEND else text
                for row, text, flag in zip(pending, after, flags, strict=True)
            ]
        if settings.script:
            after = [
                convert(text, settings.script, edits[row])
                for row, text in zip(pending, after, strict=True)
            ]
        if settings.lines:
            after = _remove_lines(
                after, [edits[row] for row in pending], [kinds[row] for row in pending], settings
            )
        flags = _flags(after)
        for place, (row, text) in enumerate(zip(pending, after, strict=True)):
            cleaned[row], drop = personal.mask(
                text, settings.personal, edits[row], int(flags[place])
            )
            if drop and reasons[row] is None:
                reasons[row] = f"personal-{drop}"
        pending = [row for row, text in zip(pending, before, strict=True) if cleaned[row] != text]
    for row, text in enumerate(cleaned):
        if reasons[row] is None and not text.strip():
            reasons[row] = edits[row].most_common(1)[0][0] if edits[row] else "empty"
        for rule, share in DAMAGE.items():
            if reasons[row] is None and edits[row][rule] > share * len(texts[row] or ""):
                reasons[row] = rule
    return cleaned, edits, reasons


def _flags(texts: Sequence[str]) -> NDArray[np.uint32]:
    data, offsets = _buffers(texts)
    flags = np.zeros(len(texts), np.uint32)
    prefilter.character_flags(data, offsets, prefilter.mend_table(), flags)
    return flags


def _buffers(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(item) for item in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def _remove_lines(
    texts: Sequence[str],
    edits: Sequence[Counter[str]],
    kinds: Sequence[str | None],
    settings: CleanSettings,
) -> list[str]:
    data, offsets = _buffers(texts)
    found = prefilter.find_lines(data, offsets, prefilter.trigger_table())
    result = list(texts)
    edges = np.searchsorted(found[:, prefilter.DOCUMENT], np.arange(len(texts) + 1))
    for document in np.unique(found[:, prefilter.DOCUMENT]).tolist():
        base = int(offsets[document])
        content = data[base : offsets[document + 1]].tobytes()
        candidates = found[edges[document] : edges[document + 1]]
        candidates[:, prefilter.START : prefilter.END + 1] -= base
        spans = _spans(content, candidates.tolist(), kinds[document], settings)
        for start, stop, rule in spans:
            edits[document][rule] += len(content[start:stop].decode("utf-8", "replace").strip())
        if spans:
            result[document] = _cut(content, spans)
    return result


def line_spans(text: str, kind: str | None, settings: CleanSettings) -> list[tuple[int, int, str]]:
    """The lines of one text that go, in order: first byte, byte after the last, rule."""
    data, offsets = _buffers([text])
    found = prefilter.find_lines(data, offsets, prefilter.trigger_table())
    return _spans(data.tobytes(), found.tolist(), kind, settings)


def _spans(
    content: bytes,
    candidates: Sequence[Sequence[int]],
    kind: str | None,
    settings: CleanSettings,
) -> list[tuple[int, int, str]]:
    """The byte ranges of the lines to remove, in order, with their rules."""
    # A line's length is that of what is visible in it, so white space must not count for patterns.
    texts = [
        " ".join(content[row[1] : row[2]].decode("utf-8", "replace").split()) for row in candidates
    ]
    furniture = pages.page_furniture(
        [
            pages.Line(
                row[prefilter.INDEX],
                text,
                bool(row[prefilter.FLAGS] & prefilter.NUMBER),
                bool(row[prefilter.FLAGS] & prefilter.REPEATED),
            )
            for row, text in zip(candidates, texts, strict=True)
            if row[prefilter.FLAGS] & (prefilter.NUMBER | prefilter.REPEATED)
        ],
        content.count(b"\n") + 1,
    )
    repeated: set[str] = set()
    if kind in settings.repeat_kinds:
        repeated = _often(candidates, texts, settings.repeats)
    spans = []
    for row, text in zip(candidates, texts, strict=True):
        rule = furniture.get(row[prefilter.INDEX])
        if rule is None and row[prefilter.FLAGS] & prefilter.TRIGGER:
            mask = row[prefilter.RULES]
            rule = lines.matching_rule(text, row[prefilter.VISIBLE], mask, settings.keep_lines)
        if rule is None and row[prefilter.FLAGS] & prefilter.REPEATED and text in repeated:
            rule = lines.REPEATED_LINE
        if rule is not None and rule not in settings.keep_lines:
            spans.append((row[prefilter.START], row[prefilter.END], rule))
    return spans


def _often(candidates: Sequence[Sequence[int]], texts: Sequence[str], repeats: int) -> set[str]:
    """The short lines that stand `repeats` times or more and do not end like a sentence."""
    return {
        text
        for row, text in zip(candidates, texts, strict=True)
        if row[prefilter.TIMES] >= repeats and text[-1:] not in "。！？；.!?;，,、：:"
    }


def _cut(content: bytes, spans: Sequence[tuple[int, int, str]]) -> str:
    parts, position = [], 0
    for start, stop, _ in spans:
        parts.append(content[position:start])
        position = min(stop + 1, len(content))  # the line break goes with its line
    parts.append(content[position:])
    rest = b"".join(parts)
    if spans[-1][1] == len(content):
        rest = rest.removesuffix(b"\n")
    return rest.decode("utf-8", "surrogatepass")
