"""The stage `language`: zh-Hans, zh-Hant, en or other, with the share of each in every document.

Scripts decide what they can (`classifiers.scripts`): Han with hardly any kana or hangul is Chinese,
and the characters that only one script uses tell simplified from traditional. Latin letters are
English where the words that only English uses are frequent and those of others are not; CLD2 reads
the rest.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pycld2
from pydantic import Field

from classifiers import scripts
from classifiers.scoring import text_buffers
from corpus.settings import Settings
from corpus.stage import BatchStage, verdicts

LANGUAGES = ("zh-Hans", "zh-Hant", "en", "other")
DETECTED = ("zh", "zh", "en", "other")  # what `lang_detected` calls them
KANA_OF_JAPANESE = 0.1  # share of kana in kana + Han from which the Han count as Japanese
HANGUL_OF_KOREAN = 0.5
SAMPLE_BYTES = 400  # Latin text that CLD2 reads of one document
FEW_LATIN = 0.05  # share of Latin words under which they count as English unread
FEW_FOREIGN = 0.04  # share of foreign words among the Latin ones that English texts may hold
ENOUGH_ENGLISH = 0.02  # share of English words that makes them English: prose has 0.13, code less
LEAST_ENGLISH = 4  # such words
MORE_ENGLISH = 4  # times as many as foreign ones


class LanguageConfig(Settings):
    """Settings of the stage."""

    keep: tuple[str, ...] = ("zh", "en")
    """What is wanted: zh (both scripts), zh-Hans, zh-Hant, en, other."""
    min_share: float = Field(0.5, ge=0, le=1)
    """The least share of wanted languages in a kept document's words (`classifiers.scripts`)."""
    drop_mismatch: bool = False
    """True: drop documents whose source says another language than was found."""


class Language(BatchStage):
    """Adds `language` (zh-Hans, zh-Hant, en, other), `language_share` (its share, double) and
    `lang_detected` (zh, en, other). Drops by the rules `language` and `language_mismatch`. A
    document without a word has null in all three and is kept: other stages judge it."""

    Config = LanguageConfig
    config: LanguageConfig

    @property
    def needs(self) -> Sequence[str]:
        return ("text", "lang")

    @property
    def adds(self) -> pa.Schema:
        return pa.schema(
            [
                ("language", pa.string()),
                ("language_share", pa.float64()),
                ("lang_detected", pa.string()),
            ]
        )

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        shares = language_shares(batch.column("text"))
        best = best_languages(shares)
        known = shares.sum(axis=1) > 0
        wanted = [k for k, name in enumerate(LANGUAGES) if self._wants(name)]
        share = shares[:, wanted].sum(axis=1)
        detected = pa.array(DETECTED).take(pa.array(best, mask=~known))
        unwanted = known & (share < self.config.min_share)
        differs = np.zeros(len(known), bool)
        if self.config.drop_mismatch:
            said = batch.column("lang")
            other = pc.not_equal(said, detected).fill_null(False)  # where either is silent
            differs = np.asarray(other) & (np.asarray(pc.binary_length(said).fill_null(0)) > 0)
        rules: list[str | None] = [None] * len(known)
        values: list[float | None] = [None] * len(known)
        limits: list[float | None] = [None] * len(known)
        evidence: list[dict[str, str] | None] = [None] * len(known)
        for row in np.flatnonzero(unwanted | differs).tolist():
            parts = zip(LANGUAGES, shares[row], strict=True)
            found = {name: f"{part:.3f}" for name, part in parts if part}
            rules[row] = "language" if unwanted[row] else "language_mismatch"
            if not unwanted[row]:
                found["source_says"] = batch.column("lang")[row].as_py()
            values[row], limits[row] = float(share[row]), self.config.min_share
            evidence[row] = found
        return pa.RecordBatch.from_pydict(
            {
                "doc_id": batch.column("doc_id"),
                "language": pa.array(LANGUAGES).take(pa.array(best, mask=~known)),
                "language_share": pa.array(shares[np.arange(len(best)), best], mask=~known),
                "lang_detected": detected,
                "verdict": verdicts(rules, values, limits, evidence),
            }
        )

    def _wants(self, name: str) -> bool:
        return name in self.config.keep or name.split("-")[0] in self.config.keep


def language_shares(texts: pa.Array) -> npt.NDArray[np.float64]:
    """float64 [texts, 4]: the share of each of LANGUAGES in the words; zeros if no word."""
    offsets, data = text_buffers(texts)
    counts = scripts.count_scripts(offsets, data, scripts.script_table()).astype(np.float64)
    han, hans, hant, kana, hangul, latin, other, english_words, foreign = counts.T
    words = han + kana + hangul + latin + other
    japanese = kana > KANA_OF_JAPANESE * (han + kana)
    korean = hangul > HANGUL_OF_KOREAN * (han + hangul)
    chinese = np.where(japanese | korean, 0.0, han)
    traditional = hant > hans
    sure = english_words >= np.maximum(LEAST_ENGLISH, ENOUGH_ENGLISH * latin)
    sure &= english_words >= MORE_ENGLISH * foreign
    plain = (foreign <= FEW_FOREIGN * latin) & (sure | (2 * latin < words))
    unread = np.flatnonzero((latin > FEW_LATIN * words) & ~plain)
    english = _english_part(offsets, data, unread) * latin
    shares = np.column_stack(
        [
            np.where(traditional, 0.0, chinese),
            np.where(traditional, chinese, 0.0),
            english,
            words - chinese - english,
        ]
    )
    return shares / np.maximum(words, 1.0)[:, None]


def best_languages(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """int64 [texts]: the index in LANGUAGES of the largest share."""
    return shares.argmax(axis=1)


def paragraph_languages(text: str) -> list[tuple[str, str | None]]:
    """(paragraph, language) of each line of `text` that is not blank; None if it has no word."""
    lines = [line for line in text.splitlines() if line.strip()]
    shares = language_shares(pa.array(lines, pa.string()))
    best = best_languages(shares)
    return [
        (line, LANGUAGES[best[row]] if shares[row].any() else None)
        for row, line in enumerate(lines)
    ]


def _english_part(
    offsets: npt.NDArray[np.int64],
    data: npt.NDArray[np.uint8],
    unread: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """float64 [texts]: how much of each text's Latin words is English; 1 for all but `unread`."""
    part = np.ones(len(offsets) - 1)
    sample = np.empty(SAMPLE_BYTES, np.uint8)
    table = scripts.script_table()
    for row in unread.tolist():
        size = scripts.latin_sample(data[offsets[row] : offsets[row + 1]], table, sample)
        _, _, found = pycld2.detect(sample[:size].tobytes(), bestEffort=True)
        shares = {code: percent for _, code, percent, _ in found if code != "un"}
        total = sum(shares.values())
        # What CLD2 does not know is code, names or a few words: English, as far as it is anything.
        part[row] = shares.get("en", 0) / total if total else 1.0
    return part
