"""WARC files: every response is a document or a failure, and damage costs one record only."""

import gzip
import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from corpus.reading import Source
from corpus.reading.listing import list_files
from corpus.reading.records import read_records
from corpus.reading.records_base import Record

HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=gbk\r\n"


def record(body: bytes, kind: str = "response", length: int | None = None) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://e.x/\r\n"
    head += (
        "WARC-Date: 2024-05-06T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n"
    )
    head += f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body + b"\r\n\r\n"


PAGES = [record(HTML + b"\r\n<p>%d" % number) for number in range(5)]


@pytest.fixture
def read(tmp_path: Path):
    def read(content: bytes, name: str = "crawl.warc", **options: object) -> list[Record]:
        (tmp_path / name).write_bytes(content)
        source = Source(name="crawl", path=str(tmp_path / name), format="warc", **options)
        found = [r for file in list_files([source]) for r in read_records(file, source)]
        bare = [r for file in list_files([source]) for r in read_records(file, source, False)]
        assert [r.locator for r in bare] == [r.locator for r in found]
        places = [r.locator.rpartition("#")[2] for r in found]
        assert places == [str(number + 1) for number in range(len(found))]
        return found

    return read


def test_responses_are_documents_in_every_compression(read):
    whole = record(b"software: x", "warcinfo") + PAGES[0] + record(b"x", "request") + PAGES[1]
    members = b"".join(map(gzip.compress, [record(b"x", "warcinfo"), *PAGES[:2]]))
    zstd = b"".join(pa.compress(page, "zstd", asbytes=True) for page in PAGES[:2])
    for content, name in (
        (whole, "a.warc"),
        (gzip.compress(whole), "b.warc.gz"),
        (members, "c.warc.gz"),
        (zstd, "d.warc.zst"),
    ):
        found = read(content, name)
        assert [(r.payload, r.media, r.url, r.extra) for r in found] == [
            (b"<p>0", "html", "http://e.x/", {"crawled": "2024-05-06"}),
            (b"<p>1", "html", "http://e.x/", {"crawled": "2024-05-06"}),
        ]


def test_http_encodings_are_undone(read):
    page = b"<p>" + b"A" * 50
    chunked = HTML + b"Transfer-Encoding: chunked\r\n\r\n3\r\n<p>\r\n1\r\nA\r\n0\r\n\r\n"
    zipped = HTML + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(page)
    done_already = HTML + b"Content-Encoding: gzip\r\n\r\n" + page
    deflated = HTML + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(page)
    unknown = HTML + b"Content-Encoding: x-odd\r\n\r\n" + page
    image = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\nPNG"
    bomb = HTML + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"0" * 2_000_000)
    bodies = (chunked, zipped, done_already, deflated, unknown, image, bomb, b"x" * 1_000_001)
    found = read(b"".join(map(record, bodies)), max_mb=1)
    assert [r.payload for r in found] == [b"<p>A", page, page, page, None, None, None, None]
    assert [r.failure for r in found[4:]] == [
        "unreadable: the content encoding 'x-odd' is not known",
        "unsupported_media: image/png",
        "too_large: more than 1 MB when decompressed",
        "too_large: 1000001 bytes",
    ]


def outcome(found: list[Record]) -> list[str]:
    return [(r.payload or b"").decode() or (r.failure or "").split(":")[0] for r in found]


def test_damage_costs_one_record(read):
    long = HTML + b"\r\n<p>long"
    too_long = record(long, length=len(long) + 90)
    too_short = record(long, length=len(long) - 3)
    for broken in (
        b"garbage\r\nmore garbage\r\n",
        too_long,
        too_short,
        b"WARC/1.0\r\nno: length\r\n\r\n",
    ):
        found = read(PAGES[0] + broken + PAGES[1] + PAGES[2])
        assert outcome(found) == ["<p>0", "unreadable", "<p>1", "<p>2"]
        assert found[1].failure.startswith("unreadable: after record 1: ")


def test_a_broken_compressed_member_does_not_hide_the_next(read):
    members = [bytearray(gzip.compress(page)) for page in PAGES]
    for place in (12, 60, len(members[1]) - 6):
        broken = bytearray(members[1])
        broken[place] ^= 0xFF
        found = read(bytes(b"".join([members[0], broken, *members[2:]])), "crawl.warc.gz")
        assert outcome(found)[-3:] == ["<p>2", "<p>3", "<p>4"]
        assert "unreadable" in outcome(found)[1:3]
        assert outcome(found)[0] == "<p>0"


def test_a_file_cut_short_ends_with_a_failure(read):
    for content, name in (
        (b"".join(PAGES)[:-20], "crawl.warc"),
        (b"".join(map(gzip.compress, PAGES))[:-40], "crawl.warc.gz"),
        (gzip.compress(b"".join(PAGES))[:-30], "crawl.warc.gz"),
        (pa.compress(b"".join(PAGES), "zstd", asbytes=True)[:-9], "crawl.warc.zst"),
    ):
        found = outcome(read(content, name))
        assert found[-1] == "unreadable"
        assert found[:-1] == [f"<p>{number}" for number in range(len(found) - 1)]
    assert outcome(read(b"no such thing", "crawl.warc")) == ["unreadable"]
    assert read(b"") == []
