"""Pages: the tape, encodings, main content, tables, formulas and code, on tiny golden pages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.extract.decoding import decode
from corpus.extract.html_document import extract_html, page_text
from corpus.extract.html_names import TAGS
from corpus.extract.html_tape import TEXT, parse
from corpus.extract.settings import HtmlSettings

SETTINGS = HtmlSettings()
ZH = "公司发布年度报告，营业收入同比增长百分之十二，净利润大幅提升。管理层对未来充满信心。"
EN = [
    f"Paragraph {n} of the article says something of its own, with a comma, and ends here."
    for n in range(6)
]
ARTICLE = "".join(f"<p>{text}</p>" for text in EN)
MENU = "<nav><ul>" + "".join(f"<li><a href=/{n}>Menu entry {n}</a></li>" for n in range(8))
FOOTER = "</ul></nav>{}<div class=footer>Copyright 2024, the company. All rights reserved.</div>"


def markdown(body: str, head: str = "") -> str:
    page = f"<html><head>{head}</head><body>{MENU}{FOOTER.format(body)}</body></html>"
    return page_text(page, SETTINGS)[0]


def tree(page: bytes) -> list[tuple[int, str]]:
    """(depth, tag or text) of every node."""
    tape = parse(page)
    depth = [0] * len(tape.tag)
    found = []
    for node in range(1, len(tape.tag)):
        depth[node] = depth[tape.parent[node]] + 1
        piece = page[tape.start[node] : tape.end[node]].decode()
        found.append((depth[node], piece if tape.tag[node] == TEXT else TAGS[tape.tag[node]]))
    return found


def test_the_tape_closes_what_html_leaves_open():
    assert tree(b"<p>a<p>b<br>c<ul><li>1<li>2</ul>") == [
        (1, "p"), (2, "a"), (1, "p"), (2, "b"), (2, "br"), (2, "c"),
        (1, "ul"), (2, "li"), (3, "1"), (2, "li"), (3, "2"),
    ]  # fmt: skip
    assert tree(b"<table><tr><td>a<td>b<tr><td>c</table>d") == [
        (1, "table"), (2, "tr"), (3, "td"), (4, "a"), (3, "td"), (4, "b"),
        (2, "tr"), (3, "td"), (4, "c"), (1, "d"),
    ]  # fmt: skip
    assert tree(b"<script>if(a<b)</script>x<!-- <p> -->y<a>1<a>2") == [
        (1, "script"), (2, "if(a<b)"), (1, "x"), (1, "y"), (1, "a"), (2, "1"), (1, "a"), (2, "2"),
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(
    ["<p>", "</p>", "<div class='a'>", "</div>", "<table>", "<tr>", "<td>", "</table>", "<a b=c>",
     "</a>", "<script>", "</script>", "<!--", "-->", "<b", ">", "text ", "<li>", "</ul>", "&lt;",
     "<![CDATA[", "]]>", "\0", "<h1>", "</h2>", "<br/>", "'", '"']), max_size=40))  # fmt: skip
def test_every_page_is_a_well_formed_tape(pieces):
    tape = parse("".join(pieces).encode())
    nodes = np.arange(len(tape.tag))
    assert (tape.parent[1:] < nodes[1:]).all()
    assert (tape.last >= nodes).all()
    assert (tape.last[1:] <= tape.last[tape.parent[1:]]).all()
    assert (tape.end >= tape.start).all()


@pytest.mark.parametrize(
    ("charset", "declared"),
    [
        ("utf-8", "gbk"), ("gb18030", "gb2312"), ("gb18030", "utf-8"), ("gb18030", None),
        ("utf-16", None), ("utf-16-le", None), ("big5", "big5"), ("utf-8", None),
    ],
)  # fmt: skip
def test_the_encoding_is_what_the_bytes_are_and_not_what_they_say(charset, declared):
    text = (
        ZH
        if charset != "big5"
        else "公司發布年度報告，營業收入增長，淨利潤大幅提升。我們對未來有信心。"
    )
    meta = f'<meta charset="{declared}">' if declared else ""
    page = f"<html><head>{meta}</head><body><p>{text * 5}</p></body></html>".encode(charset)
    assert text in decode(page)[0]


@pytest.mark.parametrize("charset", ["utf-8", "gb18030"])
def test_a_bad_byte_and_zero_bytes_cost_no_page(charset):
    page = f'<meta charset="{charset}"><!-- @ --><p>{ZH * 8}</p>'.encode(charset)
    assert ZH in decode(page.replace(b"@", b"\xff"))[0]
    assert ZH in decode(page.replace(b"@", b"\0\0"))[0]


def test_the_article_is_kept_and_what_surrounds_it_is_not():
    related = "<div class=related-posts>" + "".join(
        f"<div><h4><a href=/r{n}>Another headline of another story {n}</a></h4>"
        "<p>A teaser of a sentence or two that belongs to some other story, see there.</p></div>"
        for n in range(5)
    )
    text = markdown(f"<div><h1>The headline</h1>{ARTICLE}</div>{related}</div>")
    assert text == "\n\n".join(EN)


def test_the_replies_of_a_thread_belong_to_it():
    posts = "".join(
        f"<div class=post><div class=author><a href=/u{n}>user{n}</a></div>"
        f"<div class=post-content><p>{text}</p></div><div class=signature>Buy my things!</div>"
        "</div>"
        for n, text in enumerate(EN)
    )
    head = "<link rel=canonical href='https://forum.example.com/threads/a-question.17/'>"
    text = markdown(f"<h1>What is the question?</h1>{posts}", head)
    assert text.startswith("# What is the question?")
    assert all(part in text for part in EN)
    assert "Buy my things" not in text
    assert "user1" not in text


def test_tables_become_markdown_with_spans_in_place():
    table = (
        "<table><tr><th rowspan=2>Item<th colspan=2>Year</tr><tr><td>2023<td>2024</tr>"
        "<tr><td>Revenue<td>$</td><td>1,234</tr><tr><td>Loss<td>(56<td>)</table>"
    )
    text = markdown(f"<div>{ARTICLE}{table}{ARTICLE}</div>")
    assert (
        "| Item | Year |  |\n| --- | --- | --- |\n|  | 2023 | 2024 |\n"
        "| Revenue |  | $1,234 |\n| Loss | (56) |  |" in text
    )


@pytest.mark.parametrize(
    ("markup", "latex"),
    [
        ('<script type="math/tex">x^2</script>', "$x^2$"),
        ('<script type="math/tex; mode=display">E=mc^2</script>', "$$E=mc^2$$"),
        (('<span class="katex"><span class="katex-mathml"><math><semantics><mi>a</mi><annotation '
         'encoding="application/x-tex">\\alpha</annotation></semantics></math></span>'
         '<span class="katex-html" aria-hidden="true">α</span></span>'), "$\\alpha$"),
        ("<math><mfrac><mi>a</mi><msup><mi>b</mi><mn>2</mn></msup></mfrac></math>",
         "$\\frac{a}{b^{2}}$"),
        ('<img class="latex" alt="\\frac{1}{2}" src="x.png">', "$\\frac{1}{2}$"),
        ('<img src="https://latex.codecogs.com/gif.latex?a_1&amp;space;+b" alt="">', "$a_1 +b$"),
    ],
)  # fmt: skip
def test_formulas_become_latex(markup, latex):
    assert latex in markdown(f"<div>{ARTICLE}<p>We see that {markup} holds.</p></div>")


def test_code_keeps_its_lines_and_language_and_loses_line_numbers():
    code = '<pre><code class="language-python">def f(x):\n    return x &lt; 1\n</code></pre>'
    lines = (
        '<table class="highlight"><tr><td class="gutter linenos"><pre>1\n2</pre></td>'
        '<td class="code"><pre>a = 1\nb = 2</pre></td></tr></table>'
    )
    inline = '<pre><span style="user-select: none">1</span>c = 2\n</pre>'
    text = markdown(f"<div>{ARTICLE}{code}{lines}{inline}</div>")
    assert "```\nc = 2\n```" in text
    assert "```python\ndef f(x):\n    return x < 1\n```" in text
    assert "```\na = 1\nb = 2\n```" in text


def test_lists_quotes_and_headings_keep_their_form():
    body = (
        f"<h2>A part</h2>{ARTICLE}<ol><li>One point that is made here.<ul><li>A point under it, "
        "with words.</ul><li>Another point that is made.</ol><blockquote><p>To be, or not to be, "
        "that is the question.</p></blockquote>"
    )
    text = markdown(f"<div>{body}</div>")
    assert "## A part" in text
    assert "1. One point that is made here.\n  - A point under it, with words.\n2. Another" in text
    assert "> To be, or not to be, that is the question." in text


def test_a_page_says_its_title_date_author_and_address():
    head = (
        "<title>The story - The Paper</title><meta property=og:site_name content='The Paper'>"
        "<meta name=author content='A. Writer'><link rel=canonical href='https://p.example/1'>"
        '<script type="application/ld+json">{"datePublished": "2024-05-06T07:08:09Z"}</script>'
    )
    page = f"<html><head>{head}</head><body><h1>The story</h1>{ARTICLE}</body></html>"
    found = extract_html(page.encode(), SETTINGS)
    assert (found.title, found.date, found.url) == (
        "The story",
        "2024-05-06",
        "https://p.example/1",
    )
    assert found.extra == {"author": "A. Writer", "site": "The Paper", "encoding": "utf-8"}


@pytest.mark.parametrize(
    "page",
    [
        "<div>" * 20_000 + ARTICLE, ARTICLE + "<span>" * 50_000, "<b><p>x" * 20_000 + ARTICLE,
        "<table><tr><td>" * 1000 + ARTICLE, ARTICLE + "<table><tr><td colspan=999999999>a<td>b",
        "\0" * 10_000 + ARTICLE, f"<div {'a=b ' * 50_000}>{ARTICLE}", ARTICLE + "<!--" + "x" * 9999,
    ],
)  # fmt: skip
def test_depth_width_and_size_lose_no_text(page):
    text = extract_html(page.encode(), SETTINGS).text
    assert all(part in text for part in EN)


def test_a_feed_is_its_items_in_order():
    feed = (
        '<?xml version="1.0" encoding="gb2312"?><rss><channel><title>频道</title>'
        "<item><title>第一条</title><description>&lt;p&gt;公司公告。&lt;/p&gt;</description></item>"
        "<item><title>第二条</title><description><![CDATA[没有标签的一句话。]]></description></item>"
        "</channel></rss>"
    ).encode("gb18030")
    text = extract_html(feed, SETTINGS).text
    assert text == "## 第一条\n\n公司公告。\n\n## 第二条\n\n没有标签的一句话。"
