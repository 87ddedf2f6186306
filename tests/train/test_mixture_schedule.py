"""The schedule as users write it: what is understood, and what is refused with which words."""

from pathlib import Path

import pytest

from corpus.settings import UserError, load
from train.schedule import Ramp, Schedule, token_count

SCHEDULE = """
sequence_length: 4096
max_epochs: 4
groups: {knowledge: [book, law], broad: [web]}
stages:
  - name: first
    tokens: 60B
    mix:
      lang: {zh: 3, en: 1}
      kind within zh-general: {knowledge: 4 -> 1, broad: 1}
  - {name: second, tokens: 1.5M, sequence_length: 2048}
"""


def _load(tmp_path: Path, text: str) -> Schedule:
    path = tmp_path / "mix.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, Schedule)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("60B", 60_000_000_000), ("1.5M", 1_500_000), ("300k", 300_000), ("4Mi", 4_194_304), (7, 7)],
)
def test_token_counts(text: object, tokens: int) -> None:
    assert token_count(text) == tokens


@pytest.mark.parametrize("text", ["", "B", "-3k", "0", "1e9", "3 apples", True, None, "0.2"])
def test_what_is_no_token_count(text: object) -> None:
    with pytest.raises(ValueError, match="token"):
        token_count(text)


def test_a_schedule_is_read(tmp_path: Path) -> None:
    schedule = _load(tmp_path, SCHEDULE)
    first, second = schedule.lines(0)
    assert (first.tag, first.within, first.parts[0]) == ("lang", None, ("zh", Ramp(3, 3)))
    assert (second.tag, second.within) == ("kind", "zh-general")
    assert second.at(0) == (("knowledge", 4.0), ("broad", 1.0))
    assert second.at(1) == (("knowledge", 1.0), ("broad", 1.0))
    assert schedule.max_epochs.default == 4.0
    assert schedule.longest_sequence == 4096
    assert schedule.tokens == 60_001_500_000


def test_a_schedule_survives_json(tmp_path: Path) -> None:
    schedule = _load(tmp_path, SCHEDULE.replace("4 -> 1", "0.1 -> 0.3333333333333333"))
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tokens: 60B", "tokens: sixty", r":7: stages.0.tokens: .*60B"),
        ("zh: 3,", "zh: three,", r":9: stages.0.mix.lang.zh: .*`9 -> 4`"),
        ("zh: 3,", "zh: -3,", r"stages.0.mix.lang.zh: "),
        ("lang: {zh: 3, en: 1}", "lang inside zh: {zh: 3}", r"write `TAG` or `TAG within SLICE`"),
        ("lang: {zh: 3, en: 1}", "lang: {zh: 3 -> 0}", r"at the stage's end .* no part above 0"),
        ("name: second", "name: first", r"two stages bear the same name"),
        ("sequence_length: 2048", "sequence_length: 3000", r"3000 does not divide"),
        ("sequence_length: 2048", "reuse_order_of: third", r"'third' is no earlier stage"),
        ("sequence_length: 2048", "sequence: 2048", r":11: stages.1.sequence: unknown key"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _load(tmp_path, SCHEDULE.replace(old, new))
