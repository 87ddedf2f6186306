"""The command `python -m train.mixture`: what it prints, draws and refuses."""

from pathlib import Path

import pytest
from shard_samples import write_shards

from train.mixture import main

SCHEDULE = """
sequence_length: 16
batch_tokens: 128
max_epochs: 50
stages:
  - name: one
    tokens: 640
    mix:
      domain: {general: 9 -> 4, finance: 1}
  - name: two
    tokens: 640
    mix:
      lang: {zh: 1, en: 1}
"""
DOCUMENTS = {
    "zh-general-law": [[50] * 8],
    "zh-finance-qa": [[30] * 2],
    "en-general-web": [[40] * 5],
}


@pytest.fixture
def schedule(tmp_path: Path) -> Path:
    path = tmp_path / "mix.yaml"
    path.write_text(SCHEDULE)
    write_shards(tmp_path / "shards", DOCUMENTS)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, " ".join(out.split()), err


def test_plan_prints_shares_epochs_and_ratios(
    schedule: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "plan", schedule, "--shards", schedule.parent / "shards")
    assert status == 0
    assert "10 steps, 1,280 tokens" in out
    assert "│ one │ 0 – 4 │ 8 × 16 = 128 │ 16 │ 640 │ linear │" in out
    # in stage two all three buckets read as they exist, zh against en 1:1
    assert "│ zh-finance-qa │ 10.00% → 20.00% │ 6.52% │ 144 │ 60 │ 2.40 │" in out
    assert "│ one │ domain │ general │ 90.00% → 80.00% │ 90.00% → 80.00% │" in out


def test_plan_without_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mix.yaml").write_text(SCHEDULE)
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text("{zh-general-law: 4k, zh-finance-qa: 1k, en-general-web: 3k}")
    status, out, _ = run(capsys, "plan", tmp_path / "mix.yaml", "--tokens", tokens)
    assert status == 0
    assert "zh-general-law" in out
    tokens.write_text("{zh-general: 4k}")
    status, _, err = run(capsys, "plan", tmp_path / "mix.yaml", "--tokens", tokens)
    assert (status, "write <lang>-<domain>-<kind>" in err) == (2, True)


def test_plot_draws_a_picture(schedule: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = schedule.parent / "plots" / "mix.png"
    shards = schedule.parent / "shards"
    assert run(capsys, "plot", schedule, "--shards", shards, "--out", picture)[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_check_tells_from_which_step_an_edit_shows(
    schedule: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = schedule.parent / "shards"
    edited = schedule.parent / "edited.yaml"
    edited.write_text(SCHEDULE.replace("{zh: 1, en: 1}", "{zh: 1, en: 9}"))
    status, out, _ = run(capsys, "check", edited, "--against", schedule, "--shards", shards)
    assert status == 0
    assert "before step 5 (640 tokens); from there on it differs" in out
    arguments = ("check", edited, "--against", schedule, "--shards", shards, "--at-step", 8)
    status, out, _ = run(capsys, *arguments)
    assert "before step 8 (1,024 tokens)" in out
    status, out, _ = run(capsys, "check", schedule, "--against", schedule, "--shards", shards)
    assert "draws exactly what" in out


def test_check_finds_damage(schedule: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = schedule.parent / "shards"
    path = shards / "zh-finance-qa" / "train-00000.bin"
    path.write_bytes(path.read_bytes()[:-2] + b"\0\0")
    assert run(capsys, "check", schedule, "--shards", shards)[0] == 0
    status, _, err = run(capsys, "check", schedule, "--shards", shards, "--checksums")
    assert status == 2
    assert "zh-finance-qa/train-00000.bin: its checksum is not the manifest's" in err


def test_warnings_name_what_may_not_be_meant(
    schedule: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SCHEDULE.replace("{zh: 1, en: 1}", "{en: 1, zh: 0}")
    text = text.replace("domain: {general: 9 -> 4, finance: 1}", "kind: {law: 1, web: 1}")
    schedule.write_text(text.replace("tokens: 640", "tokens: 600"))
    _, out, _ = run(capsys, "plan", schedule, "--shards", schedule.parent / "shards")
    assert "en-general-web: its 200 tokens are read" in out
    assert "the ratio says nothing of zh-finance-qa, drawn 9" in out
    assert "600 tokens come to 640 in whole batches" in out
    schedule.write_text(SCHEDULE.replace("{zh: 1, en: 1}", "{zh: 1, en: 9}").replace("640", "1280"))
    _, out, _ = run(capsys, "plan", schedule, "--shards", schedule.parent / "shards")
    assert "lang: en gets its share only by repeating 200 tokens 5.8 times" in out


def test_a_schedule_that_cannot_be_drawn(
    schedule: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule.write_text(SCHEDULE.replace("zh: 1", "fr: 1"))
    status, _, err = run(capsys, "plan", schedule, "--shards", schedule.parent / "shards")
    assert status == 2
    assert "no bucket with tokens is fr; there are en, zh" in err
