"""Documents to shards on Spark: the same bytes for every layout, exact ids, nothing lost."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sentencepiece
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from corpus.settings import UserError
from tokenization.build_shards import ShardsConfig, build_shards
from tokenization.indexed import IndexedReader
from tokenization.manifest import verify

BROKEN = "bytes that are no text"  # stands for them, as Python cannot hold them in a str
COLUMNS = "doc_id string, text string, lang string, domain string, kind string"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BPE model with byte fallback, learnt from a few lines."""
    folder = tmp_path_factory.mktemp("tokenizer")
    lines = folder / "lines.txt"
    lines.write_text("the law of the land and the sea\n公司 法律 the company 银行\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=320,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return folder


def rows() -> list[tuple[str, str | None, str, str, str | None]]:
    documents: list[tuple[str, str | None, str, str, str | None]] = [
        (
            f"{number:032x}",
            f"第{number}条 the company 法律 {number * 37} </s>",
            "zh",
            "general",
            "law",
        )
        for number in range(60)
    ]
    documents += [
        (f"{number:032x}", f"the land and\n the sea {number}", "en", "finance", "filing")
        for number in range(100, 130)
    ]
    # The same text under sixty names: where one of them is held out, the others are its twins.
    documents += [(f"{number:032x}", "twin", "en", "general", "web") for number in range(200, 260)]
    documents += [
        ("a", None, "zh", "general", "law"),
        ("b", "text", "zh", "general", None),
        ("c", "text", "zh-Hant", "general", "law"),
        ("d", BROKEN, "zh", "general", "law"),
    ]
    return documents


def built(
    spark: SparkSession, folder: Path, tokenizer: Path, partitions: int, **config: object
) -> Path:
    broken = F.expr(f"if(text = '{BROKEN}', cast(unhex('66ff') as string), text)")
    documents = spark.createDataFrame(rows(), COLUMNS).withColumn("text", broken)
    documents = documents.repartition(partitions)
    settings = {"shard_tokens": 500, "heldout_share": 0.2, **config}
    build_shards(spark, documents, ShardsConfig.model_validate(settings), tokenizer, folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def first(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> Path:
    return built(spark, tmp_path_factory.mktemp("first") / "1", tokenizer, 1)


def test_same_bytes_for_every_layout_and_all_documents(
    spark: SparkSession, first: Path, tmp_path: Path, tokenizer: Path
) -> None:
    assert files(first) == files(built(spark, tmp_path / "2", tokenizer, 2))
    (tmp_path / "7" / "_work").mkdir(parents=True)  # what a killed job leaves
    (tmp_path / "7" / "_work" / "junk.ids").write_bytes(b"junk")
    assert files(first) == files(built(spark, tmp_path / "7", tokenizer, 7))

    manifest = verify(first, checksums=True)
    assert manifest.dtype == "uint16"
    assert len(manifest.buckets()["zh-general-law"]) > 1
    model = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer / "tokenizer.model"))
    texts = {row[0]: row[1] for row in rows()}
    seen = []
    for shard in manifest.shards:
        reader = IndexedReader(first / shard.path)
        lineage = pq.read_table(first / f"{shard.path}.lineage.parquet").to_pydict()
        assert lineage["tokens"] == reader.lengths.tolist()
        assert lineage["offset"] == reader.offsets[:-1].tolist()
        for k, doc_id in enumerate(lineage["doc_id"]):
            expected = [*model.encode(texts[doc_id]), model.eos_id()]
            assert reader.document(k).tolist() == expected
        seen += lineage["doc_id"]
    left_out = pq.read_table(first / "left-out.parquet").to_pylist()
    assert left_out == [
        {"doc_id": "a", "rule": "no-text", "evidence": ""},
        {"doc_id": "b", "rule": "bad-tag", "evidence": "kind: None"},
        {"doc_id": "c", "rule": "bad-tag", "evidence": "lang: zh-Hant"},
        {"doc_id": "d", "rule": "not-utf8", "evidence": ""},
    ]
    assert sorted(seen) == sorted(row[0] for row in rows()[:-4])


def test_held_out_documents_stay_held_out_and_have_no_twin_in_training(
    spark: SparkSession, first: Path, tmp_path: Path, tokenizer: Path
) -> None:
    def held_out(folder: Path) -> set[str]:
        found = set()
        for path in folder.rglob("heldout-*.lineage.parquet"):
            found |= set(pq.read_table(path)["doc_id"].to_pylist())
        return found

    one = held_out(first)
    other = held_out(built(spark, tmp_path, tokenizer, 2, seed=99, shard_tokens=10**6))
    assert one == other
    twins = {row[0] for row in rows() if row[1] == "twin"}
    assert one
    assert not one & twins


def test_bos_and_eos(spark: SparkSession, tmp_path: Path, tokenizer: Path) -> None:
    folder = built(spark, tmp_path, tokenizer, 1, bos=True, eos="<0x0A>", heldout_share=0.0)
    manifest = verify(folder)
    assert not manifest.buckets("heldout")
    assert manifest.tokenizer.bos_id == 1
    reader = IndexedReader(folder / manifest.shards[0].path)
    assert {reader.document(k)[0] for k in range(len(reader))} == {1}
    assert {reader.document(k)[-1] for k in range(len(reader))} == {manifest.tokenizer.eos_id}


def test_errors_name_what_is_wrong(spark: SparkSession, tmp_path: Path, tokenizer: Path) -> None:
    documents: DataFrame = spark.createDataFrame([], COLUMNS)
    with pytest.raises(UserError, match="no document with text"):
        build_shards(spark, documents, ShardsConfig(), tokenizer, tmp_path / "empty")
    with pytest.raises(UserError, match=r"neither tokenizer\.model nor tokenizer\.json"):
        build_shards(spark, documents, ShardsConfig(), tmp_path, tmp_path / "x")
    with pytest.raises(UserError, match=r"no token <end>"):
        build_shards(spark, documents, ShardsConfig(eos="<end>"), tokenizer, tmp_path / "x")
