"""One page to its main content as Markdown, with title, author, date and site."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from corpus.extract.decoding import decode
from corpus.extract.html_anchors import heading_links
from corpus.extract.html_blocks import SKIPPED, blocks
from corpus.extract.html_code import find_code
from corpus.extract.html_element_words import element_words
from corpus.extract.html_facts import Facts, find_facts
from corpus.extract.html_feed import feed_text
from corpus.extract.html_lists import PageLinks, is_list, link_line, link_nodes, page_links
from corpus.extract.html_math import Notation, find_formulas
from corpus.extract.html_phrases import headlines, sites_own
from corpus.extract.html_render import Page, plain_text, render
from corpus.extract.html_select import select
from corpus.extract.html_tables import data_tables
from corpus.extract.html_tape import parse
from corpus.extract.result import Extracted
from corpus.extract.settings import HtmlSettings


def extract_html(payload: bytes, settings: HtmlSettings) -> Extracted:
    """Find the main content of a page; `no_text` where there is none."""
    markup, encoding = decode(payload)
    text, facts, links = page_text(markup, settings)
    extra = {"author": facts.author, "site": facts.site, "encoding": encoding}
    found = Extracted(
        text,
        title=facts.title,
        date=facts.date,
        url=facts.url,
        extra={key: value for key, value in extra.items() if value},
    )
    if links and settings.list_pages == "drop":
        message = f"{links} headlines that lead elsewhere and {len(text)} characters of text"
        return replace(found, text="", reason="list_page", message=message)
    if not text.strip():
        message = f"{len(markup)} characters of markup without a text"
        return replace(found, reason="no_text", message=message)
    return found


class PageText(NamedTuple):
    """What a page holds."""

    text: str
    """The main content as Markdown; of a list page, by the settings, its links."""
    facts: Facts
    """What the page says of itself."""
    listed: int = 0
    """Of a list page, the number of headlines that lead elsewhere."""


def page_text(markup: str, settings: HtmlSettings) -> PageText:
    """The main content of decoded markup, as Markdown, and what the page says of itself."""
    feed = feed_text(markup, lambda content: page_text(content, settings)[0])
    if feed is not None:
        nothing = Facts(None, None, None, None, None, is_thread=False, is_article=False)
        return PageText(feed, nothing)
    tape = parse(markup.encode("utf-8", "replace"))
    bits = element_words(tape)
    formulas, replaced = find_formulas(tape, bits)
    code = find_code(tape, bits)
    nodes = len(tape.tag)
    is_formula = np.zeros(nodes, np.bool_)
    is_formula[list(formulas)] = True
    is_code = np.zeros(nodes, np.bool_)
    is_code[list(code)] = True
    skip = SKIPPED[tape.tag] | replaced | heading_links(tape, bits)
    facts = find_facts(tape, bits)
    found = blocks(tape, skip, is_formula, is_code)
    tables = data_tables(tape, found.first, found.tokens)
    chosen, is_thread = select(
        tape, found, bits, is_code, tables, facts.is_thread, facts.is_article
    )
    chosen[sites_own(tape, found, chosen & ~is_code[found.owner])] = False
    if not is_thread:
        chosen[headlines(tape, found, chosen, facts.title)] = False
    page = Page(tape, bits, found, skip, formulas, code, tables, Notation(tape.source), settings)
    listed = 0
    if not (is_thread or facts.is_article):
        links = page_links(tape, found, bits)
        listed = len(links.blocks) if is_list(found, chosen, links) else 0
    if listed and settings.list_pages == "links":
        return PageText(_link_list(page, links, facts.url), facts, listed)
    return PageText(render(page, chosen), facts, listed)


def _link_list(page: Page, links: PageLinks, address: str | None) -> str:
    """A list page's links, in order and once each."""
    tape, found = page.tape, page.blocks
    lines: dict[str, None] = {}
    for k, node in zip(links.blocks, link_nodes(tape, found, links), strict=True):
        first, last = int(found.first[k]), int(found.last[k])
        text = plain_text(page, min(first, node or first), last)
        label = plain_text(page, max(first, node + 1), min(last, int(tape.last[node])))
        if label:
            lines[link_line(tape, node, label, text, address)] = None
    return "\n".join(lines)
