"""Shards shown, checked, merged, split, handed to Hugging Face and taken from Megatron."""

import importlib
import struct
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tokenization.indexed import IndexedReader, IndexedWriter
from tokenization.manifest import TokenizerInfo, tokenizer_fingerprint, verify
from tokenization.token_lists import write_shards_from_token_lists
from tokenization.tools import write_lineage

BASE = Path(__file__).parents[2] / "samples" / "tokenizer" / "mistral-v1-32000.model"
EOS = 2
main = importlib.import_module("tokenization.inspect.__main__").main


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(BASE.read_bytes())
    return folder


def make(folder: Path, tokenizer: Path, first: int) -> Path:
    """Two training shards and a held-out one; ids count up from `first`."""
    info = TokenizerInfo(
        fingerprint=tokenizer_fingerprint(tokenizer),
        vocabulary_size=32_000,
        eos_id=EOS,
        path="../tokenizer",
    )
    documents = [[first + k] * (k + 1) + [EOS] for k in range(5)]
    write_shards_from_token_lists(
        folder,
        {
            ("zh-general-law", "train"): [documents[:3], documents[3:4]],
            ("zh-general-law", "heldout"): [documents[4:]],
        },
        vocabulary_size=32_000,
        eos_id=EOS,
        tokenizer=info,
    )
    for name, numbers in (("train-00000", [0, 1, 2]), ("train-00001", [3]), ("heldout-00000", [4])):
        prefix = folder / "zh-general-law" / name
        write_lineage(prefix, [f"{first}-{k}" for k in numbers], [k + 2 for k in numbers])
    return folder


def contents(folder: Path) -> dict[str, list[list[int]]]:
    manifest = verify(folder, checksums=True)
    found = {}
    for shard in manifest.shards:
        reader = IndexedReader(folder / shard.path)
        found[shard.path] = [reader.document(k).tolist() for k in range(len(reader))]
    return found


def lineage(folder: Path, name: str) -> list[str]:
    return pq.read_table(folder / f"{name}.lineage.parquet")["doc_id"].to_pylist()


def test_show(tmp_path: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "a", tokenizer, 1000)
    assert main([str(folder), "--checksums", "--doc-id", "1000-3"]) == 0
    shown = capsys.readouterr().out
    assert "every byte is as it was written" in shown
    assert "1000-3: zh-general-law/train-00001, document 0" in shown
    shard = folder / "zh-general-law" / "train-00000"
    assert main([f"{shard}.bin", "--document", "1", "--checksums"]) == 0
    shown = capsys.readouterr().out
    assert "3 documents, 9 tokens of uint16" in shown
    assert "document 1 (1000-1), 3 tokens\n1001 1001 2\n" in shown
    assert shown.rstrip().endswith("</s>")
    assert main([str(shard), "--token", "8"]) == 0
    assert "document 2 (1000-2)" in capsys.readouterr().out
    assert main([str(shard), "--sample", "2", "--seed", "1"]) == 0
    assert capsys.readouterr().out.count("\ndocument ") == 2


