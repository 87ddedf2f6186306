"""The recipe: the one YAML file that says what goes into a corpus and what is done to it."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import Field, field_validator

from corpus.reading.source import Source
from corpus.settings import Settings, UserError, read_text, validate
from corpus.stage import Stage, StageContext


class Recipe(Settings):
    """A corpus recipe. configs/recipes/demo.yaml is a commented example."""

    name: str = Field(min_length=1)
    """What the run is called in messages and reports."""
    output: str = Field(min_length=1)
    """The run's folder: everything that is made lands under it."""
    seed: int = Field(default=0, ge=0)
    """Decides every choice that is left to chance. The same seed gives the same bytes."""
    partitions: int | None = Field(default=None, ge=1)
    """In how many parts the sources are read; by default Spark's parallelism. Never changes the
    result."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """Where documents come from, with the tags that they carry."""
    stages: tuple[dict[str, Any], ...] = Field(min_length=1)
    """The steps, in order; each a mapping of one key, the stage's name, to its settings."""
    vocabulary: dict[str, Any] | None = None
    """Extends a tokenizer by pieces that the corpus needs; see `python -m tokenization.extend`."""
    shards: dict[str, Any] | None = None
    """Makes token shards of the documents; see tokenize/build_shards.py."""

    @field_validator("sources")
    @classmethod
    def _names_are_unique(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        names = [source.name for source in sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are called '{name}'; a name stands for one source")
        return sources


@dataclass(frozen=True)
class RecipeFile:
    """A validated recipe with the file it came from, for messages that name key and line."""

    recipe: Recipe
    path: str
    text: str

    def section(self, model: type[Settings], *keys: str | int) -> Any:
        """The part of the file under `keys`, as `model`; a `UserError` if it does not fit."""
        content = yaml.safe_load(self.text)
        for key in keys:
            content = content[key]
        return validate(content, model, self.path, self.text, within=keys)


def read_recipe(path: str) -> RecipeFile:
    """Read and validate a recipe, the settings of its stages apart.

    Raises:
        UserError: names the file, line and key of each mistake.
    """
    from corpus.settings import load

    return RecipeFile(load(path, Recipe), path, read_text(path))


def build_stages(file: RecipeFile, known: Mapping[str, type[Stage]]) -> list[Stage]:
    """The recipe's stages, each with its validated settings.

    A stage's key is a name of `known`; `name/anything` uses the same stage a second time; a key
    with dots (`my_package.my_module.MyStage`) imports a stage of the user's own.

    Raises:
        UserError: names the file, line and key of each mistake.
    """
    recipe = file.recipe
    context = StageContext(
        run_dir=recipe.output,
        seed=recipe.seed,
        sources={source.name: source for source in recipe.sources},
    )
    stages: list[Stage] = []
    mistakes: list[str] = []
    for position, entry in enumerate(recipe.stages):
        try:
            stages.append(_build_stage(file, position, entry, known, context))
        except UserError as error:
            mistakes.append(str(error))
    names = [stage.name for stage in stages]
    for name in sorted({name for name in names if names.count(name) > 1}):
        mistakes.append(
            f"{file.path}: stages: two stages are called '{name}'; "
            f"call the second one '{name}/again', or whatever tells them apart"
        )
    if mistakes:
        raise UserError("\n".join(mistakes))
    return stages


def _build_stage(
    file: RecipeFile,
    position: int,
    entry: dict[str, Any],
    known: Mapping[str, type[Stage]],
    context: StageContext,
) -> Stage:
    where = f"{file.path}: stages.{position}"
    if len(entry) != 1:
        raise UserError(
            f"{where}: a stage is a mapping of one key, its name, to its settings; this one has "
            f"{len(entry)}: {', '.join(map(str, entry)) or 'none'}"
        )
    (key,) = entry
    kind = str(key).split("/", 1)[0]
    stage_class = known.get(kind) or _import_stage(kind, where, known)
    config = file.section(stage_class.Config, "stages", position, key)
    return stage_class(str(key).replace("/", "-"), config, context)


def _import_stage(name: str, where: str, known: Mapping[str, type[Stage]]) -> type[Stage]:
    module, _, attribute = name.rpartition(".")
    if not module:
        raise UserError(
            f"{where}: there is no stage '{name}'; there are: {', '.join(known)}, "
            "or name a class of your own as package.module.Class"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where}: the stage '{name}' cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise UserError(f"{where}: '{name}' is not a subclass of corpus.stage.Stage")
    return found
