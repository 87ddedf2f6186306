"""The compiled encoder gives sentencepiece's ids on every kind of text."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenization.encoder import engine_names, load_engine
from tokenization.evaluation import fuzzed_strings
from tokenization.pieces import Piece, extend_model, processor, read_model
from tokenization.segments import SegmentEncoder, is_supported

BASE = Path(__file__).parents[2] / "samples" / "tokenizer" / "mistral-v1-32000.model"
WORDS = ["龘", "靐", "龘靐", "靐龘", "龘靐龘", "龘靐龘靐", "的龘", "中国", "中国人", "国人", "人民"]


MODEL = extend_model(read_model(BASE), WORDS, 64)[0]
ENCODER = SegmentEncoder(MODEL)


def assert_as_sentencepiece(texts: list[str]) -> None:
    expected = processor(MODEL).encode(texts)
    ids, lengths = ENCODER.encode(pa.array(texts, pa.string()))
    assert lengths.tolist() == [len(row) for row in expected]
    assert ids.tolist() == [number for row in expected for number in row]


def test_made_up_strings() -> None:
    texts = [
        "The weather in 2024 was 3.14 %.",
        "中国人民的龘靐龘靐靐龘。",
        "a  b\n\tdef f(x):\n    ",
    ]
    assert_as_sentencepiece(texts + fuzzed_strings(texts, WORDS, seed=3, count=3_000))


def test_long_segments() -> None:
    """Those that are looked through, remembered, and merged with a heap."""
    texts = [unit * count for unit in (" ", "-", "龘靐", "靐", "=", "ab", "1") for count in (
        2, 9, 10, 11, 12, 47, 48, 49, 50, 99, 100, 101, 1_000
    )]  # fmt: skip
    texts.append("".join(np.random.default_rng(1).choice(list("etaoin龘靐 -"), 5_000)))
    assert_as_sentencepiece(texts + texts)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.sampled_from("龘靐中国人民的 \u2581e tha1\n<s>/é😀\x00"), max_size=80)))
def test_like_sentencepiece(texts: list[str]) -> None:
    assert_as_sentencepiece(texts)


def test_slices_and_large_strings() -> None:
    texts = ["", "one", "中国人", "three"]
    expected = processor(MODEL).encode(texts)
    for kind in (pa.string(), pa.large_string()):
        ids, lengths = ENCODER.encode(pa.array(texts, kind).slice(1, 2))
        assert ids.tolist() == expected[1] + expected[2]
        assert lengths.tolist() == [len(expected[1]), len(expected[2])]
        assert ENCODER.encode(pa.array([], kind))[1].tolist() == []


def test_a_full_memory_forgets_and_stays_right() -> None:
    rng = np.random.default_rng(7)
    words = ["".join(rng.choice(list("etaoinshr"), 8)) for _ in range(20_000)]
    words += ["".join(rng.choice(list("etaoinshr"), 30)) for _ in range(9_000)]
    assert_as_sentencepiece([" ".join(words + words[::7])])


def test_models_that_it_does_not_know(tmp_path: Path) -> None:
    model = read_model(BASE)
    assert is_supported(model)
    model.pieces[300].type = Piece.USER_DEFINED
    assert not is_supported(model)
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    assert engine_names(tmp_path)[-1] == "reference"
    assert "segments" not in engine_names(tmp_path)


@pytest.mark.parametrize("name", ["segments", "kitoken", "reference"])
def test_engines_agree_and_take_special_strings_as_text(tmp_path: Path, name: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(MODEL.SerializeToString())
    texts = ["</s> <s>中国人", "x"]
    engine = load_engine(str(tmp_path), name)  # type: ignore[arg-type]
    ids, lengths = engine.encode(pa.array(texts))
    assert ids.tolist() == [number for row in processor(MODEL).encode(texts) for number in row]
    assert not {0, 1, 2} & set(ids.tolist())
    assert lengths.sum() == len(ids)
