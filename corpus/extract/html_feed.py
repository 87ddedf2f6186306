"""RSS and Atom feeds: each item's title and text, in order."""

import html
import re
from collections.abc import Callable

FEED = re.compile(r"<(?:rss|feed|rdf:RDF|channel)[\s>]", re.I)
ITEM = re.compile(r"<(?:item|entry)[\s>]", re.I)
FIELDS = ("content:encoded", "content", "description", "summary")


def feed_text(markup: str, render: Callable[[str], str]) -> str | None:
    """Markdown of a feed, or None where `markup` is none.

    `render` turns an item's HTML into Markdown.
    """
    if "<?xml" not in markup[:200] or not FEED.search(markup[:5000]):
        return None
    pieces: list[str] = []
    for item in ITEM.split(markup)[1:]:
        title = _plain(_field(item, "title"))
        content = next((found for name in FIELDS if (found := _field(item, name))), "")
        text = render(content) if "<" in content else _plain(content)
        if title:
            pieces.append(f"## {title}")
        if text.strip() or "<" in content:
            pieces.append(text.strip() or _plain(re.sub(r"<[^>]*>", " ", content)))
    return "\n\n".join(filter(None, pieces))


def _field(item: str, name: str) -> str:
    """What an item's element holds: markup, whether escaped or in a CDATA section."""
    start = item.find(f"<{name}")
    if start < 0:
        return ""
    begin = item.find(">", start) + 1
    end = item.find(f"</{name}", begin)
    if not begin or end < 0:
        return ""
    content = item[begin:end].strip()
    if content.startswith("<![CDATA["):
        return content.removeprefix("<![CDATA[").removesuffix("]]>").strip()
    return html.unescape(content) if "&" in content else content


def _plain(text: str) -> str:
    return " ".join(html.unescape(text).split())
