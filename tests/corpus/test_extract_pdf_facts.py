"""PDFs: authors on the title page, disclaimers at the end, Chinese set in columns."""

import pymupdf
import pytest

from corpus.extract.pdf_authors import find_author
from corpus.extract.pdf_disclaimers import disclaimers_from
from corpus.extract.pdf_document import extract_pdf
from corpus.extract.pdf_lines import clean
from corpus.extract.pdf_paragraphs import Block
from corpus.extract.settings import PdfSettings

COLUMNS = [
    "天地玄黄宇宙洪荒日月盈昃辰宿列张",
    "寒来暑往秋收冬藏闰余成岁律吕调阳。",
    "云腾致雨露结为霜",
]
WHERE = [(480 - 18 * n, column) for n, column in enumerate(COLUMNS)]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("is_font_vertical", [True, False])
def test_columns_of_chinese_are_read_down_and_from_the_right(order, is_font_vertical):
    page = (document := pymupdf.open()).new_page()
    page.insert_text((72, 72), "字", fontname="china-s")
    if is_font_vertical:
        document.xref_set_key(page.get_fonts()[0][0], "Encoding", "/UniGB-UTF16-V")
        shown = " ".join(
            f"1 0 0 1 {x} 720 Tm <{column.encode('utf-16-be').hex()}> Tj"
            for x, column in WHERE[::order]
        )
        document.update_stream(page.get_contents()[0], f"BT /china-s 12 Tf {shown} ET".encode())
    else:
        document.update_stream(page.get_contents()[0], b" ")
        for x, column in WHERE[::order]:
            for n, sign in enumerate(column):
                page.insert_text((x, 80 + 14 * n), sign, fontname="china-s", fontsize=12)
    assert extract_pdf(document.tobytes(), PdfSettings()).text == "".join(COLUMNS)


TITLE = "Momentum in Bond Markets"


@pytest.mark.parametrize(
    ("stated", "texts", "author"),
    [
        ("A. Author", [TITLE, "Wei Li*, Na Liu", "Abstract"], "A. Author"),
        ("慧博资讯 - www.example.com", ["分析师：张三丰 邮箱：z@example.com"], "张三丰"),
        ("", ["证券分析师陈杰 A0230513080006", "李明（首席分析师）", "王芳（联系人）"],
         "陈杰, 李明"),
        ("", ["关注分析师预期指标的变化", "分析师声明"], ""),
        (None, [f"# {TITLE}", "Jane A. Doe1, Pérez van Dam2 and Na Liu", "Abstract—We"],
         "Jane A. Doe, Pérez van Dam, Na Liu"),
        (None, [TITLE, "Wei Li,", "Example Inc., Paris, France", "Abstract"], ""),
        (None, [TITLE, "Patrick Lanea,c,*, Alice Bestb,c", "School of Forest, Paris", "Abstract"],
         "Patrick Lane, Alice Best"),
        (None, [TITLE, "张三，李四光", "摘要：本文"], "张三, 李四光"),
        (None, [TITLE, "Wei Li, Na Liu", "The text begins."], ""),
    ],
)  # fmt: skip
def test_authors_are_those_that_the_file_or_its_first_page_names(stated, texts, author):
    blocks = [Block(n, text, 0.0, 0.0) for n, text in enumerate(texts)]
    assert find_author(stated, TITLE, blocks) == author


BODY = ["## 正文", "免责声明在正文中提到。" * 900]


@pytest.mark.parametrize(
    ("end", "begins"),
    [
        (["分析师承诺", "本人勤勉尽责。", "## 免责声明", "本报告不构成投资建议。"], "分析师承诺"),
        (["# Disclaimer", "This does not constitute an offer."], "# Disclaimer"),
        (["特别提示", "请注意天气。"], None),
        (["法律声明", "免责。", "参考文献", "[1] 某书"], None),
        (["结论", "上涨。"], None),
    ],
)
def test_closing_disclaimers_are_marked_where_they_begin(end, begins):
    place = disclaimers_from([*BODY, *end], 2)
    assert (None if place is None else "\n\n".join([*BODY, *end])[place:].split("\n")[0]) == begins


def test_the_mark_of_disclaimers_is_a_place_in_the_text():
    page = (document := pymupdf.open()).new_page()
    for y, line in ((100, "A short report on bonds."), (200, "Important disclosures"),
                    (300, "This does not constitute an offer.")):  # fmt: skip
        page.insert_text((72, y), line)
    found = extract_pdf(document.tobytes(), PdfSettings())
    assert found.text[int(found.extra["disclaimer_from"]) :].startswith("Important disclosures\n")


def test_the_space_behind_an_article_s_number_is_kept_and_others_between_han_are_not():
    assert clean("第十二条\u3000为了 规范") == "第十二条 为了规范"
    assert clean(" 第 一 章 总 则") == "第一章总则"
