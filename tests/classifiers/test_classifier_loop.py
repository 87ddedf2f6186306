"""The loop around the model: sampling, annotation, agreement, evaluation, mining."""

import csv
import http.client
import json
import threading

import numpy as np
import pytest
import yaml

from classifiers import annotate
from classifiers.agreement import (
    Annotation,
    adjudicate,
    cohen_kappa,
    fleiss_kappa,
    overall_kappa,
    pairwise_kappa,
)
from classifiers.annotation_page import server
from classifiers.candidates import Candidate, draw, read_candidates, write_candidates
from classifiers.evaluate import calibration_error
from classifiers.evaluate import main as evaluate_main
from classifiers.mine import Mining, mine, quotas
from classifiers.sample import Sampling, sample
from classifiers.train import train
from classifiers.training import Training
from corpus.settings import UserError

GOOD = "我们 讨论 证券 市场 的 法律 制度 和 公司 年度 报告 财务 数据 学校 图书馆 天气".split()  # noqa: SIM905
BAD = "赌场 下注 澳门 彩票 稳赚 百家乐 返水 开户 送彩金 加微信 老虎机 六合彩".split()  # noqa: SIM905


def sentence(words, seed):
    return "".join(np.random.default_rng(seed).choice(words, 8))


def candidate(stratum, key, text):
    return Candidate(stratum, key, f"id-{key}", text, "gambling", "zh", "web", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("loop")
    (path / "words.txt").write_text("赌场\n百家乐\n六合彩\n", encoding="utf-8")
    rows = [
        {"id": f"calm{k}", "text": sentence(GOOD, k), "source": "web", "kind": "web"}
        for k in range(30)
    ]
    rows += [
        {"id": f"bad{k}", "text": "赌场" + sentence(BAD, 100 + k), "source": "web", "kind": "web"}
        for k in range(20)
    ]
    rows += [{**rows[-1], "id": "copy"}, {"id": "none", "text": None, "source": "web"}]
    law = "第三百零三条 以营利为目的，聚众开设赌场的，处五年以下有期徒刑。"
    rows += [{"id": "law", "text": law, "source": "laws", "kind": "law"}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (path / "documents.jsonl").write_text(text, encoding="utf-8")
    with (path / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "lang", "source"])
        writer.writerows([sentence(GOOD, s), "normal", "zh", "a"] for s in range(500, 580))
        writer.writerows([sentence(BAD, s), "gambling", "zh", "b"] for s in range(600, 660))
    config = Training(
        name="tiny",
        train=[str(path / "labels.csv")],
        dev_share=0.3,
        lexicons=[{"path": str(path / "words.txt"), "label": "gambling"}],
        search={"learning_rate": [0.5], "epochs": [10]},
        buckets=1024,
    )
    train(config, path / "model")
    return path


def test_sampling_draws_by_stratum_and_never_a_duplicate_twice(spark, folder):
    config = Sampling(
        documents=[str(folder / "documents.jsonl")],
        lexicons=[{"path": str(folder / "words.txt"), "label": "gambling"}],
        per_stratum=5,
        random_negatives=4,
        hard_negatives=3,
    )
    drawn = sample(config)
    strata = sorted({c.stratum for c in drawn})
    assert strata == ["hard/gambling/laws", "hits/gambling/web/many", "random/web"]
    assert sum(c.stratum.startswith("hits") for c in drawn) == 5
    assert sum(c.stratum.startswith("random") for c in drawn) == 4
    law = next(c for c in drawn if c.stratum.startswith("hard"))
    assert (law.doc_id, law.words, law.suggested) == ("law", "赌场", "gambling")
    assert len({c.text for c in drawn}) == len(drawn)
    # The same again from other partitions, and nothing twice from round to round.
    spark.read.json(str(folder / "documents.jsonl")).repartition(5).write.parquet(
        str(folder / "parquet")
    )
    again = sample(config.model_copy(update={"documents": (str(folder / "parquet"),)}))
    assert again == drawn
    write_candidates(folder / "first.csv", drawn)
    assert read_candidates(folder / "first.csv") == drawn
    more = sample(config.model_copy(update={"exclude": (str(folder / "first.csv"),)}))
    assert not {c.text for c in more} & {c.text for c in drawn}


def test_drawing_leaves_near_duplicates_out():
    texts = [sentence(GOOD, seed) * 3 for seed in range(4)]
    found = [candidate("a", str(k), text) for k, text in enumerate([*texts, texts[0] + "。"])]
    assert [c.key for c in draw(found, {"a": 9}, [])] == ["0", "1", "2", "3"]
    assert [c.key for c in draw(found, {"a": 2}, [texts[0] + "！"])] == ["1", "2"]


def test_mining_writes_rounds_that_do_not_repeat(spark, folder):
    config = Mining(
        documents=[str(folder / "documents.jsonl")], model=str(folder / "model"), budget=9,
        margin=0.5,
    )  # fmt: skip
    first, drawn = mine(config, folder / "rounds")
    assert first.name == "round-001"
    assert drawn
    assert {c.stratum.split("/")[0] for c in drawn} <= {"missed", "uncertain", "unlisted"}
    record = json.loads((first / "round.json").read_text())
    assert record["documents"] == 52
    assert sum(record["candidates"].values()) == len(drawn)
    second, more = mine(config, folder / "rounds")
    assert second.name == "round-002"
    assert not {c.text for c in more} & {c.text for c in drawn}


def test_quotas_follow_what_sources_hold():
    found = [candidate("missed/a", "0", "x")] * 30 + [candidate("missed/b", "0", "x")] * 10
    found += [candidate("uncertain/a", "0", "x")]
    assert quotas(found, 30) == {"missed/a": 8, "missed/b": 2, "uncertain/a": 10}


def test_kappas():
    left, right = list("aabbabab"), list("aabbbbab")
    assert cohen_kappa(left, right) == pytest.approx((7 / 8 - 0.5) / 0.5)
    assert cohen_kappa(list("aaa"), list("aaa")) == 1.0
    # Fleiss (1971): three raters, four texts.
    votes = [list("aaa"), list("aab"), list("bbb"), list("abb")]
    observed, chance = (1 + 1 / 3 + 1 + 1 / 3) / 4, 0.5
    assert fleiss_kappa(votes) == pytest.approx((observed - chance) / (1 - chance))
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([["a", "a"], ["a"]])


def test_agreement_and_conflicts():
    def said(doc_id, annotator, *labels):
        return Annotation(doc_id, annotator, labels, f"text {doc_id}", "zh", "web")

    entries = [said("1", "x", "a"), said("1", "y", "a"), said("2", "x", "a"), said("2", "y", "b"),
               said("3", "x", "b")]  # fmt: skip
    agreed, conflicts = adjudicate(entries)
    assert [(e.doc_id, e.labels) for e in agreed] == [("1", ("a",)), ("3", ("b",))]
    assert [[e.doc_id for e in entries] for entries in conflicts] == [["2", "2"]]
    assert pairwise_kappa(entries) == {("x", "y"): (2, 0.0)}
    assert overall_kappa(entries)[0] == 2
    assert overall_kappa(entries[-1:]) is None


def ask(port, path, body, token, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"X-Token": token, **({"Host": host} if host else {})}
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_the_page_labels_undoes_and_resumes(tmp_path):
    out = tmp_path / "annotations.jsonl"
    texts = [candidate("s", str(k), f"<b>text {k}</b>") for k in range(2)]

    def start():
        read = lambda: annotate.read_annotations([out]) if out.exists() else []  # noqa: E731
        page = server(texts, ["normal", "bad"], out, 0, read, annotate.annotation_line)
        threading.Thread(target=page.serve_forever, args=(0.01,), daemon=True).start()
        port = page.server_address[1]
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/")
        html = connection.getresponse().read().decode()
        return page, port, html.split('const token = "')[1].split('"')[0]

    page, port, token = start()
    ann = {"annotator": "Ann"}
    status, state = ask(port, "/next", ann, token)
    assert (status, state["done"], state["all"]) == (200, 0, 2)
    assert state["task"]["text"] == "<b>text 0</b>"
    first = state["task"]["id"]
    assert ask(port, "/label", {**ann, "id": first, "labels": ["bad"]}, token)[1]["done"] == 1
    assert ask(port, "/undo", ann, token)[1]["done"] == 0
    assert ask(port, "/label", {**ann, "id": first, "labels": ["normal"]}, token)[1]["done"] == 1
    assert ask(port, "/next", {"annotator": "Bo"}, token)[1]["done"] == 0
    assert ask(port, "/label", {**ann, "id": first, "labels": ["other"]}, token)[0] == 400
    assert ask(port, "/label", {**ann, "id": "?", "labels": ["bad"]}, token)[0] == 400
    assert ask(port, "/next", {"annotator": " "}, token)[0] == 400
    assert ask(port, "/next", ann, "wrong")[0] == 403
    assert ask(port, "/next", ann, token, host="evil.example")[0] == 403
    page.shutdown()
    page.server_close()

    page, port, token = start()  # resumes
    state = ask(port, "/next", ann, token)[1]
    assert (state["done"], state["task"]["id"]) == (1, "id-1")
    state = ask(port, "/label", {**ann, "id": "id-1", "labels": ["bad", "normal"]}, token)[1]
    assert (state["done"], state["task"]) == (2, None)
    page.shutdown()
    page.server_close()
    entries = annotate.read_annotations([out])
    assert [(e.doc_id, e.labels) for e in entries] == [
        ("id-0", ("normal",)),
        ("id-1", ("bad", "normal")),
    ]
    labels, conflicts = tmp_path / "labels.csv", tmp_path / "conflicts.csv"
    arguments = ["agree", str(out), "--out", str(labels), "--conflicts", str(conflicts)]
    assert annotate.main(arguments) == 0
    assert labels.read_text().splitlines()[1:] == [
        "<b>text 0</b>,normal,zh,web",
        "<b>text 1</b>,bad|normal,zh,web",
    ]


def test_label_studio_there_and_back(tmp_path):
    write_candidates(tmp_path / "c.csv", [candidate("s", "k", "文本")])
    tasks = tmp_path / "tasks.json"
    arguments = ["export", "--candidates", str(tmp_path / "c.csv"), "--labels", "normal,bad"]
    assert annotate.main([*arguments, "--out", str(tasks)]) == 0
    exported = json.loads(tasks.read_text())
    assert exported[0]["data"]["text"] == "文本"
    assert exported[0]["predictions"][0]["result"][0]["value"] == {"choices": ["gambling"]}
    assert '<Choice value="bad" hotkey="2"/>' in (tmp_path / "tasks.xml").read_text()
    choice = {"type": "choices", "value": {"choices": ["bad"]}}
    exported[0] |= {
        "id": 7,
        "annotations": [
            {"completed_by": {"email": "ann@example.org"}, "result": [choice]},
            {"completed_by": 2, "result": [choice], "was_cancelled": True},
        ],
    }
    tasks.write_text(json.dumps(exported))
    assert annotate.main(["import", str(tasks), "--out", str(tmp_path / "a.jsonl")]) == 0
    (entry,) = annotate.read_annotations([tmp_path / "a.jsonl"])
    assert entry == Annotation("id-k", "ann@example.org", ("bad",), "文本", "zh", "web")
    tasks.write_text("{}x")
    with pytest.raises(UserError, match="not a JSON export"):
        annotate.from_label_studio(tasks)


def test_a_table_is_filled_in_a_spreadsheet_and_read_back(tmp_path):
    write_candidates(tmp_path / "c.csv", [candidate("s", "k", "文本"), candidate("s", "l", "x,y")])
    table, out = tmp_path / "table.csv", tmp_path / "a.jsonl"
    arguments = ["export", "--candidates", str(tmp_path / "c.csv"), "--labels", "normal,bad"]
    assert annotate.main([*arguments, "--out", str(table)]) == 0
    assert table.read_text("utf-8-sig").splitlines() == [
        "doc_id,label,annotator,text,lang,source,words",
        "id-k,,,文本,zh,web,",
        'id-l,,,"x,y",zh,web,',
    ]
    table.write_text(table.read_text("utf-8-sig").replace("id-l,,,", "id-l,bad|normal,Bo,"))
    assert annotate.main(["import", str(table), "--out", str(out)]) == 0
    assert annotate.read_annotations([out]) == [
        Annotation("id-l", "Bo", ("bad", "normal"), "x,y", "zh", "web")
    ]
    table.write_text("text,label\nhello,not a label\n")
    with pytest.raises(UserError, match=r"table\.csv:2: not an annotation"):
        annotate.from_table(table)
    table.write_text("text\nhello\n")
    with pytest.raises(UserError, match="the columns `text` and `label`"):
        annotate.from_table(table)


def test_evaluation_page_escapes_and_hides_texts(folder, tmp_path):
    with (tmp_path / "test.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "lang", "source"])
        writer.writerows([sentence(GOOD, s), "normal", "zh", "a"] for s in range(20))
        writer.writerows([sentence(BAD, s), "gambling", "zh", "b"] for s in range(20))
        writer.writerow(["<script>赌场百家乐</script>" * 3, "normal", "zh", "c"])
        writer.writerow([sentence(BAD, 600), "gambling", "zh", "b"])  # one of the training texts
    out, numbers = tmp_path / "page.html", tmp_path / "page.json"
    arguments = [str(folder / "model"), str(tmp_path / "test.csv"), "--out", str(out)]
    more = ["--train", str(folder / "labels.csv"), "--json", str(numbers)]
    assert evaluate_main([*arguments, *more]) == 0
    page = out.read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page[page.index("<details>") :]
    found = json.loads(numbers.read_text())
    assert found["leaks"] == 1
    assert found["texts"] == 41
    assert found["macro_f1"] > 0.9
    assert {row["slice"]: row["texts"] for row in found["slices"]["source"]} == {
        "a": 20,
        "b": 20,
        "c": 1,
    }
    (tmp_path / "test.csv").write_text("text,label\n好,strange\n")
    assert evaluate_main(arguments) == 2


def test_calibration_error():
    probabilities = np.array([0.95] * 10 + [0.05] * 10)
    truth = np.array([True] * 9 + [False] * 11)
    assert calibration_error(probabilities, truth) == pytest.approx(0.05)


def test_configurations_are_checked(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"documents": ["x"], "lexicons": []}))
    from classifiers.sample import main

    assert main([str(path), "--out", str(tmp_path / "o.csv")]) == 2
