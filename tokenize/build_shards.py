"""Documents to token shards in Megatron-Core's format, one folder a bucket.

    spark-submit tokenize/build_shards.py configs/shards/X.yaml

Every document becomes its ids and an end-of-text id. Which shard it goes to and its place in it
follow from a seeded hash of its doc_id: the bytes are the same for every layout of the input, and
after a kill. `manifest.json` comes last, so a folder that has one is whole. What could not be
encoded stands, with the reason, in `left-out.parquet`.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, NonNegativeInt, PositiveInt
from pyspark.sql import DataFrame, SparkSession

from corpus.settings import Settings, UserError, command, load
from tokenization.encoder import describe_tokenizer, engine_names, load_engine
from tokenization.gather import GatherJob, RepeatedJob, plan_shards
from tokenization.indexed import smallest_dtype
from tokenization.manifest import Manifest, ShardEntry, TokenizerInfo, write_manifest
from tokenization.runs import COLUMNS, LEFT_OUT, SUMMARY, EncodeJob, RunSummary

log = logging.getLogger(__name__)

# Java only hands texts to Python here, and spends more on compiling itself than that takes: without
# its second compiler a job of 156 MB took 40 CPU-seconds in place of 70. Only for a session that
# this script starts itself; spark-submit has started Java already.
LOCAL_JAVA = {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
COMPARED_DOCUMENTS = 1_000  # of every run, on which a fast engine must equal the reference


class ShardsConfig(Settings):
    """The recipe's section `shards`."""

    shard_tokens: PositiveInt = 500_000_000
    """Wanted tokens a shard: a bucket gets as many shards as come nearest to it, at least one."""
    heldout_share: float = Field(0.005, ge=0, lt=1)
    """Share of the documents kept out of training for measuring, chosen by a hash of doc_id."""
    eos: str | None = None
    """The token that ends every document; by default the tokenizer's own."""
    bos: bool = False
    """Begin every document with the tokenizer's beginning-of-text token."""
    seed: NonNegativeInt = 17
    """Of the hash that puts documents in order."""


class ShardsRun(ShardsConfig):
    """A configuration file of `spark-submit tokenize/build_shards.py`."""

    documents: str
    """A folder of Parquet documents, as a corpus run leaves them."""
    tokenizer: str
    """A tokenizer's folder: tokenizer.model, or tokenizer.json of Hugging Face."""
    output: str
    """The folder for the shards; it must not hold a manifest."""


def build_shards(
    spark: SparkSession,
    documents: DataFrame,
    config: ShardsConfig,
    tokenizer_dir: str | Path,
    output_dir: str | Path,
) -> Manifest:
    """Write the shards of `documents` into `output_dir` and return their manifest.

    Args:
        documents: at least the columns doc_id, text, lang, domain, kind.
        tokenizer_dir: where every worker can read it, as `output_dir` is where they can write.

    Raises:
        UserError: the tokenizer will not do, or no document could be encoded.
    """
    output = str(output_dir).rstrip("/")
    tokenizer = describe_tokenizer(tokenizer_dir, config.eos, config.bos)
    work = f"{output}/_work"
    filesystem, work_path = fsspec.core.url_to_fs(work)
    if filesystem.exists(work_path):  # of a job that was killed
        filesystem.rm(work_path, recursive=True)
    filesystem.makedirs(work_path)

    dtype = smallest_dtype(tokenizer.vocabulary_size)
    runs, engine = _encode(documents, config, tokenizer, str(tokenizer_dir), work, dtype)
    if not any(run.sections for run in runs):
        raise UserError(f"{output}: there is no document with text and tags to make shards of")
    moved = _repeated(spark, runs, work)
    plan = plan_shards(
        (section for run in runs for section in run.sections),
        config.shard_tokens,
        config.heldout_share > 0,
    )
    job = GatherJob(work_dir=work, output_dir=output, dtype=dtype, moved=moved, plan=plan)
    rows = (
        spark.range(0, len(plan), 1, len(plan)).mapInArrow(job.__call__, "entry string").collect()
    )
    entries = {entry.path: entry for entry in map(_entry, rows)}
    shards = [entries[planned.path] for planned in plan]
    _write_left_out(runs, work, output)
    filesystem.rm(work_path, recursive=True)

    manifest = Manifest(
        dtype=dtype,
        seed=config.seed,
        tokenizer=tokenizer.model_copy(update={"path": _relative(tokenizer_dir, output)}),
        shards=tuple(shard for shard in shards if shard.documents),
    )
    for shard in shards:
        if not shard.documents:
            _remove_shard(f"{output}/{shard.path}")
    write_manifest(output, manifest)
    _log_result(manifest, runs, engine, len(moved))
    return manifest


