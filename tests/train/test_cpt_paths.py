"""The ways through a run that the plain one does not take, and what a run tells."""

import json
import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from cpt_run import (
    VOCABULARY,
    another_run,
    folder_of,
    one_thread,  # noqa: F401 - a fixture of every test here
    records_of,
    weights_of,
    write_config,
    write_inputs,
    write_tokenizer,
)
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from train import cpt
from train.engine import start_engine
from train.journal import Journal
from train.launch import start
from train.model import scale_rope
from train.run_config import Logging, RopeConfig, read_run_config

OLD = 80


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that grows a model from 80 to 96 pieces, and trains with LoRA from then on."""
    folder = tmp_path_factory.mktemp("paths")
    write_inputs(folder)
    write_config(folder)
    write_tokenizer(folder / "base", OLD)
    torch.manual_seed(0)
    shape = json.loads((folder / "run.yaml").read_text())["model"]["config"]
    config = LlamaConfig(**shape | {"vocab_size": OLD, "tie_word_embeddings": True})
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    phases = [
        {
            "name": "rows",
            "train": ["embeddings"],
            "rows": "new",
            "tokens": 768,
            "learning_rate": {"peak": 1e-2},
        },
        {
            "name": "lora",
            "train": "lora",
            "learning_rate": {"peak": 1e-2},
            "lora": {"rank": 4, "targets": ["q_proj", "down_proj"]},
        },
    ]
    write_config(folder, model={"path": str(folder / "base")}, phases=phases)
    return folder


def test_a_tied_model_grows_learns_its_new_rows_and_then_adapters(
    inputs: Path, tmp_path: Path
) -> None:
    config = another_run(
        inputs,
        tmp_path,
        precision={"weights": "bf16", "activation_checkpointing": True},
        deepspeed={"zero_optimization": {"stage": 3}},
        rope={"type": "yarn", "factor": 2},
        batch_tokens=384,
        checkpoints={"every_steps": 0},
    )
    assert cpt.main([str(config)]) == 0
    first = AutoModelForCausalLM.from_pretrained(inputs / "base").state_dict()
    rows, last = weights_of(config, "rows"), weights_of(config, "lora")
    assert rows.keys() == last.keys() == first.keys() - {"lm_head.weight"}
    # The base's tokenizer reads every new word as its word 0: all new rows start from that row.
    table = "model.embed_tokens.weight"
    assert torch.equal(rows[table][:OLD], first[table])
    assert rows[table].shape[0] == VOCABULARY
    assert not (rows[table][OLD:] == first[table][0]).all(1).any()
    torch.testing.assert_close(
        rows[table][OLD:], first[table][:1].expand(VOCABULARY - OLD, -1), rtol=0, atol=0.031
    )
    assert all(torch.equal(rows[name], first[name]) for name in rows if name != table)
    adapted = {name for name in last if not torch.equal(last[name], rows[name])}
    assert adapted == {
        f"model.layers.{layer}.{name}.weight"
        for layer in (0, 1)
        for name in ("self_attn.q_proj", "mlp.down_proj")
    }
    for name in adapted:
        assert torch.linalg.matrix_rank(last[name] - rows[name], rtol=1e-4) <= 4
    events = [e for e in records_of(config, "event") if e["event"] == "phase"]
    assert [e["trained_parameters"] for e in events] == [VOCABULARY * 32, 4 * 2 * (64 + 80)]
    model, report = AutoModelForCausalLM.from_pretrained(
        folder_of(config) / "model", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert (model.dtype, model.config.tie_word_embeddings) == (torch.bfloat16, True)
    assert model.config.rope_parameters["rope_type"] == "yarn"
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.state_dict()[table], last[table].bfloat16())
    losses = [e["buckets"]["zh-general-law"]["loss"] for e in records_of(config, "evaluation")]
    assert losses[-1] < losses[0]


def inverse_frequencies(rope: dict[str, Any] | None, width: int, theta: float) -> torch.Tensor:
    """fp64 [width / 2], written anew from the papers."""
    place = torch.arange(0, width, 2, dtype=torch.float64) / width
    if rope is None:
        return theta**-place
    factor = rope["factor"]
    if rope["type"] == "linear":
        return theta**-place / factor
    if rope["type"] == "ntk":
        return (theta * factor ** (width / (width - 2))) ** -place
    # YaRN, section 3.2, with alpha = 1 and beta = 32.

    def dimension(rotations: float) -> float:
        length = rope["original_length"]
        return width * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = math.floor(dimension(32)), math.ceil(dimension(1))
    ramp = ((torch.arange(width // 2) - low) / (high - low)).clamp(0, 1).double()
    return theta**-place * (ramp / factor + 1 - ramp)


@pytest.mark.parametrize(
    "rope",
    [
        None,
        {"type": "linear", "factor": 8},
        {"type": "ntk", "factor": 8},
        {"type": "yarn", "factor": 8, "original_length": 4096},
    ],
)
def test_rotary_angles_are_exact_in_a_started_bf16_engine(
    inputs: Path, tmp_path: Path, rope: dict[str, Any] | None
) -> None:
    """At position 32,767, against fp64; fp32 holds that angle to 2^-9."""
    config = another_run(inputs, tmp_path, precision={"weights": "bf16"})
    run = read_run_config(config)
    shape = LlamaConfig(
        vocab_size=64,
        hidden_size=128,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4096,
    )
    if rope is not None:
        scale_rope(shape, RopeConfig.model_validate(rope))
        assert shape.max_position_embeddings == 32768
    model = LlamaForCausalLM(shape)
    phase = run.phases[0].model_copy(update={"train": "all"})
    engine = start_engine(run, phase, model, 1, 64, start(60.0))
    assert engine.module.causal_lm.lm_head.weight.dtype == torch.bfloat16
    rotary = engine.module.causal_lm.model.rotary_emb
    cos, sin = rotary(torch.zeros(1), torch.tensor([[32767]]))
    angle = 32767 * inverse_frequencies(rope, 64, 10000.0)
    scale = 0.1 * math.log(8) + 1 if rope and rope["type"] == "yarn" else 1.0
    torch.testing.assert_close(cos[0, 0, :32].double(), scale * angle.cos(), rtol=0, atol=2e-3)
    torch.testing.assert_close(sin[0, 0, :32].double(), scale * angle.sin(), rtol=0, atol=2e-3)


STEP = {
    "step": 1,
    "phase": "all",
    "loss": 2.5,
    "learning_rate": 0.1,
    "gradient_norm": None,
    "tokens_per_second": 10.0,
    "tflops_per_device": 1.0,
    "mfu": None,
    "loss_per_bucket": {"zh-general-law": 2.5},
    "drawn": {"zh-general-law": 64},
}


def test_tensorboard_and_wandb_get_what_the_journal_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged: list[tuple[int, dict[str, float]]] = []
    run = types.SimpleNamespace(
        log=lambda scalars, step: logged.append((step, scalars)), finish=lambda: None
    )
    wandb = types.SimpleNamespace(init=lambda **_: run)
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # not installed here, and no account
    settings = Logging(tensorboard=True, wandb_project="lianjin")
    journal = Journal(tmp_path, settings, 3, -1, True, "tiny")
    journal.step(STEP)
    journal.evaluation(1, {"zh-general-law": {"perplexity": 9.0, "tokens": 5}})
    journal.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    expected = {
        "loss": 2.5,
        "learning_rate": 0.1,
        "tokens_per_second": 10.0,
        "loss/zh-general-law": 2.5,
        "drawn/zh-general-law": 64,
    }
    heldout = {"heldout/perplexity/zh-general-law": 9.0}
    assert logged == [(1, expected), (1, heldout)]
    seen = {tag: board.Scalars(tag)[0].value for tag in board.Tags()["scalars"]}
    assert seen == pytest.approx(expected | heldout)


def test_a_missing_wandb_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    journal = Journal(tmp_path, Logging(wandb_project="lianjin"), 3, -1, True, "tiny")
    journal.step(STEP)
    journal.close()
    assert "wandb is not installed" in capsys.readouterr().err
