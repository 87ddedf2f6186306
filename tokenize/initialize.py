"""A model for a grown vocabulary: new rows of the embedding and the head from the pieces of old.

    python -m tokenization.initialize --model BASE --tokenizer runs/x/tokenizer --output OUT

Each new row is the mean of the rows into which the base's tokenizer cuts the new piece, in the
input embedding and, where it is not tied, in the output head (what XuanYuan-13B did). All old
rows keep their bits, and so do the old ids' logits. The result is a folder with the model and the
tokenizer, and `initialize.json` with the two checks: logits on old text, loss on new text.
"""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from corpus.settings import Settings, UserError, command
from tokenization.new_rows import grow, old_pieces
from tokenization.pieces import processor, read_model

TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json")
LOSS_BOUND = 0.5
"""Nats a character by which the grown model's loss may exceed the base's on the check's text."""

OLD_TEXT = "The company reported net revenue of $12.5 million for the year ended 2023, up 4 %."
NEW_TEXT = (
    "根据本法规定,公司应当在每一会计年度终了时编制财务会计报告,并依法经会计师事务所审计。"
    "报告期内,公司实现营业收入较上年同期增长,主要系产品销量提升所致。"
)


class InitializeReport(Settings):
    """What `initialize.json` holds."""

    old_size: int
    new_size: int
    new_rows: int
    """Rows that were set to a mean of old ones."""
    tied: bool
    dtype: str
    old_logits_largest_difference: float
    """On text without new pieces, over the old ids; 0 means unchanged to the bit."""
    loss_per_character_base: float
    """Nats, on Chinese text cut by the base's tokenizer."""
    loss_per_character_extended: float
    """Nats, on the same text cut by the grown tokenizer."""
    loss_bound: float


def initialize(
    model_dir: str | Path,
    tokenizer_dir: str | Path,
    output_dir: str | Path,
    base_tokenizer: str | Path | None = None,
    text: str = NEW_TEXT,
) -> InitializeReport:
    """Write the model in `model_dir`, grown to the tokenizer in `tokenizer_dir`.

    Args:
        base_tokenizer: the `.model` file that the model was trained with; by default the one in
            `model_dir`.
        text: on which the losses are compared.

    Raises:
        UserError: a folder lacks what is needed, the tokenizers do not belong together, or a
            check fails.
    """
    output = Path(output_dir)
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output}: the folder is not empty; name another or remove it")
    base_path = Path(base_tokenizer or Path(model_dir) / "tokenizer.model")
    base, extended = read_model(base_path), read_model(Path(tokenizer_dir) / "tokenizer.model")
    old, new = len(base.pieces), len(extended.pieces)
    pieces = old_pieces(base_path, tokenizer_dir)
    model = _load(model_dir)
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < old:
        raise UserError(f"{model_dir}: has {rows} rows, fewer than the {old} old pieces")

    old_cut, new_cut = processor(base), processor(extended)
    old_ids = torch.tensor([old_cut.encode(OLD_TEXT)])
    with torch.inference_mode():
        before = model(old_ids).logits[..., :old].clone()
    loss_before = _loss_per_character(model, old_cut.encode(text), text)
    grown = grow(model, max(rows, new), pieces)
    with torch.inference_mode():
        after = model(old_ids).logits[..., :old]
    report = InitializeReport(
        old_size=old,
        new_size=new,
        new_rows=grown,
        tied=_is_tied(model),
        dtype=str(model.dtype).removeprefix("torch."),
        old_logits_largest_difference=float((after - before).abs().max()),
        loss_per_character_base=loss_before,
        loss_per_character_extended=_loss_per_character(model, new_cut.encode(text), text),
        loss_bound=LOSS_BOUND,
    )
    _check(report, model_dir)
    model.save_pretrained(output)
    for name in TOKENIZER_FILES:
        if (Path(tokenizer_dir) / name).is_file():
            shutil.copyfile(Path(tokenizer_dir) / name, output / name)
    (output / "initialize.json").write_text(report.model_dump_json(indent=1) + "\n")
    return report


def _load(model_dir: str | Path) -> Any:
    if not (Path(model_dir) / "config.json").is_file():
        raise UserError(f"{model_dir}: there is no model here (no config.json)")
    try:
        # Weights of a kind that could run code when loaded are refused.
        return transformers.AutoModelForCausalLM.from_pretrained(
            model_dir, dtype="auto", use_safetensors=True, local_files_only=True
        ).eval()
    except (OSError, ValueError) as error:
        raise UserError(f"{model_dir}: the model cannot be loaded: {error}") from error


def _is_tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _loss_per_character(model: Any, ids: list[int], text: str) -> float:
    """Nats that `model` needs for the ids after the first, for each character of `text`."""
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        logits = model(tokens).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum")) / len(
        text
    )


def _check(report: InitializeReport, model_dir: str | Path) -> None:
    if report.old_logits_largest_difference > 0:
        raise UserError(
            f"{model_dir}: growing changed the old ids' logits by up to "
            f"{report.old_logits_largest_difference:.3g}, where nothing should change"
        )
    excess = report.loss_per_character_extended - report.loss_per_character_base
    if not math.isfinite(excess) or excess > report.loss_bound:
        raise UserError(
            f"{model_dir}: on Chinese text the grown model needs "
            f"{report.loss_per_character_extended:.3f} nats a character and the base "
            f"{report.loss_per_character_base:.3f}: more than {report.loss_bound} above it"
        )


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Grow one model."""
    parser = argparse.ArgumentParser(
        prog="python -m tokenization.initialize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Train the new rows first (embeddings and head only), then everything: see "
        "configs/train/.",
    )
    parser.add_argument("--model", required=True, help="the base model's folder (safetensors)")
    parser.add_argument("--tokenizer", required=True, help="the folder that `extend` wrote")
    parser.add_argument("--output", required=True, help="a new folder for model and tokenizer")
    parser.add_argument(
        "--base-tokenizer", help="the base's .model file, if it is not in the model's folder"
    )
    parser.add_argument("--text", help="a UTF-8 file of Chinese text for the loss check")
    options = parser.parse_args(arguments)
    text = Path(options.text).read_text(encoding="utf-8")[:2_000] if options.text else NEW_TEXT
    report = initialize(
        options.model, options.tokenizer, options.output, options.base_tokenizer, text
    )
    print(json.dumps(report.model_dump(), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
