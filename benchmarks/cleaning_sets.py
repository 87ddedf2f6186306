"""The good and the bad documents that `cleaning.py` measures with; made or read, never written.

Good documents are what people wrote to be read. Bad ones are spam and list pages as they were
found, and real text corrupted in ways that this file documents.
"""

import csv
import gzip
import io
import json
import random
import re
import tarfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus.extract.documents import extract_document
from corpus.extract.settings import ExtractSettings

SENTENCE = re.compile(r"[^。！？\n]{12,120}[。！？]")


@dataclass(frozen=True)
class Set:
    """Documents of one sort."""

    name: str
    texts: list[str]
    lang: str
    kind: str
    domain: str = "finance"
    right_reasons: tuple[str, ...] = ()
    """For bad documents: the rules that name what is wrong with them."""


def good_sets(data: Path, limit: int) -> list[Set]:
    """What must be kept, under the profile of its kind."""
    return [
        Set("laws", _jsonl(data, "zh_general_law", limit), "zh", "law", "general"),
        Set("finance laws", _jsonl(data, "zh_finance_law", limit), "zh", "law"),
        Set("prospectuses", [join(lines) for lines in prospectuses(data)][:limit], "zh", "filing"),
        Set("investor letters", _jsonl(data, "zh_finance_letters", limit), "zh", "book"),
        Set("broker reports", broker_reports(data)[:limit], "zh", "report"),
        Set("FinTruthQA", _fin_truth(data)[:limit], "zh", "qa"),
        Set("TAT-QA", _tat_qa(data)[:limit], "en", "filing"),
    ]


LISTS = (
    "navigation", "list-page", "too-short", "no-sentences", "no-function-words", "short-lines",
    "mostly-links", "duplicate-lines", "number-lines", "little-han", "extraction", "breadcrumb",
    "empty", "few-sentence-ends", "feed-page",
)  # fmt: skip
# The spam set's authors took its punctuation out, so that a page of it has no sentences either.
SPAM = (
    "advertising", "gambling-and-sex", "contact-advertisement", "no-sentences", "unpunctuated",
    "few-sentence-ends",
)  # fmt: skip
REPEATED = (
    "top-2-grams", "top-3-grams", "top-4-grams", "duplicate-5-grams", "duplicate-10-grams",
    "duplicate-lines", "duplicate-paragraphs", "few-distinct", "compressible",
)  # fmt: skip
STUFFED = (*REPEATED, "no-sentences", "no-function-words", "unpunctuated", "few-sentence-ends")
DAMAGED = (
    "mojibake-gbk", "mojibake-latin1", "replacement-characters", "private-characters",
    "rare-han", "symbols", "garbled", "control-characters", "no-function-words", "little-han",
)  # fmt: skip


def bad_sets(data: Path, limit: int) -> list[Set]:
    """What must go, under the profile for Chinese web pages, and for which reasons."""
    chance = random.Random(17)
    pages = _jsonl(data, "zh_general_tech_news", 10_000) + _jsonl(data, "zh_general_law", 500)
    base = [text for text in pages if len(text) > 1500]
    chance.shuffle(base)
    base = base[: min(limit, 200)]
    spam = list(_spam(data))
    chance.shuffle(spam)
    return [
        Set("spam messages", spam[:limit], "zh", "web", "general", (*SPAM, "too-short")),
        Set("spam, ten a page", _spam_pages(data, chance, limit), "zh", "web", "general", SPAM),
        Set("blog lists", _blog_lists(data), "zh", "web", "general", LISTS),
        Set("feed indices", _feeds(data), "zh", "web", "general", LISTS),
        Set(
            "stuffed with key words",
            [stuff(t, chance) for t in base],
            "zh",
            "web",
            "general",
            STUFFED,
        ),
        Set(
            "machine-repeated", [repeat(t, chance) for t in base], "zh", "web", "general", REPEATED
        ),
        Set(
            "mojibake",
            [mojibake(t, k) for k, t in enumerate(base)],
            "zh",
            "web",
            "general",
            DAMAGED,
        ),
        Set("OCR garbage", [garble(t, chance) for t in base], "zh", "web", "general", DAMAGED),
    ]


def stuff(text: str, chance: random.Random) -> str:
    """The text's commonest Han bigrams, shuffled and strung together as pages for robots do."""
    counts = Counter(re.findall(r"(?=([一-鿿]{2}))", text))
    words = [word for word, _ in counts.most_common(25)]
    separator = chance.choice([" ", "，", "、", "|", ""])
    return separator.join(chance.choices(words, k=400))


