"""Makes everything under `samples/` again, byte for byte, from the folder the originals lie in.

    python samples/build.py --data DIR [--out DIR]

`DIR` holds the public collections that README.md lists, as their projects publish them (`text/`,
`html/`, `pdf/`, `harm/`, `eval/`, `tokenizers/`, `qa.tar.gz`). Nothing here writes a document:
texts are chosen, cut, packed together, rendered or encoded anew, and README.md says which. All
choices are fixed: an explicit list, or the order of a hash of the original's id.

The three parts: text rows (this file), pages and PDF files (`pages.py`), labelled sentences and
word lists (`harm_labels.py`).
"""

import argparse
import shutil
import tarfile
import tempfile
from pathlib import Path

import harm_labels
import pages
from material import CHOSEN, Row, by_hash, read_csv, read_json, read_rows, statute, write_jsonl
from wealth import chapter_text

ARCHIVES = (
    "qa",
    "html/defuddle",
    "html/sec-filings",
    "pdf/docling",
    "pdf/icdar2013-and-camelot",
    "eval/MMLU",
)
WITH_FORMULAS = "recommendation-system/getting-started.md"
BUILT = ("html", "pdf", "text", "labels", "eval", "tokenizer")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the originals")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to build")
    args = parser.parse_args()
    # MuPDF locks a file with random numbers: the one that is here already stays as it is.
    locked = args.out / "pdf/hard/password.pdf"
    kept = locked.read_bytes() if locked.exists() else None
    for folder in BUILT:
        shutil.rmtree(args.out / folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = Path(scratch)
        for name in ARCHIVES:
            with tarfile.open(args.data / f"{name}.tar.gz") as archive:
                archive.extractall(unpacked, filter="data")
        build(args.data, unpacked, args.out)
    if kept is not None:
        locked.write_bytes(kept)


def build(data: Path, unpacked: Path, out: Path) -> None:
    """`unpacked` is where the archives of `ARCHIVES` were opened, each in its own folder."""
    general = [statute(row) for row in read_rows(data, "zh_general_law")]
    finance = [statute(row) for row in read_rows(data, "zh_finance_law")]
    tutorials = read_rows(data, "zh_general_docs")
    poems = read_rows(data, "zh_general_poetry")

    general_rows = laws(general, others=50, without=("公司法", "民法典"))
    finance_rows = laws(finance, others=45, without=())
    write_jsonl(out / "text/laws-general.jsonl.gz", general_rows)
    write_jsonl(out / "text/laws-finance.jsonl.gz", finance_rows)
    tutorial_rows = chosen_tutorials(tutorials)
    write_jsonl(out / "text/tutorials.jsonl.gz", tutorial_rows[:48], cut_line=20)
    poem_rows = chosen_poems(poems)
    write_jsonl(out / "text/poetry.jsonl.gz", poem_rows[:420])
    write_jsonl(out / "text/finance-qa.jsonl.gz", finance_qa(unpacked / "qa"))
    write_jsonl(out / "text/report-qa.jsonl.gz", report_qa(unpacked / "qa/TAT-QA"))
    write_jsonl(out / "text/comments.jsonl.gz", comments(data / "harm/COLDataset/test.csv"))
    questions = exam_questions(unpacked / "MMLU/test")
    write_jsonl(out / "eval/mmlu.jsonl", questions[:200])
    write_jsonl(out / "text/exam-dump.jsonl.gz", exam_pages(questions))
    books(read_rows(data, "en_finance_book"), out / "text/wealth-of-nations")
    filings_as_text(unpacked / "sec-filings/data", out / "text/filings")

    pages.filings(unpacked / "sec-filings", out / "html/filings")
    pages.english_pages(unpacked / "defuddle/fixtures", out / "html/pages")
    pages.statute_pages(general_rows, general, out / "html/statutes")
    pages.tutorial_pages(tutorial_rows[40:58], out / "html/tutorials")
    pages.poem_pages(poem_rows[400:460], out / "html/poetry")
    pages.hazards(data / "harm/sensitive-stop-words/广告.txt", general_rows, out / "html/hazards")
    pages.reports(unpacked, out / "pdf/reports")
    pages.statute_files(finance_rows, finance, out / "pdf/statutes")
    pages.hard_files(unpacked, finance_rows, out / "pdf/hard")

    used = {row["id"] for row in general_rows + finance_rows + tutorial_rows + poem_rows}
    calm = {
        "laws": [row for row in general if row["id"] not in used],
        "tutorials": [row for row in tutorials if tutorial_id(row) not in used],
        "poetry": [row for row in poems if poem_id(row) not in used],
        "finance-qa": finance_qa(unpacked / "qa", start=1200, packs=300),
        "report-qa": report_qa(unpacked / "qa/TAT-QA", start=100, count=178),
    }
    harm_labels.write_splits(data / "harm", calm, out / "labels")
    english = read_rows(data, "en_finance_book") + calm["report-qa"]
    reference = [row["text"] for row in general + finance + tutorials + english]
    harm_labels.write_lexicons(data / "harm", reference, out / "labels/lexicon")

    (out / "tokenizer").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(
        data / "tokenizers/mistral-v1-32000.model", out / "tokenizer/mistral-v1-32000.model"
    )


def laws(rows: list[Row], others: int, without: tuple[str, ...]) -> list[Row]:
    """Every statute of which there are several versions, others of middling length, and copies.

    Three rows come a second time whole, and six cut short at 70 % of their length, as mirrors do.
    """
    rows = [row for row in rows if row["title"] not in without]
    titles = [row["title"] for row in rows]
    versions = [row for row in rows if titles.count(row["title"]) > 1]
    single = [
        row for row in rows if titles.count(row["title"]) == 1 and 1500 <= len(row["text"]) <= 5000
    ]
    picked = versions + by_hash(single)[:others]
    whole = [{**row, "id": f"{row['id']}#copy"} for row in by_hash(picked)[10:13]]
    cut = [
        {**row, "id": f"{row['id']}#cut", "text": row["text"][: len(row["text"]) * 7 // 10]}
        for row in by_hash(picked)[20:26]
    ]
    return picked + whole + cut


def tutorial_id(row: Row) -> str:
    return str(row["id"]).split("/src/", 1)[-1]


def chosen_tutorials(rows: list[Row]) -> list[Row]:
    """58 tutorials: the one with formulas last, so that it becomes a page."""
    fit = [row for row in rows if 2000 <= len(row["text"]) <= 6500 and "/zh/" in row["id"]]
    formulas = [row for row in rows if row["id"].endswith(WITH_FORMULAS)]
    others = [row for row in by_hash(fit) if row not in formulas][: 58 - len(formulas)]
    return [
        {"id": tutorial_id(row), "text": row["text"], "title": heading(row["text"])}
        for row in others + formulas
    ]


def heading(markdown: str) -> str:
    return next((line[2:].strip() for line in markdown.split("\n") if line.startswith("# ")), "")


def chosen_poems(rows: list[Row]) -> list[Row]:
    """The longer poems, in the order of the hash of their id."""
    fit = [row for row in rows if 100 <= len(row["text"]) <= 400]
    return [
        {
            "id": row["id"].split("/", 2)[-1],
            "text": row["text"],
            "title": row["text"].split("\n")[0],
        }
        for row in by_hash(fit)[:460]
    ]


def poem_id(row: Row) -> str:
    return str(row["id"]).split("/", 2)[-1]


def finance_qa(qa: Path, start: int = 0, packs: int = 90) -> list[Row]:
    """Investors' questions to listed companies, four consecutive ones a document, and advice."""
    answers = read_csv(qa / "FinTruthQA/dataset/FinTruthQA.csv")[start : start + 4 * packs]
    rows = []
    for first in range(0, len(answers), 4):
        pack = answers[first : first + 4]
        text = "\n\n".join(f"问：{r['QUES'].strip()}\n答：{r['ANS'].strip()}" for r in pack)
        rows.append({"id": f"FinTruthQA/{start + first}", "text": text})
    if start == 0:
        for part in ("consulting", "computing"):
            items = read_json(qa / f"DISC-FinLLM/data/{part}_part.json")
            rows += [dialogue(f"DISC-FinLLM/{part}/{n}", item) for n, item in enumerate(items)]
        for name in ("fin_data", "infer"):
            items = read_json(qa / f"Cornucopia/instruction_data/{name}.json", lines=True)
            rows += [dialogue(f"Cornucopia/{name}/{n}", item) for n, item in enumerate(items)]
    return rows


def dialogue(name: str, item: Row) -> Row:
    question = "\n".join(part for part in (item["instruction"], item["input"]) if part)
    return {"id": name, "text": f"问：{question}\n答：{item['output']}"}


def report_qa(tatqa: Path, start: int = 0, count: int = 60) -> list[Row]:
    """TAT-QA: a passage and a table of an annual report, then the questions asked about them."""
    rows = []
    for item in read_json(tatqa / "dataset_raw/tatqa_dataset_dev.json")[start : start + count]:
        table = "\n".join("| " + " | ".join(row) + " |" for row in item["table"]["table"])
        passage = "\n\n".join(paragraph["text"] for paragraph in item["paragraphs"])
        asked = "\n".join(
            f"Q: {q['question']}\nA: {readable(q['answer'])} {q['scale']}".rstrip()
            for q in item["questions"]
        )
        rows.append({"id": item["table"]["uid"], "text": f"{passage}\n\n{table}\n\n{asked}"})
    return rows


def readable(answer: object) -> str:
    return "; ".join(map(str, answer)) if isinstance(answer, list) else str(answer)


def comments(test_csv: Path) -> list[Row]:
    """90 comments of COLDataset's test split, one a document; none is among the labels."""
    rows = [row for row in read_csv(test_csv) if len(row["TEXT"]) >= 30]
    picked = harm_labels.corpus_comments(rows)
    return [{"id": f"COLDataset/test/{row['']}", "text": row["TEXT"]} for row in picked]


def exam_questions(folder: Path) -> list[Row]:
    """240 questions of 12 subjects of MMLU, 20 of each, the subjects in turn."""
    columns = [
        [
            {
                "question": row["question"],
                "choices": [row[f"choice{k}"] for k in range(4)],
                "answer": int(row["answer"]),
                "subject": subject,
            }
            for row in read_csv(folder / f"{subject}_test.csv")[:20]
        ]
        for subject in CHOSEN["exam_subjects"]
    ]
    return [column[n] for n in range(20) for column in columns]


def exam_pages(questions: list[Row]) -> list[Row]:
    """Six pages of ten questions each that are in `eval/mmlu.jsonl`, and four that are not."""
    starts = (0, 30, 60, 90, 120, 150, 200, 210, 220, 230)
    rows = []
    for start in starts:
        blocks = []
        for number, item in enumerate(questions[start : start + 10], 1):
            choices = "\n".join(f"{'ABCD'[k]}. {text}" for k, text in enumerate(item["choices"]))
            blocks.append(
                f"{number}. {item['question']}\n{choices}\nAnswer: {'ABCD'[item['answer']]}"
            )
        rows.append({"id": f"mmlu-{start:03d}", "text": "\n\n".join(blocks)})
    return rows


def books(rows: list[Row], out: Path) -> None:
    out.mkdir(parents=True)
    for row in rows:
        name = row["id"].rsplit("/", 1)[-1].removesuffix(".xhtml")
        if name in CHOSEN["chapters"]:
            (out / f"{name}.txt").write_text(chapter_text(row["text"]), "utf-8")


def filings_as_text(folder: Path, out: Path) -> None:
    out.mkdir(parents=True)
    shutil.copyfile(folder / "Apple.10-K.md", out / "apple-10-k-2024.md")
    for number in CHOSEN["filings_as_text"]:
        shutil.copyfile(folder / f"sgml/{number}.txt", out / f"{number}.txt")


if __name__ == "__main__":
    main()
