"""Annotate candidates: in the browser here, or in Label Studio; then agree on the labels.

  serve    a local page: one text at a time, hits marked, one key a label; several annotators
  export   candidates as Label Studio tasks (JSON) with the labelling interface (XML), or as a table
           (CSV) with an empty column `label`, to be filled in a spreadsheet
  import   Label Studio's export (JSON) or a filled table (CSV) as annotations (JSON lines)
  agree    Cohen's and Fleiss' kappa, labels where more than half agree, conflicts to adjudicate:
           serve them as candidates to a third person, and let all the files agree again

Annotations are JSON lines, one for each text and annotator: id, annotator, labels, text, lang,
source. The file is only ever appended to; of several lines for one text and annotator the last one
holds, and one without labels takes the earlier ones back.
"""

import argparse
import csv
import json
import sys
import webbrowser
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from classifiers.agreement import Annotation, adjudicate, overall_kappa, pairwise_kappa
from classifiers.annotation_page import server
from classifiers.candidates import draw_key, read_candidates
from classifiers.labels import LABEL
from corpus.settings import UserError, command


def read_annotations(paths: Iterable[Path]) -> list[Annotation]:
    """The annotations that hold in the JSON-lines files at `paths`.

    Raises:
        UserError: a file cannot be read, or a line is not an annotation.
    """
    last: dict[tuple[str, str], Annotation] = {}
    for path in paths:
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read: {error}") from error
        for number, line in enumerate(lines, 1):
            try:
                entry = parse_annotation(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}:{number}: not an annotation: {error}") from error
            last[entry.doc_id, entry.annotator] = entry
    return [entry for entry in last.values() if entry.labels]


def parse_annotation(row: dict[str, Any]) -> Annotation:
    """The annotation in a JSON object; ValueError, KeyError or TypeError if it is none."""
    labels = tuple(sorted({str(label) for label in row["labels"]}))
    if not all(LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"labels are made of letters, digits, _ and -, unlike {labels}")
    return Annotation(
        str(row["id"]), str(row["annotator"]), labels, str(row["text"]),
        str(row.get("lang", "")), str(row.get("source", "")),
    )  # fmt: skip


def annotation_line(entry: Annotation) -> str:
    """One line of an annotations file, with its newline."""
    row = {
        "id": entry.doc_id,
        "annotator": entry.annotator,
        "labels": list(entry.labels),
        "text": entry.text,
        "lang": entry.lang,
        "source": entry.source,
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


def label_studio_tasks(candidates: Path) -> list[dict[str, Any]]:
    """Label Studio tasks, one a candidate, what word lists or a model say as a prediction."""
    tasks = []
    for candidate in read_candidates(candidates):
        data = {
            "text": candidate.text,
            "id": candidate.doc_id,
            "lang": candidate.lang,
            "source": candidate.source,
            "words": candidate.words,
            "stratum": candidate.stratum,
        }
        task: dict[str, Any] = {"data": data}
        if candidate.suggested:
            result = {
                "from_name": "label",
                "to_name": "text",
                "type": "choices",
                "value": {"choices": [candidate.suggested]},
            }
            task["predictions"] = [{"model_version": "suggested", "result": [result]}]
        tasks.append(task)
    return tasks


def label_studio_interface(labels: Sequence[str]) -> str:
    """The labelling interface for those tasks: the text, and one key for each label."""
    choices = "\n".join(
        f"    <Choice value={quoteattr(label)} hotkey={quoteattr(str(number))}/>"
        for number, label in enumerate(labels, 1)
    )
    return (
        '<View>\n  <Text name="text" value="$text"/>\n'
        '  <Choices name="label" toName="text" choice="multiple" showInLine="true">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


def from_label_studio(path: Path) -> list[Annotation]:
    """The annotations in Label Studio's JSON export; cancelled and empty ones are left out.

    Raises:
        UserError: the file is not such an export.
    """
    try:
        tasks = json.loads(path.read_text("utf-8"))
        found = []
        for task in tasks:
            for entry in task.get("annotations", []):
                labels = {
                    choice
                    for result in entry.get("result", [])
                    for choice in result.get("value", {}).get("choices", [])
                }
                person = entry.get("completed_by", "")
                if isinstance(person, dict):
                    person = person.get("email") or person.get("id", "")
                if labels and not entry.get("was_cancelled"):
                    found.append(
                        parse_annotation(
                            {**task["data"], "id": task["data"].get("id") or task["id"],
                             "annotator": person, "labels": labels}
                        )
                    )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a JSON export of Label Studio: {error!r}") from error
    return found


def write_table(path: Path, candidates: Path) -> int:
    """Write candidates as a CSV whose column `label` is to be filled; return how many there are."""
    rows = read_candidates(candidates)
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # with a BOM, for spreadsheets
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("doc_id", "label", "annotator", "text", "lang", "source", "words"))
        for row in rows:
            values = ("", "", row.text, row.lang, row.source, row.words)
            writer.writerow((row.doc_id or draw_key(row.text, 0), *values))
    return len(rows)


def from_table(path: Path) -> list[Annotation]:
    """The annotations in a filled table; rows without a label are left out.

    Several labels are joined by |. Without a column `annotator` it is the file's name.

    Raises:
        UserError: the file cannot be read, or a row is none.
    """
    csv.field_size_limit(1 << 30)
    found = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                if not (row["label"] or "").strip():
                    continue
                labels = [label.strip() for label in row["label"].split("|")]
                key = row.get("doc_id") or draw_key(row["text"], 0)
                person = (row.get("annotator") or "").strip() or path.stem
                found.append(
                    parse_annotation({**row, "id": key, "annotator": person, "labels": labels})
                )
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    except KeyError as error:
        raise UserError(f"{path}:1: the columns `text` and `label` must be there") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}:{reader.line_num}: not an annotation: {error}") from error
    return found


