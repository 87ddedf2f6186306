"""Documents inside archives: WARC files of crawls, and zip files of pages, PDFs or texts."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

import fsspec

from corpus.reading.records_base import Record, error_text, open_stream

MEDIA = {
    "text/html": "html", "application/xhtml+xml": "html", "application/pdf": "pdf",
    "text/plain": "text", "text/markdown": "text",
}  # fmt: skip
WARC_ERRORS = (OSError, EOFError, ValueError, zlib.error)
HEADER_BYTES = 1_000_000


def zip_records(address: str, locator: str, limit: int, with_payload: bool) -> Iterator[Record]:
    """The members of a zip file, by the archive's own order; `limit` is bytes a member."""
    try:
        with fsspec.open(address, "rb") as stream, zipfile.ZipFile(stream) as archive:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                place = f"{locator}!{member.filename}"
                yield _member(archive, member, place, limit) if with_payload else Record(place)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        yield Record(locator, failure=f"unreadable: {error_text(error)}")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: str, limit: int) -> Record:
    try:
        with archive.open(member) as file:
            payload = file.read(limit + 1)  # never trusts the size that the archive states
    except RuntimeError as error:  # zipfile's word for a password
        return Record(place, failure=f"encrypted: {error_text(error)}")
    except (OSError, EOFError, ValueError, NotImplementedError, zlib.error,
            zipfile.BadZipFile) as error:  # fmt: skip
        return Record(place, failure=f"unreadable: {error_text(error)}")
    if len(payload) > limit:
        return Record(place, failure=f"too_large: more than {limit // 1_000_000} MB")
    return Record(place, payload)


def warc_records(address: str, locator: str, limit: int, with_payload: bool) -> Iterator[Record]:
    """The HTTP responses of a WARC file (ISO 28500); each is a document, its number its place.

    What is neither HTML, PDF nor text is a failure `unsupported_media`.
    """
    number = 0
    try:
        with open_stream(address) as stream:
            while (headers := _headers(stream)) is not None:
                length = int(headers.get("content-length", "0"))
                is_response = headers.get("warc-type") == "response"
                if not is_response or "http" not in headers.get("content-type", "http"):
                    _skip(stream, length)
                    continue
                number += 1
                place = f"{locator}#{number}"
                if not with_payload:
                    _skip(stream, length)
                    yield Record(place)
                elif length > limit:
                    _skip(stream, length)
                    yield Record(place, failure=f"too_large: {length} bytes")
                else:
                    yield _response(place, headers, stream.read(length), limit)
    except WARC_ERRORS as error:
        yield Record(
            f"{locator}#{number + 1}",
            failure=f"unreadable: after record {number}: {error_text(error)}",
        )


def _headers(stream: IO[bytes]) -> dict[str, str] | None:
    """The next record's headers, names in lower case; None at the end of the file."""
    line = stream.readline(HEADER_BYTES)
    while line in (b"\r\n", b"\n"):
        line = stream.readline(HEADER_BYTES)
    if not line:
        return None
    if not line.startswith(b"WARC/"):
        raise ValueError(f"no WARC record where one should begin: {line[:40]!r}")
    return _fields(stream)


def _fields(stream: IO[bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    while (line := stream.readline(HEADER_BYTES)).strip():
        name, _, value = line.decode("utf-8", "replace").partition(":")
        found.setdefault(name.strip().lower(), value.strip())
    return found


def _skip(stream: IO[bytes], length: int) -> None:
    while length > 0:
        block = stream.read(min(length, 1 << 20))
        if not block:
            raise EOFError("the last record is cut short")
        length -= len(block)


def _response(place: str, headers: dict[str, str], record: bytes, limit: int) -> Record:
    url = headers.get("warc-target-uri", "").strip("<>") or None
    date = headers.get("warc-date", "")[:10] or None
    body = io.BytesIO(record)
    body.readline()
    http = _fields(body)
    media_type = http.get("content-type", "text/html").split(";")[0].strip().lower()
    media = MEDIA.get(media_type)
    extra = {"crawled": date} if date else {}
    if media is None:
        return Record(place, failure=f"unsupported_media: {media_type}", url=url, extra=extra)
    try:
        payload = _decoded(body.read(), http, limit)
    except WARC_ERRORS as error:
        return Record(place, failure=f"unreadable: {error_text(error)}", url=url, extra=extra)
    return Record(place, payload, url=url, extra=extra, media=media)


def _decoded(body: bytes, http: dict[str, str], limit: int) -> bytes:
    """The body without transfer and content encodings; crawlers often removed them already."""
    if "chunked" in http.get("transfer-encoding", "").lower():
        body = _unchunked(body)
    encoding = http.get("content-encoding", "").lower()
    if "gzip" in encoding and body.startswith(b"\x1f\x8b"):
        body = gzip.GzipFile(fileobj=io.BytesIO(body)).read(limit + 1)
    elif "deflate" in encoding:
        body = zlib.decompressobj().decompress(body, limit + 1)
    if len(body) > limit:
        raise ValueError(f"more than {limit // 1_000_000} MB when decompressed")
    return body


def _unchunked(body: bytes) -> bytes:
    pieces: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        try:
            size = int(body[at:end].split(b";")[0], 16)
        except ValueError:
            return body if not pieces else b"".join(pieces)
        if size <= 0 or end < 0:
            return b"".join(pieces)
        pieces.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
