"""Signals: exact values on small texts, laws on any text, and the Arrow buffers they come from."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.signals import characters as c
from corpus.signals.repetition import WINDOW
from corpus.signals.stage import Signals, measure_texts
from corpus.signals.table import JIEBA_SIGNALS, NAMES, SIGNALS, as_markdown
from corpus.stage import StageContext


def signals_of(text: str) -> dict[str, float | None]:
    return measure_texts(pa.array([text])).to_pylist()[0]


def test_the_table_names_sixty_signals_once_each():
    assert len(NAMES) == len(set(NAMES)) >= 60
    assert all(s.meaning and s.unit and s.source for s in SIGNALS)
    assert as_markdown().count("\n") == len(SIGNALS) + len(JIEBA_SIGNALS) + 1


def test_shares_are_of_visible_characters():
    found = signals_of("第1条 本法。\nAB c")
    # Visible: 第 1 条 本 法 。 A B c
    assert found["visible"] == 9
    assert found["characters"] == 12
    assert found["han_share"] == pytest.approx(4 / 9)
    assert found["latin_share"] == pytest.approx(3 / 9)
    assert found["digit_share"] == pytest.approx(1 / 9)
    assert found["punctuation_share"] == pytest.approx(1 / 9)
    assert found["upper_share"] == pytest.approx(2 / 3)
    assert found["terminal_share"] == pytest.approx(1 / 9)
    assert found["tokens"] == 4 + 1 + 2  # 第 1 条 本 法 AB c: seven
    assert found["lines"] == 2
    assert found["ended_line_share"] == 0.5


def test_scripts_are_told_apart():
    found = signals_of("國家語")
    assert found["traditional_share"] == pytest.approx(2 / 3)  # 家 is the same in both
    assert signals_of("ひらがな")["kana_share"] == 1
    assert signals_of("العربية")["other_letter_share"] == 1
    assert signals_of("😀😀")["emoji_share"] == 1


def test_damage_is_seen():
    good = "的确，我们在这里说明国家的法律制度是人民的制度，它不会因为一时的变化而改变。"
    as_gbk = good.encode().decode("gb18030", "ignore")
    as_latin1 = good.encode().decode("latin-1")
    assert signals_of(good)["mojibake_share"] < 0.05
    assert signals_of(as_gbk)["mojibake_share"] > 0.3
    assert signals_of(good)["latin1_debris_share"] == 0
    assert signals_of(as_latin1)["latin1_debris_share"] > 0.1
    assert signals_of("a\ufffdb\ufffd")["replacement_share"] == 0.5


def test_lines_and_paragraphs_seen_before():
    found = signals_of("甲乙\n丙丁\n\n甲乙\n丙丁\n\n戊己庚\n}\n}\n")
    assert found["lines"] == 7
    assert found["paragraphs"] == 3
    assert found["duplicate_line_share"] == pytest.approx(2 / 7)  # braces alone do not count
    assert found["duplicate_paragraph_share"] == pytest.approx(1 / 3)
    assert found["duplicate_paragraph_character_share"] == pytest.approx(4 / 13)


def test_the_shapes_of_lines():
    found = signals_of("# 标题\n- 一项\n-5度\n| a | b |\n见 https://a.cn/b。\n后文……\n12-34\n")
    assert found["heading_line_share"] == pytest.approx(1 / 7)
    assert found["bullet_line_share"] == pytest.approx(1 / 7)
    assert found["table_line_share"] == pytest.approx(1 / 7)
    assert found["link_line_share"] == pytest.approx(1 / 7)
    assert found["ellipsis_line_share"] == pytest.approx(1 / 7)
    assert found["wordless_line_share"] == pytest.approx(1 / 7)
    assert found["number_line_share"] == pytest.approx(1 / 7)


def test_grams_are_counted_like_a_dictionary_would():
    text = "天地玄黄宇宙洪荒天地玄黄宇宙洪荒天地日月盈昃"
    found = signals_of(text)
    for n in (2, 3, 4):
        grams = [text[i : i + n] for i in range(len(text) - n + 1)]
        most = max(grams.count(gram) for gram in grams)
        assert found[f"top_{n}_gram_share"] == pytest.approx(most * n / len(text))
    assert found["duplicate_5_gram_share"] == pytest.approx(10 / len(text))
    assert found["duplicate_10_gram_share"] == pytest.approx(10 / len(text))


@given(st.lists(st.sampled_from([*"天地玄黄宇", "ab ", "c ", "abcdefghij "]), max_size=60))
@settings(max_examples=60, deadline=None)
def test_repetition_is_exact_for_characters_and_words(units: list[str]):
    found = signals_of("".join(units))
    tokens = [unit.strip() for unit in units]
    size = sum(map(len, tokens))
    for n in range(2, 11):
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        if n <= 4:
            often = [gram for gram in grams if grams.count(gram) > 1]
            expected = max((often.count(gram) * len("".join(gram)) for gram in often), default=0)
            assert (found[f"top_{n}_gram_share"] or 0) * size == pytest.approx(expected)
        else:
            seen = [i for i in range(len(grams)) if grams[i] in grams[:i]]
            covered = {place for i in seen for place in range(i, i + n)}
            expected = sum(len(tokens[place]) for place in covered)
            assert (found[f"duplicate_{n}_gram_share"] or 0) * size == pytest.approx(expected)
    assert (found["distinct_share"] or 0) * len(tokens) == pytest.approx(len(set(tokens)))


def test_entropy_and_distinct_tokens():
    found = signals_of("甲乙丙丁" * 4)
    assert found["entropy"] == pytest.approx(2.0)
    assert found["distinct_share"] == pytest.approx(0.25)
    assert signals_of("one two two")["entropy"] == pytest.approx(
        -(1 / 3) * math.log2(1 / 3) - (2 / 3) * math.log2(2 / 3)
    )


def test_what_compresses_and_what_mixes():
    # Eight tokens of three bits each; then sixteen of two, twelve of them in 5-grams seen before.
    assert signals_of("甲乙丙丁戊己庚辛")["compression"] == pytest.approx(1 + 8 * 3 / (8 * 24))
    found = signals_of("甲乙丙丁" * 4)
    assert found["compression"] == pytest.approx(4 / 16 + (1 - 12 / 16) * 16 * 2 / (8 * 48))
    assert signals_of("甲乙ab")["script_mix"] == pytest.approx(1)
    assert signals_of("甲乙")["script_mix"] == 0
    assert signals_of("12")["script_mix"] is None


def test_english_words():
    found = signals_of("The rate of the loan is 4.5 percent, and it rises.")
    assert found["words"] == 10
    assert found["stop_words"] == 6  # the of the is and it
    assert found["number_share"] == pytest.approx(2 / 12)
    assert found["word_length"] == pytest.approx(35 / 10)


def test_words_of_the_lists_are_counted_as_they_stand():
    found = signals_of("代开发票，详询热线")
    assert found["spam_hits"] == pytest.approx(1000 * 5 / 9)  # 代开, 开发票, 发票, 详询, 热线
    assert found["finance_hits"] == 0


def test_undefined_is_null_not_zero():
    found = signals_of("")
    assert found["characters"] == 0
    assert found["han_share"] is None
    assert signals_of("abc")["traditional_share"] is None


@given(st.lists(st.text(max_size=60), max_size=6))
@settings(max_examples=40, deadline=None)
def test_a_document_measures_the_same_in_any_batch(texts: list[str]):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    together = measure_texts(pa.array(texts, pa.string())).to_pylist()
    assert together == [signals_of(text) for text in texts]
    padded = pa.array(["x", *texts], pa.string()).slice(1)
    assert measure_texts(padded).to_pylist() == together


@given(st.text(max_size=80))
@settings(max_examples=60, deadline=None)
def test_classes_partition_the_characters(text: str):
    text = text.encode("utf-8", "ignore").decode()
    found = signals_of(text)
    assert found["characters"] == len(text)
    assert found["bytes"] == len(text.encode())
    shares = [found[name] for name in ("han_share", "latin_share", "digit_share", "symbol_share")]
    assert all(share is None or 0 <= share <= 1 for share in shares)


@given(st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_bytes_that_are_no_utf8_are_counted_not_followed(raw: bytes):
    offsets = pa.py_buffer(np.array([0, len(raw)], np.int32))
    array = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(raw)])
    found = measure_texts(array).to_pylist()[0]
    assert found["bytes"] == len(raw)


def test_windows_bound_repetition():
    unit = "".join(chr(0x4E00 + k) for k in range(3000))
    text = unit * (2 * WINDOW // 3000)
    found = signals_of(text)
    # Within each window all but the first 3,000 tokens were seen before.
    assert found["duplicate_10_gram_share"] == pytest.approx(1 - 3000 / WINDOW, abs=0.05)


def test_the_character_table_is_total():
    table = c.character_table()
    assert table.shape == (0x10000,)
    assert (table & c.CLASS_MASK).max() < c.CLASSES
    assert table[ord("。")] & c.TERMINAL
    assert not table[ord("，")] & c.TERMINAL


def test_the_stage_keeps_every_document():
    stage = Signals("signals", Signals.Config(), StageContext("run", 1, {}))
    batch = pa.RecordBatch.from_pydict({"doc_id": ["a", "b"], "text": ["你好", None]})
    (result,) = list(stage.process_all([batch]))
    assert result.schema.names == ["doc_id", "signals", "verdict"]
    assert result.column("verdict").null_count == 2
    assert result.column("signals").field("characters").to_pylist() == [2.0, 0.0]


def test_jieba_cuts_words_where_it_is_asked():
    pytest.importorskip("jieba")
    texts = pa.array(["公司的收入增长了，我们看好市场，我们看好公司。", "no Han", None])
    found = measure_texts(texts, jieba=True).to_pylist()
    # 公司 的 收入 增长 了 我们 看好 市场 我们 看好 公司
    assert found[0]["jieba_words"] == 11
    assert found[0]["jieba_word_length"] == pytest.approx(20 / 11)
    assert found[0]["jieba_stop_word_share"] == pytest.approx(4 / 11)  # 的 了 我们 我们
    assert found[0]["jieba_distinct_share"] == pytest.approx(8 / 11)
    assert found[1]["jieba_words"] == found[2]["jieba_words"] == 0
    assert found[1]["jieba_word_length"] is None
    plain = measure_texts(texts).to_pylist()
    assert plain == [{name: row[name] for name in NAMES} for row in found]
