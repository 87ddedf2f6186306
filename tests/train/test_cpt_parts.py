"""The parts of continued pretraining, each held against a plain reference in fp32 or fp64."""

import copy
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from corpus.settings import UserError
from tokenization.new_rows import grow
from train.accumulate import accumulate_in_products, adding_in_place, products
from train.adapters import add_adapters, merge_adapters
from train.attention import find_documents
from train.heartbeat import EXIT_STATUS, Heartbeat
from train.launch import Ranks
from train.learning_rate import learning_rate
from train.model import PackedLanguageModel, cast_weights, restore_rope, scale_rope
from train.objective import LossHead
from train.run_config import (
    LearningRate,
    LoraConfig,
    Phase,
    RopeConfig,
    RunConfig,
    Watch,
    deepspeed_config,
)
from train.throughput import matrix_weights, peak_flops, phase_flops
from train.watch import LossWatch, poison

CPU = torch.device("cpu")
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}


def small(attention: str = "lianjin_documents", **changes: object) -> LlamaForCausalLM:
    torch.manual_seed(5)
    config = LlamaConfig(**SHAPE | changes, use_cache=False)
    return LlamaForCausalLM._from_config(config, attn_implementation=attention)


def packed_row() -> tuple[torch.Tensor, np.ndarray, torch.Tensor]:
    """Two sequences of 12 tokens: documents of 5 + 7 and of 12 tokens."""
    ids = torch.randint(0, 64, (24,), generator=torch.Generator().manual_seed(1))
    positions = np.concatenate([np.arange(5), np.arange(7), np.arange(12)])
    labels = torch.roll(ids, -1)
    labels[[4, 11, 23]] = -100
    return ids, positions, labels


def test_documents_begin_at_sequences_and_where_positions_restart() -> None:
    positions = np.array([[0, 1, 2, 0, 1, 2], [3, 4, 0, 0, 1, 2]])
    documents = find_documents(positions, CPU)
    assert documents.lengths == (3, 3, 2, 1, 3)
    assert documents.boundaries.tolist() == [0, 3, 6, 8, 9, 12]
    assert documents.longest == 6
    assert documents.attended_pairs() == 6 + 6 + 3 + 1 + 6


@pytest.mark.parametrize("packed", [True, False])
def test_loss_and_gradients_are_those_of_plain_transformers(packed: bool) -> None:
    ids, positions, labels = packed_row()
    model = PackedLanguageModel(small())
    plain = small("sdpa")
    losses = model(ids, torch.from_numpy(positions), labels, find_documents(positions[None], CPU))
    losses.sum().backward()
    expected = torch.cat(
        [
            plain(input_ids=ids[None, begin:end], use_cache=False).logits[0]
            for begin, end in ((0, 5), (5, 12), (12, 24))
        ]
    )
    reference = F.cross_entropy(expected, labels, ignore_index=-100, reduction="none")
    reference.sum().backward()
    torch.testing.assert_close(losses, reference, rtol=1e-5, atol=1e-5)
    wanted = dict(plain.named_parameters())
    for name, parameter in model.causal_lm.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-4, atol=1e-5)


