"""Plain text and Markdown: taken as they are, whatever their encoding and line ends."""

import re

from corpus.extract.decoding import decode
from corpus.extract.result import Extracted

HEADING = re.compile(r"\A\s*#\s+(.{1,200}?)\s*#*\s*$", re.M)


def extract_text(payload: bytes) -> Extracted:
    """The decoded text, lines ended by a newline. A Markdown heading at its top is its title."""
    text, encoding = decode(payload)
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    if not text.strip():
        return Extracted(reason="empty", message=f"{encoding} without a single sign")
    heading = HEADING.match(text)
    return Extracted(text, title=heading[1] if heading else None, extra={"encoding": encoding})
