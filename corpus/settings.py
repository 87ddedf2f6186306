"""Reading what a user wrote: YAML files into validated models, mistakes into one clear line.

Every room's configuration is a pydantic model derived from `Settings` and read by `load`. This
module imports neither pyspark nor torch, so all four rooms may use it.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class UserError(Exception):
    """A mistake of the user's: its text names the file, line or key, and says what to do.

    Commands print it as one line and exit with status 2; anything else is our bug and keeps its
    traceback.
    """


class Settings(BaseModel):
    """Base of every configuration model: unknown keys are refused and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


SettingsType = TypeVar("SettingsType", bound=BaseModel)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a mapping that says one key twice."""


def _construct_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in mapping:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{key}' stands here twice", key_node.start_mark
            )
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def load(path: str | Path, model: type[SettingsType]) -> SettingsType:
    """Read the YAML file at `path` (local, or any fsspec address) into `model`.

    Raises:
        UserError: the file is missing, is not YAML, or does not fit the model. The text names the
            file, the line, the key's full path, and what is allowed there.
    """
    text = read_text(path)
    try:
        content = yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{path}{line}: this is not valid YAML: {problem}") from error
    return validate(content, model, path, text)


def validate(
    content: Any,
    model: type[SettingsType],
    path: str | Path,
    text: str = "",
    within: Sequence[str | int] = (),
) -> SettingsType:
    """Fit `content`, which stands in the file `path` under the keys `within`, to `model`.

    `text`, the file's, gives the errors their line numbers.
    """
    if content is None and not within:
        raise UserError(f"{path}: the file is empty")
    try:
        return model.model_validate({} if content is None else content)
    except ValidationError as error:
        root = yaml.compose(text, yaml.SafeLoader) if text else None
        lines = [
            _describe({**problem, "loc": (*within, *problem["loc"])}, path, root)
            for problem in error.errors()
        ]
        raise UserError("\n".join(dict.fromkeys(lines))) from error


def read_text(path: str | Path) -> str:
    """The UTF-8 text of a file at any fsspec address; a `UserError` if there is none."""
    try:
        with fsspec.open(str(path), "rt", encoding="utf-8") as file:
            return file.read()  # type: ignore[no-any-return]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _describe(problem: Any, path: str | Path, root: yaml.Node | None) -> str:
    location: Sequence[str | int] = problem["loc"]
    node, keys = root, []
    for part in location:
        step = _child(node, part)
        # pydantic puts the tags of unions into the location; they are no keys of the file.
        if node is not None and step is None and not _is_missing(problem, part, location):
            continue
        keys.append(str(part))
        node = step if step is not None else node
    line = f":{node.start_mark.line + 1}" if node is not None else ""
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = "unknown key; see --help or the commented examples in configs/"
    elif problem["type"] == "missing":
        message = "this key is required and missing"
    elif not isinstance(problem["input"], dict | list):
        message += f" (it is {problem['input']!r})"
    return f"{path}{line}: {'.'.join(keys) or 'the file'}: {message}"


def _is_missing(problem: Any, part: str | int, location: Sequence[str | int]) -> bool:
    return problem["type"] in ("missing", "extra_forbidden") and part == location[-1]


def _child(node: yaml.Node | None, part: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value  # type: ignore[no-any-return]
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part]  # type: ignore[no-any-return]
    return None


def command(main: Callable[..., int | None]) -> Callable[..., int]:
    """Decorate a command's `main`: a `UserError` becomes its text on stderr and exit status 2."""

    @functools.wraps(main)
    def run(*args: Any, **kwargs: Any) -> int:
        try:
            return main(*args, **kwargs) or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    return run
