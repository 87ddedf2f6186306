"""Paragraphs across documents: limits per source and overall, and what is left."""

import pyarrow as pa
from pyspark.sql import SparkSession

from corpus.dedup.stages import Paragraphs
from corpus.stage import StageContext

NOTICE = "本报告仅供参考，投资者据此操作，风险自担，本公司不承担任何责任。"
SHARED = "Past performance is no guarantee of future results, and capital is at risk."


def test_paragraphs_over_a_limit_go_but_for_one(spark: SparkSession) -> None:
    rows = [
        (f"a{n}", f"第{n}家公司的业绩好于预期，营业收入增长了百分之{n}十以上。\n{NOTICE}", "a")
        for n in range(4)
    ]
    rows += [("b0", f"另一来源只用过一次这段话。\n{NOTICE}", "b")]
    rows += [
        (f"{source}{n}", f"Report {n} of {source}\n\n{SHARED}\nEnd", source)
        for source in "cdef"
        for n in range(2)
    ]
    rows += [("g0", NOTICE, "a"), ("g1", "", "a"), ("g2", None, "a"), ("g3", "短\n短\n短", "a")]
    columns = dict(zip(("doc_id", "text", "source"), zip(*rows, strict=True), strict=True))
    config = Paragraphs.Config(per_source=3, overall=6)
    stage = Paragraphs("paragraphs", config, StageContext("", 0, {}))
    results = []
    for partitions in (1, 3):
        frame = spark.createDataFrame(pa.table(columns)).repartition(partitions)
        results.append({row.doc_id: row for row in stage.decide(frame).collect()})
    assert results[0] == results[1]
    decided = results[0]
    assert set(decided) == {doc_id for doc_id, _, _ in rows}
    before = {doc_id: text for doc_id, text, _ in rows}

    # In source a the notice stands in five documents, more than three: one keeps it.
    own = ["a0", "a1", "a2", "a3", "g0"]
    keepers = [d for d in own if decided[d].paragraphs_cut == 0]
    assert len(keepers) == 1
    for doc_id in own:
        row = decided[doc_id]
        if doc_id in keepers:
            assert (row.text, row.verdict) == (before[doc_id], None)
        elif doc_id == "g0":
            assert (row.verdict.rule, row.verdict.value) == ("repeated_paragraphs", 1.0)
        else:
            assert row.text == before[doc_id].split("\n")[0]
            assert (row.paragraphs_cut, row.paragraph_characters_cut) == (1, 28)
    # In source b it stands once; over all in six, no more than the limit.
    assert decided["b0"].text == before["b0"]
    # The English one stands in two documents of each of four sources: eight in all.
    shared = [f"{source}{n}" for source in "cdef" for n in range(2)]
    assert sum(decided[d].paragraphs_cut for d in shared) == 7
    assert {decided[d].text for d in shared if decided[d].paragraphs_cut} == {
        before[d].replace(SHARED + "\n", "") for d in shared if decided[d].paragraphs_cut
    }
    for doc_id in ("g1", "g2", "g3"):
        row = decided[doc_id]
        assert (row.text, row.paragraphs_cut, row.verdict) == (before[doc_id], 0, None)
