"""Words in rows and texts, as tables are made of; and what a number looks like."""

import re
from dataclasses import dataclass, field

from corpus.extract.pdf_lines import SPACE_IN_HAN, Line

WORD_SPACE = 0.42
"""Font sizes: words that are closer than this are one text."""
NUMBER = re.compile(
    r"(?:US|HK|RMB|CNY|EUR|USD|GBP|JPY)?[\d.,%()\-–—−+±*†‡$€£¥/:\s<>~≤≥]{0,4}\d[\d.,%()\-–—−+±*†‡$€£¥/:\s]*(?:[a-zA-Z%]{1,2})?"
    r"|[-–—−*.]{1,5}|N/?A|\(?[XxNn]\)?"
)
"""What stands in a cell of figures: amounts, shares, ranges, years, and signs for none."""


@dataclass(slots=True)
class Table:
    """A table: its lines, and rows of cells."""

    lines: list[Line]
    rows: list[list[str]]


@dataclass(slots=True)
class TableWord:
    """A word at its place, in points, and the line that it is from."""

    left: float
    top: float
    right: float
    bottom: float
    text: str
    size: float
    line: Line

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


@dataclass(slots=True)
class TableText:
    """Words that stand together on a base line."""

    words: list[TableWord]

    @property
    def left(self) -> float:
        return self.words[0].left

    @property
    def right(self) -> float:
        return self.words[-1].right

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


@dataclass(slots=True)
class TableRow:
    """Texts on one base line, from left to right."""

    top: float
    bottom: float
    texts: list[TableText] = field(default_factory=list)

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def has_numbers(self) -> bool:
        return sum(NUMBER.fullmatch(x.text) is not None for x in self.texts) >= max(
            1, 0.4 * (len(self.texts) - 1)
        )


def text_rows(words: list[TableWord], apart: float = WORD_SPACE) -> list[TableRow]:
    """Words that share a base line, from top to bottom, as texts that stand apart."""
    rows: list[TableRow] = []
    members: list[list[TableWord]] = []
    for word in sorted(words, key=lambda w: (w.middle, w.left)):
        if rows and word.middle < rows[-1].bottom - 0.25 * rows[-1].height:
            row = rows[-1]
            members[-1].append(word)
            row.top, row.bottom = min(row.top, word.top), max(row.bottom, word.bottom)
        else:
            rows.append(TableRow(word.top, word.bottom))
            members.append([word])
    for row, found in zip(rows, members, strict=True):
        found.sort(key=lambda w: w.left)
        for word in found:
            last = row.texts[-1] if row.texts else None
            if last is not None and word.left - last.right < apart * max(
                word.size, last.words[-1].size
            ):
                last.words.append(word)
            else:
                row.texts.append(TableText([word]))
    return rows


def spaced(texts: list[str]) -> str:
    return SPACE_IN_HAN.sub("", " ".join(texts))
