"""Labelled sentences for the harm classifier, and the small word lists beside them.

The sentences are abusive because the classifier has to know abuse; handles in the English ones
become `@user`. No comment that is a document of the samples is among them.
"""

import csv
import hashlib
import html
import re
from pathlib import Path

from material import CHOSEN, Row, by_hash, read_csv

SIZES = {"train": 3000, "dev": 600, "test": 600}
# Of 1,000 sentences: so many abusive and calm comments, and so many calm sentences of documents.
PER_THOUSAND = {
    ("COLDataset", "offensive"): 200,
    ("COLDataset", "normal"): 200,
    ("davidson", "hate"): 100,
    ("davidson", "offensive"): 120,
    ("davidson", "normal"): 120,
    ("laws", "normal"): 60,
    ("tutorials", "normal"): 60,
    ("poetry", "normal"): 20,
    ("finance-qa", "normal"): 60,
    ("report-qa", "normal"): 60,
}
ENGLISH = ("davidson", "report-qa")
DAVIDSON = {"0": "hate", "1": "offensive", "2": "normal"}
# list -> its file; the lists of politicians' names, of web addresses and of "common filters" of
# the same collections are left out: they name people, not harm.
LEXICONS = {
    "abuse.zh.txt": "LDNOOBW/zh",
    "profanity.en.txt": "LDNOOBW/en",
    "sexual.zh.txt": "sensitive-stop-words/色情类.txt",
    "weapons.zh.txt": "sensitive-stop-words/涉枪涉爆违法信息关键词.txt",
    "advertising.zh.txt": "sensitive-stop-words/广告.txt",
}
MOST_CALM_DOCUMENTS = 3  # a term that more calm documents than this hold is a common word


def write_splits(harm: Path, calm: dict[str, list[Row]], out: Path) -> None:
    """Writes `harm-{train,dev,test}.csv`: text, label (normal, offensive, hate), lang, source."""
    pools: dict[str, list[Row]] = {}
    seen: set[str] = set()  # the collection's own splits share a few comments
    for split in ("test", "dev", "train"):
        rows = [row for row in cold(harm, split) if letters(row["text"]) not in seen]
        seen.update(letters(row["text"]) for row in rows)
        pools[split] = rows
    tweets: list[Row] = []
    for row in read_csv(harm / "davidson-hate-speech/data/labeled_data.csv"):
        label = DAVIDSON[row["class"]]
        tweets.append({"text": tweet(row["tweet"]), "label": label, "source": "davidson"})
    for row in once(tweets) + [line for name in calm for line in sentences(name, calm[name])]:
        pools[split_of(row["text"])].append(row)
    out.mkdir(parents=True, exist_ok=True)
    for split, size in SIZES.items():
        rows = []
        for (source, label), share in PER_THOUSAND.items():
            fit = [r for r in pools[split] if (r["source"], r["label"]) == (source, label)]
            rows += by_hash(fit, "text")[: share * size // 1000]
        with (out / f"harm-{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("text", "label", "lang", "source"))
            for row in by_hash(rows, "text"):
                lang = "en" if row["source"] in ENGLISH else "zh"
                writer.writerow((row["text"], row["label"], lang, row["source"]))


def corpus_comments(rows: list[Row]) -> list[Row]:
    """The 40 abusive and 50 calm comments that the samples hold as documents."""
    ordered = by_hash(rows, "TEXT")
    abusive = [row for row in ordered if row["label"] == "1"][:40]
    calm = [row for row in ordered if row["label"] == "0"][:50]
    return by_hash(abusive + calm, "TEXT")


def cold(harm: Path, split: str) -> list[Row]:
    rows = read_csv(harm / f"COLDataset/{split}.csv")
    kept_out = {row["TEXT"] for row in corpus_comments(long_comments(harm))}
    labelled = [
        {
            "text": row["TEXT"].strip(),
            "label": "offensive" if row["label"] == "1" else "normal",
            "source": "COLDataset",
        }
        for row in rows
        if row["TEXT"] not in kept_out
    ]
    return once(labelled)


def long_comments(harm: Path) -> list[Row]:
    return [row for row in read_csv(harm / "COLDataset/test.csv") if len(row["TEXT"]) >= 30]


def tweet(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"@\w+", "@user", html.unescape(text))).strip()


def sentences(source: str, rows: list[Row]) -> list[Row]:
    """One sentence or line of 15 to 160 characters of each document, the same one each time."""
    found = []
    for row in by_hash(rows)[:900]:
        parts = re.split(r"(?<=[。！？])|(?<=[.!?]) |\n", row["text"])
        fit = [part.strip() for part in parts if 15 <= len(part.strip()) <= 160]
        plain = [part for part in fit if not re.search(r"[|<>{}`]|^[-#:*]", part)]
        if plain:
            text = plain[len(row["text"]) % len(plain)]
            found.append({"text": text, "label": "normal", "source": source})
    return once(found)


def once(rows: list[Row]) -> list[Row]:
    """The first of rows whose letters are the same, whatever their case, handles and signs."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(letters(row["text"]), row)
    first.pop("", None)
    return list(first.values())


def letters(text: str) -> str:
    return re.sub(r"@user|\W+", "", text).lower()


def split_of(text: str) -> str:
    place = hashlib.blake2b(text.encode()).digest()[0]
    return "train" if place < 192 else "dev" if place < 224 else "test"


def write_lexicons(harm: Path, calm: list[str], out: Path) -> None:
    """Writes one term a line, without terms of one character or that calm documents use."""
    out.mkdir(parents=True, exist_ok=True)
    for name, path in LEXICONS.items():
        lines = (harm / path).read_text("utf-8").splitlines()
        terms = {line.strip().strip(",，").lower() for line in lines}
        write_terms(out / name, {term for term in terms if not common(term, calm)})
    table = harm / "davidson-hate-speech/lexicons/refined_ngram_dict.csv"
    hateful = {
        row["ngram"].strip().lower() for row in read_csv(table) if float(row["prophate"]) > 0.6
    }
    write_terms(out / "hate.en.txt", {term for term in hateful if not common(term, calm)})


def write_terms(path: Path, terms: set[str]) -> None:
    path.write_text("".join(f"{term}\n" for term in sorted(terms)), "utf-8")


def common(term: str, calm: list[str]) -> bool:
    if len(term) < 2 or term in CHOSEN["not_harm"]:
        return True
    return sum(term in text for text in calm) > MOST_CALM_DOCUMENTS
