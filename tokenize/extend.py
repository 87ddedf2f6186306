"""Grow a tokenizer by the pieces that a Chinese corpus needs, and leave the rest of it alone.

    python -m tokenization.extend configs/vocabulary/characters.yaml

Writes `tokenizer.model`, the exact Hugging Face tokenizer (`tokenizer.json`,
`tokenizer_config.json`), `report.json` and `report.html`. Not extending (`method: none`) is a
choice with the same report: what growing saves must be held against what learning the pieces takes.
"""

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from pyspark.sql import DataFrame, SparkSession
from tokenizers import Tokenizer

from corpus.settings import Settings, UserError, command, load
from tokenization.characters import count_characters, most_frequent
from tokenization.convert import save_hugging_face
from tokenization.evaluation import Codec, evaluate
from tokenization.manifest import tokenizer_fingerprint
from tokenization.pieces import (
    check_base,
    donor_pieces,
    extend_model,
    processor,
    read_model,
    without_padding,
)
from tokenization.sample import sample_documents
from tokenization.vocabulary_report import VocabularyReport, write_report
from tokenization.words import learn_words, stratified_texts

log = logging.getLogger(__name__)

DEFAULT_WORDS = 20_000
HUGGING_FACE_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


class VocabularyConfig(Settings):
    """The recipe's section `vocabulary`."""

    base: str
    """The tokenizer to start from: a sentencepiece `.model` file or its folder; with `method:
    none` also a Hugging Face folder with `tokenizer.json` (Qwen, Llama 3)."""
    method: Literal["none", "characters", "words", "donor"] = "characters"
    """`none` keeps the base as it is; `characters` adds the corpus' frequent Han characters;
    `words` adds words learnt from it as well; `donor` adds another model's Han pieces."""
    coverage: float = Field(0.9995, gt=0, le=1)
    """`characters` and `words`: take the fewest characters that cover this share of all Han
    occurrences (for `words` in its sample)."""
    count: PositiveInt | None = None
    """At most so many pieces, best first, those that the base has among them. For `characters`
    it stands in place of coverage; for `words` it is 20,000 if not given."""
    punctuation: bool = False
    """Let new pieces hold CJK punctuation as well as Han characters."""
    longest_word: int = Field(8, ge=2, le=16)
    """`words`: characters of a piece at most."""
    sample_characters: PositiveInt = 20_000_000
    """`words`: size of the sample from which they are learnt."""
    weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """`words`: the share of each bucket (`zh-general-law`) in that sample, as the mixture will
    weigh it; by default what each holds of the corpus."""
    donor: str | None = None
    """`donor`: another model's `.model` file, or its folder."""
    pad_to_multiple_of: PositiveInt | None = None
    """Fill the vocabulary with unused pieces up to a multiple of this, for example 64."""
    sample_per_bucket: PositiveInt = 200
    """Documents of each bucket on which the report's numbers are measured."""
    seed: NonNegativeInt = 17
    """Of the made-up strings on which exactness is tested."""

    @model_validator(mode="after")
    def _keys_fit_the_method(self) -> "VocabularyConfig":
        if (self.method == "donor") != (self.donor is not None):
            raise ValueError("`donor` names a model for `method: donor`, and only for it")
        if self.weights and self.method != "words":
            raise ValueError("`weights` are for `method: words`")
        if self.weights and not sum(self.weights.values()):
            raise ValueError("the weights are all 0")
        if self.pad_to_multiple_of and self.method == "none":
            raise ValueError("`method: none` keeps the base as it is, so nothing can be padded")
        return self


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
    folder = Path(output_dir)
    if base_path.name.endswith(".json"):
        report = _keep_hugging_face(documents, config, base_path, folder)
    else:
        report = _extend_sentencepiece(documents, config, base_path, folder)
    write_report(folder, report)
    failures = report.evaluation.failures()
    if failures:
        raise UserError(f"{folder}/report.json: the tokenizer is not exact: {'; '.join(failures)}")
    log.info("vocabulary: %d entries, %d of them new", report.size, report.new_pieces)
    return report


