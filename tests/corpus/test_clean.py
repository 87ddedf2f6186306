"""Cleaning: golden cases for each rule, what must survive, and the law that clean is clean."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.clean.lines import RULES, matching_rule, triggers
from corpus.clean.stage import Clean, CleanSettings, clean_texts
from corpus.document import DOCUMENT
from corpus.settings import UserError, validate
from corpus.stage import StageContext


def clean(text: str, kind: str = "web", **options: object) -> tuple[str, Counter[str], str | None]:
    cleaned, edits, reasons = clean_texts([text], CleanSettings(**options), [kind])
    return cleaned[0], edits[0], reasons[0]


@pytest.mark.parametrize(
    ("dirty", "expected", "rule"),
    [
        ("ＡＢＣ１２３，中文。（一）", "ABC123，中文。（一）", "full-width"),
        ("１．公司，0401－023", "1.公司，0401-023", "full-width"),
        ("零\u200b宽\ufeff度", "零宽度", "invisible-characters"),
        ("行\r\n行\u2028行", "行\n行\n行", "line-breaks"),
        ("A\x00B\x1fC" + "d" * 40, "ABC" + "d" * 40, "control-characters"),
        (
            "坏\ufffd字" + "。" * 3 + "好" * 99,
            "坏字" + "。" * 3 + "好" * 99,
            "replacement-characters",
        ),
        ("\uf0b7 第一项\ue000" + "中" * 40, "• 第一项" + "中" * 40, "private-characters"),
        ("价格 &lt;&nbsp;5&#37; &amp;amp; 更多内容", "价格 < 5% & 更多内容", "html-entities"),
        ("太好了！！！！！！", "太好了！！！", "punctuation-runs"),
        ("招 股 意 向 书", "招股意向书", "spaces-between-han"),
        ("第一条 为了规范市场", "第一条 为了规范市场", None),
        ("手头 紧 找 贷款 利息 最低", "手头紧找贷款利息最低", "spaces-between-han"),
        ("⽇期 ﬁnance 豈", "日期 finance 豈", "compatibility-forms"),
        ("cafe\u0301", "café", "composition"),
        ("有空的话　再来\u00a0吧，现在不行", "有空的话 再来 吧，现在不行", "spaces"),
        ("行尾  \n\n\n\n\n下文", "行尾\n\n\n下文", "trailing-spaces"),
        ("通知……我们——他们", "通知……我们——他们", None),
    ],
)
def test_characters(dirty: str, expected: str, rule: str | None):
    cleaned, edits, reason = clean(dirty, lines=False)
    assert cleaned == expected
    assert reason is None
    assert (rule in edits) if rule else not edits


FURNITURE = {
    "navigation": [
        "首页 | 关于我们 | 联系我们",
        "上一篇 下一篇",
        "返回顶部",
        "Home | About Us | Contact",
    ],
    "breadcrumb": ["您现在的位置：首页 > 新闻 > 正文", "当前位置: 基金公告"],
    "share-bar": ["分享到：微信 微博 QQ空间", "微信 | 微博 | 朋友圈", "Share this article"],
    "copyright": [
        "版权所有 © 2019 某某网",
        "Copyright 2020 Foo. All rights reserved.",
        "未经许可不得转载",
    ],
    "icp": ["京ICP备05012345号-1", "沪公网安备 31010602000123号"],
    "editor": ["责任编辑：张三", "（责编：李四、王五）"],
    "read-more": ["点击查看更多", "阅读全文>>", "Read more"],
    "follow-us": ["扫码关注我们的微信公众号", "长按识别二维码", "Follow us on Twitter"],
    "contact-advertisement": ["加微信：abc12345", "QQ交流群：123456789"],
    "related-links": ["相关阅读", "【推荐阅读】", "Related Articles"],
    "counter": ["阅读(1234) 评论(5)", "浏览次数：1024"],
    "browser-notice": ["您的浏览器版本过低，请升级", "Please enable JavaScript to continue."],
    "page-number": ["第 3 页 共 20 页", "- 12 -", "Page 3 of 10"],
    "disclaimer": [
        "免责声明",
        "本报告仅供某某证券股份有限公司的客户使用，不构成对任何人的投资建议。",
        "署名分析师具有证券投资咨询执业资格，以勤勉的职业态度独立、客观地出具本报告。",
        "股市有风险，入市需谨慎。",
    ],
    "contents-entry": ["第一节 释义..............12", "一、总则……………………3"],
}


@pytest.mark.parametrize(("rule", "line"), [(r, ln) for r, lns in FURNITURE.items() for ln in lns])
def test_furniture_is_removed_by_its_rule(rule: str, line: str):
    text = f"正文的第一段在这里，说的是一件事情。\n{line}\n正文的第二段在这里，说的是另一件事情。"
    cleaned, edits, _ = clean(text, personal=dict.fromkeys(("qq", "wechat", "mobile"), "keep"))
    assert cleaned == text.replace(line + "\n", "")
    assert set(edits) == {rule}
    assert edits[rule] == len(line)


@pytest.mark.parametrize(
    "line",
    [
        "第三条 国家建立知识产权保护制度，未经权利人许可，任何人不得使用。",
        "公司的登录系统和注册流程均已通过验收。",
        "版权所有人有权许可他人使用其作品。",
        "本公司首页位于 https://example.com/index。",
        "单位：万元",
        "证券代码：600519 股票简称：贵州茅台 编号：2021-1-91",
        "2019年，公司编辑出版图书 300 种。",
    ],
)
def test_content_is_not_furniture(line: str):
    cleaned, edits, _ = clean(line)
    assert cleaned == line
    assert not edits


def test_tables_formulas_and_code_survive():
    text = (
        "| 首页 | 更多 |\n|------|------|\n| １ | ！！！！！ |\n\n"
        "```\nＡ  = '首页'\n返回顶部\n1-1-91\n\n\n```\n\n"
        "$$\n\\begin{aligned}\nx &= 1 \\\\\n1-1-91\n\\end{aligned}\n$$\n"
        "价格 $a_{1} \\ne b$ 上升 5%。"
    )
    cleaned, _, _ = clean(text)
    assert cleaned == text.replace("| １ | ！！！！！ |", "| 1 | ！！！ |")


def test_a_line_that_repeats_is_kept_once():
    thread = "\n".join(
        f"一楼 举报此帖\n这是{n}的正文，讲了很多事情。" for n in "甲乙丙丁戊己庚辛壬癸"
    )
    cleaned, edits, _ = clean(thread, "forum")
    assert cleaned.count("举报此帖") == 1
    assert cleaned.count("正文") == 10
    assert set(edits) == {"repeated-line"}
    assert clean(thread, "forum", keep_lines=("repeated-line",))[0] == thread
    assert clean(thread, "filing")[0] == thread


def test_a_document_of_furniture_alone_is_dropped_by_its_rule():
    assert clean("首页 | 登录 | 注册\n\n返回顶部")[2] == "navigation"
    assert clean("  \n ")[2] == "empty"
    assert clean("\u200b\u200b")[2] == "invisible-characters"


def test_a_document_that_was_decoded_wrongly_is_dropped_for_what_was_lost():
    assert clean("招股意向书".encode("gb18030").decode("utf-8", "replace"))[2] is not None
    assert clean("正文" * 40 + "\ufffd")[2] == "replacement-characters"
    assert clean("正文" * 60 + "\ufffd")[2] is None
    assert clean("正文\ue001" * 10)[2] == "private-characters"


def test_every_rule_has_the_triggers_of_its_examples():
    names = {rule.name for rule in RULES}
    assert names | {"page-number"} == set(FURNITURE)
    assert all(len(trigger) >= 2 or trigger == "©" for trigger in triggers())
    for rule in names:
        for line in FURNITURE[rule]:
            assert matching_rule(line, len(line), -1) == rule


CHARACTERS = (
    "中文字的一 \n，。！!?&;#|$`~-=_.…１Ａａ．－123456789019@a:lt/é"
    "\u200b\ufeff\r\x00\ue000😀ا〇⽇\ufffd"
)
STRINGS = [
    "首页",
    "返回顶部",
    "```",
    "&amp;",
    "e\u0301",
    "QQ：12345",
    "1-1-1",
    "版权所有",
    "阅读全文",
]
ALPHABET = st.sampled_from([*CHARACTERS, *STRINGS])


@given(st.lists(ALPHABET, max_size=40).map("".join), st.sampled_from(["web", "filing"]))
@settings(max_examples=150, deadline=None)
def test_clean_text_is_left_as_it_is(text: str, kind: str):
    once, _, _ = clean(text, kind, repeats=2)
    twice, edits, _ = clean(once, kind, repeats=2)
    assert twice == once
    assert not edits


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_document_is_cleaned_the_same_in_any_batch(texts: list[str]):
    kinds = ["web"] * len(texts)
    cleaned, edits, reasons = clean_texts(texts, CleanSettings(), kinds)
    alone = [clean(text) for text in texts]
    assert list(zip(cleaned, edits, reasons, strict=True)) == alone
    for text in cleaned:
        text.encode("utf-8")  # no lone surrogate is left


def test_the_stage_returns_text_edits_and_verdicts():
    stage = Clean("clean", CleanSettings(), StageContext("run", 1, {}))
    batch = pa.RecordBatch.from_pydict(
        {
            "doc_id": ["a", "b", "c"],
            "text": ["１２３ 正文\n责任编辑：张三", "返回顶部", None],
            "kind": ["news", "web", None],
            "extra": pa.nulls(3, DOCUMENT.field("extra").type),
        }
    )
    (result,) = list(stage.process_all([batch]))
    assert result.column("text").to_pylist() == ["123 正文", "", ""]
    assert dict(result.column("clean_edits").to_pylist()[0]) == {
        "editor": 7,
        "full-width": 3,
    }
    reasons = [entry and entry["rule"] for entry in result.column("verdict").to_pylist()]
    assert reasons == [None, "navigation", "empty"]


def marked(place: str, keep: tuple[str, ...] = ()) -> tuple[str, dict[str, int]]:
    stage = Clean("clean", CleanSettings(keep_lines=keep), StageContext("run", 1, {}))
    extra = pa.array([[("disclaimer_from", place)]], DOCUMENT.field("extra").type)
    columns = {"doc_id": ["a"], "text": ["公司业绩稳健。\n\n法律声明\n\n以上内容只供参考。"]}
    batch = pa.RecordBatch.from_pydict({**columns, "kind": ["report"], "extra": extra})
    (result,) = stage.process_all([batch])
    return result["text"][0].as_py(), dict(result["clean_edits"][0].as_py())


def test_disclaimers_that_extraction_marked_go_whole():
    assert marked("9") == ("公司业绩稳健。", {"disclaimer": 15})


def test_a_mark_where_no_disclaimers_begin_is_not_followed():
    assert marked("3") == ("公司业绩稳健。\n\n\n以上内容只供参考。", {"disclaimer": 4})
    assert marked("9", keep=("disclaimer",))[0].endswith("法律声明\n\n以上内容只供参考。")


def test_an_unknown_rule_or_kind_is_refused():
    with pytest.raises(UserError, match="no such line rule: nope"):
        validate({"keep_lines": ["nope"]}, CleanSettings, "recipe.yaml")
    with pytest.raises(UserError, match="no such kind: phone"):
        validate({"personal": {"phone": "mask"}}, CleanSettings, "recipe.yaml")
