"""Rules: the first broken bound is the reason, the others are evidence, and profiles are chosen."""

from pathlib import Path

import pyarrow as pa
import pytest

from corpus.rules.profile import (
    AUTOMATIC,
    Profile,
    check_measured,
    choose,
    load_profile,
    profile_names,
    profile_path,
)
from corpus.rules.stage import Rules, judge
from corpus.settings import UserError, load
from corpus.signals.stage import measure_texts
from corpus.signals.table import NAMES
from corpus.stage import StageContext

CONTEXT = StageContext("run", 1, {})

PROFILE = """
about: a test
rules:
  - {name: too-short, signal: characters, min: 5, why: "made for this test"}
  - {name: too-long, signal: characters, max: 8, why: "made for this test"}
  - {name: little-han, signal: han_share, min: 0.5, why: "made for this test"}
  - name: digits
    signal: digit_share
    max: 0.3
    when: [{signal: characters, min: 7}]
    why: "made for this test"
"""


@pytest.fixture
def profile_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(PROFILE, encoding="utf-8")
    return path


def test_the_first_broken_rule_is_the_reason(profile_file: Path):
    profile = load(profile_file, Profile)
    texts = ["今天天气好", "abc", "abcdefghijk", "今天12天气4", "今天12天", ""]
    verdict = judge(measure_texts(pa.array(texts)), ["p"] * 6, {"p": profile}).to_pylist()
    assert verdict[0] is None
    assert (verdict[1]["rule"], verdict[1]["value"], verdict[1]["threshold"]) == ("too-short", 3, 5)
    assert dict(verdict[1]["evidence"]) == {
        "profile": "p",
        "signal": "characters",
        "failed": "too-short: characters 3 < 5; little-han: han_share 0 < 0.5",
    }
    assert (verdict[2]["rule"], verdict[2]["threshold"]) == ("too-long", 8)
    assert verdict[3]["rule"] == "digits"
    assert verdict[4] is None  # as many digits, but too short for the rule's condition
    assert verdict[5]["rule"] == "too-short"  # its undefined shares break nothing


def test_built_in_profiles_load_and_every_rule_says_why():
    for _, name in AUTOMATIC:
        profile = load_profile(name)
        assert all(rule.why for rule in profile.rules)
    wanted = {"zh-web", "zh-finance-filing", "zh-qa", "zh-book", "zh-law", "en-web", "en-filing"}
    assert wanted <= {name for _, name in AUTOMATIC}


def test_profiles_are_chosen_by_source_then_tags_then_default():
    by_source = {"zh-*-filing": "filings", "laws": "mine"}
    assert choose("laws", "zh-general-law", by_source, None) == "mine"
    assert choose("other", "zh-finance-filing", by_source, "all") == "filings"
    assert choose("other", "zh-finance-news", by_source, "all") == "all"
    assert choose("other", "zh-finance-news", by_source, None) == "zh-web"
    assert choose(None, "fr-general-web", {}, None) == "any"
    assert profile_names(by_source, "all") == ["all", "filings", "mine"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("about: x\nrules:\n  - {name: a, signal: nope, min: 1, why: because}", "no such signal"),
        ("about: x\nrules:\n  - {name: a, signal: words, why: 'a long reason'}", "min or a max"),
        (
            "about: x\nrules:\n  - {name: a, signal: words, min: 2, max: 1, why: 'a long reason'}",
            "above max",
        ),
        ("about: x\nrules: []", "rules"),
        (
            "about: x\nrules:\n"
            + "  - {name: a, signal: words, min: 2, why: 'a long reason'}\n" * 2,
            "twice: a",
        ),
    ],
)
def test_a_wrong_profile_is_one_clear_error(tmp_path: Path, text: str, complaint: str):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=complaint) as caught:
        load(path, Profile)
    assert "bad.yaml" in str(caught.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="zh-law"):
        profile_path("zh-lore")


def test_the_stage_judges_each_document_by_its_own_profile(profile_file: Path):
    config = Rules.Config(profiles={"mine": str(profile_file)})
    stage = Rules("rules", config, CONTEXT)
    assert str(profile_file) in stage.resources
    law = "第一条 为了规范市场秩序，保护当事人的合法权益，制定本条例。" * 3
    batch = pa.RecordBatch.from_pydict(
        {
            "doc_id": ["a", "b", "c"],
            "signals": measure_texts(pa.array(["abc", law, law])),
            "source": ["mine", "laws", "unlabelled"],
            "lang": ["en", "zh", None],
            "domain": ["general", "general", None],
            "kind": ["web", "law", None],
        }
    )
    (result,) = list(stage.process_all([batch]))
    assert result.column("profile").to_pylist() == [str(profile_file), "zh-law", "zh-web"]
    reasons = [entry and entry["rule"] for entry in result.column("verdict").to_pylist()]
    assert reasons == ["too-short", None, "too-short"]


def test_a_signal_that_was_not_measured_is_named(profile_file: Path):
    wanted = (
        PROFILE + "  - {name: lists, signal: jieba_stop_word_share, min: 0.1, why: 'a test of it'}"
    )
    profile_file.write_text(wanted, encoding="utf-8")
    profile = load(profile_file, Profile)
    check_measured("mine", profile, [*NAMES, "jieba_stop_word_share"])
    with pytest.raises(UserError, match=r"'lists' of the profile 'mine' .*jieba: true"):
        check_measured("mine", profile, NAMES)