def model_path(base: str) -> Path:
    """The file that decides the ids of `base`, a file or the folder that holds it.

    `tokenizer.model` is preferred to `tokenizer.json`, which only `method: none` can use.
    """
    path = Path(base)
    candidates = [path / "tokenizer.model", path / "tokenizer.json"] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UserError(f"{base}: there is no tokenizer here (tokenizer.model or tokenizer.json)")


def input_files(config: VocabularyConfig) -> list[Path]:
    """The files, besides the documents, whose content decides the tokenizer: for fingerprints."""
    donors = [model_path(config.donor)] if config.donor is not None else []
    return [model_path(config.base), *donors]


def _extend_sentencepiece(
    documents: DataFrame, config: VocabularyConfig, base_path: Path, folder: Path
) -> VocabularyReport:
    base = read_model(base_path)
    check_base(base, base_path)
    wanted, coverage = _choose(documents, config)
    extended, added = extend_model(base, wanted, config.pad_to_multiple_of)
    folder.mkdir(parents=True, exist_ok=True)
    if len(extended.pieces) == len(base.pieces):
        shutil.copyfile(base_path, folder / "tokenizer.model")
    else:
        (folder / "tokenizer.model").write_bytes(extended.SerializeToString(deterministic=True))
    hugging_face = save_hugging_face(extended, folder)
    first = len(base.pieces)
    evaluation = evaluate(
        sample_documents(documents, config.sample_per_bucket),
        Codec.of_sentencepiece(processor(base)),
        Codec.of_sentencepiece(processor(without_padding(extended))),
        hugging_face,
        {piece: first + number for number, piece in enumerate(added)},
        config.seed,
    )
    return VocabularyReport(
        method=config.method,
        base_size=len(base.pieces),
        size=len(extended.pieces),
        new_pieces=len(added),
        tokenizer_fingerprint=tokenizer_fingerprint(folder),
        coverage=coverage,
        evaluation=evaluation,
    )


def _keep_hugging_face(
    documents: DataFrame, config: VocabularyConfig, base_path: Path, folder: Path
) -> VocabularyReport:
    """Copy a tokenizer that is not sentencepiece's, and report on it all the same."""
    if config.method != "none":
        raise UserError(
            f"{base_path}: only sentencepiece's models can be extended; take `method: none`"
        )
    try:
        tokenizer = Tokenizer.from_file(str(base_path))
    except Exception as error:  # the library raises no class of its own
        raise UserError(f"{base_path}: not a Hugging Face tokenizer: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    for name in HUGGING_FACE_FILES:
        if (base_path.parent / name).is_file():
            shutil.copyfile(base_path.parent / name, folder / name)
    codec = Codec.of_hugging_face(tokenizer)
    sample = sample_documents(documents, config.sample_per_bucket)
    size = max(tokenizer.get_vocab().values()) + 1
    return VocabularyReport(
        method=config.method,
        base_size=size,
        size=size,
        new_pieces=0,
        tokenizer_fingerprint=tokenizer_fingerprint(folder),
        coverage=None,
        evaluation=evaluate(sample, codec, codec, tokenizer, {}, config.seed),
    )


def _choose(documents: DataFrame, config: VocabularyConfig) -> tuple[Sequence[str], float | None]:
    """The pieces to add, best first, and the share of Han occurrences that they cover if known."""
    if config.method == "characters":
        counts = count_characters(documents)
        return most_frequent(counts, config.coverage, config.count, config.punctuation)
    if config.method == "words":
        texts = stratified_texts(documents, config.sample_characters, config.weights)
        size = config.count or DEFAULT_WORDS
        words = learn_words(texts, size, config.longest_word, config.coverage, config.punctuation)
        return words, None
    if config.method == "donor":
        donor = read_model(model_path(str(config.donor)))
        return donor_pieces(donor, config.punctuation)[: config.count], None
    return [], None


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