def write_labels(path: Path, annotations: Iterable[Annotation]) -> None:
    """Write a label file (text, label, lang, source)."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("text", "label", "lang", "source"))
        for entry in annotations:
            writer.writerow((entry.text, "|".join(entry.labels), entry.lang, entry.source))


def write_conflicts(path: Path, conflicts: Iterable[Sequence[Annotation]]) -> None:
    """Write a CSV of texts without a majority: id, text, and who said what."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("doc_id", "text", "lang", "source", "votes"))
        for entries in conflicts:
            votes = "; ".join(f"{e.annotator}: {'|'.join(e.labels)}" for e in entries)
            first = entries[0]
            writer.writerow((first.doc_id, first.text, first.lang, first.source, votes))


def _labels(value: str) -> list[str]:
    labels = [label.strip() for label in value.split(",")]
    if not all(LABEL.fullmatch(label) for label in labels) or len(set(labels)) < len(labels):
        raise argparse.ArgumentTypeError("different labels of letters, digits, _ and -, by commas")
    if len(labels) > 9:
        raise argparse.ArgumentTypeError("at most nine labels, one for each key 1 to 9")
    return labels


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the four commands."""
    parser = argparse.ArgumentParser(
        prog="python -m classifiers.annotate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n"
        "  python -m classifiers.annotate serve --candidates candidates.csv \\\n"
        "      --labels normal,offensive,hate --out annotations.jsonl\n"
        "  python -m classifiers.annotate agree annotations.jsonl --out labels.csv "
        "--conflicts conflicts.csv",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    outs = {
        "serve": "annotations (JSON lines); what is in the file already is resumed",
        "export": "tasks: .json for Label Studio, its interface beside it as .xml, or .csv, whose "
        "column `label` is to be filled",
    }
    for name, text in (("serve", "annotate in the browser"), ("export", "write tasks")):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--candidates", type=Path, required=True, help="CSV with a column `text`")
        sub.add_argument("--labels", type=_labels, required=True, help="by commas, at most nine")
        sub.add_argument("--out", type=Path, required=True, help=outs[name])
        if name == "serve":
            sub.add_argument("--port", type=int, default=8765, help="on the loopback interface")
            sub.add_argument("--open", action="store_true", help="open the browser")
    sub = commands.add_parser("import", help="read Label Studio's export or a filled table")
    table = "its JSON file, or a CSV: without a column `annotator`, one person's, by its name"
    sub.add_argument("export", type=Path, help=table)
    sub.add_argument("--out", type=Path, required=True, help="annotations (JSON lines)")
    sub = commands.add_parser("agree", help="kappa, labels, conflicts")
    sub.add_argument("annotations", type=Path, nargs="+", help="JSON-lines files")
    sub.add_argument("--out", type=Path, required=True, help="label file (CSV)")
    sub.add_argument("--conflicts", type=Path, required=True, help="CSV of those without majority")
    options = parser.parse_args(arguments)
    if options.command == "serve":
        _serve(options)
    elif options.command == "export" and options.out.suffix == ".csv":
        count = write_table(options.out, options.candidates)
        print(f"{count} texts to label with {', '.join(options.labels)}: {options.out}")
    elif options.command == "export":
        tasks = label_studio_tasks(options.candidates)
        options.out.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), "utf-8")
        interface = options.out.with_suffix(".xml")
        interface.write_text(label_studio_interface(options.labels), "utf-8")
        print(f"{len(tasks)} tasks: {options.out}; the interface: {interface}")
    elif options.command == "import":
        read = from_table if options.export.suffix == ".csv" else from_label_studio
        found = read(options.export)
        options.out.write_text("".join(map(annotation_line, found)), "utf-8")
        print(f"{len(found)} annotations: {options.out}")
    else:
        _agree(options)


def _serve(options: argparse.Namespace) -> None:
    page = server(
        read_candidates(options.candidates), options.labels, options.out, options.port,
        lambda: read_annotations([options.out]) if options.out.exists() else [], annotation_line,
    )  # fmt: skip
    address = f"http://127.0.0.1:{page.server_address[1]}/"
    print(f"{address}  (Ctrl-C ends it; every answer is in {options.out} at once)")
    if options.open:
        webbrowser.open(address)
    try:
        page.serve_forever()
    except KeyboardInterrupt:
        print("ended")
    finally:
        page.server_close()


def _agree(options: argparse.Namespace) -> None:
    annotations = read_annotations(options.annotations)
    for (left, right), (count, kappa) in pairwise_kappa(annotations).items():
        print(f"Cohen's kappa {kappa:6.3f}  {left} and {right}, {count} texts")
    overall = overall_kappa(annotations)
    if overall is not None:
        print(f"Fleiss' kappa {overall[1]:5.3f}  all annotators, {overall[0]} texts")
    agreed, conflicts = adjudicate(annotations)
    write_labels(options.out, agreed)
    write_conflicts(options.conflicts, conflicts)
    print(f"{len(agreed)} texts with a majority: {options.out}")
    print(f"{len(conflicts)} without: {options.conflicts}")


if __name__ == "__main__":
    sys.exit(main())
