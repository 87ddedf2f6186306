"""Training, folding, calibration and thresholds of the classifiers."""

import csv
import gzip
import json
from dataclasses import replace

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifiers import calibration, linear
from classifiers.background import read_background, unseen
from classifiers.joint import join
from classifiers.labels import Example, read_labels, split, without_leaks
from classifiers.model import (
    LONG_WINDOWS,
    FastText,
    load,
    quantise,
    sigmoid,
    train_table,
    word_slots,
)
from classifiers.scoring import score
from classifiers.thresholds import usual
from classifiers.tokens import token_text
from classifiers.train import _hardest, ensure_model, main, train
from classifiers.training import Training
from corpus.settings import UserError

GOOD = "我们 讨论 证券 市场 的 法律 制度 和 公司 年度 报告 财务 数据 学校 图书馆 天气".split()  # noqa: SIM905
BAD = "赌场 下注 澳门 彩票 稳赚 百家乐 返水 开户 送彩金 加微信 老虎机 六合彩".split()  # noqa: SIM905


def sentences(words, size, seed):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(words, 8)) for _ in range(size)]


@pytest.fixture(scope="module")
def label_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "train.csv"
    rows = [(text, "normal") for text in sentences(GOOD, 150, 1)]
    rows += [(text, "gambling") for text in sentences(BAD, 80, 2)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "lang", "source"])
        writer.writerows([*row, "zh", "made"] for row in rows)
    return path


@pytest.fixture(scope="module")
def config(label_file):
    words = label_file.with_name("words.txt")
    words.write_text("赌场\n百家乐 # a comment\n六合彩,老虎机\n", encoding="utf-8")
    search = {"learning_rate": [0.5], "epochs": [10], "ngrams": [2], "dimension": [8]}
    lexicon = {"path": str(words), "label": "gambling"}
    return Training(
        name="tiny",
        train=[str(label_file)],
        lexicons=[lexicon],
        search=search,
        members=2,
        buckets=4096,
        dev_share=0.2,
        test_share=0.2,
        window=32,
    )


