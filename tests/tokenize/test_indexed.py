"""The shard's bytes, literally; reading them back; and every kind of damage found and named."""

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.settings import UserError
from tokenization.indexed import IndexedReader, IndexedWriter, concatenate, smallest_dtype
from tokenization.manifest import read_manifest, verify, write_manifest
from tokenization.token_lists import write_shards_from_token_lists


def write(prefix: Path, documents: list[list[int]], dtype: str = "uint16") -> IndexedWriter:
    with IndexedWriter(prefix, dtype) as writer:
        for document in documents:
            writer.add(document)
    return writer


def test_bytes_are_megatrons(tmp_path: Path) -> None:
    write(tmp_path / "a", [[5, 6, 2], [7, 2]])
    assert (tmp_path / "a.bin").read_bytes() == bytes([5, 0, 6, 0, 2, 0, 7, 0, 2, 0])
    assert (tmp_path / "a.idx").read_bytes() == (
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, 8, 2, 3)
        + struct.pack("<2i", 3, 2)
        + struct.pack("<2q", 0, 6)
        + struct.pack("<3q", 0, 1, 2)
    )
    write(tmp_path / "b", [[70_000]], "int32")
    assert (tmp_path / "b.bin").read_bytes() == struct.pack("<i", 70_000)
    assert (tmp_path / "b.idx").read_bytes()[17] == 4


@settings(max_examples=20, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(0, 65_535), max_size=9), max_size=9),
    dtype=st.sampled_from(["uint16", "int32"]),
)
def test_reads_what_it_wrote(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], dtype: str
) -> None:
    prefix = tmp_path_factory.mktemp("shard") / "x"
    writer = write(prefix, documents, dtype)
    reader = IndexedReader(prefix)
    assert [reader.document(k).tolist() for k in range(len(reader))] == documents
    ids = list(itertools.chain(*documents))
    assert reader.tokens.tolist() == ids
    assert (writer.documents, writer.tokens) == (len(documents), len(reader.tokens))
    with IndexedWriter(prefix.with_name("y"), dtype) as copy:
        concatenate([reader, reader], copy)
    assert IndexedReader(prefix.with_name("y")).tokens.tolist() == 2 * [
        *itertools.chain(*documents)
    ]


def test_ids_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with IndexedWriter(tmp_path / "a", "uint16") as writer:
        with pytest.raises(ValueError, match=r"do not fit uint16"):
            writer.add([65_536])
        with pytest.raises(ValueError, match=r"do not fit uint16"):
            writer.add([-1])
    assert (smallest_dtype(65_499), smallest_dtype(65_500)) == ("uint16", "int32")


def test_a_failed_writer_leaves_no_index(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        write(tmp_path / "a", [[1], [-1]])
    assert not (tmp_path / "a.idx").exists()


def test_document_at(tmp_path: Path) -> None:
    write(tmp_path / "a", [[1, 2], [], [3]])
    reader = IndexedReader(tmp_path / "a")
    assert [reader.document_at(token) for token in range(3)] == [0, 0, 2]
    with pytest.raises(UserError, match="holds 3 tokens"):
        reader.document_at(3)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_shards_from_token_lists(
        tmp_path,
        {
            ("zh-general-law", "train"): [[[5, 6, 2], [7, 2]], [[8, 2]]],
            ("zh-general-law", "heldout"): [[[9, 2]]],
        },
        vocabulary_size=10,
        eos_id=2,
        seed=17,
    )
    return tmp_path


def test_manifest(shards: Path) -> None:
    manifest = verify(shards, checksums=True)
    assert manifest == read_manifest(shards)
    assert [shard.path for shard in manifest.buckets()["zh-general-law"]] == [
        "zh-general-law/train-00000",
        "zh-general-law/train-00001",
    ]
    first = manifest.buckets()["zh-general-law"][0]
    assert (first.documents, first.tokens, first.bytes) == (2, 5, 10)
    assert first.tags == {"lang": "zh", "domain": "general", "kind": "law"}
    assert manifest.dtype == "uint16"


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_magic(path: Path) -> None:
    path.write_bytes(b"X" + path.read_bytes()[1:])


def damage_length(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[34] = 1  # the first document's length
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-00000.bin", damage_cut, r"train-00000\.bin: holds 9 bytes .* 10: cut short"),
        ("train-00000.bin", Path.unlink, r"train-00000\.bin: cannot be read: No such file"),
        ("train-00001.idx", Path.unlink, r"train-00001\.idx: the shard's index cannot be read"),
        ("train-00000.idx", damage_cut, r"train-00000\.idx: holds .* it is damaged"),
        ("train-00000.idx", damage_magic, r"train-00000\.idx: not the index of a Megatron"),
        ("train-00000.idx", damage_length, r"train-00000\.bin: .* not its index"),
    ],
)
def test_damage_is_found_and_named(shards: Path, name: str, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    damage(shards / "zh-general-law" / name)
    with pytest.raises(UserError, match=message):
        verify(shards)


def test_the_index_of_another_shard(shards: Path) -> None:
    folder = shards / "zh-general-law"
    for suffix in (".bin", ".idx"):
        (folder / f"train-00001{suffix}").write_bytes(
            (folder / f"train-00000{suffix}").read_bytes()
        )
    with pytest.raises(UserError, match=r"train-00001\.idx: .* belongs to another run"):
        verify(shards)


def test_a_changed_byte_is_found_by_checksum(shards: Path) -> None:
    path = shards / "zh-general-law" / "heldout-00000.bin"
    path.write_bytes(bytes([8, 0, 2, 0]))
    verify(shards)
    with pytest.raises(UserError, match=r"heldout-00000\.bin: its checksum"):
        verify(shards, checksums=True)


def test_damaged_manifests(shards: Path) -> None:
    manifest = read_manifest(shards)
    path = shards / "manifest.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json:1: this is not valid JSON"):
        read_manifest(shards)
    path.unlink()
    with pytest.raises(UserError, match=r"there is no manifest"):
        verify(shards)
    outside = manifest.shards[0].model_copy(update={"path": "../x"})
    write_manifest(shards, manifest.model_copy(update={"shards": (outside,)}))
    with pytest.raises(UserError, match=r"leads out of the folder"):
        read_manifest(shards)


def test_a_foreign_tokenizer_is_named(shards: Path) -> None:
    manifest = read_manifest(shards)
    (shards / "tokenizer").mkdir()
    (shards / "tokenizer" / "tokenizer.json").write_text("{}")
    info = manifest.tokenizer.model_copy(update={"path": "tokenizer"})
    write_manifest(shards, manifest.model_copy(update={"tokenizer": info}))
    with pytest.raises(UserError, match=r"tokenizer: this is not the tokenizer that made"):
        verify(shards)


def test_arrays_are_views(shards: Path) -> None:
    reader = IndexedReader(shards / "zh-general-law" / "train-00000")
    assert np.shares_memory(reader.document(1), reader.tokens)
    with pytest.raises(ValueError, match="read-only"):
        reader.tokens[0] = 1
