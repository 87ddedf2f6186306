"""Traditional Chinese characters to simplified ones, and the like, by OpenCC.

OpenCC goes by phrases: 乾隆 keeps its 乾, where 乾淨 becomes 干净. Fenced code keeps its spelling.
"""

import functools
import re
from collections import Counter
from typing import Any, Literal

from corpus.settings import UserError

Conversion = Literal[
    "t2s", "tw2s", "tw2sp", "hk2s", "s2t", "s2tw", "s2twp", "s2hk", "t2tw", "t2hk", "tw2t", "hk2t"
]
"""OpenCC's names: t traditional, s simplified, tw Taiwan, hk Hong Kong, p with regional words."""

_FENCE = re.compile(r"^(?:```|~~~).*?(?:^(?:```|~~~)[ \t]*$|\Z)", re.M | re.S)


def convert(text: str, conversion: Conversion, edits: Counter[str]) -> str:
    """The text in the other script; counts the characters that changed as `script-t2s` and so on.

    Raises:
        UserError: OpenCC is not installed.
    """
    if text.isascii():
        return text
    converter = _converter(conversion)
    parts, position = [], 0
    for fence in _FENCE.finditer(text) if "```" in text or "~~~" in text else ():
        parts += [converter.convert(text[position : fence.start()]), fence[0]]
        position = fence.end()
    result = "".join([*parts, converter.convert(text[position:])])
    if result != text:
        changed = sum(a != b for a, b in zip(text, result, strict=False))
        edits[f"script-{conversion}"] += max(changed, abs(len(text) - len(result)), 1)
    return result


@functools.cache
def _converter(conversion: str) -> Any:
    try:
        import opencc
    except ImportError as error:
        raise UserError(
            f"clean: script: {conversion}: needs the package opencc: pip install 'lianjin[chinese]'"
        ) from error
    return opencc.OpenCC(conversion)
