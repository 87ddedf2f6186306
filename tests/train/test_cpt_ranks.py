"""Runs on two ranks, gloo on CPU: ZeRO stages agree, a run may change its number of ranks, and
ranks may be killed at any time."""

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from cpt_run import (
    another_run,
    drop_after,
    folder_of,
    losses_of,
    one_thread,  # noqa: F401 - a fixture of every test here
    records_of,
    weights_of,
    write_config,
    write_inputs,
)
from forked_ranks import run_ranks, spoil_step, start_ranks

from train import cpt
from train.checkpoint import MARKER
from train.heartbeat import Beat, last_beat

BAD_STEP = 4
KILLS = int(os.environ.get("LIANJIN_KILLS", "2"))
STAGES = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    write_inputs(folder)
    write_config(folder, checkpoints={"every_steps": 2, "keep": 9}, batch_tokens=384)
    return folder


def zero(stage: int) -> dict[str, Any]:
    return {"deepspeed": {"zero_optimization": {"stage": stage}}}


def run_alone(config: Path) -> Path:
    """One rank, in this process, with the bad step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpt, "take_step", cpt.take_step)
        patch.setattr(cpt, "poison", cpt.poison)
        spoil_step(BAD_STEP)
        assert cpt.main([str(config)]) == 0
    return config


def stopped_copy(config: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a finished run as it was after step 4."""
    copy = another_run(config.parent, folder, **changes)
    shutil.copytree(folder_of(config) / "checkpoints", folder_of(copy) / "checkpoints")
    shutil.copy(folder_of(config) / "metrics.jsonl", folder_of(copy))
    drop_after(copy, 4)
    return copy


@pytest.fixture(scope="module")
def alone(inputs: Path) -> Path:
    """One rank, ZeRO stage 1."""
    return run_alone(another_run(inputs, inputs / "alone"))


@pytest.fixture(scope="module")
def pairs(inputs: Path) -> list[Path]:
    """Two ranks under each ZeRO stage."""
    configs = [another_run(inputs, inputs / f"zero{stage}", **zero(stage)) for stage in STAGES]
    run_ranks(2, configs, BAD_STEP)
    return configs


@pytest.fixture(scope="module")
def continued(inputs: Path, alone: Path, pairs: list[Path]) -> list[Path]:
    """The same from step 4 on; last, two ranks continue what one began."""
    configs = [stopped_copy(run, inputs / f"more{n}") for n, run in enumerate([*pairs, alone])]
    run_ranks(2, configs, BAD_STEP)
    return configs


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_lose_what_one_rank_loses(alone: Path, pairs: list[Path], stage: int) -> None:
    """And leave a step out whose gradient is not finite on one rank only."""
    assert losses_of(pairs[stage]) == pytest.approx(losses_of(alone), rel=1e-6)
    expected = weights_of(alone)
    for name, weight in weights_of(pairs[stage]).items():
        # AdamW turns the last bits of a gradient near 0 into a share of the rate, 0.01.
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-4)
    events = records_of(pairs[stage], "event")
    assert [e["step"] for e in events if e["event"] == "bad-step"] == [BAD_STEP + 1]
    norms = [[r["gradient_norm"] for r in records_of(c, "step")] for c in (pairs[stage], alone)]
    assert norms[0].pop(BAD_STEP) is norms[1].pop(BAD_STEP) is None
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_continue_bit_for_bit(
    pairs: list[Path], continued: list[Path], stage: int
) -> None:
    assert losses_of(continued[stage]) == losses_of(pairs[stage])
    expected = weights_of(pairs[stage])
    for name, weight in weights_of(continued[stage]).items():
        assert torch.equal(weight, expected[name]), name


@pytest.mark.parametrize(("saved", "now"), [(0, 0), (1, 1), (2, 1), (3, 3)])
def test_one_rank_continues_what_two_began(
    alone: Path, pairs: list[Path], tmp_path: Path, saved: int, now: int
) -> None:
    config = run_alone(stopped_copy(pairs[saved], tmp_path / "one", **zero(now)))
    assert losses_of(config) == pytest.approx(losses_of(alone), rel=1e-6)
    drawn = [[r["drawn"] for r in records_of(c, "step")] for c in (config, alone)]
    assert drawn[0] == drawn[1]


def test_two_ranks_continue_what_one_began(alone: Path, continued: list[Path]) -> None:
    assert losses_of(continued[-1]) == pytest.approx(losses_of(alone), rel=1e-6)


def test_stage_0_is_not_left_in_the_middle_of_a_phase(
    pairs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = stopped_copy(pairs[0], tmp_path / "one", **zero(1))
    assert cpt.main([str(config)]) == 2
    assert "set zero_optimization.stage back to 0" in capsys.readouterr().err


def test_ranks_killed_at_random_change_nothing(inputs: Path, tmp_path: Path) -> None:
    """SIGKILL with a checkpoint file half written; then to one rank or both, while they start,
    compute or write. LIANJIN_KILLS=20 does that twenty times.
    """
    # A kill leaves a step or two behind: of ten, or of forty.
    batch_tokens = 256 if KILLS < 4 else 64
    often = {"batch_tokens": batch_tokens, "checkpoints": {"every_steps": 1, "keep": 2}}
    undisturbed = another_run(inputs, tmp_path / "undisturbed", **often)
    run_ranks(2, [undisturbed])
    config = another_run(inputs, tmp_path / "killed", **often)
    ranks = start_ranks(2, [config], dies_writing="step-000000005")
    ranks[1].join()
    ranks[0].kill()
    assert ranks[1].exitcode == -signal.SIGKILL
    torn = folder_of(config) / "checkpoints/step-000000005"
    assert list(torn.glob("*.pt"))
    assert not (torn / MARKER).exists()
    draw = random.Random(KILLS)
    for _ in range(KILLS):
        before = last_beat(folder_of(config) / "heartbeats")
        ranks = start_ranks(2, [config])
        if draw.random() < 0.8:  # else while it starts
            wait_for_a_step(config, before)
        time.sleep(draw.uniform(0, 0.1))
        for rank in draw.choice([ranks[:1], ranks[1:], ranks]):
            rank.kill()
        time.sleep(draw.uniform(0, 0.1))
        for rank in ranks:  # as torchrun does with those that are left
            rank.kill()
            rank.join()
    run_ranks(2, [config])
    assert losses_of(config) == losses_of(undisturbed)
    expected = weights_of(undisturbed)
    for name, weight in weights_of(config).items():
        assert torch.equal(weight, expected[name]), name
    assert len(losses_of(config)) == 2560 // batch_tokens
    recoveries = [e for e in records_of(config, "event") if e["event"] == "recovery"]
    assert recoveries
    assert all(0 < e["seconds_since_start"] < 100 for e in recoveries)
    assert all(e["seconds_since_last_step"] > 0 for e in recoveries)


def wait_for_a_step(config: Path, before: Beat | None) -> None:
    end = time.monotonic() + 60
    while last_beat(folder_of(config) / "heartbeats") == before:
        assert time.monotonic() < end
        time.sleep(0.002)
