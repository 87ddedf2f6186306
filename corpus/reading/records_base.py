"""What one document is when it is read, and how a stored file's bytes are opened."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, cast

import fsspec
import pyarrow as pa


@dataclass(frozen=True)
class Record:
    """One document as found: a payload, or the failure that stands in its place."""

    locator: str
    payload: bytes | None = None
    failure: str | None = None
    url: str | None = None
    title: str | None = None
    date: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    media: str | None = None
    """html, pdf, text, epub or docx, where the document says so itself; else its source does."""


@contextmanager
def open_stream(address: str) -> Iterator[IO[bytes]]:
    """The decompressed bytes of the file at `address`."""
    suffix = address.rsplit(".", 1)[-1].lower()
    with fsspec.open(address, "rb") as stream:
        try:
            if suffix == "gz":
                yield gzip.GzipFile(fileobj=stream)  # type: ignore[misc]
            elif suffix == "bz2":
                yield bz2.BZ2File(stream)  # type: ignore[misc]
            elif suffix == "xz":
                yield lzma.LZMAFile(stream)  # type: ignore[misc]  # noqa: SIM115
            elif suffix in ("zst", "lz4"):
                codec = suffix.replace("zst", "zstd")
                yield _buffered(pa.CompressedInputStream(pa.PythonFile(stream), codec))
            else:
                yield _buffered(stream)
        except zlib.error as error:
            raise OSError(f"broken compression: {error}") from error


def _buffered(stream: Any) -> IO[bytes]:
    """With a `readline`, which not every storage's files have, or have fast."""
    return cast(IO[bytes], io.BufferedReader(stream, 1 << 20))


def error_text(error: BaseException) -> str:
    return (str(error) or type(error).__name__).replace("\n", " ")[:300]
