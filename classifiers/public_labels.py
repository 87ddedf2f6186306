"""Public label sets as label files: what the default harm model is trained on, made by a command.

`python -m classifiers.public_labels --data DIR --out FOLDER` reads COLDataset (Deng et al., 2022,
Apache-2.0) and the tweets of Davidson et al. (2017, MIT) as their repositories hold them, and
writes `harm-{train,dev,test}.csv` (text, label, lang, source). COLDataset keeps its own splits; the
tweets are split by a hash. Both hold abuse: they are for training filters.
"""

import argparse
import csv
import hashlib
import html
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from corpus.settings import UserError, command

SPLITS = ("train", "dev", "test")
COLD_LABELS = {"0": "normal", "1": "offensive"}
DAVIDSON_LABELS = {"0": "hate", "1": "offensive", "2": "normal"}
Row = tuple[str, str, str, str]  # text, label, lang, source


def cold(folder: Path, split: str) -> Iterator[Row]:
    """Rows of one of COLDataset's splits; `folder` holds its train.csv, dev.csv and test.csv."""
    for row in _csv(folder / f"{split}.csv"):
        yield row["TEXT"].strip(), COLD_LABELS[row["label"]], "zh", "COLDataset"


def davidson(path: Path, split: str) -> Iterator[Row]:
    """Rows of a split of the tweets: a tenth each to dev and test, the rest to train."""
    for row in _csv(path):
        text = html.unescape(row["tweet"])
        text = re.sub(r"\s+", " ", re.sub(r"@\w+", "@user", text)).strip()
        draw = hashlib.blake2b(text.encode()).digest()[0] / 256
        side = "dev" if draw < 0.1 else "test" if draw < 0.2 else "train"
        if side == split and text:
            yield text, DAVIDSON_LABELS[row["class"]], "en", "davidson"


def _csv(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the label files."""
    parser = argparse.ArgumentParser(
        prog="python -m classifiers.public_labels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m classifiers.public_labels --data data/harm --out labels",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of COLDataset/ and davidson-hate-speech/"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the label files")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    tweets = options.data / "davidson-hate-speech" / "data" / "labeled_data.csv"
    for split in SPLITS:
        rows = [*cold(options.data / "COLDataset", split), *davidson(tweets, split)]
        with (options.out / f"harm-{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("text", "label", "lang", "source"))
            writer.writerows(rows)
        print(f"{options.out / f'harm-{split}.csv'}: {len(rows)} texts")


if __name__ == "__main__":
    sys.exit(main())
