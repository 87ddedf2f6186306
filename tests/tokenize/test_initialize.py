"""A grown model: old rows and logits keep their bits, new rows are means of old ones."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from corpus.settings import UserError
from tokenization.convert import save_hugging_face
from tokenization.initialize import initialize
from tokenization.pieces import extend_model, processor, read_model

BASE = Path(__file__).parents[2] / "samples" / "tokenizer" / "mistral-v1-32000.model"


def small_model(folder: Path, tied: bool) -> Path:
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=32_000,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
        dtype="bfloat16",
    )
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(BASE.read_bytes())
    return folder


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    model, _ = extend_model(read_model(BASE), ["审", "龘", "审龘"], pad_to_multiple_of=64)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    save_hugging_face(model, folder)
    return folder


@pytest.mark.parametrize("tied", [False, True])
def test_rows_are_means_of_old_pieces(tmp_path: Path, tokenizer: Path, tied: bool) -> None:
    base = small_model(tmp_path / "base", tied)
    report = initialize(base, tokenizer, tmp_path / "out")
    assert (report.tied, report.dtype, report.new_size) == (tied, "bfloat16", 32_064)
    assert report.old_logits_largest_difference == 0

    old = transformers.AutoModelForCausalLM.from_pretrained(base)
    new = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert new.config.vocab_size == 32_064
    assert new.config.tie_word_embeddings is tied
    assert new.dtype == torch.bfloat16
    cut = processor(read_model(BASE))
    for get in ("get_input_embeddings", "get_output_embeddings"):
        before, after = getattr(old, get)().weight, getattr(new, get)().weight
        assert torch.equal(after[:32_000], before)
        number = processor(read_model(tokenizer / "tokenizer.model")).piece_to_id("龘")
        parts = [cut.piece_to_id(f"<0x{byte:02X}>") for byte in "龘".encode()]
        assert torch.equal(after[number], before[parts].float().mean(0).to(torch.bfloat16))
        mean = before.float().mean(0).to(torch.bfloat16)
        assert torch.equal(after[32_063], mean)
    written = json.loads((tmp_path / "out" / "initialize.json").read_text())
    assert written == report.model_dump()
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_a_foreign_tokenizer_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    base = small_model(tmp_path / "base", tied=True)
    model = read_model(tokenizer / "tokenizer.model")
    model.pieces[300].piece = "other"
    (tokenizer / "tokenizer.model").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="does not grow out of"):
        initialize(base, tokenizer, tmp_path / "out")
    with pytest.raises(UserError, match=r"no config\.json"):
        initialize(tokenizer, tokenizer, tmp_path / "out")
