"""Whole runs of the training command on a tiny model: phases, resume, export, the loss itself."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from cpt_run import LENGTH, write_config, write_inputs
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from train import cpt
from train.checkpoint import MARKER, whole_checkpoints
from train.journal import read_metrics
from train.learning_rate import learning_rate
from train.model import model_shape, new_model
from train.run_config import read_run_config
from train.run_plan import plan_run
from train.sequences import SequenceReader


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cpt")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def finished(inputs: Path) -> Path:
    """An undisturbed run's config."""
    config = write_config(inputs)
    assert cpt.main([str(config)]) == 0
    return config


def another_run(inputs: Path, tmp_path: Path, **changes: Any) -> Path:
    """The same run's config, writing elsewhere."""
    config = json.loads((inputs / "run.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(config | {"output": str(tmp_path / "run")} | changes))
    return path


def folder_of(config: Path) -> Path:
    return Path(read_run_config(config).output)


def weights_of(config: Path, phase: str = "all") -> dict[str, torch.Tensor]:
    return load_file(folder_of(config) / f"checkpoints/phase-{phase}/model.safetensors")


def step_losses(config: Path) -> list[float]:
    records = read_metrics(folder_of(config) / "metrics.jsonl")
    return [record["loss"] for record in records if record["kind"] == "step"]


def assert_same_run(left: Path, right: Path) -> None:
    assert step_losses(left) == step_losses(right)
    for name, weight in weights_of(left).items():
        assert torch.equal(weight, weights_of(right)[name]), name


def test_the_first_phase_trains_its_rows_and_leaves_the_rest_bit_identical(finished: Path) -> None:
    run = read_run_config(finished)
    first = new_model(run, model_shape(run), "sdpa").state_dict()
    after = weights_of(finished, "embeddings")
    assert after.keys() == first.keys()
    changed = {name for name in first if not torch.equal(first[name], after[name])}
    assert changed == {"model.embed_tokens.weight", "lm_head.weight"}


def test_the_summary_tells_the_run(finished: Path) -> None:
    summary = json.loads((folder_of(finished) / "summary.json").read_text(encoding="utf-8"))
    assert summary["steps"] == 10
    assert summary["drawn_tokens"] == summary["planned_tokens"]
    assert sum(summary["drawn_tokens"].values()) == summary["tokens"] == 10 * 8 * LENGTH
    assert [phase["steps"] for phase in summary["phases"]] == [3, 7]
    assert [phase["trained_parameters"] for phase in summary["phases"]] == [6144, 21664]
    assert [point["step"] for point in summary["loss"]] == list(range(1, 11))
    scores = summary["perplexity"]["zh-general-law"]
    assert 90 < scores["before"] < 100
    assert scores["after"] < 60
    assert set(summary["loss_per_bucket"]) == {"zh-general-law", "en-finance-filing"}


def test_the_losses_are_those_of_a_plain_loop_over_transformers(finished: Path) -> None:
    """Phase 2 again: torch's AdamW, transformers' own attention and loss, one batch a step."""
    run = read_run_config(finished)
    plan = plan_run(run, 1)
    reader = SequenceReader(run.shards, plan.stream)
    model = new_model(run, model_shape(run), "sdpa")
    model.load_state_dict(weights_of(finished, "embeddings"))
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    losses = []
    phase = plan.phases[1]
    for step in range(phase.first, phase.end):
        batch = reader.read(plan.stream.batch(step))
        logits = model(
            input_ids=torch.from_numpy(batch.inputs).long(),
            position_ids=torch.from_numpy(batch.positions).long(),
            use_cache=False,
        ).logits
        labels = torch.from_numpy(batch.labels).long()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        losses.append(loss.item())
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(phase.settings.learning_rate, step - 3, 7)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert step_losses(finished)[3:] == pytest.approx(losses, rel=2e-5)


def test_the_exported_folder_loads_with_plain_transformers(finished: Path) -> None:
    folder = folder_of(finished) / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    trained = weights_of(finished)
    assert all(torch.equal(weight, trained[n]) for n, weight in model.state_dict().items())
    assert model.generation_config.eos_token_id == 2
    assert (folder / "tokenizer.json").is_file()


class Killed(Exception):
    """Stands for a SIGKILL: nothing after it runs."""


@pytest.mark.parametrize("at", [1, 5])
def test_a_killed_run_continues_bit_for_bit(
    finished: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    config = another_run(inputs, tmp_path)
    take_step = cpt.take_step

    def take_or_die(run: Any, engine: Any, batch: Any, step: int, *rest: Any) -> Any:
        if step == at:
            raise Killed
        return take_step(run, engine, batch, step, *rest)

    monkeypatch.setattr(cpt, "take_step", take_or_die)
    with pytest.raises(Killed):
        cpt.main([str(config)])
    monkeypatch.undo()
    assert cpt.main([str(config)]) == 0
    assert_same_run(config, finished)


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    finished: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = {"every_steps": 2, "asynchronous": False}
    config = another_run(inputs, tmp_path, checkpoints=saved)
    take_step = cpt.take_step
    with pytest.MonkeyPatch.context() as patch:

        def take_or_die(run: Any, engine: Any, batch: Any, step: int, *rest: Any) -> Any:
            if step == 9:
                raise Killed
            return take_step(run, engine, batch, step, *rest)

        patch.setattr(cpt, "take_step", take_or_die)
        with pytest.raises(Killed):
            cpt.main([str(config)])
    checkpoints = whole_checkpoints(folder_of(config) / "checkpoints")
    assert [path.name for path in checkpoints] == ["step-000000006", "step-000000008"]
    part = next(checkpoints[1].glob("*optim_states.pt"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    capsys.readouterr()
    assert cpt.main([str(config)]) == 0
    assert "step-000000008 is damaged" in capsys.readouterr().err
    assert_same_run(config, finished)


def test_a_step_that_is_not_sound_changes_nothing_and_names_its_documents(
    inputs: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = another_run(inputs, tmp_path)
    poison = cpt.poison
    steps = iter(range(100))

    def poison_fifth(loss: torch.Tensor, limit: float) -> torch.Tensor:
        return poison(loss * float("nan") if next(steps) == 5 else loss, limit)

    monkeypatch.setattr(cpt, "poison", poison_fifth)
    monkeypatch.setattr(cpt.Feed, "documents", lambda self, batch: ["doc-1"])
    assert cpt.main([str(config)]) == 0
    summary = json.loads((folder_of(config) / "summary.json").read_text(encoding="utf-8"))
    assert summary["bad_steps"] == [5]
    events = read_metrics(folder_of(config) / "metrics.jsonl")
    (event,) = [record for record in events if record.get("event") == "bad-step"]
    assert event["documents"] == ["doc-1"]
    # The steps before it are the undisturbed run's; step 6 (number 7) sees the same weights.
    assert step_losses(config)[:6] == step_losses(finished)[:6]
    assert step_losses(config)[7:] != step_losses(finished)[7:]


def test_sigterm_saves_and_the_same_command_continues(
    finished: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = another_run(inputs, tmp_path)
    take_step = cpt.take_step

    def take_and_be_told(run: Any, engine: Any, batch: Any, step: int, *rest: Any) -> Any:
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(run, engine, batch, step, *rest)

    monkeypatch.setattr(cpt, "take_step", take_and_be_told)
    assert cpt.main([str(config)]) == 143
    newest = whole_checkpoints(folder_of(config) / "checkpoints")[-1]
    assert newest.name == "step-000000005"
    monkeypatch.undo()
    assert cpt.main([str(config)]) == 0
    assert_same_run(config, finished)


def test_a_rollback_leaves_the_bad_steps_out(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = {"on_bad_step": "rollback", "rollback_steps": 2}
    saved = {"every_steps": 2, "asynchronous": False}
    config = another_run(inputs, tmp_path, watch=watch, checkpoints=saved)
    poison = cpt.poison
    calls = iter(range(100))

    def poison_seventh(loss: torch.Tensor, limit: float) -> torch.Tensor:
        return poison(loss * float("nan") if next(calls) == 6 else loss, limit)

    monkeypatch.setattr(cpt, "poison", poison_seventh)
    assert cpt.main([str(config)]) == 0
    records = read_metrics(folder_of(config) / "metrics.jsonl")
    steps = [record["step"] for record in records if record["kind"] == "step"]
    # Step 7 was bad; 6 and 7 are left out, from the checkpoint after step 4 on.
    assert steps == [1, 2, 3, 4, 5, 8, 9, 10]


def test_two_ranks_killed_and_one_continues(finished: Path, inputs: Path, tmp_path: Path) -> None:
    """torchrun with two ranks, SIGKILL to all, then one rank by a universal checkpoint."""
    config = another_run(inputs, tmp_path)
    # Runs inside this process have put a rank's variables into the environment.
    rank = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {key: value for key, value in os.environ.items() if key not in rank}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [sys.executable, *command, "-m", "train.cpt", str(config)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    checkpoints = folder_of(config) / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob(f"step-*4/{MARKER}")):
        time.sleep(0.01)
    for pid in children_of(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.kill()
    _, errors = process.communicate(timeout=60)
    assert whole_checkpoints(checkpoints), errors.decode()
    before = len(step_losses(config))
    assert cpt.main([str(config)]) == 0
    assert before < 10
    assert step_losses(config) == pytest.approx(step_losses(finished), rel=2e-5)


def children_of(parent: int) -> list[int]:
    """Process ids of the direct children (Linux)."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def test_mistakes_are_one_line(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = another_run(inputs, tmp_path, micro_batch_tokens=LENGTH + 1)
    assert cpt.main([str(config), "--plan"]) == 2
    assert "micro_batch_tokens: 33 is no multiple" in capsys.readouterr().err
    config = another_run(inputs, tmp_path, colour="red")
    assert cpt.main([str(config)]) == 2
    assert "colour: unknown key" in capsys.readouterr().err


def test_plan_shows_steps_and_memory(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cpt.main([str(finished), "--plan", "--devices", "2"]) == 0
    text = capsys.readouterr().out
    assert "3 steps, 768 tokens" in text
    assert "21,504" in text


def test_twenty_kills_change_nothing(
    finished: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before or after the update of a step drawn at random, twenty times in ten steps."""
    saved = {"every_steps": 1, "asynchronous": True}
    config = another_run(inputs, tmp_path, checkpoints=saved)
    draw = random.Random(0)
    take_step = cpt.take_step
    left = {"steps": 0}

    def take_or_die(*arguments: Any) -> Any:
        left["steps"] -= 1
        if left["steps"] == 0:
            if draw.random() < 0.5:
                take_step(*arguments)
            raise Killed
        return take_step(*arguments)

    monkeypatch.setattr(cpt, "take_step", take_or_die)
    kills, status = 0, None
    while status is None:
        # Mostly at once, so that twenty kills fit into ten steps.
        left["steps"] = draw.choice([1, 1, 2]) if kills < 20 else 100
        try:
            status = cpt.main([str(config)])
        except Killed:
            kills += 1
    assert (status, kills) == (0, 20)
    assert_same_run(config, finished)
