"""Formulas of PDFs drawn here, as LaTeX; Greek in a font that has it."""

import pymupdf
import pytest

from corpus.extract.pdf_document import extract_pdf
from corpus.extract.pdf_math import Sign, latex
from corpus.extract.pdf_rules import Rule
from corpus.extract.settings import PdfSettings

WITH_FORMULAS = PdfSettings(formulas=True)


def write(page: pymupdf.Page, x: float, y: float, *pieces: tuple) -> float:
    """Set pieces (text, font, size, rise) one after the other; where the last ends."""
    for text, font, size, rise in pieces:
        page.insert_text((x, y - rise), text, fontname=font, fontsize=size)
        x += pymupdf.get_text_length(text, fontname=font, fontsize=size)
    return x


def sign(text: str, left: float, base: float = 100.0, size: float = 10.0, **more) -> Sign:
    return Sign(left, left + 0.5 * size, base, size, text, base - 0.72 * size, base, **more)


def test_inline_greek_and_scripts_become_latex():
    page = (document := pymupdf.open()).new_page()
    write(
        page, 72, 100,
        ("where ", "helv", 11, 0), ("σ", "china-s", 11, 0), ("i", "helv", 7, -2),
        ("2", "helv", 7, 4), (" is the variance and ", "helv", 11, 0), ("α", "china-s", 11, 0),
        (" = 0.05 the level. Sales", "helv", 11, 0), ("1", "helv", 7, 4),
        (" grew in 2019.", "helv", 11, 0),
    )  # fmt: skip
    text = extract_pdf(document.tobytes(), WITH_FORMULAS).text
    assert text == (
        r"where $\sigma_{i}^{2}$ is the variance and $\alpha = 0.05$ the level. "
        "Sales1 grew in 2019."
    )
    plain = extract_pdf(document.tobytes(), PdfSettings()).text
    assert plain.startswith("where σi 2 is the variance and α = 0.05")


def test_a_fraction_that_stands_off_becomes_a_block():
    page = (document := pymupdf.open()).new_page()
    for n in range(3):
        page.insert_text((72, 80 + 14 * n), "The ratio of the two is what the model predicts here")
    write(page, 200, 160, ("β", "china-s", 12, 0), (" =", "helv", 12, 0))
    end = write(page, 226, 152, ("α", "china-s", 12, 0), (" + 1", "helv", 12, 0))
    write(page, 234, 170, ("γ", "china-s", 12, 0))
    page.draw_line((225, 157), (end + 1, 157), width=0.6)
    page.insert_text((400, 160), "(7)", fontsize=11)
    for n in range(3):
        page.insert_text((72, 210 + 14 * n), "and goes on below with a paragraph of plain text")
    text = extract_pdf(document.tobytes(), WITH_FORMULAS).text
    assert "$$\n\\beta = \\frac{\\alpha + 1}{\\gamma} \\tag{7}\n$$" in text
    assert text.index("predicts") < text.index("$$") < text.index("goes on below")


@pytest.mark.parametrize(
    ("signs", "bars", "expected"),
    [
        ([sign("x", 0), sign("′", 5), sign("=", 12), sign("1", 20)], [], "x' = 1"),
        ([sign("√", 0), sign("x", 6)], [Rule(92, 5, 12)], r"\sqrt{x}"),
        ([sign("∑", 0, size=14), sign("i", 2, 112, 6), sign("n", 2, 83, 6), sign("x", 12),
          sign("i", 17, 102, 6)], [], r"\sum_{i}^{n}x_{i}"),
        ([sign("¯", 0), sign("x", 0)], [], r"\bar{x}"),
        ([sign("𝔼", 0), sign("[", 6), sign("𝑥", 9), sign("]", 15)], [], r"\mathbb{E}[x]"),
        ([sign(x, 5 * n, is_upright=True) for n, x in enumerate("log")] + [sign("x", 17)], [],
         r"\log x"),
        ([sign("a", 0, 95), sign("b", 0, 108), sign("c", 0, 122)],
         [Rule(98, -1, 6), Rule(112, -2, 7)], r"\frac{\frac{a}{b}}{c}"),
        ([sign("O", 0, family="mathcal"), sign("(", 6), sign("n", 9), sign("2", 14, 96, 6),
          sign(")", 18)], [], r"\mathcal{O}(n^{2})"),
    ],
)  # fmt: skip
def test_signs_at_their_places(signs, bars, expected):
    assert latex(signs, bars) == expected
