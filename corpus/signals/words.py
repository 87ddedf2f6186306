"""Chinese words, as jieba cuts them, for rules that need words: counted by option, as it is slow.

Only stretches of Han characters are cut. jieba's own dictionary is used, without its cache in the
shared temporary folder, which another user of the machine could have written.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.settings import UserError

COUNTERS = ("words", "characters of words", "stop words", "distinct words")

# The closed classes of modern Chinese: particles, pronouns, prepositions, conjunctions, adverbs of
# degree and negation, modal verbs. Gopher's stop-word rule asks for words like these.
_STOP_WORDS = """
的 地 得 了 着 过 吗 呢 吧 啊 呀 嘛 么 所 之 其 者 而 且 与 及 以 于 为 则 乃 即
我 你 您 他 她 它 咱 我们 你们 他们 她们 它们 自己 大家 别人 这 那 哪 谁 什么 怎么 怎样
这个 那个 这些 那些 这样 那样 这里 那里 哪里 如何 某 各 每 该 本 此
在 从 自 向 往 到 由 把 被 对 给 让 跟 和 同 按 按照 根据 关于 对于 由于 为了 随着 通过 作为
是 有 没 没有 不 无 非 未 别 要 会 能 可 可以 能够 应 应当 应该 必须 需要 将 想 愿意
就 都 也 还 又 再 才 只 很 更 最 太 已 已经 曾 曾经 正在 正 刚 刚才 仍 仍然 却 便 并 并且
或 或者 但 但是 可是 不过 然而 因为 因此 所以 如果 若 只要 只有 虽然 尽管 即使 除了 以及 而且 不仅
一 一个 一种 一些 个 种 些 上 下 中 里 内 外 前 后 时 等 等等 说 去 来 做 用 像 比 至 至于 其中 其他
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]+")


def count_words(texts: Sequence[str | None]) -> NDArray[np.float64]:
    """float64 [documents, len(COUNTERS)].

    Raises:
        UserError: jieba is not installed.
    """
    cut = _tokenizer().cut
    counts = np.zeros((len(texts), len(COUNTERS)))
    for row, text in zip(counts, texts, strict=True):
        words = [word for run in _HAN.findall(text or "") for word in cut(run)]
        row[:] = (
            len(words),
            sum(map(len, words)),
            sum(word in STOP_WORDS for word in words),
            len(set(words)),
        )
    return counts


@functools.cache
def _tokenizer() -> Any:
    try:
        import jieba
    except ImportError as error:
        raise UserError(
            "signals: jieba: needs the package jieba: pip install 'lianjin[chinese]'"
        ) from error
    tokenizer = jieba.Tokenizer()
    # What `initialize` does, less the cache.
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer
