"""Whole runs of the training command on a tiny model: phases, resume, export, the loss itself."""

import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from cpt_run import (
    LENGTH,
    another_run,
    folder_of,
    losses_of,
    one_thread,  # noqa: F401 - a fixture of every test here
    records_of,
    weights_of,
    write_config,
    write_inputs,
)
from forked_ranks import spoil_step
from transformers import AutoModelForCausalLM

from corpus.settings import UserError
from tokenization.indexed import IndexedReader
from tokenization.manifest import read_manifest
from train import cpt
from train.checkpoint import MARKER, resume_point, sweep, whole_checkpoints
from train.launch import Ranks
from train.learning_rate import learning_rate
from train.model import model_shape, new_model
from train.run_config import read_run_config
from train.run_plan import plan_run
from train.sequences import SequenceReader


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


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes the gradients of a step NaN."""
    monkeypatch.setattr(cpt, "take_step", cpt.take_step)
    monkeypatch.setattr(cpt, "poison", cpt.poison)
    return spoil_step


def assert_same_run(left: Path, right: Path) -> None:
    assert losses_of(left) == losses_of(right)
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
    assert losses_of(finished)[3:] == pytest.approx(losses, rel=2e-5)


def test_the_split_into_micro_batches_changes_no_loss(
    finished: Path, inputs: Path, tmp_path: Path
) -> None:
    config = another_run(inputs, tmp_path, micro_batch_tokens=LENGTH)
    assert cpt.main([str(config)]) == 0
    assert losses_of(config) == pytest.approx(losses_of(finished), rel=1e-6)


@pytest.mark.usefixtures("finished")
def test_bf16_keeps_fp32_weights_under_every_way_of_keeping_them(
    inputs: Path, tmp_path: Path
) -> None:
    runs = []
    for stage in (0, 1):
        zero = {"zero_optimization": {"stage": stage}}
        config = another_run(
            inputs,
            tmp_path / str(stage),
            precision={"weights": "bf16"},
            deepspeed=zero,
            # The two add up a norm in other orders; by its last bit a weight's bf16 may be another.
            optimizer={"gradient_clipping": 0.0},
        )
        assert cpt.main([str(config)]) == 0
        runs.append(config)
    assert losses_of(runs[0]) == pytest.approx(losses_of(runs[1]), rel=1e-6)
    weights = weights_of(runs[1])["lm_head.weight"]
    assert not torch.equal(weights, weights.bfloat16().float())
    torch.testing.assert_close(weights_of(runs[0])["lm_head.weight"], weights, rtol=1e-4, atol=1e-4)


def test_held_out_scores_are_those_of_plain_transformers(finished: Path) -> None:
    run = read_run_config(finished)
    (entry,) = read_manifest(run.shards).buckets("heldout")["zh-general-law"]
    reader = IndexedReader(Path(run.shards) / entry.path)
    documents: list[list[int]] = []
    while sum(map(len, documents)) < run.evaluation.tokens_per_bucket:
        documents.append([int(token) for token in reader.document(len(documents))])
    model = AutoModelForCausalLM.from_pretrained(folder_of(finished) / "model")
    nats, tokens = 0.0, 0
    for ids in documents:
        for begin in range(0, len(ids) - 1, LENGTH):
            piece = torch.tensor(ids[begin : begin + LENGTH + 1])
            logits = model(piece[None, :-1]).logits[0]
            nats += torch.nn.functional.cross_entropy(logits, piece[1:], reduction="sum").item()
            tokens += len(piece) - 1
    characters = sum(len(" ".join(f"w{token}" for token in ids)) for ids in documents)
    score = records_of(finished, "evaluation")[-1]["buckets"]["zh-general-law"]
    assert score["tokens"] == tokens
    assert score["loss"] == pytest.approx(nats / tokens, rel=1e-5)
    assert score["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert score["bits_per_character"] == pytest.approx(nats / math.log(2) / characters, rel=1e-5)


def test_the_exported_folder_loads_with_plain_transformers(finished: Path) -> None:
    folder = folder_of(finished) / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    trained = weights_of(finished)
    assert all(torch.equal(weight, trained[n]) for n, weight in model.state_dict().items())
    assert model.generation_config.eos_token_id == 2
    assert (folder / "tokenizer.json").is_file()


class Killed(Exception):
    """Stands for a SIGKILL: nothing after it runs."""


def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    finished: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = another_run(inputs, tmp_path)
    take_step = cpt.take_step

    def take_or_die(run: Any, engine: Any, batch: Any, step: int, *rest: Any) -> Any:
        if step == 1:
            raise Killed
        return take_step(run, engine, batch, step, *rest)

    monkeypatch.setattr(cpt, "take_step", take_or_die)
    with pytest.raises(Killed):
        cpt.main([str(config)])
    monkeypatch.undo()
    assert cpt.main([str(config)]) == 0
    assert_same_run(config, finished)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("*optim_states.pt", flip_a_bit, "has changed since it was written"),
        ("*model_states.pt", cut_in_half, "bytes instead of"),
        ("progress.json", cut_in_half, "bytes instead of"),
        ("COMPLETE.json", cut_in_half, "COMPLETE.json cannot be read"),
        ("*optim_states.pt", Path.unlink, "No such file"),
    ],
)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    damage: Any,
    reason: str,
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder_of(finished) / "checkpoints", folder)
    shutil.rmtree(folder / "phase-all")
    before, newest = whole_checkpoints(folder)
    assert (before.name, newest.name) == ("step-000000006", "step-000000008")
    damage(next(newest.glob(file)))
    point = resume_point(folder, Ranks(0, 1, torch.device("cpu")))
    assert (point.path, point.progress.step) == (before, 6)
    message = capsys.readouterr().err
    assert f"{newest} is damaged" in message
    assert reason in message
    for path in folder.glob("*/progress.json"):
        cut_in_half(path)
    with pytest.raises(UserError, match="every checkpoint in it is damaged"):
        resume_point(folder, Ranks(0, 1, torch.device("cpu")))


def test_a_checkpoint_without_a_marker_is_reported_and_never_read(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder_of(finished) / "checkpoints", folder)
    (folder / "phase-all" / MARKER).unlink()
    (folder / "step-000000008" / MARKER).unlink()
    point = resume_point(folder, Ranks(0, 1, torch.device("cpu")))
    assert point.path == folder / "step-000000006"
    sweep(folder)
    assert f"{folder}/step-000000008 was not yet whole" in capsys.readouterr().err
    left = {path.name for path in folder.iterdir() if path.is_dir()}
    assert left == {"step-000000006", "phase-embeddings"}


def test_a_step_that_is_not_sound_changes_nothing_and_names_its_documents(
    inputs: Path, tmp_path: Path, finished: Path, spoiled: Any
) -> None:
    config = another_run(inputs, tmp_path)
    spoiled(5)
    assert cpt.main([str(config)]) == 0
    summary = json.loads((folder_of(config) / "summary.json").read_text(encoding="utf-8"))
    assert summary["bad_steps"] == [5]
    # The steps before it are the undisturbed run's; step 6 (number 7) sees the same weights.
    assert losses_of(config)[:6] == losses_of(finished)[:6]
    assert losses_of(config)[7:] != losses_of(finished)[7:]
    (event,) = [record for record in records_of(config, "event") if record["event"] == "bad-step"]
    run = read_run_config(config)
    plan = plan_run(run, 1)
    batch = SequenceReader(run.shards, plan.stream).read(plan.stream.batch(5))
    pieces = []
    for ids, positions in zip(batch.inputs.tolist(), batch.positions.tolist(), strict=True):
        starts = [n for n in range(LENGTH) if n == 0 or positions[n] == 0]
        pieces += [ids[a:b] for a, b in zip(starts, [*starts[1:], LENGTH], strict=True)]
    documents = {name: document(run.shards, name) for name in event["documents"]}
    assert all(any(holds(text, piece) for text in documents.values()) for piece in pieces)
    assert all(any(holds(text, piece) for piece in pieces) for text in documents.values())


def document(shards: str, name: str) -> list[int]:
    """The tokens of the document whose doc_id is BUCKET/SHARD/NUMBER."""
    path, number = name.rsplit("/", 1)
    return [int(token) for token in IndexedReader(Path(shards) / path).document(int(number))]


def holds(text: list[int], piece: list[int]) -> bool:
    return any(text[n : n + len(piece)] == piece for n in range(len(text)))


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


def test_a_rollback_leaves_the_bad_steps_out(inputs: Path, tmp_path: Path, spoiled: Any) -> None:
    watch = {"on_bad_step": "rollback", "rollback_steps": 2}
    saved = {"every_steps": 2, "asynchronous": False}
    config = another_run(inputs, tmp_path, watch=watch, checkpoints=saved)
    spoiled(6)
    assert cpt.main([str(config)]) == 0
    steps = [record["step"] for record in records_of(config, "step")]
    # Step 7 was bad; 6 and 7 are left out, from the checkpoint after step 4 on.
    assert steps == [1, 2, 3, 4, 5, 8, 9, 10]


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
