"""A chapter of a Standard Ebooks book as plain text: one paragraph a line, notes' numbers gone."""

import re

import lxml.html


def chapter_text(xhtml: str) -> str:
    """The headings and paragraphs of one XHTML file, a blank line between them."""
    body = lxml.html.document_fromstring(xhtml.encode()).find("body")
    for mark in body.xpath(".//a[starts-with(@id, 'noteref')]"):
        mark.drop_tree()
    blocks = body.xpath(".//h1|.//h2|.//h3|.//h4|.//p|.//li[not(.//p)]|.//tr")
    texts = (re.sub(r"\s+", " ", block.text_content()).strip() for block in blocks)
    return "\n\n".join(text for text in texts if text) + "\n"
