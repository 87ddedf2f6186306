"""Products in float8: emulated where torchao is installed, refused with a reason elsewhere."""

import sys
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from corpus.settings import UserError
from train.float8 import to_float8, use_float8


def small() -> Any:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16)


def test_float8_needs_its_device_and_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="needs an Ada, Hopper or later GPU"):
        use_float8(small(), "tensorwise", torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(UserError, match="needs the package torchao"):
        to_float8(small().model.layers, "tensorwise")


@pytest.mark.parametrize("scales", ["tensorwise", "rowwise"])
def test_float8_changes_the_blocks_products_a_little_and_no_name(scales: Any) -> None:
    pytest.importorskip("torchao")
    plain, rounded = small(), small()
    names = list(rounded.state_dict())
    assert len(to_float8(rounded.model.layers, scales, emulate=True)) == 2 * 7
    assert list(rounded.state_dict()) == names
    assert type(rounded.lm_head) is torch.nn.Linear
    ids = torch.arange(32)[None]
    losses = [model(ids, labels=ids, use_cache=False).loss for model in (plain, rounded)]
    for loss in losses:
        loss.backward()
    assert losses[0] != losses[1]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.01)
    for layer in range(2):
        expected, found = (
            each.model.layers[layer].mlp.down_proj.weight.grad.float() for each in (plain, rounded)
        )
        assert torch.linalg.norm(found - expected) < 0.1 * torch.linalg.norm(expected)
