"""Traditional Chinese characters and their simplified forms, one for one.

The table is made of OpenCC's (https://github.com/BYVoid/OpenCC, Apache-2.0):

    python -m corpus.dedup.traditional OpenCC/data/dictionary/TSCharacters.txt

It is for comparing texts, not for converting them: of several simplified forms it takes the first.
"""

import argparse
import functools
import importlib.resources
import sys
from collections.abc import Mapping
from pathlib import Path

from corpus.settings import UserError, command, read_text

HEADER = """\
# Traditional characters and their simplified forms, from OpenCC's TSCharacters.txt:
# Copyright 2010-2024 Carbo Kuo and contributors, Apache License 2.0.
# Made by `python -m corpus.dedup.traditional TSCharacters.txt`.
"""


@functools.cache
def simplified_forms() -> Mapping[str, str]:
    """The simplified form of each traditional character that has another."""
    text = importlib.resources.files("corpus.dedup").joinpath("traditional.txt").read_text("utf-8")
    return {line[0]: line[1] for line in text.splitlines() if not line.startswith("#")}


@command
def main(arguments: list[str] | None = None) -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m corpus.dedup.traditional",
        description="Make the table of traditional and simplified characters from OpenCC's.",
    )
    parser.add_argument("dictionary", help="OpenCC's data/dictionary/TSCharacters.txt")
    beside = Path(__file__).with_name("traditional.txt")
    parser.add_argument("--output", type=Path, default=beside, help="(traditional.txt, there)")
    options = parser.parse_args(arguments)
    pairs = []
    for number, line in enumerate(read_text(options.dictionary).splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        traditional, _, forms = line.partition("\t")
        if len(traditional) != 1 or not forms:
            raise UserError(
                f"{options.dictionary}:{number}: a character, a tab and its simplified forms are "
                f"needed, not {line!r}"
            )
        form = forms.split()[0]
        if len(form) == 1 and form != traditional:
            pairs.append(traditional + form)
    options.output.write_text(HEADER + "".join(f"{pair}\n" for pair in sorted(pairs)), "utf-8")
    print(f"{options.output}: {len(pairs):,} characters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
