"""The attributes of an element on the tape, read when they are wanted."""

import html
import re

from corpus.extract.html_tape import TEXT, Tape

ATTRIBUTE = re.compile(
    rb"""([^\s=>"'/]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]*)))?""",
)


def attributes(tape: Tape, node: int) -> dict[str, str]:
    """An element's attributes, names in lower case, values decoded; the first counts."""
    found: dict[str, str] = {}
    piece = tape.source[tape.start[node] : min(tape.end[node], tape.start[node] + 20_000)]
    for name, double, single, bare in ATTRIBUTE.findall(piece):
        value = (double or single or bare).decode("utf-8", "replace")
        found.setdefault(
            name.decode("utf-8", "replace").lower(), html.unescape(value) if "&" in value else value
        )
    return found


def raw_text(tape: Tape, node: int) -> str:
    """All text below an element, entities decoded, as it stands."""
    pieces = [
        tape.source[tape.start[k] : tape.end[k]]
        for k in range(node, tape.last[node] + 1)
        if tape.tag[k] == TEXT
    ]
    return unescape(b"".join(pieces))


def unescape(piece: bytes) -> str:
    """Bytes of the page as text."""
    text = piece.decode("utf-8", "replace")
    return html.unescape(text) if "&" in text else text
