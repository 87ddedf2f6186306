"""One document's bytes to its text, by what they are: runs inside the sandbox."""

from dataclasses import asdict
from typing import Any

from corpus.extract.html_document import extract_html
from corpus.extract.packages import extract_docx, extract_epub
from corpus.extract.pdf_document import extract_pdf
from corpus.extract.plain_text import extract_text
from corpus.extract.result import Extracted
from corpus.extract.settings import ExtractSettings

MAGIC = ((b"%PDF-", "pdf"), (b"\x1f\x8b", "gzip"), (b"PK\x03\x04", "zip"), (b"\x89PNG", "image"),
         (b"GIF8", "image"), (b"\xff\xd8\xff", "image"), (b"\x7fELF", "program"))  # fmt: skip


def extract_document(
    media: str, payload: bytes, settings: ExtractSettings, locator: str = ""
) -> Extracted:
    """Extract one document in this process, without limits of time or memory.

    `media` is what the source says it is (html, pdf, text, epub, docx); bytes that are plainly
    something else are dropped by the rule `not_<media>`, and a PDF is a PDF wherever it is found.
    """
    if not payload.strip(b" \t\r\n\0"):
        return Extracted(reason="empty", message=f"{len(payload)} bytes, none of them text")
    found = next((kind for mark, kind in MAGIC if payload.startswith(mark)), media)
    if media == "pdf" or found == "pdf":
        return extract_pdf(payload, settings.pdf)
    if media == "docx" and found in ("zip", "docx"):
        return extract_docx(payload, settings)
    if media == "epub" and found in ("zip", "epub"):
        return extract_epub(payload, settings)
    if found != media:
        return Extracted(reason=f"not_{media}", message=f"the bytes are those of a {found} file")
    if media == "html":
        return extract_html(payload, settings.html)
    return extract_text(payload)


def warm_up() -> None:
    """Load or compile what extraction runs, so that the forked workers need not."""
    extract_document("html", b"<p>x<table><tr><td>1", ExtractSettings())


def extract_in_sandbox(request: dict[str, Any], payload: bytes) -> dict[str, Any]:
    """`extract_document` as the sandbox calls it."""
    settings = ExtractSettings.model_validate(request["settings"])
    return asdict(extract_document(request["media"], payload, settings, request["locator"]))
