"""New pieces leave old text alone, and the Hugging Face tokenizer gives sentencepiece's ids."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from pydantic import ValidationError
from pyspark.sql import SparkSession
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from corpus.settings import UserError
from tokenization.build_shards import ShardsConfig, build_shards
from tokenization.characters import count_characters, most_frequent
from tokenization.convert import hugging_face_tokenizer, merges_of
from tokenization.encoder import load_decoder
from tokenization.evaluation import (
    Evaluation,
    Parity,
    encode_all,
    fuzzed_strings,
    learning_of,
    plain_lines,
)
from tokenization.extend import VocabularyConfig, extend
from tokenization.indexed import IndexedReader
from tokenization.pieces import (
    Piece,
    check_base,
    descending_scores,
    extend_model,
    is_allowed,
    processor,
    read_model,
)
from tokenization.vocabulary_report import VocabularyReport, render
from tokenization.words import allowed_runs, learn_words, stratified_texts

BASE = Path(__file__).parents[2] / "samples" / "tokenizer" / "mistral-v1-32000.model"


def test_scores_fall_strictly_even_where_float32_is_coarse() -> None:
    assert descending_scores(-5.0, 3) == [-6.0, -7.0, -8.0]
    scores = [-1e9, *descending_scores(-1e9, 100)]
    assert all(b < a for a, b in itertools.pairwise(scores))
    assert scores == [float(np.float32(score)) for score in scores]


def test_only_allowed_scripts() -> None:
    assert is_allowed("法律")
    assert is_allowed("𠀀々〇")
    for refused in ["", "a", "１", "1", "法a", "第1", "の", "한", "▁法", "Ａ", "，"]:
        assert not is_allowed(refused), refused
    assert is_allowed("，", punctuation=True)
    assert is_allowed("。”", punctuation=True)
    for refused in ["１", "Ａ", "ｱ", ",", "㈠"]:
        assert not is_allowed(refused, punctuation=True), refused


def test_extend_model() -> None:
    base = read_model(BASE)
    check_base(base, BASE)
    model, added = extend_model(base, ["龘", "的", "鑫龘", "龘"], pad_to_multiple_of=64)
    # 的 is Mistral's already; 鑫, which is not, must be there for 鑫龘.
    assert added == ["龘", "鑫", "鑫龘"]
    assert len(model.pieces) == 32_064
    assert [piece.type for piece in model.pieces[32_003:]] == [Piece.UNUSED] * 61
    assert list(model.pieces[:32_000]) == list(base.pieces)
    normal = [piece.score for piece in base.pieces if piece.type == Piece.NORMAL]
    assert min(normal) > model.pieces[32_000].score > model.pieces[32_001].score
    assert processor(model).encode("鑫龘", out_type=str) == ["▁", "鑫龘"]


def test_missing_characters_of_words_are_added() -> None:
    _, added = extend_model(read_model(BASE), ["龘靐"])
    assert added == ["龘", "靐", "龘靐"]


def test_hugging_face_gives_the_same_ids() -> None:
    base = read_model(BASE)
    model, added = extend_model(base, ["龘", "靐", "龘靐", "靐龘", "龘靐龘", "的龘"], 64)
    reference, converted = processor(model), hugging_face_tokenizer(model)
    texts = ["The weather in 2024 was 3.14 %.", "龘靐龘靐靐龘的龘", "</s><s> a  b\n\t"]
    strings = texts + fuzzed_strings(texts, added, seed=1, count=2_000)
    assert encode_all(converted, strings) == reference.encode(strings)
    assert converted.decode(converted.encode(" 龘 a").ids) == " 龘 a"


def test_merges_are_in_the_order_of_scores() -> None:
    merges = merges_of(read_model(BASE))
    assert merges[:3] == [("▁", "t"), ("i", "n"), ("e", "r")]
    assert len(set(merges)) == len(merges)


def test_plain_lines() -> None:
    assert plain_lines(["a b\n法 a\n12\nÉté，\nÉté 😀", "x"]) == ["a b", "Été 😀", "x"]


def test_most_frequent_characters() -> None:
    counts = {"法": 90, "律": 9, "龘": 1, "a": 1000, "，": 500}
    assert most_frequent(counts, 0.99, None, False) == (["法", "律"], 0.99)
    assert most_frequent(counts, 0.991, None, False) == (["法", "律", "龘"], 1.0)
    assert most_frequent(counts, 0.5, 1, True)[0] == ["，"]
    assert most_frequent({"a": 1}, 0.5, None, False) == ([], 0.0)
    assert most_frequent({"律": 1, "法": 1}, 0.5, None, False) == (["律"], 0.5)


TEXTS = ["龘靐龘。The weather is fine.\n第1条 法律", "The weather in 2024\nwas 3.14 % hot"]


@pytest.fixture(scope="module")
def documents(spark: SparkSession):  # type: ignore[no-untyped-def]
    rows = [
        ("1", TEXTS[0], "zh", "general", "law"),
        ("2", TEXTS[1], "en", "general", "web"),
        ("3", None, "zh", "general", "law"),
    ]
    return spark.createDataFrame(
        rows, "doc_id string, text string, lang string, domain string, kind string"
    ).cache()


def test_characters_are_counted_on_spark(documents) -> None:  # type: ignore[no-untyped-def]
    counts = count_characters(documents)
    assert (counts["龘"], counts["靐"], counts["e"]) == (2, 1, 7)


def test_extend(spark: SparkSession, documents, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    config = VocabularyConfig(base=str(BASE), coverage=1.0)
    report = extend(spark, documents, config, tmp_path)
    assert (report.base_size, report.new_pieces, report.size) == (32_000, 2, 32_002)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == report.model_dump(mode="json")
    evaluation = report.evaluation
    assert evaluation.english_lines_unchanged.share == 1.0
    assert evaluation.english_lines_unchanged.compared == 2
    assert evaluation.hugging_face_parity.share == 1.0
    assert evaluation.hugging_face_fuzz_parity.compared == 5_000
    assert evaluation.round_trip.share == 1.0
    assert evaluation.new_pieces_used == {"龘": 2, "靐": 1}
    law = evaluation.buckets["zh-general-law"]
    assert (law.tokens_before - law.tokens_after, law.documents) == (6, 2)

    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tmp_path)
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    text = "龘靐 The weather </s> 2024"
    assert loaded(text, add_special_tokens=False).input_ids == model.encode(text)
    assert loaded(text).input_ids[0] == model.bos_id()
    config_json = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config_json["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_none_keeps_the_base_byte_for_byte(spark: SparkSession, documents, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    report = extend(spark, documents, VocabularyConfig(base=str(BASE), method="none"), tmp_path)
    assert (tmp_path / "tokenizer.model").read_bytes() == BASE.read_bytes()
    assert report.new_pieces == 0
    assert report.evaluation.buckets["zh-general-law"].tokens_per_character_before > 0


def test_words_and_donor(spark: SparkSession, documents, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    texts = ["龘靐龘靐。龘靐12龘靐a的", "鑫"] * 3
    assert list(allowed_runs(texts[:1], False)) == ["龘靐龘靐", "龘靐", "龘靐"]
    words = learn_words(texts, 20, 4, 1.0, False)
    assert words[:2] == ["龘靐", "龘靐龘靐"]
    assert set(words[-2:]) == {"龘", "靐"}
    assert learn_words(["abc"], 20, 4, 1.0, False) == []

    assert stratified_texts(documents, 1_000, {}) == [TEXTS[0], TEXTS[1]]
    assert stratified_texts(documents, 1_000, {"zh-general-law": 1.0}) == [TEXTS[0]]
    with pytest.raises(UserError, match="there is no bucket zh-x; there are en-general-web"):
        stratified_texts(documents, 1_000, {"zh-x": 1.0})

    config = VocabularyConfig(base=str(BASE), method="words", count=5, coverage=1.0)
    report = extend(spark, documents, config, tmp_path / "words")
    assert {"龘", "靐"} <= set(report.evaluation.new_pieces_used)
    assert any(len(piece) > 1 for piece in report.evaluation.new_pieces_used)

    donor = VocabularyConfig(base=str(BASE), method="donor", donor=str(tmp_path / "words"))
    given = extend(spark, documents, donor, tmp_path / "donor")
    assert set(given.evaluation.new_pieces_used) == set(report.evaluation.new_pieces_used)
    page = (tmp_path / "donor" / "report.html").read_text()
    assert "法律" in page
    assert "<h1>Vocabulary: donor</h1>" in page


def test_a_tokenizer_of_another_kind_is_kept_and_makes_shards(
    spark: SparkSession,
    documents,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    """Byte-level BPE, as Qwen and Llama 3 have: no sentencepiece, special strings stay text."""
    base = tmp_path / "base"
    base.mkdir()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.save(str(base / "tokenizer.json"))
    (base / "tokenizer_config.json").write_text('{"eos_token": {"content": "<|endoftext|>"}}')
    with pytest.raises(UserError, match="only sentencepiece's models can be extended"):
        extend(spark, documents, VocabularyConfig(base=str(base)), tmp_path / "x")
    kept = tmp_path / "kept"
    report = extend(spark, documents, VocabularyConfig(base=str(base), method="none"), kept)
    assert report.evaluation.round_trip.share == 1.0
    assert (kept / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()

    manifest = build_shards(
        spark,
        spark.createDataFrame(
            [("1", "a <|endoftext|> 法", "zh", "general", "law")], documents.schema
        ),
        ShardsConfig(heldout_share=0.0),
        kept,
        tmp_path / "shards",
    )
    ids = IndexedReader(tmp_path / "shards" / manifest.shards[0].path).document(0).tolist()
    assert ids.count(0) == 1
    assert ids[-1] == 0
    assert load_decoder(kept)(ids) == "a <|endoftext|> 法<|endoftext|>"


def test_impossible_configurations() -> None:
    for wrong in (
        {"method": "donor"},
        {"donor": "x"},
        {"weights": {"a": 1.0}},
        {"method": "words", "weights": {"a": 0.0}},
        {"method": "none", "pad_to_multiple_of": 64},
    ):
        with pytest.raises(ValidationError):
            VocabularyConfig.model_validate({"base": "x", **wrong})


def test_the_report_escapes_what_it_shows() -> None:
    parity = Parity(compared=2, equal=1, share=0.5, first_difference="<script>")
    evaluation = Evaluation(
        buckets={},
        english_lines_unchanged=parity,
        hugging_face_parity=parity,
        hugging_face_fuzz_parity=parity,
        round_trip=parity,
        new_pieces_used={"<b>": 1},
        learning=learning_of(100, 80, [50, 0]),
    )
    assert evaluation.learning.tokens_saved == 0.2
    assert evaluation.learning.tokens_until_half_are_learnt == 1_000 * 80 / 50
    assert evaluation.learning.tokens_to_break_even == 1_600 / 0.2
    assert evaluation.learning.tokens_until_95_percent_are_learnt is None
    assert len(evaluation.failures()) == 3
    page = render(
        VocabularyReport(
            method="x",
            base_size=1,
            size=2,
            new_pieces=1,
            tokenizer_fingerprint="0",
            coverage=None,
            evaluation=evaluation,
        )
    )
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


def test_a_base_that_cannot_be_extended_is_refused(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("the law of the land\n" * 50)
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines), model_prefix=str(tmp_path / "x"), vocab_size=16, minloglevel=2
    )
    with pytest.raises(UserError, match=r"not a BPE model, it has no byte fallback"):
        check_base(read_model(tmp_path / "x.model"), tmp_path / "x.model")
    with pytest.raises(UserError, match=r"not a sentencepiece model"):
        read_model(lines)
