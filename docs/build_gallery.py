"""Writes docs/gallery/: twenty samples with what extraction makes of them, to be looked at.

    python docs/build_gallery.py            write the texts, the pictures and the index
    python docs/build_gallery.py --check    say which texts would change, and write nothing

Run it after a change of the extractors and look at the difference: `git diff docs/gallery`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corpus.extract.documents import extract_document
from corpus.extract.result import Extracted
from corpus.extract.settings import ExtractSettings
from corpus.settings import command

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "docs" / "gallery"
LONGEST = 20_000  # characters of a text that are shown
DOTS_PER_INCH = 60


@dataclass(frozen=True)
class Piece:
    """One sample, and what to look at in its text."""

    path: str
    """Below samples/."""
    look_at: str

    @property
    def name(self) -> str:
        return "-".join(Path(self.path).with_suffix("").parts[1:]).replace("--", "-")


PIECES = (
    Piece("html/statutes/00-gbk.html", "GBK; menu and footer gone, articles in order"),
    Piece("html/statutes/08-gb18030-says-gb2312.html", "GB18030 that calls itself gb2312"),
    Piece("html/poetry/big5.html", "Big5; lines of verse stay lines"),
    Piece("html/tutorials/07-utf-8.html", "headings, lists and code of a tutorial"),
    Piece("html/filings/BuckleInc.8-K.EX99.1.html", "a press release with its tables"),
    Piece("html/filings/aapl-2025-q2-R2.html", "a balance sheet: spans resolved, numbers whole"),
    Piece("html/filings/AppleTable.html", "a table with its header, dollars and blanks"),
    Piece("html/filings/SC-13G-DOCUMENT.html", "a form laid out in tables"),
    Piece("html/pages/codeblocks--pygments-lineno.html", "code without its line numbers"),
    Piece("html/pages/math--mathjax-tex-scripts.html", "formulas as LaTeX"),
    Piece("html/hazards/bad-byte.html", "one byte that no encoding has"),
    Piece("html/hazards/cut-short.html", "a page that was cut off"),
    Piece(
        "pdf/statutes/statute-1.pdf", "Chinese lines joined; running title and page numbers gone"
    ),
    Piece("pdf/statutes/statute-4.pdf", "the same, with dates of passing and publication"),
    Piece("pdf/reports/us-021.pdf", "two columns in reading order"),
    Piece("pdf/reports/us-002.pdf", "a ruled table"),
    Piece("pdf/reports/eu-005.pdf", "a table without rules"),
    Piece("pdf/reports/code_and_formula.pdf", "code and a formula"),
    Piece("pdf/reports/2305.03393v1-pg9.pdf", "a page of a paper"),
    Piece("pdf/hard/scan-statute.pdf", "a scan: a reason, not an empty text"),
)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the gallery; returns 1 where a check finds a difference."""
    parser = argparse.ArgumentParser(
        prog="python docs/build_gallery.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="only say which texts would change")
    options = parser.parse_args(arguments)
    settings = ExtractSettings()
    GALLERY.mkdir(exist_ok=True)
    rows, changed = [], []
    for piece in PIECES:
        source = ROOT / "samples" / piece.path
        payload = source.read_bytes()
        media = piece.path.split("/")[0]
        found = extract_document(media, payload, settings, piece.path)
        target = GALLERY / f"{piece.name}.md"
        text = shown(found)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            changed.append(piece.name)
        picture = GALLERY / f"{piece.name}.png"
        if not options.check:
            target.write_text(text, encoding="utf-8")
            if media == "pdf" and not picture.exists():
                picture.write_bytes(first_page(payload))
        rows.append(index_row(piece, found, media))
    if options.check:
        print("\n".join(changed) or "nothing would change")
        return 1 if changed else 0
    index = (Path(__file__).parent / "gallery_head.md").read_text(encoding="utf-8")
    (GALLERY / "README.md").write_text(index + "\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(PIECES)} pieces, {len(changed)} changed: {GALLERY.relative_to(ROOT)}")
    return 0


def shown(found: Extracted) -> str:
    """The text as the gallery has it, or the reason why there is none."""
    if found.reason is not None:
        return f"*dropped by the rule `{found.reason}`*: {found.message}\n"
    rest = len(found.text) - LONGEST
    cut = f"\n\n*… and {rest:,} characters more*" if rest > 0 else ""
    return found.text[:LONGEST] + cut + "\n"


def index_row(piece: Piece, found: Extracted, media: str) -> str:
    """The piece's row of the index's table."""
    source = f"[{Path(piece.path).name}](../../samples/{piece.path})"
    picture = f" ([first page]({piece.name}.png))" if media == "pdf" else ""
    outcome = f"`{found.reason}`" if found.reason else f"{len(found.text):,} characters"
    return f"| {source}{picture} | {piece.look_at} | [text]({piece.name}.md) | {outcome} |"


def first_page(payload: bytes) -> bytes:
    """A small grey picture of a PDF's first page, as PNG."""
    import pymupdf

    with pymupdf.open(stream=payload, filetype="pdf") as document:
        picture = document[0].get_pixmap(dpi=DOTS_PER_INCH, colorspace=pymupdf.csGRAY)
        png: bytes = picture.tobytes("png")
    return png


if __name__ == "__main__":
    sys.exit(main())
