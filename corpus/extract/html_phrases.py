"""Short blocks that are a site's and not the text's, told by what they say.

Only what no author writes into a text: calls to subscribe, consent to cookies, copyright lines,
share buttons. Lines inside texts are the cleaning stage's.
"""

import re

import numpy as np
import numpy.typing as npt

from corpus.extract.html_attributes import unescape
from corpus.extract.html_blocks import Blocks
from corpus.extract.html_names import TAG, TAGS
from corpus.extract.html_tape import Tape

MOST_TOKENS = 70
MIN_TITLE = 6
"""Letters and digits of a title that is long enough to be told from a word."""
IS_HEADING = np.isin(np.arange(len(TAGS)), [TAG[f"h{level}"] for level in range(1, 7)])
TAGS_IN_TEXT = re.compile(rb"<[^>]*>")
ENGLISH = (
    r"(?:sign up|subscrib\w*)[^.]{0,60}newsletter",
    r"newsletter[^.]{0,40}(?:sign up|subscri|inbox)",
    "newsletter may contain", r"\buses?\s+(?:\w+\s+){0,3}cookies",
    "cookie (?:policy|settings|notice)",
    "all rights reserved", "terms (?:of|and) (?:use|service|conditions)",
    "privacy (?:policy|notice)",
    "follow us on", "(?:please |must be )log(?:ged)? in (?:or|to)", "leave a (?:comment|reply)",
    "download (?:our|the) app", "requires? javascript", "enable javascript", "your email address",
    r"this topic has \d+ repl", "tell us what you think",
)  # fmt: skip
CHINESE = (
    "版权所有", "未经(?:书面)?(?:授权|许可|允许)", "不得转载", "请勿转载", "扫一扫",
    "扫码(?:关注|下载)", "关注.{0,20}公众号", "ICP备", "公网安备", "ICP证",
    "举报(?:电话|邮箱|信息)",
    "仅提供信息(?:存储|发布)", "不代表.{0,20}(?:立场|观点)", "点击下载",
    "登录后.{0,6}(?:评论|回复|查看)", "下载.{0,10}(?:APP|客户端)",
)  # fmt: skip
ENGLISH_KEYS = (
    b"newsletter", b"cookie", b"rights reserved", b"terms", b"privacy", b"follow us", b"log in ",
    b"logged in ", b"leave a ", b" app", b"javascript", b"email address", b"this topic", b"tell us",
)  # fmt: skip
CHINESE_KEYS = tuple(
    key.encode()
    for key in (
        "版权所有", "未经", "转载", "扫一扫", "扫码", "公众号", "备", "icp证", "举报", "仅提供",
        "不代表", "下载", "登录后",
    )
)  # fmt: skip
"""In lower case; every phrase holds one: looked for before the phrases, at a hundredth of the
time."""
PHRASES = re.compile("|".join((*ENGLISH, *CHINESE)).encode(), re.I)
MACROS = re.compile(rb"\\(?:newcommand|DeclareMathOperator|renewcommand|require)\b")
"""Blocks that define LaTeX macros for a page's formulas show nothing."""


def headlines(
    tape: Tape, blocks: Blocks, chosen: npt.NDArray[np.bool_], title: str | None
) -> list[int]:
    """The chosen headings that say no more than the page's title does, which is a column."""
    sought = _letters(title or "")
    if len(sought) < MIN_TITLE:
        return []
    found = []
    for k in map(int, np.flatnonzero(chosen & IS_HEADING[tape.tag[blocks.owner]])):
        piece = tape.source[tape.start[blocks.first[k]] : tape.end[blocks.last[k]]]
        if len(piece) < 4000 and _letters(unescape(TAGS_IN_TEXT.sub(b" ", piece))) == sought:
            found.append(k)
    return found


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def sites_own(tape: Tape, blocks: Blocks, chosen: npt.NDArray[np.bool_]) -> list[int]:
    """The chosen blocks that say one of the phrases and little else."""
    found = []
    for k in map(int, np.flatnonzero(chosen)):
        piece = tape.source[tape.start[blocks.first[k]] : tape.end[blocks.last[k]]]
        is_short = blocks.tokens[k] <= MOST_TOKENS and len(piece) < 4000
        if (is_short and _says_one(piece)) or MACROS.search(piece[:60]):
            found.append(k)
    return found


def _says_one(piece: bytes) -> bool:
    lower = piece.lower()
    keys = ENGLISH_KEYS if piece.isascii() else (*ENGLISH_KEYS, *CHINESE_KEYS)
    return any(key in lower for key in keys) and PHRASES.search(piece) is not None
