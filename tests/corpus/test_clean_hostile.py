"""Input that breaks cleaners: each document is cleaned or dropped with why, in bounded time."""

import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.clean.stage import CleanSettings, clean_texts
from corpus.rules.profile import load_profile
from corpus.rules.stage import judge
from corpus.signals.stage import measure_texts

SIZE = 60_000  # characters; what is not linear takes hours
HOSTILE = {
    "one line": "公司的收入继续增长" * (SIZE // 9),
    "one word": "a" * SIZE,
    "digits": "6222" * (SIZE // 4),
    "a million empty lines": "\n" * 1_000_000,
    "mojibake": "å…¬å\x8f¸" * (SIZE // 6),
    "mojibake of GBK": "鑲′唤鏈夐檺" * (SIZE // 6),
    "spaces": "正文" + " " * SIZE + "x",
    "spaces after a word that begins a pattern": "\n".join(
        word + " " * (SIZE // 8) + "x"
        for word in ("阅读1", "护照", "QQ", "微信：", "首页 |", "第 3", "IP", "分享")
    ),
    "navigation words": "更多" * 200 + "x",
    "short lines": "a\n" * (SIZE // 2),
    "equal lines": "首页股份\n" * (SIZE // 5),
    "counting lines": "\n".join(map(str, range(SIZE // 7))),
    "open fences": "```\n" * (SIZE // 4),
    "formulas": "$$\n" * (SIZE // 3),
    "entities": "&amp;amp;lt;" * (SIZE // 12),
    "marks": "。！？" * (SIZE // 3),
    "one mark": "=" * SIZE,
    "emoji": "😀👨‍👩‍👧" * (SIZE // 6),
    "right to left": "‏مرحبا بالعالم‎ שלום " * (SIZE // 20),
    "NUL": "\x00正\x00文" * (SIZE // 4),
    "lone surrogates": "正\ud800文\udfff" * (SIZE // 4),
    "combining marks": "a" + "\u0301" * SIZE,
    "private use": "\ue000\uf8ff" * (SIZE // 2),
    "at signs": "a@" * (SIZE // 2),
    "letter-spaced": "招 " * (SIZE // 2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_decided_in_bounded_time(name: str):
    start = time.process_time()
    texts, _, reasons = clean_texts([HOSTILE[name], "正文。"], CleanSettings(), ["web", "web"])
    texts[0].encode()
    signals = measure_texts(pa.array(texts))
    judge(signals, ["zh-web"] * 2, {"zh-web": load_profile("zh-web")})
    assert texts[1] == "正文。"
    assert reasons[0] is not None or texts[0].strip()
    # A thousand times what these take; quadratic behaviour takes a thousand times as much again.
    assert time.process_time() - start < 60


@pytest.mark.parametrize("name", ["a million empty lines", "private use"])
def test_what_holds_nothing_is_dropped_with_a_reason(name: str):
    _, _, reasons = clean_texts([HOSTILE[name]], CleanSettings(), ["web"])
    assert reasons[0] in ("empty", "private-characters")


FRAGMENTS = [
    "\ud800", "\udfff", "\x00", "\ufffd", "\ue000", "\u202e", "\u200d", "\ufeff", "😀", "👨‍👩‍👧",
    "مرحبا", "שלום", "e\u0301", "公司", "å…¬å\x8f¸", "鑲′唤", "\x85", "\r", "\n", "\n\n\n", " ",
    "\u3000", "```", "$$", "|", "&#0;", "&#xd800;", "1", "QQ：", "护照", "@", ".", "首页", "。",
]  # fmt: skip


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30), st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_whatever_comes_is_cleaned_or_dropped_with_a_reason(parts: list[str], times: int):
    dirty = "".join(parts) * times
    (text,), (edits,), (reason,) = clean_texts([dirty], CleanSettings(), ["web"])
    assert text.encode("utf-8") is not None  # raises on a lone surrogate
    assert not set(text) & set("\x00\r\x85\ufeff\ufffd\u202e")
    assert bool(text.strip()) or reason is not None
    assert all(count > 0 for count in edits.values())
    again, _, _ = clean_texts([text], CleanSettings(), ["web"])
    assert again == [text]
    assert measure_texts(pa.array([text])).field("characters").to_pylist() == [len(text)]


@pytest.mark.parametrize("name", ["emoji", "right to left", "one word", "marks", "one mark"])
def test_what_is_no_language_of_the_profile_is_dropped(name: str):
    texts, _, _ = clean_texts([HOSTILE[name]], CleanSettings(), ["web"])
    verdict = judge(
        measure_texts(pa.array(texts)), ["zh-web"], {"zh-web": load_profile("zh-web")}
    ).to_pylist()[0]
    assert verdict is not None
