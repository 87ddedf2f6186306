"""Where a model's files lie: in a folder, at an fsspec address, or among those that Lianjin ships.

A model is named by its folder or address, or, if it is a shipped one, by its name alone (`harm`,
`domain`, `kind`, `quality`). Shipped ones are found wherever the package is: in a checkout, an
installation, or the zip that `spark-submit --py-files` sends to the workers. So what travels to
them is the name, never a path of the driver's machine.
"""

import importlib.resources
import zipfile
from importlib.resources.abc import Traversable
from pathlib import Path

import fsspec

CARD, ROWS, SLOTS, LEXICON = MODEL_FILES = ("card.json", "rows.npy", "slots.npy", "lexicon.tsv")


def shipped(model: str) -> Traversable | None:
    """The folder of the shipped model of this name, or None where there is no such name."""
    if "/" in model or not model:
        return None
    folder = importlib.resources.files("classifiers").joinpath("models", model)
    return folder if folder.joinpath(CARD).is_file() else None


def shipped_models() -> list[str]:
    """The names of all shipped models."""
    folder = importlib.resources.files("classifiers").joinpath("models")
    return sorted(entry.name for entry in folder.iterdir() if shipped(entry.name))


def read_file(model: str, name: str) -> bytes:
    """The content of one of a model's files.

    Raises:
        OSError: it cannot be read.
    """
    folder = shipped(model)
    if folder is not None:
        return folder.joinpath(name).read_bytes()
    with fsspec.open(f"{model}/{name}", "rb") as file:
        return file.read()  # type: ignore[no-any-return]


def local_file(model: str, name: str) -> Path | None:
    """The path of one of a model's files, or None where it is not on a disk here."""
    folder = shipped(model)
    path = Path(model) / name if folder is None else folder.joinpath(name)
    return path if isinstance(path, Path) and path.is_file() else None


def addresses(model: str) -> list[str]:
    """fsspec addresses of a model's files, in the order of MODEL_FILES."""
    folder = shipped(model)
    if folder is None:
        return [f"{model}/{name}" for name in MODEL_FILES]
    files = [folder.joinpath(name) for name in MODEL_FILES]
    return [
        f"zip://{file.at}::{file.root.filename}"  # type: ignore[attr-defined]
        if isinstance(file, zipfile.Path)
        else str(file)
        for file in files
    ]
