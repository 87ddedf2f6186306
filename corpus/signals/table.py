"""All signals: name, unit, formula, source. The order is the order of the struct's fields.

`python -m corpus.signals.table` prints the table as Markdown. Formulas are functions of the
counters (`corpus.signals.counters`), each a float64 vector over the documents; a share whose whole
is zero is undefined and null. *Characters* are Unicode code points, *visible* ones those that are
neither white space nor invisible; *tokens* are Han or kana characters and words; *windows* are
those of `corpus.signals.repetition.WINDOW` tokens.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.signals import characters as c
from corpus.signals.counters import COUNTERS, LEXICON
from corpus.signals.lexicons import LEXICONS

Vector = NDArray[np.float64]

GOPHER = "Gopher (Rae et al. 2021, table A1)"
FINEWEB = "FineWeb (Penedo et al. 2024)"
FINEWEB2 = "FineWeb2 (Penedo et al. 2025)"
CHINESE_WEB_TEXT = "ChineseWebText (Chen et al. 2023)"
CURATOR = "NeMo Curator's heuristic filters"
DATA_JUICER = "Data-Juicer (Chen et al. 2023)"
XUANYUAN = "XuanYuan's report: word, sentence and document rules"
OURS = "Lianjin"


class Counts:
    """The counters of a batch by name: `counts.LINES` is float64 [documents]."""

    def __init__(self, matrix: NDArray[np.float64]) -> None:
        self.matrix = matrix

    def __getattr__(self, name: str) -> Vector:
        return self.matrix[:, COUNTERS[name]]

    def of(self, *classes: int) -> Vector:
        """Characters of these classes."""
        total: Vector = self.matrix[:, list(classes)].sum(axis=1)
        return total

    def hits(self, lexicon: str) -> Vector:
        """Hits of one of the word lists."""
        return self.matrix[:, LEXICON + list(LEXICONS).index(lexicon)]

    @property
    def han(self) -> Vector:
        return self.of(c.HAN, c.HAN_TRADITIONAL, c.HAN_RARE)

    @property
    def latin(self) -> Vector:
        return self.of(c.LOWER, c.UPPER)

    @property
    def visible(self) -> Vector:
        return self.CHARACTERS - self.of(c.NEWLINE, c.SPACE, c.INVISIBLE)


@dataclass(frozen=True)
class Signal:
    """One number about a document."""

    name: str
    unit: str
    meaning: str
    source: str
    formula: Callable[[Counts], Vector]


def share(part: Vector, whole: Vector) -> Vector:
    """part / whole, NaN where the whole is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _line_share(counter: str) -> Callable[[Counts], Vector]:
    return lambda n: share(getattr(n, counter), n.LINES)


def _visible_share(*classes: int) -> Callable[[Counts], Vector]:
    return lambda n: share(n.of(*classes), n.visible)


def _token_share(counter: str) -> Callable[[Counts], Vector]:
    return lambda n: share(getattr(n, counter), n.TOKEN_CHARACTERS)


def _hits(name: str) -> Callable[[Counts], Vector]:
    return lambda n: 1000 * share(n.hits(name), n.visible)


def _words(counter: int) -> Callable[[Counts], Vector]:
    """One of `corpus.signals.words.COUNTERS`."""
    return lambda n: n.matrix[:, LEXICON + len(LEXICONS) + counter]


def _deviation(n: Counts) -> Vector:
    mean = share(n.LINE_CHARACTERS, n.LINES)
    spread = np.sqrt(np.maximum(share(n.LINE_SQUARES, n.LINES) - mean**2, 0))
    return share(spread, mean)


def _compression(n: Counts) -> Vector:
    # Each distinct token is spelled once; then all that no 5-gram before holds is coded at its
    # entropy. Over laws, questions, letters, reports and repeated text this follows zlib's ratio
    # (correlation above .9), without compressing anything.
    spelled = n.DISTINCT_TOKENS * share(n.BYTES, n.TOKENS)
    coded = (1 - share(n.DUP_5, n.TOKEN_CHARACTERS)) * n.ENTROPY / 8
    return share(spelled + coded, n.BYTES)