def test_no_gradient_crosses_a_documents_border() -> None:
    ids, positions, labels = packed_row()
    model = PackedLanguageModel(small())
    embedded: list[torch.Tensor] = []

    def keep(module: object, inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.causal_lm.get_input_embeddings().register_forward_hook(keep)
    second = torch.full_like(labels, -100)
    second[5:11] = labels[5:11]
    losses = model(ids, torch.from_numpy(positions), second, find_documents(positions[None], CPU))
    losses.sum().backward()
    gradient = embedded[0].grad[0]
    assert torch.count_nonzero(gradient[:5]) == 0
    assert torch.count_nonzero(gradient[12:]) == 0
    assert torch.count_nonzero(gradient[5:11].sum(1)) == 6


def test_chunked_loss_does_not_depend_on_the_pieces() -> None:
    torch.manual_seed(0)
    head = LossHead(16, 50, bias=False)
    hidden = torch.randn(23, 16, requires_grad=True)
    labels = torch.randint(0, 50, (23,))
    labels[3] = -100
    results = []
    for tokens in (4, 7, 1000):
        head.tokens_at_a_time = tokens
        hidden.grad = head.weight.grad = None
        losses = head(hidden, labels, torch.tensor(0.5))
        losses.sum().backward()
        results.append((losses.detach(), hidden.grad, head.weight.grad))
    logits = (hidden.double() @ head.weight.t().double()).detach()
    expected = F.cross_entropy(logits, labels, ignore_index=-100, reduction="none")
    torch.testing.assert_close(results[0][0].double(), expected, rtol=1e-5, atol=1e-6)
    assert results[0][0][3] == 0
    assert torch.count_nonzero(results[0][1][3]) == 0
    for other in results[1:]:
        for left, right in zip(results[0], other, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


def test_rotary_frequencies_survive_casts_and_match_an_fp64_table() -> None:
    model = small(max_position_embeddings=32768)
    cast_weights(model, torch.bfloat16)
    rotary = model.model.rotary_emb
    assert rotary.inv_freq.dtype == torch.float32
    model.to(torch.bfloat16)  # what a careless engine does
    assert rotary.inv_freq.dtype == torch.bfloat16
    restore_rope(model)
    assert rotary.inv_freq.dtype == torch.float32
    position = torch.tensor([[32767]])
    cos, sin = rotary(torch.zeros(1, dtype=torch.float32), position)
    half = 8 // 2
    angle = 32767 * 10000.0 ** (-torch.arange(half, dtype=torch.float64) * 2 / 8)
    # fp32 holds the angle 32,767 to 2^-9, so the first frequency is exact and all within 2e-3.
    torch.testing.assert_close(cos[0, 0, :half].double(), angle.cos(), rtol=0, atol=2e-3)
    torch.testing.assert_close(sin[0, 0, :half].double(), angle.sin(), rtol=0, atol=2e-3)


def test_position_interpolation_divides_positions() -> None:
    config = LlamaConfig(**SHAPE)
    scale_rope(config, RopeConfig(type="linear", factor=8))
    assert config.max_position_embeddings == 512
    stretched = LlamaForCausalLM(config).model.rotary_emb
    plain = LlamaForCausalLM(LlamaConfig(**SHAPE)).model.rotary_emb
    torch.testing.assert_close(stretched.inv_freq * 8, plain.inv_freq)


def test_ntk_changes_the_base() -> None:
    config = LlamaConfig(**SHAPE)
    scale_rope(config, RopeConfig(type="ntk", factor=4))
    assert config.rope_parameters["rope_theta"] == pytest.approx(10000 * 4 ** (8 / 6))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            LearningRate(peak=1.0, schedule="linear", warmup=0.2, floor=0.0),
            [0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0],
        ),
        (
            LearningRate(peak=2.0, schedule="wsd", warmup=0.1, decay=0.2, floor=0.5),
            [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0],
        ),
        (LearningRate(peak=1.0, schedule="constant", warmup=0.2, start=0.6), [0.8] + [1.0] * 9),
    ],
)
def test_learning_rates(settings: LearningRate, expected: list[float]) -> None:
    rates = [learning_rate(settings, step, 10) for step in range(10)]
    assert rates == pytest.approx(expected)


def test_cosine_ends_on_its_floor() -> None:
    settings = LearningRate(peak=3.0, schedule="cosine", warmup=0.0, floor=0.1)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[-1] == pytest.approx(0.3)
    assert rates[49] == pytest.approx((3.0 + 0.3) / 2)
    assert rates == sorted(rates, reverse=True)


def test_new_rows_start_from_the_mean_of_their_old_pieces() -> None:
    for tied in (False, True):
        model = small(tie_word_embeddings=tied)
        before = model.get_input_embeddings().weight.detach().clone()
        head = model.get_output_embeddings().weight.detach().clone()
        grow(model, 68, {64: [3, 5], 65: [7]})
        after = model.get_input_embeddings().weight
        assert torch.equal(after[:64], before)
        torch.testing.assert_close(after[64], (before[3] + before[5]) / 2)
        assert torch.equal(after[65], before[7])
        torch.testing.assert_close(after[66], before.mean(0))
        torch.testing.assert_close(
            model.get_output_embeddings().weight[64], (head[3] + head[5]) / 2
        )
        assert model.get_output_embeddings().out_features == 68
        assert (model.get_output_embeddings().weight is after) == tied


def test_adapters_change_nothing_until_trained_and_merge_exactly() -> None:
    ids = torch.arange(10)[None]
    plain, adapted = small("sdpa"), small("sdpa")
    add_adapters(adapted, LoraConfig(rank=2, alpha=4.0), seed=0)
    assert torch.equal(plain(ids).logits, adapted(ids).logits)
    with torch.no_grad():
        adapted.model.layers[0].self_attn.q_proj.lora_b.fill_(0.1)
    state = {name: weight.detach() for name, weight in adapted.named_parameters()}
    plain.load_state_dict(merge_adapters(adapted, state))
    torch.testing.assert_close(plain(ids).logits, adapted(ids).logits)


def test_a_spike_or_nan_poisons_the_gradient() -> None:
    watch = LossWatch(Watch(spike=5.0, window=16, least_spike=0.5), [])
    assert watch.limit() == math.inf
    for number in range(12):
        watch.add(2.0 + 0.01 * (number % 3))
    assert watch.limit() == pytest.approx(2.51, abs=0.01)
    assert poison(torch.tensor(2.4), watch.limit()) == 1
    assert poison(torch.tensor(3.0), watch.limit()).isnan()
    assert poison(torch.tensor(float("nan")), math.inf).isnan()
    assert poison(torch.tensor(float("inf")), math.inf).isnan()


