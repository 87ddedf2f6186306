"""The stages `language` and `harm` on Spark and on batches."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from classifiers.classify import Classify
from classifiers.cutting import prune
from classifiers.harm import Harm
from classifiers.language import Language
from classifiers.model import load
from classifiers.model_files import LEXICON, addresses, read_file
from classifiers.train import ensure_model
from corpus.dist import build_zip
from corpus.selection.stage import Select
from corpus.settings import UserError
from corpus.stage import StageContext, file_digest

ROOT = Path(__file__).resolve().parents[2]
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


def test_harmful_paragraphs_are_cut_and_the_page_stays(training, tmp_path):
    context = StageContext(str(tmp_path), 17, {})
    folder = ensure_model(str(training), tmp_path / "models")
    stage = Harm("harm", Harm.Config(model=str(folder), action="cut"), context)
    calm = ["".join(sentence(CALM, 10 * k + j) for j in range(6)) for k in range(6)]
    bad = sentence(HARM, 900) + "赌场"
    page = "\n".join([*calm[:3], bad, calm[3], bad + bad, *calm[4:]])
    mostly = "\n".join([calm[0], bad * 9, bad * 8])
    batch = pa.RecordBatch.from_pydict(
        {"doc_id": list("abcde"), "text": [page, "\n".join(calm), bad + "\n\n" + bad, mostly, None]}
    )
    rows = stage.process(batch).select(stage.output_schema().names).to_pylist()
    assert rows[0]["text"] == "\n".join(calm)
    assert rows[0]["verdict"] is None
    assert rows[0]["harm_label"] == "gambling"
    assert [page[cut["begin"] : cut["end"]] for cut in rows[0]["harm_cuts"]] == [bad, bad + bad]
    assert {cut["label"] for cut in rows[0]["harm_cuts"]} == {"gambling"}
    assert (rows[1]["text"], rows[1]["harm_cuts"]) == ("\n".join(calm), None)
    assert (rows[2]["verdict"]["rule"], rows[2]["harm_cuts"]) == ("harmful", None)
    assert dict(rows[2]["verdict"]["evidence"])["label"] == "gambling"
    share = 17 * len(bad) / len(mostly)
    assert rows[3]["verdict"]["rule"] == "harmful_share"
    assert (rows[3]["verdict"]["value"], rows[3]["verdict"]["threshold"]) == (share, 0.5)
    assert rows[3]["text"] == mostly
    assert (rows[4]["text"], rows[4]["verdict"]) == (None, None)
    alone = stage.process(batch.slice(0, 1)).to_pylist()[0]
    assert alone["harm_cuts"] == rows[0]["harm_cuts"]


def test_what_is_left_after_cutting_is_flagged_no_more(training, tmp_path):
    model = load(str(ensure_model(str(training), tmp_path / "models")))
    rng = np.random.default_rng(1)
    for seed in range(10):
        lines = [sentence(HARM if rng.random() < 0.3 else CALM, 50 * seed + k) for k in range(40)]
        pruned = prune("\n".join(lines), model, model.thresholds)
        left = model.peak_probabilities(model.score(pa.array([pruned.text])))[0]
        assert pruned.clean
        assert left[0] < model.thresholds[0]
        assert set(pruned.text.split("\n")) <= {*lines, ""}


def test_classify_says_what_a_page_is_and_when_it_does_not_know():
    config = Classify.Config(
        models={"kind": "kind", "domain": "domain"}, otherwise={"kind": "web"},
        scores_of={"domain": "finance"}, at_least={"domain": 0.2},
    )  # fmt: skip
    stage = Classify("classify", config, CONTEXT)
    law = "第一条 为了规范证券发行和交易行为，保护投资者的合法权益，根据宪法，制定本法。\n" * 8
    paper = "Abstract. In this paper we propose zxq. Introduction: wqk et al. References: pfft " * 3
    batch = pa.RecordBatch.from_pydict(
        {"doc_id": list("abcd"), "text": [law, paper, "The weather is nice", None]}
    )
    rows = stage.process(batch).to_pylist()
    assert [row["kind_label"] for row in rows] == ["law", "paper", "web", None]
    assert rows[0]["kind_score"] > 0.9 > 0.5 > rows[2]["kind_score"]
    # Surer than not, but less so than comments are: of a kind that the model does not know.
    tip = "今天教大家怎么清理手机里的垃圾文件：打开设置，找到存储，点一下清理就可以了。\n" * 4
    page = pa.RecordBatch.from_pydict({"doc_id": ["e"], "text": [tip]})
    sure = Classify("classify", Classify.Config(models={"kind": "kind"}), CONTEXT).process(page)
    assert sure["kind_label"].to_pylist() == ["social"]
    assert sure["kind_score"][0].as_py() > 0.5
    assert stage.process(page)["kind_label"].to_pylist() == ["web"]
    assert rows[0]["domain_score"] > 0.5
    assert rows[2]["verdict"] is None or rows[2]["verdict"]["rule"] == "domain"
    with pytest.raises(UserError, match="'knd' is not among `models`"):
        Classify("c", Classify.Config(models={"kind": "kind"}, otherwise={"knd": "web"}), CONTEXT)


def test_a_classifier_fills_domain_and_kind_where_the_source_left_them_open():
    stage = Select("select", Select.Config(fill={"kind": "kind_label"}), CONTEXT)
    batch = pa.RecordBatch.from_pydict(
        {
            "doc_id": ["a", "b", "c"],
            "text": ["x", "x", "x"],
            "lang": ["zh", "zh", "zh"],
            "domain": ["general", "general", "general"],
            "kind": ["book", None, None],
            "lang_detected": ["zh", "zh", "zh"],
            "kind_label": ["law", "law", None],
        }
    )
    rows = stage.process(batch).select(stage.output_schema().names).to_pylist()
    assert [row["final_kind"] for row in rows] == ["book", "law", None]
    assert [row["bucket"] for row in rows] == ["zh-general-book", "zh-general-law", None]
    assert rows[2]["verdict"]["rule"] == "no_bucket"


def test_shipped_models_are_read_from_the_zip_that_workers_get(tmp_path):
    archive = tmp_path / "lianjin.zip"
    build_zip(ROOT, archive)
    code = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]; "
        "sys.path_hooks = [h for h in sys.path_hooks if 'editable' not in repr(h)]; "
        f"sys.path.insert(0, {str(archive)!r}); "
        "import classifiers.model as m, classifiers.model_files as f; "
        "from corpus.stage import file_digest; "
        "assert m.__file__.startswith(sys.path[0]); "
        "print(len(m.load('harm').labels), len(f.read_file('harm', f.LEXICON))); "
        "print(*f.shipped_models(), *(file_digest(a) for a in f.addresses('harm')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        str(len(load("harm").labels)), str(len(read_file("harm", LEXICON))),
        "domain", "harm", "kind", "quality",
        *(file_digest(address) for address in addresses("harm")),
    ]  # fmt: skip


def test_a_missing_model_is_told_before_any_work(tmp_path):
    with pytest.raises(UserError, match="no whole model here"):
        Harm("harm", Harm.Config(model=str(tmp_path)), CONTEXT)
    with pytest.raises(ValueError, match="either `model`"):
        Harm.Config()
