"""Markup that is all content, as Markdown: the chapters of e-books, and what is made of DOCX."""

import numpy as np

from corpus.extract.html_blocks import SKIPPED, blocks
from corpus.extract.html_code import find_code
from corpus.extract.html_element_words import element_words
from corpus.extract.html_math import Notation, find_formulas
from corpus.extract.html_names import TAG
from corpus.extract.html_render import Page, render
from corpus.extract.html_tables import data_tables
from corpus.extract.html_tape import parse
from corpus.extract.settings import HtmlSettings


def whole_text(markup: str, settings: HtmlSettings, every_table: bool = False) -> str:
    """All text of decoded markup, with its tables, formulas, code, lists and headings.

    `every_table`: none of them is a mere layout, as in web pages most are.
    """
    tape = parse(markup.encode("utf-8", "replace"))
    bits = element_words(tape)
    formulas, replaced = find_formulas(tape, bits)
    code = find_code(tape, bits)
    marks = np.zeros((2, len(tape.tag)), np.bool_)
    marks[0, list(formulas)] = True
    marks[1, list(code)] = True
    skip = SKIPPED[tape.tag] | replaced
    found = blocks(tape, skip, marks[0], marks[1])
    is_table = tape.tag == TAG["table"]
    tables = is_table if every_table else data_tables(tape, found.first, found.tokens)
    page = Page(tape, bits, found, skip, formulas, code, tables, Notation(tape.source), settings)
    return render(page, np.ones(len(found.first), np.bool_))
