"""WARC files of crawls (ISO 28500): each HTTP response is a document.

warcio reads records, HTTP headers and encodings. What it does not do is go on after damage, which
long crawls always have: so the file is cut into records here, and a broken record, compressed
member or length is one document with a failure, after which the next record is found and read.
"""

import lzma
import zlib
from collections.abc import Iterator

import fsspec
import pyarrow as pa
from warcio.bufferedreaders import BufferedReader
from warcio.exceptions import ArchiveLoadFailed
from warcio.recordloader import ArcWarcRecord, ArcWarcRecordLoader

from corpus.reading.records_base import Record, error_text, open_stream

MEDIA = {
    "text/html": "html", "application/xhtml+xml": "html", "application/pdf": "pdf",
    "text/plain": "text", "text/markdown": "text", "application/epub+zip": "epub",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
}  # fmt: skip
BLOCK_BYTES = 1 << 18
LONGEST_LINE = 1_000_000
MARK = b"WARC/"
GZIP_MARK = b"\x1f\x8b\x08"
RECORD_ERRORS = (ArchiveLoadFailed, OSError, EOFError, ValueError, AttributeError, zlib.error)
"""What warcio raises on what is no record; AttributeError where a record has no WARC-Type."""


class Damage(Exception):
    """The stored bytes are broken here; what comes after them may be sound."""


def warc_records(address: str, locator: str, limit: int, with_payload: bool) -> Iterator[Record]:
    """The responses of the file at `address`; the number of each is its place.

    `limit` is in bytes a document. What is neither HTML, PDF, text, EPUB nor DOCX is a failure
    `unsupported_media`, what cannot be read one called `unreadable`.
    """
    number = 0
    stream = RecordStream(_blocks(address))
    loader = ArcWarcRecordLoader()
    while True:
        place = f"{locator}#{number + 1}"
        try:
            line = stream.readline()
            if not line:
                return
            if not line.strip():
                continue
            if not line.startswith(MARK):
                raise ValueError(f"no WARC record where one should begin: {line[:40]!r}")
            found = _read(loader, stream, line, place, limit)
        except (Damage, *RECORD_ERRORS) as error:
            stream.skip_to_record()
            found = Record(place, failure=f"unreadable: after record {number}: {error_text(error)}")
        if found is not None:
            number += 1
            yield found if with_payload else Record(place)


def _read(
    loader: ArcWarcRecordLoader, stream: "RecordStream", line: bytes, place: str, limit: int
) -> Record | None:
    """The record that begins with `line`; None where it is no response."""
    record = loader.parse_record_stream(stream, line, known_format="warc", no_record_parse=True)
    if record.length is None or record.rec_type is None:
        raise ValueError("a record without its type or length")
    body, length = stream.take(record.length, limit)
    # A length that is wrong shows where the next record should begin. What a too long one has
    # swallowed is given back.
    if stream.readline().strip():
        at = body.find(b"\n" + MARK)
        stream.give_back(body[at + 1 :] if at >= 0 else b"")
        raise ValueError(f"its {length} bytes are not followed by the end of a record")
    if record.rec_type != "response" or "http" not in (record.content_type or "http"):
        return None
    if length > limit:
        return Record(place, failure=f"too_large: {length} bytes")
    return _response(loader, record, body, place, limit)


def _response(
    loader: ArcWarcRecordLoader, record: ArcWarcRecord, body: bytes, place: str, limit: int
) -> Record:
    headers = record.rec_headers
    url = headers.get_header("WARC-Target-URI")
    extra = {"crawled": (headers.get_header("WARC-Date") or "")[:10]}
    extra["truncated"] = headers.get_header("WARC-Truncated") or ""
    extra = {name: value for name, value in extra.items() if value}
    record.raw_stream = RecordStream(iter([body]))
    http = record.http_headers = loader.load_http_headers(
        "response", url or "http:", record.raw_stream, len(body)
    )
    media_type = (http.get_header("content-type") or "text/html").split(";")[0].strip().lower()
    encoding = (http.get_header("content-encoding") or "identity").strip().lower()
    if media_type not in MEDIA:
        return Record(place, failure=f"unsupported_media: {media_type}", url=url, extra=extra)
    if encoding not in ("identity", *BufferedReader.get_supported_decompressors()):
        failure = f"unreadable: the content encoding '{encoding}' is not known"
        return Record(place, failure=failure, url=url, extra=extra)
    try:
        payload = _at_most(record.content_stream(), limit)
    except RECORD_ERRORS as error:
        return Record(place, failure=f"unreadable: {error_text(error)}", url=url, extra=extra)
    if len(payload) > limit:
        failure = f"too_large: more than {limit // 1_000_000} MB when decompressed"
        return Record(place, failure=failure, url=url, extra=extra)
    return Record(place, payload, url=url, extra=extra, media=MEDIA[media_type])


