"""Sources: which files they mean, what is read from them, and what becomes of what is broken."""

import gzip
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from corpus.document import RAW, document_id
from corpus.reading import Source, read_sources, sources_fingerprint
from corpus.reading.listing import balance, list_files
from corpus.reading.records import read_records
from corpus.settings import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pages" / "deep").mkdir(parents=True)
    (tmp_path / "pages" / "a.html").write_bytes(b"<p>A</p>")
    (tmp_path / "pages" / "deep" / "b.htm").write_bytes(b"<p>B</p>")
    (tmp_path / "pages" / "deep" / "_notes.html").write_bytes(b"no")
    (tmp_path / "pages" / "c.txt").write_bytes(b"no page")
    with gzip.open(tmp_path / "rows.jsonl.gz", "wb") as file:
        file.write(b'{"text": "one", "title": "T", "id": 7}\n\n{"text": 3}\nnot json\n')
        file.write(b'{"text": "two \\ud800"}\n[1]\n{"text": "\xff"}\n')
    table = pa.table({"body": ["x", None, "z"], "link": ["http://a", None, None]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    return tmp_path


PAGES = Source(name="pages", path="pages", format="html", lang="zh", kind="web")
ROWS = Source(name="rows", path="rows.jsonl.gz", format="jsonl", lang="auto")
TABLE = Source(
    name="table", path=["t.par*"], format="parquet", content="body", columns={"url": "link"}
)


def records(source: Source, with_payload: bool = True):
    return [r for f in list_files([source]) for r in read_records(f, source, with_payload)]


def test_a_folder_holds_its_formats_files_only(folder: Path):
    found = [(r.locator, r.payload) for r in records(PAGES)]
    assert found == [("pages/a.html", b"<p>A</p>"), ("pages/deep/b.htm", b"<p>B</p>")]


def test_every_line_of_jsonl_is_a_document_or_says_why_not(folder: Path):
    found = records(ROWS)
    assert [r.locator for r in found] == [f"rows.jsonl.gz#{n}" for n in (1, 3, 4, 5, 6, 7)]
    assert [r.payload for r in found] == [b"one", None, None, b"two ?", None, None]
    assert (found[0].title, found[0].extra) == ("T", {"id": "7"})
    assert [(r.failure or "").split(":")[0] for r in found] == [
        "", "no_content", "bad_json", "", "bad_json", "bad_json"
    ]  # fmt: skip
    assert found[2].failure.startswith("bad_json: line 4: ")


def test_parquet_rows_keep_their_numbers_across_row_groups(folder: Path):
    found = records(TABLE)
    assert [(r.locator, r.payload, r.url) for r in found] == [
        ("t.parquet#1", b"x", "http://a"),
        ("t.parquet#2", None, None),
        ("t.parquet#3", b"z", None),
    ]
    assert found[1].failure == "no_content: nothing in 'body'"


def test_a_cut_compressed_file_yields_what_was_read_and_then_a_failure(folder: Path):
    whole = gzip.compress(b"".join(b'{"text": "%06d"}\n' % n for n in range(200_000)))
    (folder / "rows.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    found = records(ROWS)
    assert len(found) > 100
    assert found[-1].failure.startswith("unreadable: after line ")
    assert all(r.failure is None for r in found[:-1])


def test_a_file_that_is_no_parquet_and_one_too_large_are_documents_with_a_failure(folder: Path):
    (folder / "t.parquet").write_bytes(b"PAR1 no")
    assert records(TABLE)[0].failure.startswith("unreadable: ")
    (folder / "pages" / "a.html").write_bytes(b"x" * 1_000_001)
    small = PAGES.model_copy(update={"max_mb": 1})
    assert records(small)[0].failure == "too_large: more than 1 MB"


def test_the_members_of_a_zip_are_documents(folder: Path):
    with zipfile.ZipFile(folder / "pages.zip", "w") as archive:
        archive.writestr("a/b.html", "<p>B")
        archive.writestr("big.html", b"x" * 1_000_001, zipfile.ZIP_DEFLATED)
    members = records(Source(name="z", path="pages.zip", format="zip", media="html", max_mb=1))
    assert [(r.locator, r.payload, r.failure) for r in members] == [
        ("pages.zip!a/b.html", b"<p>B", None),
        ("pages.zip!big.html", None, "too_large: more than 1 MB"),
    ]


def test_without_payload_the_locators_are_the_same(folder: Path):
    for source in (PAGES, ROWS, TABLE):
        bare = records(source, with_payload=False)
        assert [r.locator for r in bare] == [r.locator for r in records(source)]


def test_a_users_mistakes_are_named(folder: Path):
    with pytest.raises(UserError, match=r"source x: nowhere/\*\.html: no such file"):
        list_files([Source(name="x", path="nowhere/*.html", format="html")])
    with pytest.raises(UserError, match="used twice"):
        list_files([PAGES, PAGES])
    with pytest.raises(UserError, match=r"pages/a\.html is matched by two"):
        list_files([Source(name="x", path=["pages", "pages/*.html"], format="html")])


def test_the_fingerprint_follows_settings_and_files(folder: Path):
    before = sources_fingerprint([PAGES])
    assert before == sources_fingerprint([PAGES])
    assert before != sources_fingerprint([PAGES.model_copy(update={"kind": "news"})])
    (folder / "pages" / "a.html").write_bytes(b"<p>changed</p>")
    assert before != sources_fingerprint([PAGES])


def test_files_are_shared_out_by_size_and_none_is_lost(folder: Path):
    files = list_files([PAGES, ROWS, TABLE])
    shares = balance(files, 3)
    assert sorted(f.locator for share in shares for f in share) == sorted(f.locator for f in files)
    assert all(shares)


def test_spark_reads_the_same_rows_for_any_number_of_partitions(folder: Path, spark: SparkSession):
    sources = [PAGES, ROWS, TABLE]

    def rows(**options):
        frame = read_sources(spark, sources, **options)
        assert frame.columns == RAW.names
        return sorted(frame.collect(), key=lambda row: row.doc_id)

    one, three = rows(partitions=1), rows(partitions=3)
    assert one == three
    assert len(one) == 2 + 6 + 3
    page = next(row for row in one if row.locator == "pages/a.html")
    assert page.doc_id == document_id("pages", "pages/a.html")
    assert (page.source, page.lang, page.kind, page.media) == ("pages", "zh", "web", "html")
    bare = rows(with_payload=False)
    assert [row.doc_id for row in bare] == [row.doc_id for row in one]
    assert next(row for row in one if row.source == "rows").lang is None
    json.dumps([row.locator for row in one])