def repeat(text: str, chance: random.Random) -> str:
    """One to five sentences of the text, again and again, to 1,500 characters."""
    sentences = SENTENCE.findall(text) or [text[:80] + "。"]
    start = chance.randrange(len(sentences))
    unit = "".join(sentences[start : start + chance.randint(1, 5)])
    separator = chance.choice(["", "\n", "\n\n"])
    return separator.join([unit] * (1 + 1500 // len(unit)))


def mojibake(text: str, number: int) -> str:
    """The text's bytes read in the wrong encoding: UTF-8 as GBK or Latin-1, GBK as UTF-8."""
    text = text[:4000]
    if number % 3 == 0:
        return text.encode().decode("gb18030", "replace")
    if number % 3 == 1:
        return text.encode().decode("cp1252", "replace")
    return text.encode("gb18030").decode("utf-8", "replace")


def garble(text: str, chance: random.Random) -> str:
    """A third of the characters replaced by what bad scans are read as, and lines torn."""
    rare = [chr(chance.randrange(0x4E00, 0x9FA5)) for _ in range(400)]
    marks = list("·~^|\\/_■□◆※◎§¤′″‰┃┏┐╳〓¦¬ㄗ丨亠冖凵")
    result = []
    for character in text[:4000]:
        draw = chance.random()
        if draw < 0.18:
            result.append(chance.choice(rare))
        elif draw < 0.33:
            result.append(chance.choice(marks))
        else:
            result.append(character)
        if draw > 0.97:
            result.append("\n")
    return "".join(result)


def prospectuses(data: Path) -> Iterator[list[tuple[str, str, int]]]:
    """Each prospectus as its lines: label, text, page."""
    with tarfile.open(data / "prospectuses.tar.gz") as archive:
        for member in sorted(archive, key=lambda member: member.name):
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            lines = []
            for raw in file:
                try:
                    record = json.loads(raw)
                except ValueError:
                    continue
                line = " ".join(str(record["inside"]).split())
                if record["type"] == "excel":
                    cells = re.findall(r"'((?:[^'\\]|\\.)*)'", line)
                    line = f"| {' | '.join(cells)} |"
                if line:
                    lines.append((record["type"], line, record["page"]))
            yield lines


def join(lines: list[tuple[str, str, int]]) -> str:
    return "\n".join(line for _, line, _ in lines)


def broker_reports(data: Path) -> list[str]:
    """The plain text of brokers' PDFs, page after page, with all their furniture."""
    import pymupdf

    texts = []
    for path in sorted((data / "pdf" / "zh-broker").rglob("*.pdf")):
        with pymupdf.open(path) as document:
            texts.append("\n".join(page.get_text() for page in document))
    return [text for text in texts if len(re.findall(r"[一-鿿]", text)) > 500]


def _jsonl(data: Path, name: str, limit: int) -> list[str]:
    with gzip.open(data / "text" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    if len(texts) > limit:
        texts = random.Random(17).sample(texts, limit)
    return texts


def _member(data: Path, archive: str, ending: str) -> bytes:
    with tarfile.open(data / archive) as file:
        member = next(member for member in file if member.name.endswith(ending))
        content = file.extractfile(member)
        assert content is not None
        return content.read()


def _fin_truth(data: Path) -> list[str]:
    content = _member(data, "qa.tar.gz", "FinTruthQA.csv").decode("utf-8")
    return [f"{row['QUES']}\n{row['ANS']}" for row in csv.DictReader(io.StringIO(content))]


def _tat_qa(data: Path) -> list[str]:
    reports = json.loads(_member(data, "qa.tar.gz", "tatqa_dataset_dev.json"))
    return [
        "\n".join(f"| {' | '.join(row)} |" for row in report["table"]["table"])
        + "\n\n"
        + "\n".join(paragraph["text"] for paragraph in report["paragraphs"])
        for report in reports
    ]


def _spam(data: Path) -> Iterator[str]:
    for _, messages in _spam_classes(data):
        yield from messages


def _spam_classes(data: Path) -> Iterator[tuple[str, list[str]]]:
    for path in sorted((data / "harm" / "FBS_SMS_Dataset").iterdir()):
        if path.name in ("README.md", "Other"):  # Other are the messages that are no spam
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        yield path.name, [_natural(line) for line in lines if line.strip()]


def _natural(message: str) -> str:
    """The message as it was sent: the set's authors segmented it and put words for numbers."""
    message = re.sub(r"\bURL\w*", "http://t.cn/R7abc", message)
    message = re.sub(r"\bCELLPHONE\b", "13800001111", message)
    message = re.sub(r"\bPHONE\b", "4008001234", message)
    message = re.sub(r"\bDIGIT\b", "10", message)
    message = re.sub(r"\b(?:NAME|PLACE)\b", "某某", message)
    return re.sub(r"(?<=[^\x00-\x7f]) +(?=[^\x00-\x7f])", "", message).strip()


def _spam_pages(data: Path, chance: random.Random, limit: int) -> list[str]:
    pages = []
    for _, messages in _spam_classes(data):
        chance.shuffle(messages)
        pages += ["\n".join(messages[k : k + 10]) for k in range(0, len(messages) - 9, 10)]
    chance.shuffle(pages)
    return pages[:limit]


def _blog_lists(data: Path) -> list[str]:
    """Tag, archive and category pages of a built blog, and saved list pages, extracted."""
    texts = []
    with tarfile.open(data / "html" / "zh-pages.tar.gz") as archive:
        for member in sorted(archive, key=lambda member: member.name):
            listed = re.search(
                r"wuchong_hexo/(?:archives|tags|categories)/.*\.html$|samples/list/.*\.html$|"
                r"test_list_page/.*\.html$",
                member.name,
            )
            file = archive.extractfile(member) if listed and member.isfile() else None
            if file is not None:
                result = extract_document("html", file.read(), ExtractSettings())
                texts.append("" if result.reason else result.text)
    return texts


def _feeds(data: Path) -> list[str]:
    """What the feeds of the legacy set list: titles, dates and addresses, without the articles."""
    texts = []
    with tarfile.open(data / "html" / "zh-legacy-encodings.tar.gz") as archive:
        for member in sorted(archive, key=lambda member: member.name):
            file = archive.extractfile(member) if member.name.endswith(".com.xml") else None
            if file is None:
                continue
            codec = "big5" if "/Big5/" in member.name else "gb18030"
            markup = file.read().decode(codec, "replace")
            markup = re.sub(r"^\s*<\?xml[^>]*\?>", "", markup)
            try:
                root = ET.fromstring(markup)
            except ET.ParseError:
                continue
            wanted = ("title", "link", "pubdate", "date", "published", "updated", "creator")
            lines = [
                " ".join((element.text or element.get("href") or "").split())
                for element in root.iter()
                if element.tag.rpartition("}")[2].lower() in wanted
            ]
            texts.append("\n".join(line for line in lines if line))
    return texts
