"""Evaluation items: read in their formats, found where they stand, and not elsewhere."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from corpus.decontaminate.items import Item, read_items
from corpus.decontaminate.stage import Decontaminate, DecontaminateConfig
from corpus.settings import UserError
from corpus.stage import StageContext

LONG = (
    "Suppose that an expansionary fiscal policy leads to a large increase in real output and a "
    "small increase in the price level. From this it can be inferred that"
)
HAN = "下列各项中，会引起企业资产总额和负债总额同时减少的经济业务是____。"
ITEMS: list[dict[str, Any]] = [
    {"question": LONG, "choices": ["inflation had begun", "demand had shifted"], "answer": 0},
    {
        "question": "DNA ligase is",
        "choices": [
            "an enzyme that joins fragments in normal DNA replication",
            "an enzyme of bacterial origin which cuts DNA at defined base sequences",
        ],
        "answer": 0,
    },
    {"question": HAN, "A": "用银行存款偿还应付账款", "B": "收到投资", "answer": "A"},
]


@pytest.fixture
def items(tmp_path: Path) -> str:
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps(item, ensure_ascii=False) for item in ITEMS))
    return str(path)


def judged(items: str, texts: list[str | None]) -> list[dict[str, Any] | None]:
    stage = Decontaminate(
        "decontaminate",
        DecontaminateConfig(items=(items,)),
        StageContext(run_dir="", seed=0, sources={}),
    )
    ids = [str(k) for k in range(len(texts))]
    batch = pa.record_batch({"doc_id": ids, "text": pa.array(texts, pa.string())})
    result = stage.process(batch)
    assert result["doc_id"].to_pylist() == ids
    return result["verdict"].to_pylist()


def test_items_are_found_reformatted_and_named(items: str) -> None:
    filler = "Rates rose again in the quarter, and the bank said so. " * 300
    texts: list[str | None] = [
        filler + LONG.upper().replace(".", " . ") + filler,
        "Q: DNA ligase is\n(A) {}\n(B) {}".format(*ITEMS[1]["choices"]),
        "第3题 下列各项中,会引起 企业资产总额 和负债总额同时减少的经济业务是( )",
        filler,
        "",
        None,
    ]
    verdicts = judged(items, texts)
    named = [verdict and dict(verdict["evidence"])["item"] for verdict in verdicts]
    assert named == ["items.jsonl#1", "items.jsonl#2", "items.jsonl#3", None, None, None]
    assert verdicts[0] is not None
    assert (verdicts[0]["rule"], verdicts[0]["threshold"]) == ("evaluation_item", 0.8)


def test_what_only_resembles_an_item_stays(items: str) -> None:
    scattered = LONG.split()
    filler = " the committee also discussed many other matters at length" * 8
    texts: list[str | None] = [
        "DNA ligase is an enzyme that joins strands.",  # the short stem alone
        "An expansionary fiscal policy leads to a large increase in real output, some say.",
        # every n-gram of the question, but each far from the next
        filler.join(" ".join(scattered[k : k + 5]) for k in range(len(scattered) - 4)),
        "企业资产总额和负债总额同时减少的情形很多，例如偿还债务。",
    ]
    assert judged(items, texts) == [None] * 4


def test_the_formats_of_the_usual_sets(tmp_path: Path) -> None:
    (tmp_path / "ceval_val.csv").write_text(
        "\ufeffid,question,A,B,C,D,answer\n0,题干一,甲,乙,丙,丁,B\n", encoding="utf-8"
    )
    (tmp_path / "mmlu_header.csv").write_text(
        "question,choice0,choice1,choice2,choice3,answer\nstem,w,x,y,z,2\n"
    )
    (tmp_path / "mmlu_plain.csv").write_text('"stem, two",w,x,y,z,C\n')
    (tmp_path / "list.json").write_text(json.dumps([{"query": "q", "options": {"A": "1"}}]))
    assert read_items((str(tmp_path / "*"),)) == [
        Item("ceval_val.csv#1", "题干一", ("甲", "乙", "丙", "丁")),
        Item("list.json#1", "q", ("1",)),
        Item("mmlu_header.csv#1", "stem", ("w", "x", "y", "z")),
        Item("mmlu_plain.csv#1", "stem, two", ("w", "x", "y", "z")),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "bad.jsonl:1: is not JSON"),
        ('{"a": 1}', "bad.jsonl:1: has no question"),
        (None, "no such file"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_items((str(path),))


def test_cutting_leaves_the_rest_of_the_document(items: str) -> None:
    stage = Decontaminate(
        "decontaminate",
        DecontaminateConfig(items=(items,), action="cut"),
        StageContext(run_dir="", seed=0, sources={}),
    )
    assert stage.output_schema().names == ["doc_id", "evaluation_items", "text", "verdict"]
    above, below = "An exam of last year, with notes.", "The answer was disputed; see below."
    texts = [
        f"{above}\n{LONG}\n(A) inflation had begun\n\n{below}",
        f"{above}\n{HAN}\n{LONG}\n{below}",
        LONG,
        below,
        None,
    ]
    batch = pa.record_batch({"doc_id": list("abcde"), "text": pa.array(texts, pa.string())})
    result = stage.process(batch)
    assert result["text"].to_pylist() == [
        f"{above}\n(A) inflation had begun\n\n{below}",
        f"{above}\n{below}",
        "",
        below,
        None,
    ]
    assert result["evaluation_items"].to_pylist() == [1, 2, 1, 0, 0]
    rules = [verdict and verdict["rule"] for verdict in result["verdict"].to_pylist()]
    assert rules == [None, None, "evaluation_item", None, None]
