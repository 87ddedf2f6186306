"""Where the disclaimers that close a broker's report begin, so that cleaning can cut them.

They are marked, not removed: what a document says is extraction's to keep.
"""

import re
from collections.abc import Sequence
from typing import Final

BEGINS = re.compile(
    r"(?:#+ )?(?:免责(?:声明|条款)|法律声明|(?:重要|特别)(?:声明|提示)|分析师(?:声明|承诺|简介)|"
    r"(?:股票|行业|公司)?(?:投资)?评级(?:的)?(?:说明|定义)|(?:重要)?信息披露|(?:important\s+)?disclaimers?\b|"
    r"(?:legal|important)\s+(?:notices?|disclosures?)\b|analyst\s+certification)",
    re.I,
)
IS_ONE = re.compile(
    r"免责|法律声明|法律责任|不构成|disclaim|does not constitute|not be construed", re.I
)
NO_DISCLAIMER = re.compile(
    r"(?:#+ )?(?:参考文献|附录|致谢|references\b|appendi|bibliography)", re.I
)
MOST_SHARE: Final = 0.4
"""Of a document's signs; what closes a short one may be `MOST_SIGNS` long all the same."""
MOST_SIGNS: Final = 4000


def disclaimers_from(texts: Sequence[str], between: int) -> int | None:
    """The place, in signs, at which the closing disclaimers begin in the joined texts; or None.

    `between` is the length of what joins the texts.
    """
    left = sum(map(len, texts)) + between * max(0, len(texts) - 1)
    most = max(MOST_SIGNS, int(MOST_SHARE * left))
    place = 0
    for k, text in enumerate(texts):
        if left <= most and k and BEGINS.match(text):
            rest = texts[k:]
            is_last = not any(NO_DISCLAIMER.match(later) for later in rest)
            return place if is_last and any(IS_ONE.search(later) for later in rest) else None
        place += len(text) + between
        left -= len(text) + between
    return None
