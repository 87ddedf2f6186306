"""What a page says of itself: title, date, author, site, address, and whether it is a thread."""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corpus.extract.html_attributes import attributes, raw_text
from corpus.extract.html_names import TAG
from corpus.extract.html_tape import Tape
from corpus.extract.html_words import THREAD

T_META, T_LINK, T_TITLE, T_TIME, T_H1, T_SCRIPT = (
    TAG[name] for name in ["meta", "link", "title", "time", "h1", "script"]
)
THREAD_ADDRESS = re.compile(
    r"forum|\bbbs\b|bbs\.|/threads?[/.-]|(?:show|view)thread|/topics?[/-]|viewtopic|/questions?/|/answers?/|discuss|communit|/t/|"
    r"/qa?/|/ask|/d/\d|stackexchange|stackoverflow",
    re.I,
)
THREAD_SOFTWARE = re.compile(
    r"discourse|phpbb|vbulletin|xenforo|discuz|nodebb|flarum|mybb|bbpress|kunena|invision|wpforo|smf",
    re.I,
)
THREAD_TYPES = re.compile(rb'"@type"\s*:\s*\[?\s*"(?:DiscussionForumPosting|QAPage|Question)"')
ARTICLE_TYPES = re.compile(rb'"@type"\s*:\s*\[?\s*"(?:\w*Article|BlogPosting|NewsItem)"')
DATE = re.compile(
    r"(?<!\d)(19[89]\d|20[0-4]\d)\s*[-/.年]\s*(0?[1-9]|1[0-2])\s*[-/.月]\s*(0?[1-9]|[12]\d|3[01])(?!\d)"
)
JSON_DATE = re.compile(rb'"(?:datePublished|pubDate|dateCreated|uploadDate)"\s*:\s*"([^"]{8,40})"')
DATE_NAMES = (
    "article:published_time", "datepublished", "pubdate", "publishdate", "publish_date", "date",
    "dc.date", "dc.date.issued", "dcterms.date", "og:release_date", "weibo:article:create_at",
    "sailthru.date", "parsely-pub-date", "citation_publication_date", "og:published_time",
)  # fmt: skip
AUTHOR_NAMES = (
    "author",
    "article:author",
    "dc.creator",
    "byl",
    "parsely-author",
    "citation_author",
)
SEPARATORS = re.compile(r"\s+[|–—·»«:-]\s+|_{1,2}|\s*[|｜]\s*")


@dataclass(frozen=True)
class Facts:
    """All that was found; None where nothing was."""

    title: str | None
    date: str | None
    author: str | None
    site: str | None
    url: str | None
    is_thread: bool
    """It is a forum's thread or a question with answers, by its address, software or markup."""
    is_article: bool
    """It says that it is an article."""


def find_facts(tape: Tape, bits: npt.NDArray[np.int64]) -> Facts:
    """Read a page's head, its first heading and date, and what its elements are called."""
    metas: dict[str, str] = {}
    url = None
    linked = _linked_data(tape)
    for node in map(int, np.flatnonzero((tape.tag == T_META) | (tape.tag == T_LINK))):
        has = attributes(tape, node)
        if tape.tag[node] == T_LINK:
            if has.get("rel", "").lower() == "canonical" and has.get("href"):
                url = url or has["href"].strip()
            continue
        name = (has.get("property") or has.get("name") or has.get("itemprop") or "").lower()
        if name and has.get("content", "").strip():
            metas.setdefault(name, " ".join(has["content"].split())[:1000])
    url = url or metas.get("og:url")
    site = metas.get("og:site_name")
    return Facts(
        title=_title(tape, metas, site),
        date=_date(tape, metas, linked),
        author=next((metas[n] for n in AUTHOR_NAMES if n in metas and _is_name(metas[n])), None),
        site=site,
        url=url,
        is_thread=bool(np.any(bits & THREAD))
        or THREAD_ADDRESS.search(url or "") is not None
        or THREAD_SOFTWARE.search(metas.get("generator", "")) is not None
        or THREAD_TYPES.search(linked) is not None,
        is_article=metas.get("og:type", "").lower() in ("article", "news", "blog")
        or ARTICLE_TYPES.search(linked) is not None,
    )


def _linked_data(tape: Tape) -> bytes:
    """The page's JSON-LD scripts."""
    pieces = []
    for node in map(int, np.flatnonzero((tape.tag == T_SCRIPT) & (tape.end - tape.start > 12))):
        if b"ld+json" in tape.source[tape.start[node] : tape.end[node]]:
            child = min(node + 1, int(tape.last[node]))
            pieces.append(tape.source[tape.start[child] : tape.end[child]][:100_000])
    return b"\n".join(pieces)


def _is_name(value: str) -> bool:
    return len(value) < 100 and not value.startswith("http")


def _title(tape: Tape, metas: dict[str, str], site: str | None) -> str | None:
    for name in ("og:title", "twitter:title", "articletitle"):
        if metas.get(name):
            return _without_site(metas[name], site)
    node = next(iter(np.flatnonzero(tape.tag == T_TITLE)), None)
    title = " ".join(raw_text(tape, int(node)).split())[:500] if node is not None else ""
    headings = [
        " ".join(raw_text(tape, int(k)).split()) for k in np.flatnonzero(tape.tag == T_H1)[:3]
    ]
    for heading in headings:
        if len(heading) >= 4 and heading in title:
            return heading
    if title:
        return _without_site(title, site)
    return headings[0] if headings and headings[0] else None


def _without_site(title: str, site: str | None) -> str:
    if site and title.endswith(site) and len(title) > len(site) + 3:
        return title[: -len(site)].rstrip(" -|_–—·:：")
    parts = SEPARATORS.split(title)
    if len(parts) > 1 and len(parts[0]) >= max(4, *(len(part) for part in parts[1:])):
        return parts[0].strip()
    return title


def _date(tape: Tape, metas: dict[str, str], linked: bytes) -> str | None:
    for name in DATE_NAMES:
        if found := DATE.search(metas.get(name, "")):
            return _iso(found)
    if (stated := JSON_DATE.search(linked)) and (
        found := DATE.search(stated[1].decode("utf-8", "replace"))
    ):
        return _iso(found)
    for node in np.flatnonzero(tape.tag == T_TIME)[:3]:
        if found := DATE.search(attributes(tape, int(node)).get("datetime", "")):
            return _iso(found)
    node = next(iter(np.flatnonzero(tape.tag == T_H1)), None)
    if node is not None:
        start = int(tape.end[node])
        near = tape.source[start : start + 4000].decode("utf-8", "replace")
        if found := DATE.search(re.sub(r"<[^>]*>", " ", near)):
            return _iso(found)
    return None


def _iso(found: re.Match[str]) -> str:
    return f"{found[1]}-{int(found[2]):02d}-{int(found[3]):02d}"
