"""The documents inside one file: yielded one at a time, read as a stream, whatever is broken.

A file that cannot be read, a line that is no JSON and a row group that does not decode are
documents like any other, with a `failure` instead of a payload.
"""

import json
import lzma
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.reading.archives import zip_records
from corpus.reading.listing import SourceFile
from corpus.reading.records_base import Record, error_text, open_stream
from corpus.reading.source import Source
from corpus.reading.warc import warc_records

READ_ERRORS = (OSError, EOFError, ValueError, pa.ArrowException, lzma.LZMAError)
"""What storage, decompression and decoding raise; zlib.error is caught by `_open`."""


def read_records(file: SourceFile, source: Source, with_payload: bool = True) -> Iterator[Record]:
    """Yield the documents of one file.

    `with_payload=False` yields the same locators as cheaply as the format allows, and nothing
    else: whole-document formats are not opened, rows are counted and not parsed.
    """
    if source.format == "jsonl":
        yield from _jsonl(file, source, with_payload)
    elif source.format == "parquet":
        yield from _parquet(file, source, with_payload)
    elif source.format in ("warc", "zip"):
        read = warc_records if source.format == "warc" else zip_records
        yield from read(file.address, file.locator, source.max_mb * 1_000_000, with_payload)
    elif with_payload:
        yield _whole(file, source)
    else:
        yield Record(file.locator)


def _whole(file: SourceFile, source: Source) -> Record:
    limit = source.max_mb * 1_000_000
    try:
        with open_stream(file.address) as stream:
            payload = stream.read(limit + 1)
    except READ_ERRORS as error:
        return Record(file.locator, failure=f"unreadable: {error_text(error)}")
    if len(payload) > limit:
        return Record(file.locator, failure=f"too_large: more than {source.max_mb} MB")
    return Record(file.locator, payload)


def _jsonl(file: SourceFile, source: Source, with_payload: bool) -> Iterator[Record]:
    limit = source.max_mb * 1_000_000
    number = 0
    try:
        with open_stream(file.address) as stream:
            while line := stream.readline(limit + 1):
                number += 1
                is_cut = len(line) > limit
                if is_cut:
                    while (rest := stream.readline(limit)) and not rest.endswith(b"\n"):
                        pass
                if not line.strip():
                    continue
                locator = f"{file.locator}#{number}"
                if not with_payload:
                    yield Record(locator)
                elif is_cut:
                    yield Record(
                        locator, failure=f"too_large: line {number}: more than {source.max_mb} MB"
                    )
                else:
                    yield _json_record(locator, number, line, source)
    except READ_ERRORS as error:
        yield Record(
            f"{file.locator}#{number + 1}",
            failure=f"unreadable: after line {number}: {error_text(error)}",
        )


def _json_record(locator: str, number: int, line: bytes, source: Source) -> Record:
    try:
        row = json.loads(line.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return Record(locator, failure=f"bad_json: line {number}: {error_text(error)}")
    if not isinstance(row, dict):
        return Record(locator, failure=f"bad_json: line {number}: not an object")
    content = row.get(source.content)
    if not isinstance(content, str):
        return Record(
            locator, failure=f"no_content: line {number}: no text in the field {source.content!r}"
        )
    return _row_record(locator, content.encode("utf-8", "replace"), row, source)


def _row_record(locator: str, payload: bytes, row: Mapping[str, Any], source: Source) -> Record:
    return Record(
        locator,
        payload,
        url=_scalar(row.get(source.columns.get("url", "url"))),
        title=_scalar(row.get(source.columns.get("title", "title"))),
        date=_scalar(row.get(source.columns.get("date", "date"))),
        extra={name: text for name in source.extra if (text := _scalar(row.get(name)))},
    )


def _scalar(value: Any) -> str | None:
    if value is None or value == "":
        return None
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return text.encode("utf-8", "replace").decode("utf-8")


def _parquet(file: SourceFile, source: Source, with_payload: bool) -> Iterator[Record]:
    try:
        with fsspec.open(file.address, "rb") as stream:
            parquet = pq.ParquetFile(stream)
            names = parquet.schema_arrow.names
            wanted = [source.content, *(source.columns.get(c, c) for c in ("url", "title", "date"))]
            columns = [name for name in dict.fromkeys([*wanted, *source.extra]) if name in names]
            first = 0
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                locators = [f"{file.locator}#{first + row + 1}" for row in range(rows)]
                if not with_payload:
                    yield from map(Record, locators)
                elif source.content not in names:
                    for locator in locators:
                        yield Record(locator, failure=f"no_content: no column {source.content!r}")
                else:
                    yield from _row_group(parquet, group, columns, locators, source)
                first += rows
    except READ_ERRORS as error:
        yield Record(file.locator, failure=f"unreadable: {error_text(error)}")


def _row_group(
    parquet: pq.ParquetFile, group: int, columns: list[str], locators: list[str], source: Source
) -> Iterator[Record]:
    done = 0
    try:
        for batch in parquet.iter_batches(256, row_groups=[group], columns=columns):
            for row in batch.to_pylist():
                content = row[source.content]
                payload = (
                    content.encode("utf-8", "replace") if isinstance(content, str) else content
                )
                if isinstance(payload, bytes):
                    record = _row_record(locators[done], payload, row, source)
                else:
                    record = Record(
                        locators[done], failure=f"no_content: nothing in {source.content!r}"
                    )
                done += 1
                yield record
    except READ_ERRORS as error:
        for locator in locators[done:]:
            yield Record(locator, failure=f"unreadable: row group {group}: {error_text(error)}")
