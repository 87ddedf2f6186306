"""Folding, tokens and language: what the classifiers read in a text."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.duplicates import near_duplicate_groups
from classifiers.fold import fold
from classifiers.language import best_languages, language_shares, paragraph_languages
from classifiers.lexicon import Hit, Matcher
from classifiers.model import fasttext_hash
from classifiers.tokens import token_hashes, token_text


def test_fold_keeps_the_number_of_characters():
    assert fold("ＡＢＣ１２３　賭場Ａ😀") == "abc123 赌场a😀"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("赌博", "赌 博"),
        ("赌-博 賭 博 赌★★博", "赌 博 赌 博 赌 博"),
        ("赌\u200b博", "赌 博"),
        ("赌----博", "赌 - - 博"),  # more than three are not taken for evasion
        ("你好，世界。", "你 好 , 世 界 。"),
        ("Hello WORLD-wide 2024年", "hello world - wide 0000 年"),
        ("1234567 12", "0000 00"),
        ("______ ====", "_ _ = ="),
        ("😀é", "😀 é"),
        ("", ""),
        ("\n\t ", ""),
    ],
)
def test_tokens(text, tokens):
    assert token_text(text) == tokens


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_hashes_are_fasttexts_hashes_of_the_tokens(text):
    expected = [fasttext_hash(token) for token in token_text(text).split(" ") if token]
    assert token_hashes(text).tolist() == expected


def test_matcher_finds_evasive_spellings_and_no_word_inside_another():
    matcher = Matcher({"gambling": ["赌博", "博彩", "Casino Royale"], "arms": ["赌博机枪"]})
    text = "在线賭.博与 casino  royale"
    assert matcher.hits(text) == [
        Hit("gambling", "赌博", 2, 5),
        Hit("gambling", "Casino Royale", 7, 21),
    ]
    assert [hit.label for hit in matcher.hits("赌博机枪，赌博机")] == ["arms", "gambling"]
    assert matcher.hits("赌徒博士") == []
    assert matcher.distinct(pa.array(["赌博赌博与博彩", None, "x"])).tolist() == [
        [2, 0],
        [0, 0],
        [0, 0],
    ]
    counts, lengths = matcher.counts(pa.array(["赌博赌博与博彩", "赌博机枪", None, text]))
    assert counts.tolist() == [[3, 0], [0, 1], [0, 0], [2, 0]]
    assert lengths.tolist() == [7, 4, 0, 7]


def test_near_duplicates_form_groups():
    base = "今天晚上七点在体育馆门口集合，请大家准时到场，不要迟到，谢谢配合。"
    other = "中国证券监督管理委员会依法对全国证券市场实行集中统一监督管理。"
    texts = [base, other, base.replace("七点", "八点"), base.replace("，", "  "), "短", "短 ", ""]
    assert near_duplicate_groups(texts).tolist() == [0, 1, 0, 0, 4, 4, 6]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("今天天气很好，我们去公园散步。", "zh-Hans"),
        ("這是繁體中文，請問您需要什麼幫助嗎？", "zh-Hant"),
        ("The quick brown fox jumps over the lazy dog.", "en"),
        ("これは日本語の文章です。漢字も含まれています。", "other"),
        ("한국어로 쓴 문장입니다.", "other"),
        ("Das Wetter ist heute schön und warm, wir gehen spazieren.", "other"),
        ("Это предложение написано по-русски.", "other"),
        ("可爱の猫，大家都喜欢它，每天都来看它。", "zh-Hans"),
        ("使用 pip install 命令安装 numpy 和 pandas，然后运行 main.py 文件。", "zh-Hans"),
    ],
)
def test_language(text, language):
    assert paragraph_languages(text) == [(text, language)]


def test_language_shares_count_words():
    # Four Han characters and four English words.
    shares = language_shares(pa.array(["中文文本 this is my house", "123 !", None]))
    assert shares.tolist() == [[0.5, 0.0, 0.5, 0.0], [0.0] * 4, [0.0] * 4]
    assert best_languages(shares)[0] == 0