def test_damage_is_one_line_and_status_2(
    tmp_path: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "a", tokenizer, 1000)
    shard = folder / "zh-general-law" / "train-00000"
    assert main([str(shard), "--document", "3"]) == 2
    assert "there is no document 3" in capsys.readouterr().err
    data = bytearray(Path(f"{shard}.bin").read_bytes())
    data[0] ^= 1
    Path(f"{shard}.bin").write_bytes(data)
    assert main([str(shard), "--checksums"]) == 2
    assert "train-00000.bin: its checksum is not" in capsys.readouterr().err
    (tokenizer / "tokenizer.model").write_bytes(b"other")
    assert main([str(folder)]) == 2
    assert "this is not the tokenizer that made the shards" in capsys.readouterr().err
    assert main([str(tmp_path / "none")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_merge_and_split(tmp_path: Path, tokenizer: Path) -> None:
    one, two = make(tmp_path / "a", tokenizer, 1000), make(tmp_path / "b", tokenizer, 2000)
    merged = tmp_path / "sub" / "merged"
    assert main(["merge", str(one), str(two), "--output", str(merged)]) == 0
    assert contents(merged) == {
        "zh-general-law/train-00000": [
            [first + k] * (k + 1) + [EOS] for first in (1000, 2000) for k in range(4)
        ],
        "zh-general-law/heldout-00000": [[1004] * 5 + [EOS], [2004] * 5 + [EOS]],
    }
    assert lineage(merged, "zh-general-law/train-00000")[3:5] == ["1000-3", "2000-0"]
    again = tmp_path / "again"
    assert main(["split", str(merged), "--shard-tokens", "6", "--output", str(again)]) == 0
    found = contents(again)
    assert [len(documents) for documents in found.values()] == [2, 1, 1, 2, 1, 1, 1, 1]
    assert sum(found.values(), []) == sum(contents(merged).values(), [])  # noqa: RUF017
    assert lineage(again, "zh-general-law/train-00002") == ["1000-3"]


def test_merging_what_does_not_belong_together(
    tmp_path: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make(tmp_path / "a", tokenizer, 1000)
    two = tmp_path / "b"
    write_shards_from_token_lists(two, {("zh-general-law", "train"): [[[EOS]]]}, 32_000, EOS)
    assert main(["merge", str(one), str(two), "--output", str(tmp_path / "c")]) == 2
    assert "made by another tokenizer" in capsys.readouterr().err
    assert main(["merge", str(one), "--output", str(two)]) == 2
    assert "the folder is not empty" in capsys.readouterr().err


def test_to_hugging_face(tmp_path: Path, tokenizer: Path) -> None:
    folder = make(tmp_path / "a", tokenizer, 1000)
    assert main(["to-hf", str(folder), "--output", str(tmp_path / "hf")]) == 0
    rows = pq.read_table(tmp_path / "hf" / "zh-general-law" / "train-00000.parquet").to_pylist()
    assert rows[1] == {"doc_id": "1000-1", "input_ids": [1001, 1001, EOS]}
    assert "config_name: zh-general-law" in (tmp_path / "hf" / "README.md").read_text()


def test_from_megatron(tmp_path: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A corpus of int64 ids, with a document of two sequences and one without end of text."""
    prefix = tmp_path / "corpus_text_document"
    ids, lengths, boundaries = [7, 8, 9, EOS, 5, 6], [2, 2, 2, 0], [0, 2, 3, 4]
    Path(f"{prefix}.bin").write_bytes(struct.pack("<6q", *ids))
    Path(f"{prefix}.idx").write_bytes(
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, 5, 4, 4)
        + struct.pack("<4i", *lengths)
        + struct.pack("<4q", 0, 16, 32, 48)
        + struct.pack("<4q", *boundaries)
    )
    folder = make(tmp_path / "a", tokenizer, 1000)
    arguments = ["from-megatron", str(prefix), "--tokenizer", str(tokenizer), "--output"]
    assert main([*arguments, str(folder), "--bucket", "zh-general-web"]) == 0
    found = contents(folder)
    assert found["zh-general-web/train-00000"] == [[7, 8, 9, EOS], [5, 6, EOS], [EOS]]
    assert len(found) == 4
    assert main([*arguments, str(folder), "--bucket", "zh-general-web"]) == 2
    assert "has a bucket zh-general-web" in capsys.readouterr().err
    with IndexedWriter(prefix, "int32") as writer:
        writer.add([32_000, EOS])
    assert main([*arguments, str(tmp_path / "c"), "--bucket", "zh-general-web"]) == 2
    assert "made by another one" in capsys.readouterr().err


def test_inspect_shadows_nothing(tmp_path: Path) -> None:
    """Beside scripts of tokenize/, and as a module, `inspect` stays Python's own."""
    folder = Path(__file__).parents[2] / "tokenize"
    code = "import inspect, tokenize; print(inspect.signature, tokenize.generate_tokens)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "function signature" in done.stdout
