"""The stages `language` and `harm` on Spark and on batches."""

import csv

import numpy as np
import pyarrow as pa
import pytest
import yaml

from classifiers.harm import Harm
from classifiers.language import Language
from corpus.settings import UserError
from corpus.stage import StageContext

CONTEXT = StageContext("runs/none", 17, {})
CALM = "我们 讨论 证券 市场 的 法律 制度 和 公司 年度 报告 财务 数据 学校 图书馆 天气".split()  # noqa: SIM905
HARM = "赌场 下注 澳门 彩票 稳赚 百家乐 返水 开户 送彩金 加微信 老虎机 六合彩".split()  # noqa: SIM905


def sentence(words, seed):
    return "".join(np.random.default_rng(seed).choice(words, 8))


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harm")
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([sentence(CALM, seed), "normal"] for seed in range(100))
        writer.writerows([sentence(HARM, seed), "gambling"] for seed in range(100, 160))
    labels = str(folder / "labels.csv")
    (folder / "words.txt").write_text("赌场\n百家乐\n", encoding="utf-8")
    content = {
        "name": "tiny",
        "train": [labels],
        "dev_share": 0.3,
        "lexicons": [{"path": str(folder / "words.txt"), "label": "gambling"}],
        "search": {"learning_rate": [0.5], "epochs": [20], "ngrams": [2], "dimension": [8]},
        "buckets": 1024,
        "window": 32,
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_language_stage():
    texts = [
        "今天天气很好，我们去公园散步。",
        "这是繁體中文，請問您需要什麼幫助嗎？",
        "The quick brown fox jumps over the lazy dog.",
        "Das Wetter ist heute schön und warm, wir gehen spazieren.",
        "123",
        None,
    ]
    batch = pa.RecordBatch.from_pydict(
        {
            "doc_id": [str(k) for k in range(6)],
            "text": texts,
            "lang": ["zh", "zh", "zh", "en", "zh", None],
        }
    )
    stage = Language("language", Language.Config(drop_mismatch=True), CONTEXT)
    rows = stage.process(batch).to_pylist()
    assert [row["language"] for row in rows] == ["zh-Hans", "zh-Hant", "en", "other", None, None]
    assert [row["lang_detected"] for row in rows] == ["zh", "zh", "en", "other", None, None]
    rules = [row["verdict"] and row["verdict"]["rule"] for row in rows]
    assert rules == [None, None, "language_mismatch", "language", None, None]
    assert dict(rows[2]["verdict"]["evidence"])["source_says"] == "zh"
    assert (rows[3]["verdict"]["value"], rows[3]["verdict"]["threshold"]) == (0.0, 0.5)


def test_harm_stage_trains_scores_and_drops(spark, training, tmp_path):
    context = StageContext(str(tmp_path), 17, {})
    stage = Harm("harm", Harm.Config(train=str(training)), context)
    before = stage.fingerprint("x")
    calm, harm = "".join(sentence(CALM, seed) for seed in range(30)), sentence(HARM, 900) + "赌场"
    page = calm + harm * 2 + calm
    documents = spark.createDataFrame(
        [("a", calm), ("b", harm), ("c", page), ("d", None)], "doc_id string, text string"
    )
    rows = {row["doc_id"]: row for row in stage.decide(documents).collect()}
    assert stage.fingerprint("x") == before
    assert [rows[key]["verdict"] is None for key in "abcd"] == [True, False, False, True]
    assert rows["d"]["harm_score"] is None
    assert rows["a"]["harm_score"] < 0.5 < rows["b"]["harm_score"] < 1
    assert rows["b"]["harm_label"] == "gambling"
    verdict = rows["c"]["verdict"]
    assert verdict["rule"] == "harmful"
    assert verdict["value"] == rows["c"]["harm_score"] >= verdict["threshold"]
    evidence = verdict["evidence"]
    assert evidence["label"] == "gambling"
    assert "赌场 (gambling)" in evidence["words"]
    assert harm in page[int(evidence["begin"]) : int(evidence["end"])]

    folder = next((tmp_path / "models").iterdir())
    calm = Harm("harm", Harm.Config(model=str(folder), action="score"), context)
    assert [row["verdict"] for row in calm.decide(documents).collect()] == [None] * 4
    sparing = Harm("harm", Harm.Config(model=str(folder), ignore=["gambling"]), context)
    assert [row["verdict"] for row in sparing.decide(documents).collect()] == [None] * 4
    strict = Harm("harm", Harm.Config(model=str(folder), threshold=0.0), context)
    assert [row["verdict"] is None for row in strict.decide(documents).collect()] == [
        False, False, False, True,
    ]  # fmt: skip


def test_a_missing_model_is_told_before_any_work(tmp_path):
    with pytest.raises(UserError, match="no whole model here"):
        Harm("harm", Harm.Config(model=str(tmp_path)), CONTEXT)
    with pytest.raises(ValueError, match="either `model`"):
        Harm.Config()