def _encode(
    documents: DataFrame,
    config: ShardsConfig,
    tokenizer: TokenizerInfo,
    tokenizer_dir: str,
    work: str,
    dtype: str,
) -> tuple[list[RunSummary], str]:
    """Write the runs with the fastest engine that gives the reference's ids; name it too."""
    selected = documents.select(*COLUMNS)
    share = min(1.0, COMPARED_DOCUMENTS / max(1, documents.count()))
    for engine in engine_names(tokenizer_dir):
        job = EncodeJob(
            tokenizer_dir=tokenizer_dir,
            engine=engine,
            work_dir=work,
            dtype=dtype,
            seed=config.seed,
            eos_id=tokenizer.eos_id,
            bos_id=tokenizer.bos_id,
            heldout_share=config.heldout_share,
            compare_share=share,
        )
        name = load_engine(tokenizer_dir, engine).name
        rows = selected.mapInArrow(job.__call__, SUMMARY).collect()
        runs = [RunSummary.parse(row["summary"], bytes(row["digests"])) for row in rows]
        different = [doc_id for run in runs for doc_id in run.different]
        compared = sum(run.compared for run in runs)
        if not different:
            log.info("encoded by %s, equal to the reference on %d documents", name, compared)
            return sorted(runs, key=lambda run: run.run), name
        log.warning(
            "%s is not used: it differs from the reference on %d of %d documents, first %s",
            name,
            len(different),
            compared,
            different[0],
        )
    raise AssertionError("the reference cannot differ from itself")


def _repeated(spark: SparkSession, runs: list[RunSummary], work: str) -> frozenset[bytes]:
    """Digests of held-out documents that equal a training document."""
    held_out = frozenset().union(*(run.heldout_digests for run in runs))
    if not held_out:
        return held_out
    names = [run.run for run in runs if run.sections]
    job = RepeatedJob(work, names, held_out)
    slices = min(len(names), 4 * spark.sparkContext.defaultParallelism)
    rows = spark.range(0, len(names), 1, slices).mapInArrow(job.__call__, "digest binary").collect()
    return frozenset(bytes(row["digest"]) for row in rows)


def _entry(row: "pyspark.sql.Row") -> ShardEntry:  # type: ignore[name-defined]  # noqa: F821
    return ShardEntry.model_validate_json(row["entry"])


def _write_left_out(runs: list[RunSummary], work: str, output: str) -> None:
    parts = []
    for run in runs:
        if run.left_out:
            with fsspec.open(f"{work}/{run.run}.left-out.arrow", "rb") as file:
                parts.append(pa.ipc.open_file(file.read()).read_all())
    if parts:
        table = pa.concat_tables(parts, promote_options="default").cast(LEFT_OUT)
        with fsspec.open(f"{output}/left-out.parquet", "wb") as file:
            pq.write_table(table.sort_by("doc_id"), file)


def _relative(tokenizer_dir: str | Path, output: str) -> str:
    """The tokenizer's folder as seen from the shards', so that both can be moved together."""
    if "://" in str(tokenizer_dir) or "://" in output:
        return str(tokenizer_dir)
    return Path(os.path.relpath(tokenizer_dir, output)).as_posix()


def _remove_shard(prefix: str) -> None:
    for suffix in (".bin", ".idx", ".lineage.parquet"):
        filesystem, path = fsspec.core.url_to_fs(prefix + suffix)
        filesystem.rm(path)


def _log_result(manifest: Manifest, runs: list[RunSummary], engine: str, moved: int) -> None:
    documents = sum(shard.documents for shard in manifest.shards)
    tokens = sum(shard.tokens for shard in manifest.shards)
    left_out = sum(run.left_out for run in runs)
    log.info(
        "%d shards: %d documents, %d tokens of %s; %d documents left out, %d not held out because "
        "they equal one in training; encoded by %s",
        len(manifest.shards),
        documents,
        tokens,
        manifest.dtype,
        left_out,
        moved,
        engine,
    )


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one configuration file."""
    keys = [f"  {name}: {field.description}" for name, field in ShardsRun.model_fields.items()]
    parser = argparse.ArgumentParser(
        prog="spark-submit tokenize/build_shards.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="keys:\n" + "\n".join(keys),
    )
    parser.add_argument("config", help="a YAML file with the keys below")
    config = load(parser.parse_args(arguments).config, ShardsRun)
    filesystem, path = fsspec.core.url_to_fs(config.output)
    if filesystem.exists(f"{path}/manifest.json"):
        raise UserError(f"{config.output}: holds finished shards; name another folder or remove it")
    from corpus.session import spark_session

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    spark = spark_session("shards", LOCAL_JAVA)
    documents = spark.read.parquet(config.documents)
    manifest = build_shards(spark, documents, config, config.tokenizer, config.output)
    print(json.dumps({bucket: len(shards) for bucket, shards in manifest.buckets().items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
