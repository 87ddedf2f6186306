"""The HTML pages and PDF files of the samples: copied, or rendered from a text and encoded."""

import html
import re
import shutil
from pathlib import Path

import pymupdf
from markdown_it import MarkdownIt
from material import CHOSEN, Row, by_hash

APPLE = "tests/fixtures/attachments/aapl/20250329"
ICDAR = "icdar2013-and-camelot/tests/files/tabula/icdar2013-dataset"
PAGE = """<!DOCTYPE html>
<html lang="zh">
<head>
{declaration}<title>{title}</title>
</head>
<body>
<nav><ul>
{links}
</ul></nav>
<main><article>
{body}
</article></main>
<footer><p>{footer}</p></footer>
</body>
</html>
"""
AES_256 = 5  # pymupdf.PDF_ENCRYPT_AES_256, which its type stubs do not know
LAW_FOOTER = "LawRefBook/Laws"
TUTORIAL_FOOTER = "illegalscreed.cn"
POEM_FOOTER = "chinese-poetry/chinese-poetry"
A4 = (595, 842)
CHARACTERS_A_LINE, LINES_A_PAGE = 42, 42


def filings(folder: Path, out: Path) -> None:
    out.mkdir(parents=True)
    for path in CHOSEN["filings"]:
        shutil.copyfile(folder / path, out / Path(path).name.replace("&", "-and-"))
    for name in CHOSEN["statements"]:
        shutil.copyfile(folder / APPLE / f"{name}.htm", out / f"aapl-2025-q2-{name}.html")
    exhibit = folder / APPLE / "a10-qexhibit31203292025.htm"
    shutil.copyfile(exhibit, out / "aapl-2025-q2-exhibit-31.html")


def english_pages(folder: Path, out: Path) -> None:
    out.mkdir(parents=True)
    for path in sorted(folder.glob("*.html")):
        if not any(name in path.name for name in CHOSEN["articles_of_others"]):
            shutil.copyfile(path, out / path.name)


def statute_pages(rows: list[Row], every: list[Row], out: Path) -> None:
    """24 pages: half of them statutes that are text rows too, half found here alone."""
    taken = {row["id"] for row in rows}
    fresh = [r for r in every if r["id"] not in taken and 2500 <= len(r["text"]) <= 7000]
    fit = [row for row in rows if "#" not in row["id"] and len(row["text"]) < 9000]
    chosen = by_hash(fit)[:12] + by_hash(fresh)[:12]
    # how many pages, the charset they are written in, what their <meta> says (None: nothing)
    groups: list[tuple[int, str, str | None]] = [
        (6, "gbk", "gbk"),
        (4, "gb18030", "gb2312"),
        (2, "gbk", "utf-8"),
        (2, "gb18030", None),
        (9, "utf-8", "utf-8"),
        (1, "utf-8", "gb2312"),
    ]
    encodings = [(charset, said) for count, charset, said in groups for _ in range(count)]
    titles = [row["title"] for row in chosen]
    out.mkdir(parents=True)
    for number, (row, (charset, said)) in enumerate(zip(chosen, encodings, strict=True)):
        page = rendered(row["title"], row["text"], titles, LAW_FOOTER, said)
        content = page.encode(charset, "xmlcharrefreplace")
        name = f"{number:02d}-{charset}" + ("" if said == charset else f"-says-{said or 'nothing'}")
        (out / f"{name}.html").write_bytes(content)


def tutorial_pages(rows: list[Row], out: Path) -> None:
    out.mkdir(parents=True)
    titles = [row["title"] for row in rows]
    for number, row in enumerate(rows):
        text = re.sub(r"\A---\n.*?\n---\n", "", row["text"], flags=re.DOTALL)
        charset = "gb18030" if number % 6 == 5 else "utf-8"
        page = rendered(row["title"], text, titles, TUTORIAL_FOOTER, charset)
        (out / f"{number:02d}-{charset}.html").write_bytes(page.encode(charset))


def poem_pages(rows: list[Row], out: Path) -> None:
    """Three pages of twelve poems: Big5, GB18030 and UTF-8 that no <meta> declares."""
    out.mkdir(parents=True)
    in_big5 = [row for row in rows if fits(row["text"], "big5")]
    others = [row for row in rows if row not in in_big5[:12]]
    plan = (("big5", "big5", in_big5[:12]), ("gb18030", "gb18030", others[:12]))
    for charset, said, poems in (*plan, ("utf-8", None, others[12:24])):
        titles = [row["title"] for row in poems]
        stanzas = (row["text"].split("\n") for row in poems)
        text = "\n\n".join(f"## {first}\n\n" + "  \n".join(lines) for first, *lines in stanzas)
        page = rendered(titles[0], text, titles, POEM_FOOTER, said)
        name = charset if said else f"{charset}-says-nothing"
        (out / f"{name}.html").write_bytes(page.encode(charset))


