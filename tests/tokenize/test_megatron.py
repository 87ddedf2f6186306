"""Megatron-Core's own dataset reads our shards, and we read what its builder wrote.

megatron-core is a development dependency that few have (`pip install --no-deps megatron-core`
needs torch alone for this); `test_indexed.py` holds the same bytes literally.
"""

from pathlib import Path

import numpy as np
import pytest

from tokenization.indexed import IndexedReader, IndexedWriter

DOCUMENTS = [[5, 6, 2], [7, 2], [2], [*range(300), 2]]


@pytest.fixture(scope="module")
def megatron():  # type: ignore[no-untyped-def]
    return pytest.importorskip("megatron.core.datasets.indexed_dataset")


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_megatron_reads_our_shards(megatron, tmp_path: Path, dtype: str) -> None:  # type: ignore[no-untyped-def]
    with IndexedWriter(tmp_path / "ours", dtype) as writer:
        for document in DOCUMENTS:
            writer.add(document)
    dataset = megatron.IndexedDataset(str(tmp_path / "ours"))
    assert [dataset[k].tolist() for k in range(len(dataset))] == DOCUMENTS
    assert dataset.document_indices.tolist() == [0, 1, 2, 3, 4]
    assert dataset[0].dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_we_write_the_bytes_of_megatrons_builder(megatron, tmp_path: Path, dtype: str) -> None:  # type: ignore[no-untyped-def]
    import torch

    builder = megatron.IndexedDatasetBuilder(
        str(tmp_path / "theirs.bin"), dtype=np.dtype(dtype).type
    )
    with IndexedWriter(tmp_path / "ours", dtype) as writer:
        for document in DOCUMENTS:
            builder.add_document(torch.tensor(document), [len(document)])
            writer.add(document)
    builder.finalize(str(tmp_path / "theirs.idx"))
    for suffix in (".bin", ".idx"):
        ours = (tmp_path / f"ours{suffix}").read_bytes()
        assert ours == (tmp_path / f"theirs{suffix}").read_bytes()
    reader = IndexedReader(tmp_path / "theirs")
    assert [reader.document(k).tolist() for k in range(len(reader))] == DOCUMENTS


def test_the_limit_of_uint16_is_megatrons(megatron) -> None:  # type: ignore[no-untyped-def]
    from tokenization.indexed import smallest_dtype

    for size in (32_000, 65_499, 65_500, 65_536):
        expected = megatron.DType.optimal_dtype(size)
        assert np.dtype(smallest_dtype(size)) == np.dtype(expected)