def _script_mix(n: Counts) -> Vector:
    scripts = np.stack([n.han, n.latin, n.of(c.KANA), n.of(c.OTHER)])
    shares = share(scripts, scripts.sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(shares > 0, -shares * np.log2(shares), 0.0 * shares)
    total: Vector = bits.sum(axis=0)
    return total


SIGNALS: tuple[Signal, ...] = (
    # Size.
    Signal("bytes", "bytes", "UTF-8 bytes", OURS, lambda n: n.BYTES),
    Signal("characters", "characters", "all characters", CHINESE_WEB_TEXT, lambda n: n.CHARACTERS),
    Signal("visible", "characters", "visible characters", OURS, lambda n: n.visible),
    Signal(
        "tokens", "tokens", "Han and kana characters, words, numbers", GOPHER, lambda n: n.TOKENS
    ),
    Signal("words", "words", "runs of letters (and digits)", GOPHER, lambda n: n.WORDS),
    Signal("lines", "lines", "lines with something visible", FINEWEB, lambda n: n.LINES),
    Signal(
        "paragraphs", "paragraphs", "blocks between blank lines", GOPHER, lambda n: n.PARAGRAPHS
    ),
    # What the characters are: shares of the visible ones.
    Signal(
        "han_share",
        "share",
        "Han characters",
        CHINESE_WEB_TEXT,
        _visible_share(c.HAN, c.HAN_TRADITIONAL, c.HAN_RARE),
    ),
    Signal("latin_share", "share", "Latin letters", CURATOR, _visible_share(c.LOWER, c.UPPER)),
    Signal("kana_share", "share", "kana and hangul", OURS, _visible_share(c.KANA)),
    Signal(
        "other_letter_share", "share", "letters of other scripts", OURS, _visible_share(c.OTHER)
    ),
    Signal("digit_share", "share", "digits", CURATOR, _visible_share(c.DIGIT)),
    Signal(
        "punctuation_share",
        "share",
        "punctuation",
        XUANYUAN,
        _visible_share(c.CJK_PUNCTUATION, c.ASCII_PUNCTUATION),
    ),
    Signal(
        "symbol_share", "share", "symbols other than punctuation", CURATOR, _visible_share(c.SYMBOL)
    ),
    Signal("emoji_share", "share", "pictographs", DATA_JUICER, _visible_share(c.EMOJI)),
    Signal(
        "code_share",
        "share",
        "braces, operators, semicolons",
        "C4 (Raffel et al. 2020): braces",
        lambda n: share(n.CODE_CHARACTERS, n.visible),
    ),
    Signal(
        "upper_share",
        "share of letters",
        "capital among Latin letters",
        OURS,
        lambda n: share(n.of(c.UPPER), n.latin),
    ),
    Signal(
        "space_share",
        "share of characters",
        "white space",
        CURATOR,
        lambda n: share(n.of(c.SPACE, c.NEWLINE), n.CHARACTERS),
    ),
    Signal(
        "traditional_share",
        "share of Han",
        "in Big5 and not in GB 2312",
        XUANYUAN,
        lambda n: share(n.of(c.HAN_TRADITIONAL), n.han),
    ),
    Signal(
        "rare_han_share",
        "share of Han",
        "in neither GB 2312 nor Big5",
        OURS,
        lambda n: share(n.of(c.HAN_RARE), n.han),
    ),
    Signal(
        "function_han_share",
        "share of Han",
        "function characters (的, 是, 在, …)",
        OURS,
        lambda n: share(n.FUNCTION_HAN, n.han),
    ),
    Signal(
        "script_mix",
        "bits",
        "entropy over Han, Latin, kana and other letters: 0 is one script, 1 two alike",
        OURS,
        _script_mix,
    ),
    # Damage.
    Signal(
        "replacement_share",
        "share",
        "U+FFFD and bytes that are no UTF-8",
        OURS,
        _visible_share(c.REPLACEMENT),
    ),
    Signal(
        "private_share",
        "share",
        "private-use and unassigned characters",
        OURS,
        _visible_share(c.PRIVATE),
    ),
    Signal(
        "invisible_share",
        "share of characters",
        "control and zero-width characters",
        OURS,
        lambda n: share(n.of(c.INVISIBLE), n.CHARACTERS),
    ),
    Signal(
        "mojibake_share",
        "share of Han",
        "what UTF-8 begins with when read as GBK",
        OURS,
        lambda n: share(n.MOJIBAKE, n.han),
    ),
    Signal(
        "latin1_debris_share",
        "share",
        "what UTF-8 reads as in Latin-1",
        OURS,
        lambda n: share(n.LATIN1_DEBRIS, n.visible),
    ),
    Signal(
        "spaced_han_share",
        "share of Han",
        "Han after a space after Han",
        OURS,
        lambda n: share(n.SPACED_HAN, n.han),
    ),
    # Sentences.
    Signal(
        "terminal_share",
        "share",
        "sentence ends",
        XUANYUAN,
        lambda n: share(n.TERMINALS, n.visible),
    ),
    Signal(
        "comma_share", "share", "clause separators", XUANYUAN, lambda n: share(n.COMMAS, n.visible)
    ),
    Signal(
        "sentence_length",
        "visible characters",
        "per sentence end",
        XUANYUAN,
        lambda n: n.visible / np.maximum(n.TERMINALS, 1),
    ),
    Signal(
        "longest_unpunctuated",
        "characters",
        "longest stretch without a mark",
        OURS,
        lambda n: n.LONGEST_UNPUNCTUATED,
    ),
    Signal(
        "unpunctuated_share",
        "share of characters",
        "in stretches of 60 or more without a mark",
        OURS,
        lambda n: share(n.UNPUNCTUATED_CHARACTERS, n.CHARACTERS),
    ),
    # Words (letters only; Chinese words are the lexicons' affair).
    Signal(
        "word_length",
        "characters",
        "mean length of words",
        GOPHER,
        lambda n: share(n.WORD_CHARACTERS, n.WORDS),
    ),
    Signal("stop_words", "words", "English stop words", GOPHER, lambda n: n.STOP_WORDS),
    Signal(
        "stop_word_share",
        "share of words",
        "English stop words",
        GOPHER,
        lambda n: share(n.STOP_WORDS, n.WORDS),
    ),
    Signal(
        "long_word_share",
        "share of words",
        "words of 25 and more letters",
        CURATOR,
        lambda n: share(n.LONG_WORDS, n.WORDS),
    ),
    Signal(
        "number_share", "share of tokens", "numbers", CURATOR, lambda n: share(n.NUMBERS, n.TOKENS)
    ),
    Signal(
        "long_numbers",
        "per 1,000 visible",
        "numbers of 7 and more digits",
        OURS,
        lambda n: 1000 * share(n.LONG_NUMBERS, n.visible),
    ),
    # Lines: shares of the lines with something visible.
    Signal(
        "line_length",
        "visible characters",
        "mean over lines",
        CHINESE_WEB_TEXT,
        lambda n: share(n.LINE_CHARACTERS, n.LINES),
    ),
    Signal(
        "line_length_variation",
        "ratio",
        "standard deviation over mean of line lengths",
        OURS,
        _deviation,
    ),
    Signal("longest_line", "visible characters", "longest line", CURATOR, lambda n: n.LONGEST_LINE),
    Signal(
        "short_line_share", "share", "lines of fewer than 10", FINEWEB, _line_share("SHORT_LINES")
    ),
    Signal(
        "short_line_character_share",
        "share of characters",
        "standing in such lines",
        OURS,
        lambda n: share(n.SHORT_LINE_CHARACTERS, n.LINE_CHARACTERS),
    ),
    Signal(
        "ended_line_share",
        "share",
        "lines that end like a sentence",
        FINEWEB,
        _line_share("LINES_ENDED"),
    ),
    Signal(
        "bullet_line_share",
        "share",
        "lines that open with a bullet",
        GOPHER,
        _line_share("BULLET_LINES"),
    ),
    Signal(
        "ellipsis_line_share",
        "share",
        "lines that end with an ellipsis",
        GOPHER,
        _line_share("ELLIPSIS_LINES"),
    ),
    Signal(
        "table_line_share",
        "share",
        "lines with two or more | or tabs",
        OURS,
        _line_share("TABLE_LINES"),
    ),
    Signal(
        "number_line_share",
        "share",
        "lines with more digits than letters",
        OURS,
        _line_share("NUMBER_LINES"),
    ),
    Signal(
        "wordless_line_share",
        "share",
        "lines without a letter",
        GOPHER,
        _line_share("WORDLESS_LINES"),
    ),
    Signal("link_line_share", "share", "lines with an address", CURATOR, _line_share("LINK_LINES")),
    Signal(
        "heading_line_share", "share", "lines that open with #", OURS, _line_share("HEADING_LINES")
    ),
    Signal(
        "blank_line_share",
        "share of all lines",
        "lines with nothing visible",
        OURS,
        lambda n: share(n.BLANK_LINES, n.BLANK_LINES + n.LINES),
    ),
    # Addresses.
    Signal(
        "urls",
        "per 1,000 visible",
        "web addresses",
        DATA_JUICER,
        lambda n: 1000 * share(n.URLS, n.visible),
    ),
    Signal(
        "url_share",
        "share",
        "characters in web addresses",
        CURATOR,
        lambda n: share(n.URL_CHARACTERS, n.visible),
    ),
    Signal(
        "at_signs", "per 1,000 visible", "@", OURS, lambda n: 1000 * share(n.AT_SIGNS, n.visible)
    ),
    # Repetition.
    Signal(
        "longest_run", "characters", "longest run of one character", OURS, lambda n: n.LONGEST_RUN
    ),
    Signal(
        "run_share",
        "share",
        "characters in runs of 5 and more",
        DATA_JUICER,
        lambda n: share(n.RUN_CHARACTERS, n.visible),
    ),
    Signal(
        "duplicate_line_share", "share", "lines seen before", GOPHER, _line_share("DUPLICATE_LINES")
    ),
    Signal(
        "duplicate_line_character_share",
        "share of characters",
        "in lines seen before",
        GOPHER,
        lambda n: share(n.DUPLICATE_LINE_CHARACTERS, n.LINE_CHARACTERS),
    ),
    Signal(
        "duplicate_paragraph_share",
        "share of paragraphs",
        "paragraphs seen before",
        GOPHER,
        lambda n: share(n.DUPLICATE_PARAGRAPHS, n.PARAGRAPHS),
    ),
    Signal(
        "duplicate_paragraph_character_share",
        "share of characters",
        "in paragraphs seen before",
        GOPHER,
        lambda n: share(n.DUPLICATE_PARAGRAPH_CHARACTERS, n.LINE_CHARACTERS),
    ),
    *(
        Signal(
            f"top_{k}_gram_share",
            "share of tokens' characters",
            f"in the {k}-gram that takes most, if it repeats",
            GOPHER,
            _token_share(f"TOP_{k}"),
        )
        for k in (2, 3, 4)
    ),
    *(
        Signal(
            f"duplicate_{k}_gram_share",
            "share of tokens' characters",
            f"in {k}-grams seen before",
            GOPHER,
            _token_share(f"DUP_{k}"),
        )
        for k in range(5, 11)
    ),
    Signal(
        "distinct_share",
        "share of tokens",
        "distinct tokens, mean over windows",
        OURS,
        lambda n: share(n.DISTINCT_TOKENS, n.TOKENS),
    ),
    Signal(
        "entropy",
        "bits a token",
        "of the tokens' frequencies, mean over windows",
        XUANYUAN,
        lambda n: share(n.ENTROPY, n.TOKENS),
    ),
    Signal(
        "compression",
        "share of bytes",
        "estimated size when compressed: distinct tokens, and the rest at its entropy",
        XUANYUAN,
        _compression,
    ),
    # Words that tell kinds of pages.
    *(
        Signal(
            f"{name}_hits",
            "per 1,000 visible",
            f"terms of the list `{name}`",
            XUANYUAN,
            _hits(name),
        )
        for name in LEXICONS
    ),
)

# What needs Chinese words. jieba is thirty times slower than all of the above together, so these
# are measured only where the recipe's stage says `jieba: true`. Their counters are
# `corpus.signals.words.COUNTERS`, after all others.
JIEBA_SIGNALS: tuple[Signal, ...] = (
    Signal("jieba_words", "words", "Chinese words as jieba cuts them", XUANYUAN, _words(0)),
    Signal(
        "jieba_word_length",
        "characters",
        "mean length of Chinese words",
        FINEWEB2,
        lambda n: share(_words(1)(n), _words(0)(n)),
    ),
    Signal(
        "jieba_stop_word_share",
        "share of Chinese words",
        "Chinese stop words (corpus.signals.words)",
        GOPHER,
        lambda n: share(_words(2)(n), _words(0)(n)),
    ),
    Signal(
        "jieba_distinct_share",
        "share of Chinese words",
        "distinct words",
        OURS,
        lambda n: share(_words(3)(n), _words(0)(n)),
    ),
)

NAMES = tuple(signal.name for signal in SIGNALS)
JIEBA_NAMES = tuple(signal.name for signal in JIEBA_SIGNALS)


def signal_type(jieba: bool = False) -> pa.DataType:
    """The struct of all signals, with or without those that need jieba."""
    names = (*NAMES, *JIEBA_NAMES) if jieba else NAMES
    return pa.struct([pa.field(name, pa.float64()) for name in names])


TYPE = signal_type()


def compute(matrix: NDArray[np.float64], jieba: bool = False) -> pa.StructArray:
    """The struct of all signals from the counters, float64 [documents, counters]."""
    counts = Counts(matrix)
    signals = (*SIGNALS, *JIEBA_SIGNALS) if jieba else SIGNALS
    columns = [np.ascontiguousarray(signal.formula(counts)) for signal in signals]
    return pa.StructArray.from_arrays(
        [pa.array(column, pa.float64(), from_pandas=True) for column in columns],
        fields=list(signal_type(jieba)),
    )


def as_markdown(signals: Sequence[Signal] = (*SIGNALS, *JIEBA_SIGNALS)) -> str:
    """The table for people."""
    rows = [f"| `{s.name}` | {s.unit} | {s.meaning} | {s.source} |" for s in signals]
    return "\n".join(["| signal | unit | what | source |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    sys.stdout.write(as_markdown() + "\n")
