"""What only a GPU runs: row attention, fused kernels, and a whole run that is killed there.

Every reference is plain PyTorch in fp32. Runs where there is a CUDA device; on a machine without
the trainer's own tests skip this file.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cpt_run import another_run, losses_of, write_config, write_inputs
from transformers import LlamaConfig, LlamaForCausalLM

from corpus.settings import UserError
from train.attention import choose_attention, find_documents, varlen_function
from train.engine import use_kernels
from train.model import PackedLanguageModel, cast_weights, restore_rope

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

GPU = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
LENGTHS = (5, 251, 300, 1, 467)


def positions_of(lengths: tuple[int, ...]) -> np.ndarray:
    """One row whose documents have these lengths."""
    return np.concatenate([np.arange(length) for length in lengths])[None]


def backend(name: str) -> str:
    try:
        return choose_attention(name, GPU, torch.bfloat16)
    except UserError as error:
        pytest.skip(str(error))


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    """The error's norm is at most `share` of the reference's."""
    error = (found.float() - expected.float()).norm() / expected.float().norm()
    assert error <= share, f"off by {error:.2%}"


@pytest.mark.parametrize("name", ["varlen", "flex", "flash"])
def test_row_attention_is_causal_attention_within_documents(name: str) -> None:
    attend = varlen_function(backend(name))
    documents = find_documents(positions_of(LENGTHS), GPU)
    draw = torch.Generator("cuda").manual_seed(1)
    shapes = ((1024, 4, 64), (1024, 2, 64), (1024, 2, 64))
    parts = [
        torch.randn(shape, generator=draw, device=GPU, dtype=torch.bfloat16) for shape in shapes
    ]
    rows = [part.clone().requires_grad_() for part in parts]
    outside = torch.randn(shapes[0], generator=draw, device=GPU, dtype=torch.bfloat16)
    found = attend(*rows, documents, 64**-0.5)
    found.backward(outside)
    wanted = [part.float().requires_grad_() for part in parts]
    edges = np.cumsum([0, *LENGTHS]).tolist()
    expected = torch.cat(
        [
            F.scaled_dot_product_attention(
                *(part[begin:end].transpose(0, 1) for part in wanted),
                is_causal=True, enable_gqa=True,
            ).transpose(0, 1)
            for begin, end in pairwise(edges)
        ]
    )  # fmt: skip
    expected.backward(outside.float())
    close(found, expected, 0.01)
    for row, reference in zip(rows, wanted, strict=True):
        close(row.grad, reference.grad, 0.01)
    # A gradient that enters in the third document reaches it alone.
    for row in rows:
        row.grad = None
    third = torch.zeros_like(outside)
    third[256:556] = outside[256:556]
    attend(*rows, documents, 64**-0.5).backward(third)
    for row in rows:
        assert torch.count_nonzero(row.grad[:256]) == 0
        assert torch.count_nonzero(row.grad[556:]) == 0
        assert torch.count_nonzero(row.grad[256:556]) > 0


def test_fused_kernels_are_the_formulas() -> None:
    from train.kernels import AddNorm, Rotary, SwiGlu, cross_entropy_

    torch.manual_seed(2)
    x, added, up = (torch.randn(70, 384, device=GPU, requires_grad=True) for _ in range(3))
    weight = torch.rand(384, device=GPU, requires_grad=True)

    def gradients(value: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
        outside = torch.sin(torch.arange(value.numel(), device=GPU)).view_as(value)
        return [value, *torch.autograd.grad((value * outside).sum(), leaves)]

    def same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
        for left, right in zip(found, expected, strict=True):
            torch.testing.assert_close(left, right, rtol=2e-4, atol=2e-5)

    total, normal = AddNorm.apply(x, added, weight, 1e-6)
    reference = (x + added) * torch.rsqrt((x + added).square().mean(-1, keepdim=True) + 1e-6)
    same(
        gradients(total + normal, x, added, weight),
        gradients(x + added + reference * weight, x, added, weight),
    )
    same(gradients(SwiGlu.apply(x, up), x, up), gradients(F.silu(x) * up, x, up))
    heads = x.view(70, 6, 64)
    angles = torch.arange(70, device=GPU)[:, None] * 10000.0 ** (-torch.arange(32, device=GPU) / 32)
    cosine, sine = angles.cos()[:, None], angles.sin()[:, None]
    first, second = heads.split(32, -1)
    turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
    same(gradients(Rotary.apply(heads, angles.cos(), angles.sin()), x), gradients(turned, x))
    logits = torch.randn(9, 20000, device=GPU, requires_grad=True)
    labels = torch.tensor([3, 19999, -100, 0, 8191, 8192, 7, -100, 1], device=GPU)
    losses = F.cross_entropy(logits, labels, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum() * 0.5, logits)
    written, own = logits.detach().clone(), torch.empty(9, device=GPU)
    cross_entropy_(written, labels, own, torch.tensor(0.5, device=GPU))
    torch.testing.assert_close(own, losses.detach())
    torch.testing.assert_close(written, gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("attention", ["varlen", "flash"])
@pytest.mark.parametrize("kernels", ["torch", "triton"])
def test_a_model_in_bf16_follows_fp32_transformers(attention: str, kernels: str) -> None:
    shape = {
        "vocab_size": 1000, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "use_cache": False,
    }  # fmt: skip

    def fresh(name: str) -> LlamaForCausalLM:
        torch.manual_seed(3)
        return LlamaForCausalLM._from_config(LlamaConfig(**shape), attn_implementation=name).to(GPU)

    plain, ours = fresh("sdpa"), fresh(backend(attention))
    cast_weights(ours, torch.bfloat16)
    restore_rope(ours)
    use_kernels(ours, kernels)
    model = PackedLanguageModel(ours)
    positions = positions_of(LENGTHS)
    ids = torch.randint(0, 1000, (1024,), device=GPU)
    labels = torch.roll(ids, -1)
    losses = model(
        ids, torch.from_numpy(positions[0]).to(GPU), labels, find_documents(positions, GPU)
    )
    losses.sum().backward()
    edges = np.cumsum([0, *LENGTHS]).tolist()
    logits = torch.cat([plain(input_ids=ids[None, b:e]).logits[0] for b, e in pairwise(edges)])
    expected = F.cross_entropy(logits, labels, reduction="none")
    expected.sum().backward()
    assert float(losses.mean()) == pytest.approx(float(expected.mean()), rel=1e-3)
    references = dict(plain.named_parameters())
    for name, parameter in ours.named_parameters():
        close(parameter.grad, references[name].grad, 0.025)


@pytest.mark.parametrize("attention", ["varlen", "flash"])
def test_a_killed_run_continues_bit_for_bit(
    tmp_path: Path, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train import cpt

    backend(attention)
    write_inputs(tmp_path)
    config = write_config(tmp_path)
    model = json.loads(config.read_text())["model"]
    model["config"] |= {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4}
    changes = {
        "model": model, "precision": {"weights": "bf16"}, "backends": {"attention": attention},
        "deepspeed": {"zero_optimization": {"stage": 1}},
    }  # fmt: skip
    whole = another_run(tmp_path, tmp_path / "whole", **changes)
    assert cpt.main([str(whole)]) == 0
    killed = another_run(tmp_path, tmp_path / "killed", **changes)
    take_step = cpt.take_step

    class Killed(Exception):
        """Stands for a SIGKILL."""

    def take_or_die(run: Any, engine: Any, batch: Any, step: int, *rest: Any) -> Any:
        if step == 6:
            raise Killed
        return take_step(run, engine, batch, step, *rest)

    monkeypatch.setattr(cpt, "take_step", take_or_die)
    with pytest.raises(Killed):
        cpt.main([str(killed)])
    monkeypatch.undo()
    assert cpt.main([str(killed)]) == 0
    assert losses_of(killed) == losses_of(whole)