def hazards(advertising: Path, rows: list[Row], out: Path) -> None:
    """A keyword-stuffed page, a page of one line said over and over, a bad byte, a cut page."""
    out.mkdir(parents=True)
    words = [line.strip() for line in advertising.read_text("utf-8").splitlines()][:14]
    lines = [" ".join(words[n % 14 :] + words[: n % 14]) for n in range(60)]
    stuffed = rendered(" ".join(words[:5]), "\n\n".join(lines), words, words[5], "utf-8")
    (out / "keyword-stuffing.html").write_text(stuffed, "utf-8")

    said, bad, cut = by_hash(row for row in rows if len(row["text"]) < 5000)[30:33]
    article = max(said["text"].split("\n"), key=len)
    again = rendered(said["title"], "\n\n".join([article] * 40), [], LAW_FOOTER, "utf-8")
    (out / "one-line-repeated.html").write_text(again, "utf-8")

    content = rendered(bad["title"], bad["text"], [], LAW_FOOTER, "utf-8").encode()
    middle = len(content) // 2
    (out / "bad-byte.html").write_bytes(content[:middle] + b"\xff" + content[middle:])
    content = rendered(cut["title"], cut["text"], [], LAW_FOOTER, "gbk").encode("gbk", "replace")
    (out / "cut-short.html").write_bytes(content[: len(content) * 6 // 10])
    (out / "empty.html").write_bytes(b"")


def rendered(title: str, text: str, titles: list[str], footer: str, charset: str | None) -> str:
    """A text in Markdown as a page, with the links and the footer that pages have."""
    links = "\n".join(f'<li><a href="#">{html.escape(name)}</a></li>' for name in titles)
    return PAGE.format(
        declaration=f'<meta charset="{charset}">\n' if charset else "",
        title=html.escape(title),
        links=links,
        body=MarkdownIt("commonmark").enable("table").render(text),
        footer=footer,
    )


def fits(text: str, charset: str) -> bool:
    try:
        text.encode(charset)
    except UnicodeEncodeError:
        return False
    return True


def reports(unpacked: Path, out: Path) -> None:
    out.mkdir(parents=True)
    for name in CHOSEN["reports"]:
        folder = f"competition-dataset-{name[:2]}"
        shutil.copyfile(unpacked / ICDAR / folder / f"{name}.pdf", out / f"{name}.pdf")
    for name in CHOSEN["reports_of_docling"]:
        (found,) = sorted((unpacked / "docling").rglob(f"pdf/**/{name}.pdf"))
        shutil.copyfile(found, out / f"{name}.pdf")


def statute_files(rows: list[Row], every: list[Row], out: Path) -> None:
    """Eight statutes as PDF files of several pages, three of which are text rows too."""
    taken = {row["id"] for row in rows}
    fresh = [r for r in every if r["id"] not in taken and 2500 <= len(r["text"]) <= 6000]
    same = [r for r in rows if "#" not in r["id"] and 2500 <= len(r["text"]) <= 6000]
    out.mkdir(parents=True)
    for number, row in enumerate(by_hash(same)[:3] + by_hash(fresh)[:5]):
        (out / f"statute-{number}.pdf").write_bytes(saved(typeset(row["title"], row["text"])))


def hard_files(unpacked: Path, rows: list[Row], out: Path) -> None:
    """Scans, files cut short, and one that asks for a password."""
    out.mkdir(parents=True)
    ocr = unpacked / "docling/tests/data/ocr/sources"
    for name in ("ocr_test", "ocr_test_rotated_90"):
        shutil.copyfile(ocr / f"{name}.pdf", out / f"scan-{name}.pdf")
    row = by_hash(row for row in rows if 2000 <= len(row["text"]) <= 4000)[20]
    pages = typeset(row["title"], row["text"])
    (out / "scan-statute.pdf").write_bytes(saved(scanned(pages, 2)))
    (out / "password.pdf").write_bytes(saved(pages, password="lianjin"))
    for name, part in (("us-018", 0.6), ("us-004", 0.1)):
        content = (unpacked / ICDAR / f"competition-dataset-us/{name}.pdf").read_bytes()
        (out / f"cut-{name}.pdf").write_bytes(content[: int(len(content) * part)])


def typeset(title: str, text: str) -> pymupdf.Document:
    """A4 pages of 42 lines: the title above each, its number below, no font embedded."""
    text = re.sub(r"<!--.*?-->\n*|^#+ ", "", text, flags=re.MULTILINE)
    lines: list[str] = []
    for paragraph in text.split("\n"):
        whole = f"　　{paragraph}" if paragraph else ""
        starts = range(0, max(len(whole), 1), CHARACTERS_A_LINE)
        lines += [whole[start : start + CHARACTERS_A_LINE] for start in starts]
    lines = [line for n, line in enumerate(lines) if line or (n and lines[n - 1])]
    document = pymupdf.open()
    parts = [lines[n : n + LINES_A_PAGE] for n in range(0, len(lines), LINES_A_PAGE)]
    for number, part in enumerate(parts, 1):
        page = document.new_page(width=A4[0], height=A4[1])
        page.insert_text((72, 45), title, fontname="china-s", fontsize=9)
        page.insert_text((72, 80), part, fontname="china-s", fontsize=10.5, lineheight=1.6)
        page.insert_text((280, 815), f"— {number} —", fontname="china-s", fontsize=9)
    return document


def scanned(document: pymupdf.Document, count: int) -> pymupdf.Document:
    """The first pages as grey pictures of 100 dots an inch: no text left in them."""
    pictures = pymupdf.open()
    for page in document.pages(0, count):
        pixels = page.get_pixmap(dpi=100, colorspace=pymupdf.csGRAY)
        blank = pictures.new_page(width=A4[0], height=A4[1])
        blank.insert_image(blank.rect, stream=pixels.tobytes("jpeg", jpg_quality=60))
    return pictures


def saved(document: pymupdf.Document, password: str | None = None) -> bytes:
    """The file's bytes without dates or random ids; under AES-256 if there is a password."""
    document.set_metadata({})
    lock = {"encryption": AES_256, "user_pw": password} if password else {}
    content: bytes = document.tobytes(garbage=3, deflate=True, no_new_id=True, **lock)
    return content