def test_model_flops_follow_the_formula() -> None:
    config = LlamaConfig(**SHAPE)
    blocks, head = matrix_weights(config)
    assert blocks == 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24)
    assert head == 64 * 16
    phase = Phase(name="all", learning_rate=LearningRate(peak=1.0))
    flops = phase_flops(config, phase)
    assert flops.of(10, 55) == 6 * (blocks + head) * 10 + 12 * 2 * 2 * 8 * 55
    rows = Phase(name="rows", train=("embeddings", "lm_head"), learning_rate=LearningRate(peak=1.0))
    assert phase_flops(config, rows).per_token == 4 * blocks + 6 * head
    assert peak_flops("NVIDIA H200") == pytest.approx(989.4e12)
    assert peak_flops("Some GPU of tomorrow") is None


def run_config(**changes: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "x",
            "output": "o",
            "model": {"path": "m"},
            "tokenizer": "t",
            "shards": "s",
            "mixture": "m",
            "micro_batch_tokens": "4Ki",
            "phases": [{"name": "all", "learning_rate": {"peak": 1e-4}}],
            **changes,
        }
    )


def test_deepspeed_keys_that_the_run_decides_are_refused() -> None:
    run = run_config(deepspeed={"train_batch_size": 3})
    with pytest.raises(UserError, match="deepspeed: train_batch_size: the run config decides"):
        deepspeed_config(run, 1)
    merged = deepspeed_config(run_config(deepspeed={"bf16": "auto"}), 4)
    assert merged["zero_optimization"]["stage"] == 1
    assert merged["gradient_accumulation_steps"] == 4
    assert merged["bf16"] == {"enabled": True}


@pytest.mark.parametrize(
    "change",
    [
        {"model": {}},
        {"phases": [{"name": "a", "train": [], "learning_rate": {"peak": 1}}]},
        {"phases": [{"name": "a", "learning_rate": {"peak": 1}}] * 2},
        {"micro_batch_tokens": "many"},
    ],
)
def test_impossible_configs_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        run_config(**change)


def test_gradients_added_inside_products_are_autograds() -> None:
    torch.manual_seed(0)
    usual, adding = torch.nn.Linear(6, 5, bias=False), torch.nn.Linear(6, 5, bias=False)
    adding.load_state_dict(usual.state_dict())
    accumulate_in_products(adding)
    micro_batches = [torch.randn(2, 3, 6) for _ in range(4)]
    for number, x in enumerate(micro_batches):
        left, right = x.clone().requires_grad_(), x.clone().requires_grad_()
        (usual(left) ** 2).sum().backward()
        with adding_in_place(0 < number < 3):
            (adding(right) ** 2).sum().backward()
        torch.testing.assert_close(left.grad, right.grad)
    torch.testing.assert_close(usual.weight.grad, adding.weight.grad)


def test_layers_that_share_an_input_share_its_gradient() -> None:
    torch.manual_seed(0)
    usual = torch.nn.ModuleList(torch.nn.Linear(6, out, bias=False) for out in (5, 2, 7))
    sharing = copy.deepcopy(usual)
    accumulate_in_products(sharing)
    called: list[object] = []
    for layer in (*usual, *sharing):
        layer.register_forward_hook(lambda layer, *_: called.append(layer))
    for number in range(3):
        x = torch.randn(2, 3, 6)
        left, right = x.clone().requires_grad_(), x.clone().requires_grad_()
        expected, found = products(left, *usual), products(right, *sharing)
        sum((part**3).sum() for part in expected).backward()
        with adding_in_place(number == 1):
            sum((part**3).sum() for part in found).backward()
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(right.grad, left.grad)
    for layer, reference in zip(sharing, usual, strict=True):
        torch.testing.assert_close(layer.weight.grad, reference.weight.grad)
    assert called == [*usual] * 3, "the sharing layers are one operation"
    half = torch.nn.ModuleList([usual[0], sharing[1]])  # one is not prepared: each goes by itself
    for part, layer in zip(products(x, *half), half, strict=True):
        torch.testing.assert_close(part, x @ layer.weight.t())
    assert called[9:] == [*half]


def test_a_rank_that_waits_names_the_one_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = threading.Event()
    status: list[int] = []

    def end(number: int) -> None:
        status.append(number)
        ended.set()

    (tmp_path / "rank-1").write_text("6", encoding="utf-8")
    heartbeat = Heartbeat(tmp_path, Ranks(0, 2, CPU), 0.2, end)
    heartbeat.beat(7)
    assert ended.wait(20)
    heartbeat.stop()
    assert status == [EXIT_STATUS]
    assert "after step 7; behind: rank 1 (step 6)" in capsys.readouterr().err
