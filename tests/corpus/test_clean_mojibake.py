"""Wrong decodings led back where that is certain, and scripts converted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.clean.stage import CleanSettings, clean_texts
from corpus.settings import UserError, validate

GOOD = (
    "公司董事会保证本公告内容不存在任何虚假记载，并对其真实性承担责任。\n"
    "本期收入增长了12%，明细见附表；咖啡馆 café… 的生意也不错。"
)
# The bytes of these lines are pairs of GBK throughout, so that nothing was lost.
PAIRED = "股份有限公司\n报告期内公司收入\n增长明显并且利润改善"


def clean(text: str, **options: object) -> tuple[str, dict[str, int], str | None]:
    texts, edits, reasons = clean_texts([text], CleanSettings(**options), ["web"])
    return texts[0], dict(edits[0]), reasons[0]


def test_utf8_read_as_latin1_is_led_back_and_counted():
    wrong = GOOD.encode().decode("latin-1")
    assert clean(wrong) == (GOOD, {"mojibake-latin1": len(wrong) - len(GOOD)}, None)
    assert clean("It was a cafÃ© in MÃ¼nchen, the ownerâ€™s own.") == (
        "It was a café in München, the owner’s own.",
        {"mojibake-latin1": 4},
        None,
    )
    assert clean(wrong, mojibake=False)[0] != GOOD


def test_utf8_read_as_gbk_is_led_back_and_counted():
    wrong = PAIRED.encode().decode("gb18030")
    assert wrong.split("\n")[0] != PAIRED.split("\n")[0]
    assert clean(wrong) == (PAIRED, {"mojibake-gbk": len(wrong) - len(PAIRED)}, None)


@pytest.mark.parametrize(("codec", "rule"), [("gb18030", "mojibake-gbk"), ("cp1252", "latin1")])
def test_what_lost_bytes_is_left_alone_and_dropped(codec: str, rule: str):
    text, edits, reason = clean(GOOD.encode().decode(codec, "replace"))
    assert not any(name.startswith("mojibake") for name in edits)
    assert reason == "replacement-characters"
    assert text != GOOD


@pytest.mark.parametrize(
    "text",
    [
        "Il était une fois… café – déjà vu « où »",
        "Die „Größe“ – so schön… É",
        "联通移动",
        "涓流浜海鍛冶澶澶",
        GOOD,
    ],
)
def test_good_text_is_no_mojibake(text: str):
    assert not [name for name in clean(text)[1] if name.startswith("mojibake")]


@given(st.text(st.characters(codec="gb2312"), max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_chinese_text_is_taken_for_mojibake(text: str):
    assert "mojibake-gbk" not in clean(text, characters=False, lines=False)[1]


def test_traditional_characters_become_simplified_by_phrase():
    pytest.importorskip("opencc")
    text = "這個國家的經濟發展；乾隆年間，乾淨。\n```\n# 這裏\n```"
    assert clean(text, script="t2s") == (
        "这个国家的经济发展；乾隆年间，干净。\n```\n# 這裏\n```",
        {"script-t2s": 9},
        None,
    )
    assert clean("軟體", script="tw2sp")[0] == "软件"
    assert clean(text)[0] == text
    with pytest.raises(UserError, match=r"clean\.yaml: script"):
        validate({"script": "zh"}, CleanSettings, "clean.yaml")
