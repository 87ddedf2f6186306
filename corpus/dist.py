"""Builds the zip that a Spark cluster needs: `spark-submit --py-files dist/lianjin.zip …`.

A wheel, or a renamed wheel, does not do: Python cannot import a package without `__init__.py` from
a zip, and tokenize/ must not have one. In the zip it is the package `tokenization`, with one.
"""

import argparse
import sys
import zipfile
from pathlib import Path

from corpus.settings import UserError, command

ROOMS = {"corpus": "corpus", "classifiers": "classifiers", "tokenization": "tokenize"}
SUFFIXES = {".py", ".txt", ".yaml", ".json", ".html", ".npy", ".tsv"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's earliest: the same sources give the same bytes


def build_zip(root: Path, target: Path) -> None:
    """Write the rooms that Spark's workers import, from the checkout `root`, to `target`."""
    entries = {}
    for package, folder in ROOMS.items():
        if not (root / folder).is_dir():
            raise UserError(f"{root / folder}: no such folder; run this in a checkout of Lianjin")
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES and "__pycache__" not in path.parts:
                entries[f"{package}/{path.relative_to(root / folder)}"] = path.read_bytes()
    entries.setdefault("tokenization/__init__.py", b"")
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), entries[name])


@command
def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and build the zip."""
    parser = argparse.ArgumentParser(
        prog="python -m corpus.dist",
        description="Build the zip of Lianjin's rooms for spark-submit --py-files.",
    )
    parser.add_argument("target", nargs="?", default="dist/lianjin.zip", type=Path)
    target = parser.parse_args(arguments).target
    build_zip(Path.cwd(), target)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
