"""Look at a mixture before anyone pays for it: `python -m train.mixture plan|plot|check`.

A schedule (`train.schedule`) is text; these commands say what it comes to on the tokens that
exist: which share of every stage each bucket gets, how often it is read, which steps. Nothing is
written but the picture that `plot` draws.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import PositiveInt, RootModel
from rich.console import Console

from corpus.settings import UserError, command, load
from tokenization.manifest import read_manifest
from train.buckets import Bucket, buckets_of, imaginary_buckets
from train.mixture_tables import difference_table, print_plan, warnings
from train.schedule import Schedule, token_count
from train.stream import Stream

_EXAMPLES = """examples:
  python -m train.mixture plan configs/mixture/demo.yaml --shards runs/demo/shards
      shares, tokens, epochs and steps of every stage and bucket, ratios asked and got, warnings
  python -m train.mixture plan configs/mixture/xuanyuan-70b.yaml --tokens tokens.yaml
      the same before there are shards; tokens.yaml says `zh-general-law: 10B` and so on
  python -m train.mixture plot configs/mixture/demo.yaml --shards runs/demo/shards --out mix.png
      every bucket's share along the run
  python -m train.mixture check configs/mixture/demo.yaml --shards runs/demo/shards --checksums
      only whether it can be drawn, and whether every shard is whole
  python -m train.mixture check edited.yaml --against configs/mixture/demo.yaml --shards DIR
      what an edit changes, and from which step on; --at-step 1200 if the run stands there
"""


class _TokenCounts(RootModel[dict[str, str | PositiveInt]]):
    """A file for `--tokens`: bucket → tokens."""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 2 if the schedule cannot be drawn."""
    options = _parser().parse_args(arguments)
    schedule = load(options.schedule, Schedule)
    buckets = _buckets(options)
    stream = _stream(schedule, buckets, options)
    console = Console(width=None if sys.stdout.isatty() else 140)
    if options.command == "plan":
        print_plan(stream, console)
    elif options.command == "plot":
        from train.mixture_plot import plot_mixture  # matplotlib takes a second to import

        plot_mixture(stream, options.out)
        console.print(f"{options.out}: {stream.steps:,} steps, {len(stream.buckets)} buckets")
    else:
        _check(stream, options, console)
    return 0


def _check(stream: Stream, options: argparse.Namespace, console: Console) -> None:
    if options.shards is not None:
        from train.sequences import SequenceReader

        SequenceReader(
            options.shards, stream, verify="checksums" if options.checksums else "sizes"
        ).close()
    console.print(
        f"{options.schedule}: {stream.steps:,} steps of {len(stream.buckets)} buckets can be drawn"
    )
    for warning in warnings(stream):
        console.print(f"warning: {warning}", highlight=False)
    if options.against is not None:
        other = _stream(load(options.against, Schedule), stream.buckets, options)
        if options.at_step is not None:
            stream = Stream(
                stream.plan.schedule,
                stream.buckets,
                seed=options.seed,
                batch_tokens=options.batch_tokens,
                history=other.segments,
                from_step=options.at_step,
            )
        difference_table(other, stream, str(options.against), str(options.schedule), console)


def _buckets(options: argparse.Namespace) -> tuple[Bucket, ...]:
    if options.shards is not None:
        return buckets_of(read_manifest(options.shards))
    counts = load(options.tokens, _TokenCounts).root
    try:
        return imaginary_buckets({name: token_count(n) for name, n in counts.items()})
    except ValueError as error:
        raise UserError(f"{options.tokens}: {error}") from error


def _stream(schedule: Schedule, buckets: tuple[Bucket, ...], options: argparse.Namespace) -> Stream:
    return Stream(schedule, buckets, seed=options.seed, batch_tokens=options.batch_tokens)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.mixture",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("plan", "print shares, tokens, epochs and ratios of every stage and bucket"),
        ("plot", "draw every bucket's share along the run"),
        ("check", "say whether it can be drawn; with --against, what an edit changes"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("schedule", metavar="SCHEDULE", help="the schedule's YAML")
        source = sub.add_mutually_exclusive_group(required=True)
        source.add_argument("--shards", metavar="DIR", help="folder of shards with manifest.json")
        source.add_argument(
            "--tokens", metavar="FILE", help="YAML of bucket: tokens, for shards yet to be made"
        )
        sub.add_argument(
            "--batch-tokens",
            type=_tokens,
            metavar="N",
            help="tokens of a global batch (4M); else as the schedule says",
        )
        sub.add_argument("--seed", type=int, metavar="N", help="else as the schedule says")
        if name == "plot":
            sub.add_argument(
                "--out", type=Path, default=Path("mixture.png"), help="PNG, SVG or PDF to write"
            )
        if name == "check":
            sub.add_argument("--against", metavar="OTHER", help="the schedule before the edit")
            sub.add_argument(
                "--at-step",
                type=int,
                metavar="N",
                help="the run has drawn N steps by OTHER when the edit comes; else from the start",
            )
            sub.add_argument(
                "--checksums", action="store_true", help="read every shard and check its checksum"
            )
    return parser


def _tokens(text: str) -> int:
    try:
        return token_count(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
