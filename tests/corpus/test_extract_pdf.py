"""PDFs: columns, paragraphs, furniture and tables, on documents drawn here."""

import importlib.util
import shutil

import pymupdf
import pytest

from corpus.extract import pdf_document
from corpus.extract.pdf_document import extract_pdf, read_pages
from corpus.extract.pdf_neural import Region, require_model
from corpus.extract.pdf_paragraphs import join_lines
from corpus.extract.settings import PdfSettings
from corpus.settings import UserError

SETTINGS = PdfSettings()


def extracted(document: pymupdf.Document):
    return extract_pdf(document.tobytes(), SETTINGS)


def test_lines_are_joined_as_their_script_wants():
    assert join_lines(["公司营业收入", "同比增长"]) == "公司营业收入同比增长"
    assert join_lines(["the first line", "and the second"]) == "the first line and the second"
    assert join_lines(["a hyphen-", "ated word"]) == "a hyphenated word"
    assert join_lines(["the S&P-", "500 index"]) == "the S&P- 500 index"
    assert join_lines(["使用 GPU", "训练"]) == "使用 GPU训练"


def test_columns_are_read_one_after_the_other():
    page = (document := pymupdf.open()).new_page()
    for n in range(12):
        page.insert_text(
            (60, 100 + 12 * n), f"left column line number {n:02d} reads on", fontsize=10
        )
        page.insert_text(
            (320, 100 + 12 * n), f"right column line number {n:02d} goes on", fontsize=10
        )
    text = extracted(document).text
    left = " ".join(f"left column line number {n:02d} reads on" for n in range(12))
    right = " ".join(f"right column line number {n:02d} goes on" for n in range(12))
    assert text == f"{left}\n\n{right}"


def test_a_paragraph_that_a_page_cuts_is_made_whole_and_page_numbers_go():
    document = pymupdf.open()
    for number, lines in enumerate(
        (
            ["This paragraph begins on the first page of the document and it", "goes on and runs"],
            ["over to the next page, where it ends."],
        ),
        1,
    ):
        page = document.new_page()
        for n, line in enumerate(lines):
            page.insert_text((72, 100 + 13 * n), line)
        page.insert_text((290, 810), f"- {number} -")
    assert extracted(document).text == (
        "This paragraph begins on the first page of the document and it goes on and runs "
        "over to the next page, where it ends."
    )


def test_an_unruled_table_is_found_by_its_columns():
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text(
        (72, 80), "The figures of the two years are these, in millions of yuan, audited."
    )
    rows = [("Item", "2023", "2024"), ("Revenue", "1,200", "1,350"), ("Costs", "900", "1,010"),
            ("Profit", "300", "340")]  # fmt: skip
    for n, row in enumerate(rows):
        for x, cell in zip((72, 220, 320), row, strict=True):
            page.insert_text((x, 120 + 16 * n), cell)
    text = extracted(document).text
    assert (
        "| Item | 2023 | 2024 |\n| --- | --- | --- |\n| Revenue | 1,200 | 1,350 |\n"
        "| Costs | 900 | 1,010 |\n| Profit | 300 | 340 |" in text
    )


def test_larger_type_is_a_heading_and_gives_the_title():
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((72, 90), "A Study of Things", fontsize=22)
    for n in range(5):
        page.insert_text(
            (72, 140 + 14 * n), f"Body text number {n} that goes on for a while", fontsize=11
        )
    found = extracted(document)
    assert found.title == "A Study of Things"
    assert found.text.startswith("# A Study of Things\n\nBody text number 0")


def test_pages_beyond_the_limit_are_said_to_be_left_out():
    document = pymupdf.open()
    for n in range(3):
        document.new_page().insert_text((72, 300), f"text of page {n} is here for all to see")
    found = extract_pdf(document.tobytes(), PdfSettings(max_pages=2))
    assert "page 1" in found.text
    assert "page 2" not in found.text
    assert found.extra["pages_left_out"] == "1"
    with pymupdf.open(stream=document.tobytes(), filetype="pdf") as copy:
        assert len(read_pages(copy, SETTINGS).pages) == 3


def scan() -> pymupdf.Document:
    """A page that is the picture of a text."""
    drawn = pymupdf.open()
    page = drawn.new_page(width=400, height=120)
    page.insert_text((40, 50), "Revenue grew by twelve", fontsize=16)
    page.insert_text((40, 72), "percent in the third quarter.", fontsize=16)
    picture = page.get_pixmap(dpi=150, colorspace=pymupdf.csGRAY)
    document = pymupdf.open()
    document.new_page(width=400, height=120).insert_image((0, 0, 400, 120), pixmap=picture)
    return document


