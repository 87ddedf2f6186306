"""The settings of extraction: a recipe's section `extract`."""

from typing import Literal

from pydantic import Field

from corpus.settings import Settings


class HtmlSettings(Settings):
    """How pages become text."""

    links: bool = False
    """Keep the addresses of links, as Markdown."""
    list_pages: Literal["drop", "links", "text"] = "drop"
    """Pages that hold links to others and no text of their own (indexes, archives, announcement
    lists): `drop` them by the rule `list_page`, keep them as a list of their `links`, or keep what
    `text` there is between the links."""
    irregular_tables: Literal["markdown", "html"] = "markdown"
    """Tables with cells that span others: as `markdown`, where a spanning cell stands once and the
    places that it covers are empty, or as plain `html`, which Markdown allows and which keeps the
    spans."""


class PdfSettings(Settings):
    """How PDFs become text."""

    max_pages: int = Field(default=3000, ge=1)
    """Pages beyond this are left out, which `extra` then says as `pages_left_out`."""
    tables: bool = True
    """Look for tables and write them as Markdown."""
    layout: Literal["rules", "neural"] = "rules"
    """Who says where tables, headers and footers are: our rules, or PyMuPDF's layout model, which
    takes about a CPU second a page and the extra `neural` (AGPL-3.0 or commercial)."""
    formulas: bool = False
    """Write formulas as LaTeX: inline in `$`, those that are set off in `$$`. What they are made
    of are fonts and places, so some come out wrong; without, their signs stay as they stand."""
    ocr: str | None = Field(default=None, pattern=r"^[A-Za-z_]+(\+[A-Za-z_]+)*$")
    """Tesseract's languages for scanned pages, as `chi_sim+eng`; every machine needs the program
    and their data (Debian: tesseract-ocr, tesseract-ocr-chi-sim). `extra` then says in `ocr` which
    pages were read so. It takes some 3 to 6 CPU seconds a page, and `timeout_s` must allow for
    them. Without, such pages are left out, and what has no others is dropped as `needs_ocr`."""
    ocr_max_pages: int = Field(default=100, ge=1)
    """Scanned pages of one document that are read at most; `scanned_pages` counts those left."""


class ExtractSettings(Settings):
    """Limits and options of the stage `extract`."""

    timeout_s: float = Field(default=60, gt=0)
    """CPU seconds one document may take; three times as much by the clock."""
    memory_mb: int = Field(default=2048, ge=64)
    """MB (of 10^6 bytes) of address space that one document may take up."""
    min_characters: int = Field(default=50, ge=0)
    """Documents with fewer characters, spaces aside, are dropped by the rule `too_short`."""
    html: HtmlSettings = HtmlSettings()
    """Options for pages."""
    pdf: PdfSettings = PdfSettings()
    """Options for PDFs."""