def _at_most(stream: BufferedReader, limit: int) -> bytes:
    pieces, size = [], 0
    while size <= limit and (piece := stream.read(BLOCK_BYTES)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


class RecordStream:
    """Blocks of bytes as a stream of lines and bodies; a `Damage` among the blocks is raised."""

    def __init__(self, blocks: Iterator[bytes | Damage]) -> None:
        self._blocks = blocks
        self._buffer = b""
        self._at = 0

    def _fill(self) -> bool:
        """Add a block to the buffer; False at the end."""
        block = next(self._blocks, b"")
        if isinstance(block, Damage):
            self._buffer, self._at = b"", 0
            raise block
        self._buffer, self._at = self._buffer[self._at :] + block, 0
        return bool(block)

    def readline(self, limit: int = LONGEST_LINE) -> bytes:
        """The next line, at most `limit` bytes of it; nothing at the end."""
        looked = self._at
        while (end := self._buffer.find(b"\n", looked)) < 0:
            looked = len(self._buffer)
            held = looked - self._at
            if held >= limit or not self._fill():
                break
            looked = held
        stop = end + 1 if end >= 0 else len(self._buffer)
        return self._cut(min(stop, self._at + limit))

    def read(self, size: int) -> bytes:
        """At most `size` bytes; nothing at the end."""
        if self._at == len(self._buffer):
            self._fill()
        return self._cut(min(len(self._buffer), self._at + size))

    def tell(self) -> int:
        """For warcio, which wants differences only where it parses HTTP."""
        return 0

    def take(self, length: int, limit: int) -> tuple[bytes, int]:
        """The next `length` bytes, and how many they were; of more than `limit` only the first."""
        pieces, left = [], length
        while left:
            piece = self.read(left)
            if not piece:
                raise Damage("the last record is cut short")
            if length - left <= limit:
                pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces), length

    def give_back(self, data: bytes) -> None:
        """Put bytes before what comes next."""
        self._buffer, self._at = data + self._buffer[self._at :], 0

    def skip_to_record(self) -> None:
        """Go to the next line that begins a record, or to the end."""
        while True:
            try:
                while line := self.readline():
                    if line.startswith(MARK):
                        self.give_back(line)
                        return
                return
            except Damage:  # one more break before a record was found is the same damage
                continue

    def _cut(self, stop: int) -> bytes:
        piece = self._buffer[self._at : stop]
        self._at = stop
        return piece


def _blocks(address: str) -> Iterator[bytes | Damage]:
    """The file decompressed; where that fails, what could be, a `Damage`, and what comes after."""
    try:
        if address.lower().endswith(".gz"):
            with fsspec.open(address, "rb") as file:
                yield from _gzip_members(iter(lambda: file.read(BLOCK_BYTES), b""))
        else:
            with open_stream(address) as stream:
                while block := stream.read(BLOCK_BYTES):
                    yield block
    except (OSError, EOFError, ValueError, lzma.LZMAError, pa.ArrowException) as error:
        yield Damage(error_text(error))


def _gzip_members(stored: Iterator[bytes]) -> Iterator[bytes | Damage]:
    """The content of gzip members one after the other; a broken one does not hide the next."""
    data = b""
    while data or (data := next(stored, b"")):
        decompressor = zlib.decompressobj(wbits=31)
        try:
            while True:
                content = decompressor.decompress(data, BLOCK_BYTES)
                if content:
                    yield content
                data = decompressor.unconsumed_tail
                if decompressor.eof:
                    data = decompressor.unused_data.lstrip(b"\0")
                    break
                if not data and not (data := next(stored, b"")):
                    yield Damage("the last compressed member is cut short")
                    return
        except zlib.error as error:
            yield Damage(f"broken compression: {error}")
            data = _next_member(data, stored)


def _next_member(data: bytes, stored: Iterator[bytes]) -> bytes:
    """What is stored from the next gzip member on that begins a WARC record; nothing at the end."""
    at = 1
    while True:
        at = data.find(GZIP_MARK, at)
        if at < 0 or len(data) - at < 64:
            more = next(stored, b"")
            if not more and at < 0:
                return b""
            data, at = data[at if at >= 0 else -2 :] + more, 0
            if more:
                continue
        try:
            if zlib.decompressobj(wbits=31).decompress(data[at:], 5) == MARK:
                return data[at:]
        except zlib.error:
            pass
        at += 1
