"""Writes a run's page: what came in, what each stage and rule removed, tokens, mixture, training.

    python -m corpus.report runs/demo

Reads what the run's folder holds: the stages, `shards/manifest.json` and `train/summary.json`, as
far as they are there. One file, no scripts, nothing fetched; text from documents is escaped, and
what a stage dropped is shown only at a click.
"""

import argparse
import io
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from corpus.ledger import Run
from corpus.settings import command

EXAMPLES_PER_RULE = 3
EXAMPLE_CHARACTERS = 400
COLOURS = ("#2f6f8f", "#d98c3f", "#5b8c5a", "#a4506c", "#6b5b95", "#8a8a3c", "#3f8f8a", "#b0643a")


@dataclass(frozen=True)
class Removal:
    """What one rule of one stage removed, with examples from `Run.dropped`."""

    stage: str
    rule: str
    documents: int
    share: float
    examples: list[dict[str, Any]]


def write_report(run: Run) -> str:
    """Write `report.html` into the run's folder and return its path."""
    summary = _json(run, "train/summary.json")
    manifest = _json(run, "shards/manifest.json")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("corpus"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html").render(
        run=run,
        records=list(run.stages.values()),
        sources=source_rows(run),
        removals=removals(run),
        buckets=bucket_rows(manifest) if manifest else [],
        summary=summary,
        mixture_plot=mixture_plot(summary) if summary else None,
        loss_plot=loss_plot(summary) if summary else None,
    )
    path = f"{run.root}/report.html"
    run.filesystem.pipe_file(path, page.encode())
    return f"{run.path}/report.html"


def source_rows(run: Run) -> list[dict[str, Any]]:
    """For each source of the recipe: its tags, documents that came in, documents that stayed."""
    first = next(iter(run.stages), None)
    if first is None:
        return []
    came = run.decided(first).to_table(columns=["doc_id", "source"])
    counts = Counter(came["source"].to_pylist())
    stayed: Counter[str] = Counter()
    if run.filesystem.exists(f"{run.root}/documents"):
        stayed = Counter(run.documents(["source"])["source"].to_pylist())
    return [
        {**source, "came": counts[source["name"]], "stayed": stayed[source["name"]]}
        for source in run.sources
    ]


def removals(run: Run) -> list[Removal]:
    """What each rule of each stage removed, in the stages' order."""
    found = []
    for record in run.stages.values():
        for rule, count in record.dropped_by_rule.items():
            examples = run.dropped(record.stage, rule, EXAMPLES_PER_RULE)
            for example in examples:
                text = example["text"] or ""
                example["excerpt"] = text[:EXAMPLE_CHARACTERS]
                example["cut"] = len(text) > EXAMPLE_CHARACTERS
            share = count / max(record.documents_in, 1)
            found.append(Removal(record.stage, rule, count, share, examples))
    return found


def bucket_rows(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Documents and tokens of each bucket, to train on and held out, from the shards' manifest."""
    rows: dict[str, dict[str, Any]] = {}
    for shard in manifest["shards"]:
        row = rows.setdefault(
            shard["bucket"],
            {"bucket": shard["bucket"], "documents": 0, "train": 0, "heldout": 0, "shards": 0},
        )
        row["documents"] += shard["documents"]
        row[shard["split"]] += shard["tokens"]
        row["shards"] += 1
    return sorted(rows.values(), key=lambda row: -row["train"])


def mixture_plot(summary: Mapping[str, Any]) -> Markup:
    """Tokens planned and tokens drawn, bucket by bucket."""
    planned, drawn = summary["planned_tokens"], summary["drawn_tokens"]
    buckets = sorted(planned, key=lambda bucket: planned[bucket])
    figure = Figure(figsize=(8, 0.6 + 0.45 * len(buckets)), layout="constrained")
    axes = figure.add_subplot()
    rows = range(len(buckets))
    for offset, values, label, colour in (
        (0.2, planned, "planned", COLOURS[0]),
        (-0.2, drawn, "drawn", COLOURS[1]),
    ):
        heights = [row + offset for row in rows]
        tokens = [values.get(bucket, 0) for bucket in buckets]
        axes.barh(heights, tokens, height=0.38, label=label, color=colour)
    axes.set_yticks(list(rows), buckets)
    axes.set_xlabel("tokens")
    axes.legend()
    return _svg(figure)


def loss_plot(summary: Mapping[str, Any]) -> Markup:
    """The training loss of each bucket over the tokens seen, with the phases' borders."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for number, (bucket, points) in enumerate(sorted(summary["loss_per_bucket"].items())):
        axes.plot(
            [point["tokens"] for point in points],
            [point["loss"] for point in points],
            label=bucket,
            linewidth=1.2,
            color=COLOURS[number % len(COLOURS)],
            linestyle=("-", "--", ":")[number // len(COLOURS) % 3],
        )
    tokens_at = {point["step"]: point["tokens"] for point in summary["loss"]}
    for phase in summary["phases"][1:]:
        border = tokens_at.get(phase["first_step"])
        if border is not None:
            axes.axvline(border, color="grey", linewidth=0.8)
            axes.annotate(f" {phase['name']}", (border, axes.get_ylim()[1]), va="top")
    axes.set_xlabel("tokens seen")
    axes.set_ylabel("loss, nats per token")
    axes.legend(fontsize="small", ncols=2)
    return _svg(figure)


def _svg(figure: Figure) -> Markup:
    target = io.StringIO()
    # A fixed salt, and no date: the same run gives the same page.
    with mpl.rc_context({"svg.hashsalt": "lianjin", "svg.fonttype": "none"}):
        figure.savefig(target, format="svg", metadata={"Date": None})
    svg = target.getvalue()
    return Markup(svg[svg.index("<svg") :])  # matplotlib escapes the labels


def _json(run: Run, name: str) -> Any:
    path = f"{run.root}/{name}"
    return json.loads(run.filesystem.cat_file(path)) if run.filesystem.exists(path) else None


def perplexity_lines(summary: Mapping[str, Any]) -> Sequence[str]:
    """Held-out perplexity before and after, a line a bucket, for the terminal."""
    width = max(map(len, summary["perplexity"]), default=0)
    return [
        f"{bucket:<{width}}  {values['before']:>12,.1f} → {values['after']:>10,.1f}"
        for bucket, values in sorted(summary["perplexity"].items())
    ]


@command
def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, write the page and say where it is."""
    parser = argparse.ArgumentParser(
        prog="python -m corpus.report",
        description=(
            "Write RUN/report.html: what came in, what each stage and rule removed with examples, "
            "tokens per bucket, planned against drawn mixture, loss and perplexity per bucket."
        ),
        epilog="example: python -m corpus.report runs/demo",
    )
    parser.add_argument("run", help="the run's folder, e.g. runs/demo")
    run = Run(parser.parse_args(arguments).run)
    path = write_report(run)
    summary = _json(run, "train/summary.json")
    if summary:
        print("held-out perplexity, before → after continued pretraining:")
        for line in perplexity_lines(summary):
            print(f"  {line}")
    print(f"report: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
