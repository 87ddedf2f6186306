"""A page's regions as PyMuPDF's layout model sees them: an option, some 20 times slower.

The model comes with `pymupdf_layout` (the extra `neural`), whose licence is that of PyMuPDF:
AGPL-3.0 or commercial. It says where tables, headers, footers, headings and footnotes are; what
is in a table's cells is still found by rules.
"""

import importlib.util
from dataclasses import dataclass
from typing import Any

import pymupdf

from corpus.extract.pdf_lines import Line, PageLines
from corpus.settings import UserError

FURNITURE = frozenset(["page-header", "page-footer"])


@dataclass(frozen=True, slots=True)
class Region:
    """One region, in points from the page's top left."""

    left: float
    top: float
    right: float
    bottom: float
    kind: str
    """text | table | picture | formula | caption | title | section-header | list-item | footnote |
    page-header | page-footer"""

    def holds(self, line: Line) -> bool:
        middle = (line.top + line.bottom) / 2
        across = (line.left + line.right) / 2
        return (
            self.left - 2 <= across <= self.right + 2 and self.top - 1 <= middle <= self.bottom + 1
        )


def require_model() -> None:
    """Raise UserError where the model is not installed."""
    if importlib.util.find_spec("pymupdf.layout") is None:
        raise UserError(
            "extract.pdf.layout: neural needs PyMuPDF's layout model; install the extra `neural` "
            "(pip install 'lianjin[neural]'), or leave the key out"
        )


def regions(page: pymupdf.Page) -> list[Region]:
    """The model's regions of a page; raises UserError where it is not installed."""
    require_model()
    import pymupdf.layout  # noqa: F401  (it makes `get_layout` work)

    page.get_layout()
    found: list[Any] = page.layout_information or []
    return [
        Region(float(x0), float(y0), float(x1), float(y1), str(kind))
        for x0, y0, x1, y1, kind, *_ in found
    ]


def drop_model_furniture(page: PageLines, found: list[Region]) -> None:
    """Take the lines that the model takes for headers and footers out of a page."""
    furniture = [region for region in found if region.kind in FURNITURE]
    page.lines = [line for line in page.lines if not any(r.holds(line) for r in furniture)]
