"""A user's mistake is one line that names the file, the line, the key, and what is allowed."""

from pathlib import Path

import pytest
from pydantic import Field

from corpus.recipe import Recipe, build_stages, read_recipe
from corpus.selection.stage import Select
from corpus.settings import Settings, UserError, command, load
from corpus.stage import Stage

KNOWN: dict[str, type[Stage]] = {"select": Select}


class Inner(Settings):
    share: float = Field(ge=0, le=1)


class Outer(Settings):
    name: str
    inner: Inner = Inner(share=0)
    many: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nnmae: b\n", r"x.yaml:2: nmae: unknown key"),
        ("name: a\ninner:\n  share: 2\n", r"x.yaml:3: inner.share: .*less than or equal to 1.*2"),
        ("name: a\nmany:\n- share: 0\n- share: a\n", r"x.yaml:4: many.1.share: .*number.*'a'"),
        ("inner: {share: 0}\n", r"x.yaml:1: name: this key is required"),
        ("name: a\nname: b\n", r"x.yaml:2: .*the key 'name' stands here twice"),
        ("name: [a\n", r"x.yaml:2: this is not valid YAML"),
        ("", r"x.yaml: the file is empty"),
        ("just words", r"x.yaml:1: the file: "),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load(path, Outer)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.yaml: no such file"):
        load(tmp_path / "nowhere.yaml", Outer)


def test_nothing_in_yaml_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: !!python/object/apply:os.system ['touch owned']\n")
    with pytest.raises(UserError, match="not valid YAML"):
        load(path, Outer)


def test_a_command_turns_a_mistake_into_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @command
    def main() -> int:
        raise UserError("recipe.yaml:3: stages: what to do")

    assert main() == 2
    assert capsys.readouterr().err == "error: recipe.yaml:3: stages: what to do\n"


RECIPE = """\
name: test
output: runs/test
sources:
  - {name: laws, path: laws.jsonl, format: jsonl, lang: zh, domain: general, kind: law}
stages:
"""


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("  - select: {min_characters: -1}\n", r":6: stages.0.select.min_characters: .*greater"),
        ("  - select: {minimum: 1}\n", r":6: stages.0.select.minimum: unknown key"),
        ("  - selct: {}\n", r"stages.0: there is no stage 'selct'; there are: select"),
        ("  - {select: {}, extract: {}}\n", r"stages.0: a stage is a mapping of one key"),
        ("  - select: {}\n  - select: {}\n", r"two stages are called 'select'"),
        ("  - json.decoder.JSONDecoder: {}\n", r"is not a subclass of corpus.stage.Stage"),
        ("  - no.such.Stage: {}\n", r"the stage 'no.such.Stage' cannot be imported"),
    ],
)
def test_a_recipes_mistakes_are_named(tmp_path: Path, stages: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE + stages)
    with pytest.raises(UserError, match=message):
        build_stages(read_recipe(str(path)), KNOWN)


def test_a_stage_may_stand_twice_under_two_names(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE + "  - select:\n  - select/again: {min_characters: 9}\n")
    first, second = build_stages(read_recipe(str(path)), KNOWN)
    assert (first.name, second.name) == ("select", "select-again")
    assert second.config == Select.Config(min_characters=9)


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    line = "  - {name: laws, path: more.jsonl, format: jsonl}\n"
    path.write_text(RECIPE.replace("stages:\n", line + "stages: [select: {}]\n"))
    with pytest.raises(UserError, match=r":4: sources: two sources are called 'laws'"):
        load(path, Recipe)
