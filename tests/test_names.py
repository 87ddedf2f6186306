"""The folder tokenize/ and the rooms' modules must never shadow what Python itself imports."""

import configparser
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "corpus": "corpus",
    "classifiers": "classifiers",
    "tokenization": "tokenize",
    "train": "train",
}
ROOMS_RUN_AS_SCRIPTS = ("corpus", "tokenize", "train")


@pytest.mark.parametrize("folder", [ROOT, Path("/")])
def test_tokenize_is_the_standard_library_and_tokenization_is_ours(folder: Path) -> None:
    code = "import tokenize, tokenization, inspect; print(tokenize.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().startswith(sysconfig.get_paths()["stdlib"])
    assert not (ROOT / "tokenize" / "__init__.py").exists()


@pytest.mark.parametrize("room", ROOMS_RUN_AS_SCRIPTS)
def test_no_module_bears_the_name_of_a_top_level_module(room: str) -> None:
    # A folder without __init__.py is a namespace: any module of that name elsewhere comes first.
    modules = {p.stem for p in (ROOT / room).glob("*.py")}
    packages = {p.parent.name for p in (ROOT / room).glob("*/__init__.py")}
    names = modules | packages
    taken = set(sys.stdlib_module_names) | installed_top_level_names()
    assert names & taken - {"__init__", "__pycache__"} == set()


def installed_top_level_names() -> set[str]:
    site = Path(sysconfig.get_paths()["purelib"])
    return {p.name.split(".")[0] for p in site.iterdir() if not p.name.startswith("_")}


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("corpus", ("torch", "deepspeed")),
        ("classifiers", ("torch", "deepspeed")),
        ("train", ("pyspark",)),
    ],
)
def test_rooms_import_only_what_the_design_allows(room: str, forbidden: tuple[str, ...]) -> None:
    for path in sorted((ROOT / room).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for name in forbidden:
            assert f"import {name}" not in text, path
            assert f"from {name}" not in text, path


def test_setup_cfg_names_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    named = set(config["options"]["packages"].split())
    there = set()
    for package, folder in ROOMS.items():
        for path in (ROOT / folder).rglob("*.py"):
            inner = path.parent.relative_to(ROOT / folder).parts
            there.add(".".join([package, *inner]))
    assert named == there
