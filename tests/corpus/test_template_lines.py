"""Template lines: counted over the documents of a source, whatever the partitions."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.document import DOCUMENT
from corpus.scan import ParquetDocuments
from corpus.settings import UserError, validate
from corpus.stage import StageContext, spark_schema
from corpus.template_lines.stage import TemplateLines, TemplateLineSettings, often


def documents(spark, rows):
    empty = dict.fromkeys(DOCUMENT.names)
    full = [{**empty, **row} for row in rows]
    values = [tuple(row[name] for name in DOCUMENT.names) for row in full]
    return spark.createDataFrame(values, spark_schema(DOCUMENT))


def site(number: int, source: str = "site", kind: str = "web") -> dict[str, str]:
    own = f"第{number}篇文章的正文：{'甲乙丙丁戊己庚辛壬'[number]}。"
    text = f"某某网欢迎您\n第一章 总则\n{own}\n阅读({number * 7})\n单位：元"
    return {"doc_id": f"{source}{number}", "source": source, "kind": kind, "text": text}


def decide(frame, partitions: int = 2):
    config = TemplateLineSettings(documents=5, share=0.5)
    stage = TemplateLines("template-lines", config, StageContext("run", 1, {}))
    rows = stage.decide(frame.repartition(partitions)).collect()
    return {row["doc_id"]: row for row in rows}


def test_a_line_of_many_documents_is_cut_and_counted(spark, tmp_path):
    rows = [
        *(site(n) for n in range(9)),
        {"doc_id": "bare", "source": "site", "kind": "web", "text": "某某网欢迎您\n阅读(1)"},
        {"doc_id": "other", "source": "other", "kind": "web", "text": "某某网欢迎您\n正文。"},
        *(site(n, "laws", "law") for n in range(6)),
        {"doc_id": "none", "source": "site", "kind": "web", "text": None},
    ]
    decided = decide(documents(spark, rows))
    assert len(decided) == len(rows)
    # What is on the allow-list stays, and so does what other sources or kinds say.
    assert decided["site4"]["text"] == "第一章 总则\n第4篇文章的正文：戊。\n单位：元"
    assert decided["site4"]["template_edits"] == {"template-line": 6 + 6}
    assert decided["other"]["text"] == "某某网欢迎您\n正文。"
    assert decided["laws3"]["text"] == site(3)["text"]
    assert decided["bare"]["verdict"]["rule"] == "template-line"
    assert decided["none"]["verdict"] is None
    assert sum(row["verdict"] is not None for row in decided.values()) == 1
    again = decide(documents(spark, rows), 7)
    assert {key: row["text"] for key, row in again.items()} == {
        key: row["text"] for key, row in decided.items()
    }
    # And whoever reads them.
    empty = dict.fromkeys(DOCUMENT.names)
    table = pa.Table.from_pylist([{**empty, **row} for row in rows], DOCUMENT)
    pq.write_table(table, tmp_path / "documents.parquet", row_group_size=5)
    config = TemplateLineSettings(documents=5, share=0.5)
    stage = TemplateLines("template-lines", config, StageContext("run", 1, {}))
    read = stage.decide_from(ParquetDocuments(spark, str(tmp_path))).collect()
    assert {row["doc_id"]: row for row in read} == decided


def test_a_template_reaches_both_limits():
    names = np.array([7, 5, 9, 7, 5, 3], np.uint64)
    sources = np.array([1, 1, 2, 1, 1, 2])
    documents = np.array([2, 4, 5, 3, 6, 4], np.uint64)
    config = TemplateLineSettings(documents=5, share=0.1)
    # 5 stands in ten of a hundred documents, 7 in five, which are too few; 9 in five of 50.
    found = often(names, sources, documents, {1: 100, 2: 50}, config)
    assert found.tolist() == [5, 9]
    assert often(names[:0], sources[:0], documents[:0], {}, config).tolist() == []


def test_few_documents_have_no_template(spark):
    decided = decide(documents(spark, [site(n) for n in range(4)]))
    assert decided["site1"]["text"] == site(1)["text"]


def test_a_wrong_pattern_is_one_clear_error():
    with pytest.raises(UserError, match="no regular expression"):
        validate({"allow": ["("]}, TemplateLineSettings, "recipe.yaml")
