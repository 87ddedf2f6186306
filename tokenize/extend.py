"""Grow a tokenizer by the pieces that a Chinese corpus needs, and leave the rest of it alone.

    python -m tokenization.extend configs/vocabulary/characters.yaml

Writes `tokenizer.model`, the exact Hugging Face tokenizer (`tokenizer.json`,
`tokenizer_config.json`) and `report.json`. Not extending (`method: none`) is a choice with the
same report: what growing would save must be held against the tokens it takes to learn the pieces.
"""

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from pyspark.sql import DataFrame, SparkSession

from corpus.settings import Settings, UserError, command, load
from tokenization.characters import count_characters, most_frequent
from tokenization.convert import save_hugging_face
from tokenization.evaluation import Evaluation, evaluate
from tokenization.manifest import tokenizer_fingerprint
from tokenization.pieces import check_base, extend_model, processor, read_model
from tokenization.sample import sample_documents

log = logging.getLogger(__name__)


class VocabularyConfig(Settings):
    """The recipe's section `vocabulary`."""

    base: str
    """The tokenizer to start from: a sentencepiece `.model` file, or its folder."""
    method: Literal["none", "characters"] = "characters"
    """`none` keeps the base as it is; `characters` adds the corpus' frequent Han characters."""
    coverage: float = Field(0.9995, gt=0, le=1)
    """`characters`: take the fewest that cover this share of the corpus' Han occurrences."""
    count: PositiveInt | None = None
    """`characters`: take this many instead; those that the base has count too."""
    punctuation: bool = False
    """Let new pieces hold CJK punctuation as well as Han characters."""
    pad_to_multiple_of: PositiveInt | None = None
    """Fill the vocabulary with unused pieces up to a multiple of this, for example 64."""
    sample_per_bucket: PositiveInt = 200
    """Documents of each bucket on which the report's numbers are measured."""
    seed: NonNegativeInt = 17
    """Of the made-up strings on which exactness is tested."""


class ExtendRun(VocabularyConfig):
    """A configuration file of `python -m tokenization.extend`."""

    documents: str
    """A folder of Parquet documents, as a corpus run leaves them."""
    output: str
    """The folder for the tokenizer; it must not exist or be empty."""

    @model_validator(mode="after")
    def _output_is_not_the_base(self) -> "ExtendRun":
        if Path(self.output).resolve() == Path(self.base).resolve():
            raise ValueError("output is the base's own folder")
        return self


class VocabularyReport(Settings):
    """What `report.json` holds."""

    method: str
    base_size: int
    size: int
    new_pieces: int
    tokenizer_fingerprint: str
    coverage: float | None
    """Share of the corpus' Han occurrences that the chosen characters cover."""
    evaluation: Evaluation


def extend(
    spark: SparkSession, documents: DataFrame, config: VocabularyConfig, output_dir: str | Path
) -> VocabularyReport:
    """Write the tokenizer that `config` asks for into `output_dir`, measured on `documents`.

    Args:
        documents: at least the columns doc_id, text, lang, domain, kind.
        output_dir: a local or shared folder, made if need be.

    Raises:
        UserError: the base cannot be extended exactly, or a promise of the report is broken (the
            report is written first).
    """
    base_path = model_path(config.base)
    base = read_model(base_path)
    check_base(base, base_path)
    wanted, coverage = _choose(documents, config)
    extended, added = extend_model(base, wanted, config.pad_to_multiple_of)

    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    unchanged = not added and len(extended.pieces) == len(base.pieces)
    if unchanged:
        shutil.copyfile(base_path, folder / "tokenizer.model")
    else:
        (folder / "tokenizer.model").write_bytes(extended.SerializeToString(deterministic=True))
    hugging_face = save_hugging_face(extended, folder)

    evaluation = evaluate(
        sample_documents(documents, config.sample_per_bucket),
        processor(base),
        processor(extended),
        hugging_face,
        added,
        config.seed,
    )
    report = VocabularyReport(
        method=config.method,
        base_size=len(base.pieces),
        size=len(extended.pieces),
        new_pieces=len(added),
        tokenizer_fingerprint=tokenizer_fingerprint(folder),
        coverage=coverage,
        evaluation=evaluation,
    )
    _write_json(folder / "report.json", report.model_dump(mode="json"))
    failures = evaluation.failures()
    if failures:
        raise UserError(f"{folder}/report.json: the tokenizer is not exact: {'; '.join(failures)}")
    log.info("vocabulary: %d pieces, %d of them new", report.size, report.new_pieces)
    return report


def model_path(base: str) -> Path:
    """The `.model` file that `base` names, itself or as the folder that holds it."""
    path = Path(base)
    if path.is_dir():
        path = path / "tokenizer.model"
    if not path.is_file():
        raise UserError(f"{base}: there is no sentencepiece model here")
    return path


def _choose(documents: DataFrame, config: VocabularyConfig) -> tuple[Sequence[str], float | None]:
    if config.method == "none":
        return [], None
    counts = count_characters(documents)
    return most_frequent(counts, config.coverage, config.count, config.punctuation)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one configuration file."""
    parser = argparse.ArgumentParser(
        prog="python -m tokenization.extend",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_help(),
    )
    parser.add_argument("config", help="a YAML file with the keys below")
    config = load(parser.parse_args(arguments).config, ExtendRun)
    output = Path(config.output)
    if output.is_dir() and any(output.iterdir()):
        raise UserError(f"{output}: the folder is not empty; name another or remove it")
    from corpus.session import spark_session

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    spark = spark_session("vocabulary")
    report = extend(spark, spark.read.parquet(config.documents), config, output)
    print_report(report)
    return 0


def print_report(report: VocabularyReport) -> None:
    """Print the table of tokens per character, bucket by bucket."""
    print(f"{report.size:,} pieces, {report.new_pieces:,} of them new ({report.method})")
    print(f"{'bucket':40} {'documents':>9} {'tokens/char before':>18} {'after':>7}")
    for name, counts in report.evaluation.buckets.items():
        print(
            f"{name:40} {counts.documents:9,} {counts.tokens_per_character_before:18.3f} "
            f"{counts.tokens_per_character_after:7.3f}"
        )


def _help() -> str:
    keys = [f"  {name}: {field.description}" for name, field in ExtendRun.model_fields.items()]
    return "keys:\n" + "\n".join(keys)


if __name__ == "__main__":
    sys.exit(main())
