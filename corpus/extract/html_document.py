"""One page to its main content as Markdown, with title, author, date and site."""

import trafilatura
from trafilatura.settings import Document, use_config

from corpus.extract.decoding import decode
from corpus.extract.result import Extracted
from corpus.extract.settings import HtmlSettings

CONFIG = use_config()
CONFIG.set("DEFAULT", "EXTRACTION_TIMEOUT", "0")


def extract_html(payload: bytes, settings: HtmlSettings) -> Extracted:
    """Find the main content of a page; `no_text` where there is none."""
    page, encoding = decode(payload)
    document = trafilatura.bare_extraction(
        page, with_metadata=True, include_tables=True, include_formatting=True, config=CONFIG
    )
    if not isinstance(document, Document):
        return Extracted(reason="no_text", message=f"{len(page)} characters of markup")
    text = trafilatura.extract(
        page,
        output_format="markdown",
        include_formatting=True,
        include_tables=True,
        include_links=settings.links,
        config=CONFIG,
    )
    if not text:
        return Extracted(reason="no_text", message=f"{len(page)} characters of markup")
    facts = {"author": document.author, "site": document.sitename, "encoding": encoding}
    return Extracted(
        text,
        title=document.title,
        date=document.date,
        url=document.url,
        extra={key: value for key, value in facts.items() if value},
    )