@pytest.fixture(scope="module")
def model_folder(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    train(config, folder)
    return folder


def test_training_twice_gives_the_same_bytes_even_on_a_used_heap(config, model_folder, tmp_path):
    dirt = [np.full(1 << shift, np.nan) for shift in range(8, 20)]
    del dirt
    train(config, tmp_path)
    names = sorted(path.name for path in model_folder.iterdir())
    assert names == ["card.json", "lexicon.tsv", "rows.npy", "slots.npy"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (model_folder / name).read_bytes()


def test_card_says_what_the_model_is(model_folder):
    card = json.loads((model_folder / "card.json").read_text())
    assert card["labels"] == ["gambling", "normal"]
    splits = card["trained_on"]["splits"]
    assert sum(sum(counts.values()) for counts in splits.values()) == 150 + 80 + 4
    assert card["metrics"]["test"]["macro_f1"] > 0.9
    assert card["chosen"]["ngrams"] == 2
    assert card["search"] == []  # one combination: nothing to search


def test_the_folded_table_scores_as_fasttext_does(label_file, tmp_path):
    examples = read_labels([label_file])
    texts = [example.text for example in examples]
    table = train_table(
        texts,
        [example.labels for example in examples],
        ["normal", "gambling"],
        FastText(ngrams=3, svm_share=0),
        4096,
        [3],
        keep_in=tmp_path,
    )
    trained = fasttext.load_model(str(tmp_path / "fasttext-0.bin"))
    probes = [*texts[::10], "没见过的字 unseen words", "百", ""]
    labels, values = trained.predict([token_text(text) for text in probes], k=-1)
    expected = [
        [dict(zip(names, row, strict=True))[f"__label__{name}"] for name in ("normal", "gambling")]
        for names, row in zip(labels, values, strict=True)
    ]
    logits = score(pa.array(probes), table, 1 << 20).document
    # fastText reads its sigmoid from a table of 512 steps between -8 and 8: off by up to 0.008.
    assert np.abs(sigmoid(logits) - np.array(expected)).max() < 0.009


def test_windows_find_a_paragraph_in_a_long_page(model_folder):
    model = load(str(model_folder))
    gambling = model.labels.index("gambling")
    calm, harm = "".join(sentences(GOOD, 40, 5)), "".join(sentences(BAD, 4, 6))
    page = calm + harm + calm
    scores = model.score(pa.array([page, calm, None, ""]))
    peak = model.probabilities(scores.peak)[:, gambling]
    whole = model.probabilities(scores.document)[:, gambling]
    assert peak[0] > 0.8 > 0.5 > whole[0]
    assert peak[1] < 0.5
    begin, end = scores.begin[0, gambling], scores.end[0, gambling]
    assert begin < len(calm) + len(harm)
    assert end > len(calm)
    assert end - begin <= 64
    assert scores.tokens.tolist()[2:] == [0, 0]


def test_scores_do_not_depend_on_the_batch(model_folder):
    model = load(str(model_folder))
    texts = sentences(GOOD + BAD, 20, 7)
    together = model.score(pa.array(texts)).peak
    alone = np.concatenate([model.score(pa.array([text])).peak for text in texts])
    assert (together == alone).all()
    assert (model.score(pa.array(["x", *texts]).slice(1)).peak == together).all()


def test_joined_models_score_as_each_does_alone():
    rng = np.random.default_rng(3)
    known = ["赌", "场"], ["场", "天", "气", "</s>"], ["赌", "学"], []
    orders, buckets, labels = (2, 2, 3, 2), (64, 64, 64, 16), (5, 2, 2, 3)
    tables = [
        quantise(rng.normal(size=(len(own) + size, count)), word_slots(own), len(own), order, 8)
        for own, order, size, count in zip(known, orders, buckets, labels, strict=True)
    ]
    joint = join(tables)
    assert len(joint.tables) == 3  # the first two only have n-grams and buckets in common
    texts = pa.array(["赌场天气", "", None, "学赌" * 300, *sentences(GOOD + BAD, 20, 4)])
    for table, found in zip(tables, joint.documents(texts), strict=True):
        assert (found == score(texts, table, 1 << 40).document).all()
    windows = score(texts, joint.tables[0], 32)
    for table, (_, columns, scale) in zip(tables[:2], joint.places[:2], strict=True):
        alone = score(texts, table, 32)
        assert (windows.peak[:, columns] * np.float32(scale) == alone.peak).all()
        assert (windows.begin[:, columns] == alone.begin).all()


def test_quantising_to_bytes_keeps_the_weights_nearly():
    weights = np.random.default_rng(0).normal(size=(20, 2))
    for bits, tolerance in ((8, 1 / 127), (16, 1 / 32767)):
        table = quantise(weights, word_slots(["a", "b", "c", "d"]), 4, 2, bits)
        error = np.abs(table.rows * table.scale - weights).max()
        assert error <= 0.5 * tolerance * np.abs(weights).max() + 1e-12


def test_the_second_opinion_finds_the_separating_features():
    texts = ["好 天气", "好 心情", "坏 天气", "坏 心情"] * 5
    truth = np.array([[False], [False], [True], [True]] * 5)
    slots = word_slots(["好", "坏", "天", "气", "心", "情", "</s>"])
    features = linear.extract(texts, slots, 7, 16, 1)
    assert features.offsets.tolist()[:3] == [0, 4, 8]
    weights = linear.nb_svm(features, truth, 23, 1.0, 0)
    assert weights[0, 0] < -0.5
    assert weights[1, 0] > 0.5
    assert np.abs(weights[[2, 3, 4, 5, 6], 0]).max() < 1e-6  # as frequent with as without
    assert ((linear.scores(features, weights) > 0) == truth).all()


def test_background_raises_thresholds_until_few_documents_are_flagged(config, tmp_path):
    rows = [{"text": sentence} for sentence in sentences([*GOOD, *BAD[:2]], 200, 11)]
    path = tmp_path / "ordinary.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    background = read_background([str(path)], 150)
    pieces, (held_out,) = background.pieces, background.held_out
    assert len(pieces) + len(held_out) == 150
    assert len(held_out) > 20
    assert len(unseen(str(path), 150)) == 50
    assert not set(unseen(str(path), 150)) & {*pieces, *held_out}
    changed = config.model_copy(update={"background": (str(path),), "background_alarms": 0.0})
    model = train(changed, tmp_path / "model")
    probabilities = model.peak_probabilities(model.score(pa.array(held_out)))
    assert (probabilities[:, 0] < model.thresholds[0]).all()
    path.write_bytes(gzip.compress(b'{"text": "x"}\n[]\n'))
    with pytest.raises(UserError, match=r"ordinary\.jsonl\.gz:2: not a JSON object"):
        read_background([str(path)], 10)


def test_documents_with_one_label_each(tmp_path):
    for name, words, seed in (("law", GOOD, 1), ("spam", BAD, 2)):
        lines = [json.dumps({"text": text}) + "\n" for text in sentences(words, 80, seed)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    config = Training(
        name="kind",
        documents=[
            {"path": str(tmp_path / f"{name}.jsonl"), "label": name} for name in ("law", "spam")
        ],
        negative="law",
        search={"learning_rate": [0.5], "epochs": [10]},
        buckets=1024,
    )
    model = train(config, tmp_path / "model")
    assert model.card["metrics"]["test"]["macro_f1"] > 0.9
    assert set(model.card["trained_on"]["splits"]["test"]) == {"law", "spam"}
    # The same documents as a run's Parquet, labels in a column; rows without one are passed over.
    rows = [
        {"text": json.loads(line)["text"], "kind": name}
        for name in ("law", "spam")
        for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()
    ]
    (tmp_path / "documents").mkdir()
    table = pa.Table.from_pylist([*rows, {"text": "x", "kind": None}, {"text": "x", "kind": "y"}])
    pq.write_table(table, tmp_path / "documents" / "part.parquet")
    documents = [{"path": str(tmp_path / "documents"), "column": "kind", "labels": ["law", "spam"]}]
    again = train(Training(**config.model_dump() | {"documents": documents}), tmp_path / "again")
    assert again.card["trained_on"]["splits"] == model.card["trained_on"]["splits"]
    assert again.card["metrics"]["test"]["macro_f1"] > 0.9
    with pytest.raises(ValueError, match="either `label` or `column`"):
        Training(name="x", documents=[{"path": "x"}])


def test_refitting_keeps_the_thresholds_and_learns_from_dev_too(config, model_folder, tmp_path):
    model = load(str(model_folder))
    refitted = train(config.model_copy(update={"refit": True}), tmp_path)
    assert refitted.thresholds.tolist() == model.thresholds.tolist()
    assert refitted.card["metrics"]["dev"] == model.card["metrics"]["dev"]
    assert refitted.table.rows.tobytes() != model.table.rows.tobytes()


def test_hard_negatives_are_the_pieces_that_look_most_harmful(config, tmp_path):
    # One document of calm pieces, and in its middle a stretch of the words that gambling has.
    law = "".join(sentences(GOOD, 300, 3)) + "".join(sentences(BAD, 8, 4))
    path = tmp_path / "law.jsonl"
    path.write_text("".join(json.dumps({"text": law + str(k)}) + "\n" for k in range(8)))
    more = read_background([str(path)], 8).more
    table = train_table(
        sentences(GOOD, 50, 5) + sentences(BAD, 50, 6),
        [frozenset(["normal"])] * 50 + [frozenset(["gambling"])] * 50,
        ["gambling", "normal"], FastText(epochs=10, svm_share=0.0), 1024, [1],
    )  # fmt: skip
    hard = _hardest(
        config.model_copy(update={"background_hard": 3}), table, ["gambling", "normal"], more
    )
    assert len(hard) == 3
    assert all(any(word in piece for word in BAD) for piece in hard)


def test_a_long_documents_best_window_counts_less(model_folder):
    model = load(str(model_folder))
    strict = replace(model, length_margin=1.0)
    text = "".join(sentences(GOOD, 1000, 3))
    scores = model.score(pa.array([text, text[:400]]))
    windows = scores.tokens[0] / (model.window / 2)
    before, after = model.peak_probabilities(scores), strict.peak_probabilities(scores)
    odds = np.log(before / (1 - before)) - np.log(after / (1 - after))
    assert odds[0] == pytest.approx(np.log(windows / LONG_WINDOWS))
    assert (before[1] == after[1]).all()


def test_threshold_is_the_lowest_with_the_wanted_precision():
    probabilities = np.array([0.99, 0.98, 0.97, 0.96, 0.95, 0.9, 0.8, 0.7, 0.6])
    truth = np.array([1, 1, 1, 1, 1, 0, 1, 0, 0], bool)
    assert calibration.threshold_for(probabilities, truth, 0.99) == 0.95
    assert calibration.threshold_for(probabilities, truth, 0.85) == 0.8
    assert calibration.threshold_for(probabilities, ~truth, 0.9) == calibration.NEVER
    assert calibration.threshold_for(probabilities / 3, truth, 0.9) == calibration.LEAST


def test_usual_is_what_all_but_one_in_fifty_of_a_labels_texts_reach():
    probabilities = np.column_stack([np.arange(200) / 200, np.full(200, 0.3), np.full(200, 0.9)])
    truth = np.zeros((200, 3), bool)
    truth[100:, 0], truth[:10, 1], truth[:9, 2] = True, True, True
    assert usual(probabilities, truth).tolist() == [101 / 200, 0.3, 0.0]


def test_platt_scaling_recovers_the_odds():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=20000).astype(np.float32)
    truth = rng.random(20000) < sigmoid(2.0 * logits - 1.0)
    slope, intercept = calibration.platt(logits, truth)
    assert slope == pytest.approx(2.0, abs=0.1)
    assert intercept == pytest.approx(-1.0, abs=0.1)
    assert calibration.platt(logits, np.zeros(20000, bool)) == (1.0, 0.0)


def test_average_precision_and_f1():
    truth = np.array([1, 0, 1, 0], bool)
    assert calibration.average_precision(np.array([0.9, 0.8, 0.7, 0.1]), truth) == pytest.approx(
        (1 + 2 / 3) / 2
    )
    given = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], bool)
    both = np.column_stack([truth, np.zeros(4, bool)])
    assert calibration.f1_scores(both, given).tolist() == [0.5, 0.0]


