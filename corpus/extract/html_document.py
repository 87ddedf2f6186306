"""One page to its main content as Markdown, with title, author, date and site."""

import numpy as np

from corpus.extract.decoding import decode
from corpus.extract.html_blocks import SKIPPED, blocks, element_words
from corpus.extract.html_code import find_code
from corpus.extract.html_facts import Facts, find_facts
from corpus.extract.html_feed import feed_text
from corpus.extract.html_math import find_formulas, notation
from corpus.extract.html_phrases import headlines, sites_own
from corpus.extract.html_render import Page, render
from corpus.extract.html_select import select
from corpus.extract.html_tables import data_tables
from corpus.extract.html_tape import parse
from corpus.extract.result import Extracted
from corpus.extract.settings import HtmlSettings


def extract_html(payload: bytes, settings: HtmlSettings) -> Extracted:
    """Find the main content of a page; `no_text` where there is none."""
    markup, encoding = decode(payload)
    text, facts = page_text(markup, settings)
    extra = {"author": facts.author, "site": facts.site, "encoding": encoding}
    return Extracted(
        text,
        title=facts.title,
        date=facts.date,
        url=facts.url,
        extra={key: value for key, value in extra.items() if value},
        reason=None if text.strip() else "no_text",
        message="" if text.strip() else f"{len(markup)} characters of markup without a text",
    )


def page_text(markup: str, settings: HtmlSettings) -> tuple[str, Facts]:
    """The main content of decoded markup, as Markdown, and what the page says of itself."""
    feed = feed_text(markup, lambda content: page_text(content, settings)[0])
    if feed is not None:
        return feed, Facts(None, None, None, None, None, is_thread=False, is_article=False)
    tape = parse(markup.encode("utf-8", "replace"))
    bits = element_words(tape)
    formulas, replaced = find_formulas(tape, bits)
    code = find_code(tape, bits)
    nodes = len(tape.tag)
    is_formula = np.zeros(nodes, np.bool_)
    is_formula[list(formulas)] = True
    is_code = np.zeros(nodes, np.bool_)
    is_code[list(code)] = True
    skip = SKIPPED[tape.tag] | replaced
    facts = find_facts(tape, bits)
    found = blocks(tape, skip, is_formula, is_code)
    tables = data_tables(tape, found.first, found.tokens)
    chosen, is_thread = select(
        tape, found, bits, is_code, tables, facts.is_thread, facts.is_article
    )
    chosen[sites_own(tape, found, chosen & ~is_code[found.owner])] = False
    if not is_thread:
        chosen[headlines(tape, found, chosen, facts.title)] = False
    written = notation(tape.source)
    page = Page(tape, bits, found, skip, formulas, code, tables, written, settings.links)
    return render(page, chosen), facts