def test_scans_need_ocr_unless_it_is_asked_for():
    found = extracted(scan())
    assert found.reason == "needs_ocr"
    assert found.message == "1 of 1 pages are images without text"
    assert found.extra == {"pages": "1", "scanned_pages": "1"}


def test_missing_ocr_is_said_in_the_ledger(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = extract_pdf(scan().tobytes(), PdfSettings(ocr="eng"))
    assert found.reason == "needs_ocr"
    assert found.message.endswith("tesseract is not installed on this machine")


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_scanned_pages_are_read_by_tesseract_and_marked():
    document = scan()
    document.new_page(width=400, height=120).insert_text((40, 50), "A page of text, as set.")
    found = extract_pdf(document.tobytes(), PdfSettings(ocr="eng"))
    first, second = found.text.split("\n\n")
    assert first == "Revenue grew by twelve percent in the third quarter."
    assert second == "A page of text, as set."
    assert found.extra == {"pages": "2", "ocr": "1"}
    none = extract_pdf(scan().tobytes(), PdfSettings(ocr="eng+tlh"))
    assert none.message.endswith("tesseract has no data here for tlh")


@pytest.mark.parametrize(("rotate", "shown"), [(90, 0), (180, 0), (270, 0), (90, 90)])
def test_a_page_set_across_is_turned(rotate, shown):
    page = (document := pymupdf.open()).new_page()
    across, down = {90: ((0, -1), (1, 0)), 180: ((-1, 0), (0, -1)), 270: ((0, 1), (-1, 0))}[rotate]
    start = {90: (100, 700), 180: (500, 700), 270: (500, 100)}[rotate]
    rows = [("Item", "2023", "2024"), ("Revenue", "1,200", "1,350"), ("Costs", "900", "1,010")]
    for n, row in enumerate(rows):
        for m, cell in enumerate(row):
            x, y = (s + 100 * m * a + 20 * n * d
                    for s, a, d in zip(start, across, down, strict=True))  # fmt: skip
            page.insert_text((x, y), cell, rotate=rotate)
    for n in range(4):  # lines between the rows
        left = [s - 5 * a + (20 * n - 14) * d for s, a, d in zip(start, across, down, strict=True)]
        page.draw_line(left, [x + 265 * a for x, a in zip(left, across, strict=True)])
    page.set_rotation(shown)
    assert extracted(document).text == (
        "| Item | 2023 | 2024 |\n| --- | --- | --- |\n| Revenue | 1,200 | 1,350 |\n"
        "| Costs | 900 | 1,010 |"
    )


def table_page(document: pymupdf.Document, top: float, rows: list[tuple[str, ...]]) -> None:
    page = document.new_page()
    for n, row in enumerate(rows):
        for x, cell in zip((72, 220, 320), row, strict=True):
            page.insert_text((x, top + 16 * n), cell)


HEAD = ("Item", "2023", "2024")


@pytest.mark.parametrize("head", [[], [HEAD]])
def test_a_table_that_goes_on_overleaf_is_one(head):
    document = pymupdf.open()
    rows = [(f"Line {n}", f"{n},100", f"{n},200") for n in range(1, 20)]
    table_page(document, 480, [HEAD, *rows[:15]])
    table_page(document, 80, [*head, *rows[15:]])
    expected = ["| Item | 2023 | 2024 |", "| --- | --- | --- |"]
    expected += [f"| {a} | {b} | {c} |" for a, b, c in rows]
    assert extracted(document).text == "\n".join(expected)


def test_another_table_overleaf_stays_another():
    document = pymupdf.open()
    rows = [(f"Line {n}", f"{n},100", f"{n},200") for n in range(1, 16)]
    table_page(document, 480, [HEAD, *rows])
    table_page(document, 80, [("Fund", "Return", "Risk"), *rows[:3]])
    assert extracted(document).text.count("| --- | --- | --- |") == 2


def test_footnotes_do_not_part_a_paragraph():
    document = pymupdf.open()
    page = document.new_page()
    for n in range(10):
        page.insert_text((72, 560 + 14 * n), f"Line {n} of a paragraph that says this and that and")
    page.insert_text((72, 740), "1 A footnote that is set in smaller type.", fontsize=8)
    page = document.new_page()
    page.insert_text((72, 80), "goes on overleaf, where it comes to its end.")
    page.insert_text((72, 120), "Another paragraph.")
    blocks = extracted(document).text.split("\n\n")
    assert blocks[0].endswith("this and that and goes on overleaf, where it comes to its end.")
    assert blocks[1:] == ["1 A footnote that is set in smaller type.", "Another paragraph."]


def test_a_ruled_table_has_the_cells_of_its_grid():
    page = (document := pymupdf.open()).new_page()
    for x in (72, 172, 272, 372):
        page.draw_line((x, 100 if x != 272 else 120), (x, 180))
    for y in (100, 120, 150, 180):
        page.draw_line((72, y), (372, y))
    page.insert_text((77, 114), "Name")
    page.insert_text((200, 114), "Share of capital in %")
    for n, row in enumerate((("Kappa", "1", "2"), ("Lambda", "3", "4"))):
        for x, cell in zip((77, 177, 277), row, strict=True):
            page.insert_text((x, 133 + 30 * n), cell)
    page.insert_text((77, 145), "Limited")
    assert extracted(document).text == (
        "| Name | Share of capital in % |  |\n| --- | --- | --- |\n| Kappa Limited | 1 | 2 |\n"
        "| Lambda | 3 | 4 |"
    )


def test_the_layout_model_says_where_tables_and_headers_are(monkeypatch):
    page = (document := pymupdf.open()).new_page()
    page.insert_text((72, 50), "A header that stands on one page only")
    for n, row in enumerate((("Term", "What it means"), ("Alpha", "The first"), ("Beta", "Next"))):
        for x, cell in zip((72, 220), row, strict=True):
            page.insert_text((x, 120 + 16 * n), cell)
    assert "|" not in extracted(document).text
    boxes = [Region(70, 40, 400, 55, "page-header"), Region(70, 105, 400, 160, "table")]
    monkeypatch.setattr(pdf_document, "regions", lambda page: boxes)
    found = extract_pdf(document.tobytes(), PdfSettings(layout="neural"))
    assert found.text == (
        "| Term | What it means |\n| --- | --- |\n| Alpha | The first |\n| Beta | Next |"
    )


def test_a_missing_layout_model_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="install the extra `neural`"):
        require_model()