def test_splits_keep_near_duplicates_together():
    base = sentences(GOOD, 60, 9)
    texts = [*base, *(text[:-1] + "。" for text in base)]
    examples = [Example(text, frozenset(["normal"]), "zh", "made") for text in texts]
    sides = split(examples, 0.3, 0.3, 1)
    assert sum(len(side) for side in sides) == 120
    assert min(len(side) for side in sides) > 10
    for example in sides[1]:
        assert not any(other.text[:-2] == example.text[:-2] for other in sides[0] + sides[2])
    kept, leaks = without_leaks(examples, examples[60:62])
    assert (len(kept), leaks) == (116, 4)


def test_ensure_model_trains_once_and_again_after_a_change(config, tmp_path):
    import yaml

    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    first = ensure_model(str(path), tmp_path / "models")
    written = (first / "card.json").stat().st_mtime_ns
    assert ensure_model(str(path), tmp_path / "models") == first
    assert (first / "card.json").stat().st_mtime_ns == written
    path.write_text(yaml.safe_dump({**config.model_dump(mode="json"), "seed": 18}))
    assert ensure_model(str(path), tmp_path / "models") != first


def test_mistakes_are_told_in_one_line(label_file, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(f"name: x\ntrain: [{label_file}]\nnegative: clean\n")
    assert main([str(path), "--out", str(tmp_path / "m")]) == 2
    assert "'clean' (the key `negative`)" in capsys.readouterr().err
    path.write_text(f"name: x\ntrain: [{tmp_path}/none.csv]\n")
    assert main([str(path), "--out", str(tmp_path / "m")]) == 2
    assert "none.csv: cannot be read" in capsys.readouterr().err
    path.write_text("name: x\ntrain: [a.csv]\nbuckets: 1000\n")
    assert main([str(path), "--out", str(tmp_path / "m")]) == 2
    assert "config.yaml:3: buckets: must be a power of two" in capsys.readouterr().err
    bad = tmp_path / "bad.csv"
    bad.write_text("text,label\nhello,not a label\n")
    with pytest.raises(UserError, match=r"bad\.csv:2: .*'not a label'"):
        read_labels([bad])
    with pytest.raises(UserError, match="no whole model here"):
        load(str(tmp_path))
