"""The stage `extract`: golden documents in, text or a reason out, every one accounted for."""

import pyarrow as pa
import pymupdf
import pytest

from corpus.document import RAW, document_id
from corpus.extract.documents import extract_document, extract_in_sandbox
from corpus.extract.settings import ExtractSettings
from corpus.extract.stage import Extract
from corpus.reading import Source, read_sources
from corpus.stage import StageContext

SENTENCES = [
    f"这是第{n}段正文，公司营业收入同比增长百分之十二，净利润大幅提升。" for n in "一二三四五"
]
PAGE = (
    "<html><head><title>年度报告</title></head><body><div class='nav'><a href='/'>首页</a></div>"
    "<article><h1>年度报告</h1>" + "".join(f"<p>{s}</p>" for s in SENTENCES) + "</article></body>"
)


def obstinate(request: dict, payload: bytes) -> dict:
    """Runs in the sandbox instead of extraction: hangs on one document."""
    while payload == b"hang":
        pass
    return extract_in_sandbox(request, payload)


class ObstinateExtract(Extract):
    function = f"{__name__}:obstinate"


def make_pdf(*pages: str, **save) -> bytes:
    document = pymupdf.open()
    for text in pages:
        page = document.new_page()
        page.insert_text((72, 100), text.split("\n"), fontname="china-s", fontsize=10)
    return document.tobytes(**save)


def raw(*rows: dict) -> pa.RecordBatch:
    base = {"source": "s", "media": "text", "lang": "zh", "extra": []}
    full = [
        {**base, "doc_id": document_id("s", str(n)), "locator": f"f{n}", **row}
        for n, row in enumerate(rows)
    ]
    return pa.RecordBatch.from_pylist(full, schema=RAW)


def run(batch: pa.RecordBatch, cls=Extract, **settings) -> list[dict]:
    stage = cls("extract", ExtractSettings(**settings), StageContext("runs/x", 1, {}))
    result = stage.process(batch)
    assert result.schema == stage.output_schema()
    assert result.column("doc_id").equals(batch.column("doc_id"))
    return result.to_pylist()


def test_golden_documents_of_each_kind_become_text():
    rows = run(
        raw(
            {"media": "html", "payload": PAGE.encode("gbk"), "kind": "news"},
            {"media": "pdf", "payload": make_pdf("".join(SENTENCES[:1]), "\n".join(SENTENCES[1:]))},
            {"payload": "# 标题\r\n\r\n".encode("gbk") + "".join(SENTENCES).encode("gbk")},
        )
    )
    assert [row["verdict"] for row in rows] == [None, None, None]
    for sentence in SENTENCES:
        assert all(sentence in row["text"] for row in rows)
    assert "首页" not in rows[0]["text"]
    assert [row["title"] for row in rows] == ["年度报告", None, "标题"]
    assert rows[0]["kind"] == "news"
    assert dict(rows[0]["extra"])["encoding"] == "gb18030"
    assert dict(rows[1]["extra"])["pages"] == "2"


def test_it_runs_on_spark_from_sources_to_text(tmp_path, monkeypatch, spark):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.html").write_bytes(PAGE.encode("gb18030"))
    (tmp_path / "b.txt").write_bytes(b"")
    sources = [
        Source(name="pages", path="a.html", format="html"),
        Source(name="texts", path="b.txt", format="text", domain="finance"),
    ]
    stage = Extract("extract", ExtractSettings(), StageContext("runs/x", 1, {}))
    rows = sorted(stage.decide(read_sources(spark, sources)).collect(), key=lambda r: r.locator)
    assert SENTENCES[0] in rows[0].text
    assert rows[0].verdict is None
    assert (rows[1].verdict.rule, rows[1].domain) == ("empty", "finance")


def test_every_failure_has_its_rule_and_evidence():
    locked = make_pdf("secret", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="u", owner_pw="o")
    scan = pymupdf.open()
    picture = pymupdf.Pixmap(pymupdf.csGRAY, pymupdf.IRect(0, 0, 50, 50))
    scan.new_page().insert_image(pymupdf.Rect(0, 0, 500, 700), pixmap=picture)
    rows = run(
        raw(
            {"failure": "bad_json: line 7: no", "payload": None},
            {"payload": b" \n\0"},
            {"payload": b"short"},
            {"media": "html", "payload": b"\x89PNG\r\n\x1a\n" + b"x" * 99},
            {"media": "pdf", "payload": b"%PDF-1.4 cut"},
            {"media": "pdf", "payload": locked},
            {"media": "pdf", "payload": scan.tobytes()},
            {"media": "html", "payload": b"<html><body><script>x()</script></body></html>"},
        )
    )
    verdicts = [row["verdict"] for row in rows]
    assert [v["rule"] for v in verdicts] == [
        "bad_json", "empty", "too_short", "not_html", "broken_pdf", "encrypted", "needs_ocr",
        "no_text",
    ]  # fmt: skip
    assert dict(verdicts[0]["evidence"]) == {"locator": "f0", "message": "line 7: no"}
    assert (verdicts[2]["value"], verdicts[2]["threshold"]) == (5, 50)
    assert rows[2]["text"] == "short"


def test_a_document_that_hangs_is_its_own_ledger_entry():
    payload = "".join(SENTENCES).encode()
    batch = raw({"payload": payload}, {"payload": b"hang"}, {"payload": payload})
    rows = run(batch, ObstinateExtract, timeout_s=1)
    assert [row["verdict"] and row["verdict"]["rule"] for row in rows] == [None, "timeout", None]


def test_what_the_source_says_wins_over_what_is_found():
    [row] = run(
        raw(
            {
                "media": "html",
                "payload": PAGE.encode(),
                "title": "given",
                "extra": [("encoding", "mine"), ("id", "7")],
            }
        )
    )
    assert row["title"] == "given"
    assert dict(row["extra"])["encoding"] == "mine"
    assert dict(row["extra"])["id"] == "7"


def test_headers_that_recur_are_dropped_and_tables_become_markdown():
    document = pymupdf.open()
    for number in range(4):
        page = document.new_page()
        page.insert_text((72, 40), f"Annual Report {2020 + number}")
        page.insert_text((72, 120), f"Body of page {number} says something of its own.")
        for x in (72, 172, 272):
            page.draw_line((x, 200), (x, 260))
        for y in (200, 230, 260):
            page.draw_line((72, y), (272, y))
        for n, (x, y) in enumerate([(80, 220), (180, 220), (80, 250), (180, 250)]):
            page.insert_text((x, y), f"cell{n}")
    found = extract_document("pdf", document.tobytes(), ExtractSettings())
    assert "Annual Report" not in found.text
    assert "Body of page 3 says something of its own." in found.text
    assert found.text.count("| cell0 | cell1 |\n| --- | --- |\n| cell2 | cell3 |") == 4


@pytest.mark.parametrize("media", ["html", "pdf", "text"])
def test_nonsense_never_raises(media):
    for payload in (b"", b"\0" * 10, bytes(range(256)) * 4, b"<" * 1000, b"%PDF-", b"\xff\xfe"):
        found = extract_document(media, payload, ExtractSettings())
        assert found.text or found.reason
