"""The kernels against plain Python: normal form, shingles, hashes, and datasketch's signatures."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash as Sketch
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.buffers import string_buffers
from corpus.dedup import kernels, traditional
from corpus.dedup.bands import Banding, choose_banding, sketch_radius
from corpus.dedup.exact import identity_hashes
from corpus.dedup.normal import Shingling, fold_table
from corpus.dedup.signatures import SignaturesConfig, sign, signature_matrix
from corpus.dedup.stages import MinHash, Signatures, check_deduplication
from corpus.settings import UserError
from corpus.stage import StageContext

TEXTS = [
    "中华人民共和国公司法，第一条。",
    "The Wealth of Nations, by ADAM SMITH (1776)",
    "混排 mixed text１２３ ½ и Кириллица ΣΑΣ ß ﬁ 한국어 ひらがな カタカナ 𠮷野家",
    "",
    "短",
    "🙂🙂🙂",
    "a\u0000b\ufffd" + "长" * 9000 + " tail",
]


def normal_form(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.lower()).replace("ς", "σ")


def murmur3_x64_128(data: bytes, seed: int) -> tuple[int, int]:
    """The reference algorithm, for data whose length is a multiple of 4."""
    mask = (1 << 64) - 1
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F

    def rotate(x: int, r: int) -> int:
        return (x << r | x >> (64 - r)) & mask

    def mix(k: int) -> int:
        k ^= k >> 33
        k = k * 0xFF51AFD7ED558CCD & mask
        k ^= k >> 33
        k = k * 0xC4CEB9FE1A85EC53 & mask
        return k ^ k >> 33

    h1 = h2 = seed
    for start in range(0, len(data) - 15, 16):
        k1 = int.from_bytes(data[start : start + 8], "little")
        k2 = int.from_bytes(data[start + 8 : start + 16], "little")
        h1 ^= rotate(k1 * c1 & mask, 31) * c2 & mask
        h1 = ((rotate(h1, 27) + h2) * 5 + 0x52DCE729) & mask
        h2 ^= rotate(k2 * c2 & mask, 33) * c1 & mask
        h2 = ((rotate(h2, 31) + h1) * 5 + 0x38495AB5) & mask
    tail = data[len(data) - len(data) % 16 :]
    if len(tail) > 8:
        h2 ^= rotate(int.from_bytes(tail[8:], "little") * c2 & mask, 33) * c1 & mask
    if tail:
        h1 ^= rotate(int.from_bytes(tail[:8], "little") * c1 & mask, 31) * c2 & mask
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = (h1 + h2) & mask
    h2 = (h2 + h1) & mask
    h1, h2 = mix(h1), mix(h2)
    h1 = (h1 + h2) & mask
    return h1, (h2 + h1) & mask


def text_hashes(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    offsets, data = string_buffers(pa.array(texts, pa.string()))
    return kernels.text_hashes(offsets, data, fold_table())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_the_normal_form_is_pythons(texts: list[str]) -> None:
    hashes, characters = text_hashes(texts)
    for text, (h1, h2), count in zip(texts, hashes.tolist(), characters.tolist(), strict=True):
        normal = normal_form(text)
        assert count == len(normal)
        if normal:
            assert (h1, h2) == murmur3_x64_128(normal.encode("utf-32-le"), 0)


def test_texts_without_a_letter_are_told_apart_by_their_bytes() -> None:
    hashes, _ = text_hashes(["🙂🙂🙂", "🙂🙂", "🙂🙂🙂", "!!!"])
    rows = [tuple(row) for row in hashes.tolist()]
    assert rows[0] == rows[2]
    assert len(set(rows)) == 3


def base_hash(shingle: str) -> int:
    keys = kernels.shingle_keys(len(shingle)).tolist()
    total = keys[-1] + sum(k * ord(c) for k, c in zip(keys, shingle, strict=False))
    return total & 0xFFFFFFFF


@pytest.mark.parametrize("permutations", [1, 112, 130])
def test_signatures_are_datasketchs(permutations: int) -> None:
    config = SignaturesConfig(permutations=permutations)
    minhash, counts = sign(pa.array(TEXTS, pa.string()), config)
    for k, text in enumerate(TEXTS):
        normal = normal_form(text)
        shingles = [normal[i : i + 5] for i in range(len(normal) - 4)]
        assert counts[k].as_py() == len(shingles)
        if not shingles:
            assert not minhash[k].is_valid
            continue
        expected = Sketch(permutations, hashfunc=base_hash, scheme="affine32")
        expected.update_batch(shingles)
        values = np.frombuffer(minhash[k].as_py(), "<u4")
        assert values.tolist() == expected.hashvalues.tolist()


def test_a_signature_column_loads_into_datasketch() -> None:
    minhash, _ = sign(pa.array([TEXTS[0] * 9, TEXTS[0] * 9 + "附则"]), SignaturesConfig())
    one, two = (
        Sketch(
            hashvalues=row,
            permutations=kernels.permutations(112).astype(np.uint32),
            scheme="affine32",
        )
        for row in signature_matrix(minhash, 112)
    )
    assert 0.5 < one.jaccard(two) < 1.0


def test_arrow_slices_nulls_and_large_strings_read_alike() -> None:
    texts = ["零", TEXTS[1], None, TEXTS[0]]
    config = SignaturesConfig(permutations=4)
    expected = sign(pa.array([TEXTS[1], "", TEXTS[0]], pa.string()), config)[0].to_pylist()
    for kind in (pa.string(), pa.large_string()):
        assert sign(pa.array(texts, kind)[1:], config)[0].to_pylist() == expected


def test_broken_utf8_is_read_without_harm() -> None:
    broken = [b"\xe4\xb8", b"abc\xff\xff", b"\xf0\x9f", b"\xc3", b"ok \xe4\xb8\xad\xe6"]
    array = pa.array(broken, pa.binary())
    offsets, data = string_buffers(array)
    _, characters = kernels.text_hashes(offsets, data, fold_table())
    assert characters.tolist() == [0, 3, 0, 0, 3]


def test_word_shingles_take_words_and_single_han() -> None:
    shingling = Shingling(unit="words", size=3)
    texts = [
        "Profit, taking: rose 利润增",
        "profit TAKING rose-利;润。增",
        "profits taking rose 利润增",
    ]
    offsets, data = string_buffers(pa.array(texts))
    hashes, starts = kernels.shingle_hashes(
        offsets, data, fold_table(), True, shingling.size, shingling.keys
    )
    assert np.diff(starts).tolist() == [4, 4, 4]  # six units each
    rows = [hashes[a:b].tolist() for a, b in pairwise(starts)]
    assert rows[0] == rows[1]
    assert rows[0][1:] == rows[2][1:]
    assert rows[0][0] != rows[2][0]


def test_a_block_border_changes_nothing() -> None:
    text = "".join(chr(0x4E00 + i % 5000) + (" ab" if i % 7 == 0 else "") for i in range(9000))
    for words in (False, True):
        offsets, data = string_buffers(pa.array([text]))
        size = 5
        hashes, _ = kernels.shingle_hashes(
            offsets, data, fold_table(), words, size, kernels.shingle_keys(size)
        )
        units = 9000 + 1286 * (1 if words else 2)
        assert len(hashes) == units - size + 1
        table = kernels.permutations(8)
        _, counts = kernels.signatures(
            offsets, data, fold_table(), words, size, kernels.shingle_keys(size), *table
        )
        assert counts[0] == len(hashes)


def test_bands_follow_from_threshold_and_recall() -> None:
    assert choose_banding(0.8, 0.99, 112) == Banding(bands=16, rows=6)
    assert choose_banding(0.7, 0.99, 112) == Banding(bands=17, rows=4)
    assert choose_banding(1.0, 0.99, 112) == Banding(bands=1, rows=112)
    assert choose_banding(0.8, 0.99, 112).probability(0.8) >= 0.99
    assert sketch_radius(0.8, 112) == 24
    with pytest.raises(UserError, match="permutations"):
        choose_banding(0.1, 0.999, 20)


def test_a_text_in_both_scripts_is_one_where_the_recipe_says_so() -> None:
    texts = pa.array(["臺灣證券交易所發佈風險提示", "台湾证券交易所发布风险提示"])
    for words in ("characters", "words"):
        together = SignaturesConfig(shingle=Shingling(unit=words, fold_script=True))
        one, other = sign(texts, together)[0].to_pylist()
        assert one == other
        one, other = sign(texts, SignaturesConfig(shingle=Shingling(unit=words)))[0].to_pylist()
        assert one != other
    batch = pa.RecordBatch.from_pydict({"text": texts})
    for fold_script in (True, False):
        one, other = identity_hashes(batch, "text", fold_script).tolist()
        assert (one == other) is fold_script


def test_the_table_of_scripts_is_made_of_openccs(tmp_path: Path) -> None:
    source = tmp_path / "TSCharacters.txt"
    source.write_text("# no character\n乾\t干 乾\n萬\t万\n同\t同\n")
    table = tmp_path / "traditional.txt"
    assert traditional.main([str(source), "--output", str(table)]) == 0
    assert table.read_text("utf-8").splitlines()[-2:] == ["乾干", "萬万"]
    forms = traditional.simplified_forms()
    assert (forms["萬"], forms["風"], len(forms)) == ("万", "风", 4105)


def test_minhash_must_read_the_signatures_that_are_made() -> None:
    context = StageContext("", 0, {})
    folded = Shingling(fold_script=True)
    signed = Signatures("signatures", SignaturesConfig(shingle=folded), context)
    same = MinHash("minhash-local", MinHash.Config(shingle=folded), context)
    other = MinHash("minhash-global", MinHash.Config(), context)
    check_deduplication([signed, same], "r.yaml")
    check_deduplication([other], "r.yaml")
    message = r"^r\.yaml: stages\.2\.minhash-global: shingle: is .*'fold_script': False"
    with pytest.raises(UserError, match=message):
        check_deduplication([signed, same, other], "r.yaml")
    seeded = Signatures("signatures", SignaturesConfig(seed=2), context)
    against = MinHash("minhash-global", MinHash.Config(against=("s",)), context)
    check_deduplication([seeded, other], "r.yaml")
    with pytest.raises(UserError, match="against: signature stores are made with the seed 1"):
        check_deduplication([seeded, against], "r.yaml")
