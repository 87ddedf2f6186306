"""EPUB and DOCX, built here from their parts: structure kept, and what is broken named."""

import io
import zipfile

import pytest

from corpus.extract import packages
from corpus.extract.documents import extract_document
from corpus.extract.settings import ExtractSettings

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
M = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
P = "http://schemas.openxmlformats.org/package/2006"


def archive(parts: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return data.getvalue()


def epub(chapters: dict[str, str], **more: str) -> bytes:
    items = "".join(
        f'<item id="i{n}" href="text/{name}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(chapters)
    )
    spine = "".join(f'<itemref idref="i{n}"/>' for n in reversed(range(len(chapters))))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<metadata><dc:title>货币论</dc:title><dc:creator>凯恩斯</dc:creator>"
        f"<dc:date>1930-10-01</dc:date></metadata><manifest>{items}"
        '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
        f'</manifest><spine><itemref idref="nav"/>{spine}</spine></package>'
    )
    container = '<container><rootfiles><rootfile full-path="OEBPS/a.opf"/></rootfiles></container>'
    return archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "OEBPS/a.opf": package,
            "OEBPS/nav.xhtml": "<html><body><a href='text/1.xhtml'>目录</a></body></html>",
            **{
                f"OEBPS/text/{name}": f"<html><title>x</title><body>{body}</body></html>"
                for name, body in chapters.items()
            },
            **more,
        }
    )


def docx(body: str, **more: str) -> bytes:
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="s{n}"><w:name w:val="{name}"/></w:style>'
        for n, name in enumerate(["heading 1", "标题 2"])
    )
    return archive(
        {
            "[Content_Types].xml": f'<Types xmlns="{P}/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>',
            "_rels/.rels": f'<Relationships xmlns="{P}/relationships"><Relationship Id="r1" '
            f'Type="{R}/officeDocument" Target="word/document.xml"/></Relationships>',
            "word/_rels/document.xml.rels": f'<Relationships xmlns="{P}/relationships">'
            f'<Relationship Id="r2" Type="{R}/styles" Target="styles.xml"/></Relationships>',
            "word/styles.xml": f"<w:styles {W}>{styles}</w:styles>",
            "word/document.xml": f"<w:document {W} {M}><w:body>{body}</w:body></w:document>",
            "docProps/core.xml": '<c xmlns:dc="d"><dc:title>年度报告</dc:title>'
            "<dc:creator>某公司</dc:creator><created>2021-03-04T00:00:00Z</created></c>",
            **more,
        }
    )


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(text)}</w:tc>"


def extract(media: str, payload: bytes):
    return extract_document(media, payload, ExtractSettings())


def test_an_epub_is_read_in_the_order_of_its_spine():
    table = "<table><tr><th>年</th><th>率</th></tr><tr><td>1929</td><td>5%</td></tr></table>"
    book = epub(
        {
            "b.xhtml": f"<h2>第二章</h2><p>利率如下。</p>{table}<ul><li>甲</li><li>乙</li></ul>",
            "a.xhtml": "<h1>第一章</h1><p>货币的性质。</p><p>短句。</p>",
        }
    )
    found = extract("epub", book)
    assert found.text == (
        "# 第一章\n\n货币的性质。\n\n短句。\n\n## 第二章\n\n利率如下。\n\n"
        "| 年 | 率 |\n| --- | --- |\n| 1929 | 5% |\n\n- 甲\n- 乙"
    )
    assert (found.title, found.date) == ("货币论", "1930-10-01")
    assert found.extra == {"author": "凯恩斯", "chapters": "2"}


def test_a_docx_keeps_headings_tables_lists_and_formulas():
    span = '<w:gridSpan w:val="2"/>'
    formula = (
        "<m:oMath><m:f><m:num><m:r><m:t>a</m:t></m:r></m:num><m:den><m:sSup><m:e><m:r><m:t>b</m:t>"
        "</m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup></m:den></m:f></m:oMath>"
    )
    body = (
        paragraph("第一节 概况", "s0")
        + paragraph("主要指标", "s1")
        + paragraph("本期收入增长。")
        + f"<w:tbl><w:tr>{cell('单位：万元', span)}</w:tr>"
        + f"<w:tr>{cell('收入')}{cell('1,234.5')}</w:tr></w:tbl>"
        + f"<w:p><w:r><w:t>其中 </w:t></w:r>{formula}<w:r><w:t> 为比率。</w:t></w:r></w:p>"
    )
    found = extract("docx", docx(body))
    assert "# 第一节 概况\n\n## 主要指标\n\n本期收入增长。\n\n|" in found.text
    assert "| 收入 | 1,234.5 |" in found.text
    assert r"其中 $\frac{a}{b^{2}}$ 为比率。" in found.text
    assert (found.title, found.date, found.extra) == (
        "年度报告",
        "2021-03-04",
        {"author": "某公司"},
    )


def test_what_is_broken_or_locked_is_named(monkeypatch: pytest.MonkeyPatch):
    book, word = epub({"a.xhtml": "<p>货币</p>"}), docx(paragraph("正文"))
    assert extract("epub", book[:200]).reason == "broken_epub"
    assert extract("docx", word[:200]).reason == "broken_docx"
    assert extract("epub", word).reason == "broken_epub"
    assert extract("docx", book).reason == "broken_docx"
    assert extract("docx", packages.OLE + b"\0" * 99).reason == "not_docx"
    locked = packages.OLE + "EncryptedPackage".encode("utf-16-le")
    assert extract("docx", locked).reason == "encrypted"
    rights = '<e><CipherReference URI="OEBPS/text/a.xhtml"/></e>'
    drm = epub({"a.xhtml": "x"}, **{"META-INF/encryption.xml": rights})
    assert extract("epub", drm).reason == "encrypted"
    assert extract("docx", docx("")).reason == "no_text"
    assert extract("html", book).reason == "not_html"
    monkeypatch.setattr(packages, "LARGEST_TEXT", 100_000)
    assert extract("epub", epub({"a.xhtml": "0" * 200_000})).reason == "too_large"
    assert extract("docx", docx(paragraph("0" * 200_000))).reason == "too_large"


def test_entities_are_not_expanded():
    bomb = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    parts = {"docProps/core.xml": f'{bomb}<c xmlns:dc="d"><dc:title>&b;&b;</dc:title></c>'}
    assert extract("docx", docx(paragraph("正文"), **parts)).title is None