def test_watermarks_and_line_numbers_go():
    document = pymupdf.open()
    for number in range(4):
        page = document.new_page()
        for n in range(10):
            page.insert_text((40, 100 + 14 * n), str(10 * number + n + 1), fontsize=8)
            page.insert_text((72, 100 + 14 * n), f"Sentence {n} of page {number} is a plain one.")
        page.insert_text((150, 160), "FOR INTERNAL USE ONLY", fontsize=20)
    text = extracted(document).text
    assert "INTERNAL" not in text
    assert text.startswith("Sentence 0 of page 0 is a plain one. Sentence 1 of page 0")


def test_lines_of_a_table_of_contents_stay_apart():
    page = (document := pymupdf.open()).new_page()
    for n, line in enumerate(("Methods", "Results and what they mean", "Conclusions")):
        page.insert_text((72, 100 + 14 * n), f"{line} {'.' * (60 - len(line))} {n + 3}")
    assert [x.split(" .")[0] for x in extracted(document).text.split("\n\n")] == [
        "Methods", "Results and what they mean", "Conclusions",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "made", "expected"),
    [
        ("Published 7 March 2020 in London", "D:20200310", "2020-03-07"),
        ("Published on March 7, 2020", "D:20200310", "2020-03-07"),
        ("2020-03-07, first edition", None, "2020-03-07"),
        ("Founded on 1999-01-02 in London", "D:20200310", "2020-03-10"),
        ("Updated 2020-13-40", "D:20200310", "2020-03-10"),
        ("No date at all is given here", None, None),
    ],
)
def test_the_date_is_what_the_first_page_says_if_it_fits(line, made, expected):
    (document := pymupdf.open()).new_page().insert_text((72, 100), line)
    document.set_metadata({"creationDate": made} if made else {})
    assert extracted(document).date == expected


def test_an_advertisement_in_the_metadata_is_no_title():
    page = (document := pymupdf.open()).new_page()
    page.insert_text((72, 90), "Momentum in Bond Markets", fontsize=22)
    for n in range(5):
        page.insert_text((72, 140 + 14 * n), f"Body text number {n} that goes on for a while")
    document.set_metadata({"title": "Reports - www.example.com", "author": "A. Author"})
    found = extracted(document)
    assert found.title == "Momentum in Bond Markets"
    assert found.extra["author"] == "A. Author"
