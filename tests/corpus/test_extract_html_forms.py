"""Pages: formulas that scripts would set, tables as filings have them, lists, what is content."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.extract.asciimath import asciimath_to_latex
from corpus.extract.html_document import extract_html, page_text
from corpus.extract.settings import HtmlSettings

PARAGRAPHS = [
    f"Paragraph {n} of the article says something of its own, with a comma, and ends here."
    for n in range(6)
]
ARTICLE = "".join(f"<p>{text}</p>" for text in PARAGRAPHS)


MENU = "<nav><a href=/>Home page</a><p>All the news that there is to tell, every day.</p></nav>"


def markdown(body: str, head: str = "", **options: str) -> str:
    page = f"<html><head>{head}</head><body>{body}</body></html>"
    return page_text(page, HtmlSettings(**options)).text


@pytest.mark.parametrize(
    ("source", "latex"),
    [
        ("sum_(i=1)^n i^3=((n(n+1))/2)^2",
         r"\sum_{i=1}^{n}i^{3}=\left( \frac{n(n+1)}{2}\right)^{2}"),
        ("x = (-b +- sqrt(b^2-4ac))/(2a)", r"x=\frac{-b\pm\sqrt{b^{2}-4ac}}{2a}"),
        ("[[a,b],[c,d]]((n),(k))",
         r"\begin{bmatrix}a & b \\ c & d\end{bmatrix}\begin{pmatrix}n \\ k\end{pmatrix}"),
        ("{(x,if x>=0),(-x,if x<0):}",
         r"\begin{cases}x & \text{if }x\ge0 \\ -x & \text{if }x<0\end{cases}"),
        ("lim_(x->oo) f(x)/g(x)", r"\lim_{x\to\infty}\frac{f(x)}{g(x)}"),
        ("sin^2 theta + cos^2 theta = 1", r"\sin^{2}\theta+\cos^{2}\theta=1"),
        ("root(3)(x) * hat(n)", r"\sqrt[3]{x}\cdot\hat{n}"),
        ("|x-1|+|a/b|", r"|x-1|+\left|\frac{a}{b}\right|"),
        ("P(A|B)", r"P(A\mid B)"),
        ("3.14 xx 10^-3", r"3.14\times10^{-3}"),
        ('"speed" = dx/dt', r"\text{speed}=\frac{dx}{dt}"),
        ("(a,b] sub RR", r"(a,b]\subset\mathbb{R}"),
        ("((", "(("),
    ],
)  # fmt: skip
def test_asciimath_becomes_latex(source, latex):
    assert asciimath_to_latex(source) == latex


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(
    ["(", ")", "[", "]", "{:", ":}", "|", "/", "^", "_", "x", "12", "sqrt", "frac", "sin", ",",
     '"t"', "sum", "\\", "text(a)", "$", " ", "数"]), max_size=60))  # fmt: skip
def test_whatever_stands_in_an_asciimath_formula_its_braces_match(pieces):
    latex = asciimath_to_latex("".join(pieces))
    depth = 0
    for sign in latex.replace(r"\{", "").replace(r"\}", ""):
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0


def test_asciimath_is_read_where_its_script_would_set_it():
    script = '<script src="/MathJax.js?config=AM_CHTML"></script>'
    line = "<p>We see that `a/b` and <code>`x`</code> hold for every value of both.</p>"
    assert r"that $\frac{a}{b}$ and" in markdown(ARTICLE + line, script)
    assert "that `a/b` and" in markdown(ARTICLE + line)
    old = "<p>And also <script type='math/asciimath'>a_(ij)</script> holds, as was said.</p>"
    assert "$a_{ij}$" in markdown(ARTICLE + old)


def test_tex_in_brackets_stands_between_dollars():
    script = '<script src="https://cdn.example/mathjax@3/tex.js"></script>'
    line = r"<p>We see that \(a &lt; b\) holds, and therefore \[E = mc^2\] as was said.</p>"
    text = markdown(ARTICLE + line, script)
    assert "$a < b$ holds" in text
    assert "$$E = mc^2$$" in text
    assert r"\(a < b\)" in markdown(ARTICLE + line)


def test_mathml_keeps_alignment_text_and_binomials():
    fraction = "<mo>(</mo><mfrac linethickness='0'><mi>n</mi><mi>k</mi></mfrac><mo>)</mo>"
    aligned = (
        "<mtable columnalign='right left'><mtr><mtd><mi>x</mi></mtd><mtd><mo>=</mo><mn>1</mn></mtd>"
        "</mtr></mtable><mtext>for&nbsp;</mtext><mi mathvariant='normal'>∞</mi>"
    )
    text = markdown(f"{ARTICLE}<p>So <math>{fraction}</math> and <math>{aligned}</math> hold.</p>")
    assert r"$\binom{n}{k}$" in text
    assert r"$\begin{array}{rl}x & =1\end{array}\text{for }\infty$" in text


@pytest.mark.parametrize(
    ("markup", "latex"),
    [
        ("<mo>(</mo><mfrac><mi>a</mi><mi>b</mi></mfrac><mo>)</mo>", r"\left(\frac{a}{b}\right)"),
        ("<mo stretchy='false'>(</mo><mfrac><mi>a</mi><mi>b</mi></mfrac><mo>)</mo>",
         r"(\frac{a}{b})"),
        ("<mi>f</mi><mo>(</mo><mi>x</mi><mo>)</mo>", "f(x)"),
        ("<mo>|</mo><mtable><mtr><mtd><mi>a</mi></mtd></mtr></mtable><mo>|</mo>",
         r"\begin{vmatrix}a\end{vmatrix}"),
        ("<menclose notation='top'><mi>A</mi><mi>B</mi></menclose>", r"\overline{AB}"),
    ],
)  # fmt: skip
def test_brackets_in_mathml_grow_with_what_they_hold(markup, latex):
    assert f"${latex}$" in markdown(f"{ARTICLE}<p>So <math>{markup}</math> holds for all.</p>")


def test_a_formula_and_its_fallback_do_not_part_the_line():
    math = "<math><mi>x</mi></math><noscript><img src=a.png></noscript>"
    line = f"<p>The value of <span class=mwe-math-element>{math}</span> is greater than zero.</p>"
    assert "The value of $x$ is greater than zero." in markdown(ARTICLE + line)


def test_short_items_between_chosen_blocks_are_kept_and_linked_ones_are_not():
    answer = "<h2>Task</h2><ol><li>9 * 3</li><li>5 * 12</li></ol><dl><dt>Answer<dd>63</dl>"
    links = "<p><a href=/a>Read about other things that are on this site, too</a></p>"
    text = markdown(ARTICLE + answer + ARTICLE.replace("Paragraph", "Part") + links + ARTICLE)
    assert "## Task\n\n1. 9 * 3\n2. 5 * 12\n\nAnswer\n\n63" in text
    assert "other things" not in text


def test_the_name_of_a_term_is_its_text_and_says_nothing_of_its_place():
    entry = "<dl><dt id=model.register.share>register(name)<dd>Adds a name to the model, once.</dl>"
    assert "register(name)" in markdown(ARTICLE + entry + ARTICLE.replace("Paragraph", "Part"))


def test_signs_that_join_letters_are_kept_where_words_need_them():
    text = markdown(
        ARTICLE + "<p>می\u200cدهد and so\u200cft\u200b words in one sentence of text.</p>"
    )
    assert "می\u200cدهد and soft words" in text


FILING = (
    "<table><tr><td>Item</td><td colspan=2>2024</td><td colspan=2>2023</td></tr>"
    "<tr><td>Cash</td><td>$</td><td>1,234</td><td>$</td><td>—</td></tr>"
    "<tr><td>Debt</td><td>—</td><td>&nbsp;</td><td>&nbsp;</td><td>(5)</td></tr></table>"
)


def test_a_dash_in_a_table_is_a_value_of_its_own():
    assert markdown(f"<div>{ARTICLE}{FILING}</div>").endswith(
        "| Item | 2024 | 2023 |\n| --- | --- | --- |\n| Cash | $1,234 | $— |\n| Debt | — | (5) |"
    )


def test_tables_with_spans_are_html_where_a_recipe_asks():
    table = (
        "<table><tr><th rowspan=2>Item<th colspan=2>Year</tr><tr><td>2023<td>2024</tr>"
        "<tr><td>R&amp;D &lt; 5<td>$</td><td>1,234</tr><tr><td>Loss<td>(56<td>)</table>"
    )
    assert markdown(ARTICLE + table, irregular_tables="html").endswith(
        '<table>\n<tr><th rowspan="2">Item</th><th colspan="2">Year</th></tr>\n'
        "<tr><td>2023</td><td>2024</td></tr>\n"
        "<tr><td>R&amp;D &lt; 5</td><td></td><td>$1,234</td></tr>\n"
        "<tr><td>Loss</td><td>(56)</td><td></td></tr>\n</table>"
    )
    regular = "<table><tr><th>A<th>B<tr><td>1<td>2<tr><td>3<td>4</table>"
    assert markdown(ARTICLE + regular, irregular_tables="html").endswith(
        "| A | B |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |"
    )


def test_a_table_of_one_column_with_a_head_is_a_table():
    table = (
        "<table><thead><tr><th>Said as</th></tr></thead><tbody><tr><td>a minus b</td></tr></table>"
    )
    assert "| Said as |\n| --- |\n| a minus b |" in markdown(ARTICLE + table)


HEADLINES = "".join(
    f"<li><a href=/news/{n}.html>Notice {n} on the fund's subscription and redemption</a>"
    f"<span>2024-05-{n:02d}</span></li>"
    for n in range(1, 13)
)
LIST_PAGE = (
    "<html><head><link rel=canonical href='https://fund.example/notices/'><title>Notices</title>"
    f"</head><body><nav><a href=/>Home page of the fund</a></nav><ul>{HEADLINES}</ul></body></html>"
)


def test_list_pages_are_dropped_or_kept_as_their_links():
    dropped = extract_html(LIST_PAGE.encode(), HtmlSettings())
    assert (dropped.reason, dropped.text) == ("list_page", "")
    assert dropped.message.startswith("12 headlines")
    kept = extract_html(LIST_PAGE.encode(), HtmlSettings(list_pages="links"))
    assert kept.reason is None
    assert kept.text.split("\n")[0] == (
        "- [Notice 1 on the fund's subscription and redemption](https://fund.example/news/1.html)"
        " 2024-05-01"
    )
    assert len(kept.text.split("\n")) == 12


def test_a_page_with_links_and_a_text_is_no_list():
    page = LIST_PAGE.replace("<ul>", f"<div>{ARTICLE}</div><ul>").encode()
    found = extract_html(page, HtmlSettings())
    assert found.reason is None
    assert all(part in found.text for part in PARAGRAPHS)


def test_what_lies_outside_the_element_main_is_not_content():
    consent = "<div><p>We and our partners store data on your device, and read it from there, in "
    consent += "order to measure and improve what we show, if you let us do so.</p></div>"
    text = markdown(f"<main>{ARTICLE * 2}</main>{consent}")
    assert PARAGRAPHS[0] in text
    assert "partners" not in text


def test_a_heading_that_repeats_the_title_is_left_out():
    head = "<meta property=og:title content='Profits rise at the bank'>"
    text = markdown(
        f"<div><h3>Profits Rise at the Bank</h3>{ARTICLE}<h3>Outlook</h3>{ARTICLE}", head
    )
    assert "Profits" not in text
    assert "### Outlook" in text


def test_names_that_say_something_else_elsewhere():
    signature = "<dl><dt class='sig sig-object'>bank.open(account, amount) opens it.</dt>"
    signature += f"<dd>{ARTICLE}</dd></dl>"
    assert "bank.open(account, amount)" in markdown(signature)
    report = f"<div class=report>{ARTICLE}</div>"
    assert PARAGRAPHS[0] in markdown(f"{report}<div class=footer>Copyright.</div>")
    random = f"<div id=f_0a1b2c-ad-9d8e7f6a>{ARTICLE}</div>"
    assert PARAGRAPHS[0] in markdown(random)
    figure = "<figure><img><figcaption>A chart of what the bank earned in ten years, by quarter."
    assert "A chart of what the bank earned" in markdown(f"{ARTICLE}{figure}</figure>{ARTICLE}")


def test_posts_with_their_authors_are_a_thread_whatever_software_made_it():
    said = [
        " ".join(PARAGRAPHS),
        "Could you say more, please, on which of the steps you tried?",
        "I tried all of them, and in the order that you gave.",
        "I have no experience with it, sorry, so somebody else must help.",
    ]
    posts = "".join(
        f"<div class=post-row><div class=author><h4><a href=/u/{n}>user{n}</a></h4></div>"
        f"<a href=#{n}>Posted on May 5th, 2024 at noon</a><p>{text}</p></div>"
        for n, text in enumerate(said)
    )
    text = markdown(f"<h1>What may be wrong here?</h1><div class=card>{posts}</div>")
    assert text.startswith("# What may be wrong here?")  # a thread begins with its question
    assert all(part in text for part in said)


def test_what_is_hidden_at_the_beginning_of_a_block_hides_no_more_than_itself():
    blocks = "".join(
        f"<p><span style='display:none'>x</span>{text}</p>"
        for text in [*PARAGRAPHS, "A short one."]
    )
    comments = f"<div class=comment><ul class=comments>{blocks}</ul></div>"
    head = "<link rel=canonical href='https://forum.example/t/17'>"
    text = markdown(f"<div class=post>{ARTICLE}</div>{comments}{MENU}", head)
    assert "A short one." in text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("10<sup>-6</sup>", "10^{-6}"),
        ("<i>σ</i><sup>2</sup>", "σ^2"),
        ("(a+b)<sup>n</sup>", "(a+b)^n"),
        ("5 km<sup>2</sup>", "5 km^2"),
        ("<i>y</i><sub>max</sub>", "y_{max}"),
        ("x<sub>1</sub>", "x_1"),
        ("H<sub>2</sub>O", "H2O"),
        ("the 1<sup>st</sup>", "the 1st"),
        ("a word<sup>2</sup>", "a word[2]"),
        ("x<sup><a href=#n>2</a></sup>", "x[2]"),
        ("since 2019<sup>3</sup>", "since 2019[3]"),
        ("2<sup>10</sup>", "2^{10}"),
    ],
)
def test_powers_indices_and_notes_keep_their_place(markup, text):
    assert f"It is {text} in all." in markdown(f"{ARTICLE}<p>It is {markup} in all.</p>")


def test_a_link_behind_a_text_heads_no_list_of_articles():
    entry = (
        "<li><p>Returns what the caller has asked it for, at once.</p><a href=/t>{0} of four words"
    )
    entry += " here</a><p>Some text about it that goes on, and on, for a while.</p></li>"
    listed = "".join(entry.format(name) for name in ("One", "Two", "Three", "Four"))
    assert markdown(f"{ARTICLE}<ul>{listed}</ul>").count("goes on, and on") == 4


def test_links_beside_a_heading_are_no_part_of_it():
    edit = "<h2>History<span class=mw-editsection>[<a href=/e>edit</a>]</span></h2>"
    whole = "<h2><a class=heading-anchor href=#use>Usage</a></h2>"
    body = edit + ARTICLE + "<h2>Notes <a href=#notes>¶</a></h2>" + ARTICLE.replace("Par", "P")
    text = markdown(f"<div>{body}{whole}{ARTICLE.replace('Paragraph', 'Part')}</div>")
    headings = [line for line in text.split("\n") if line.startswith("#")]
    assert headings == ["## History", "## Notes", "## Usage"]
