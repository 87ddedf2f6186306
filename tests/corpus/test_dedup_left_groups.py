"""Groups that the local stage leaves for the global one: the same documents stay, linked once."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from dedup_samples import BASE, Asked, context, corpus, documents, edited, signed, story
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession

from corpus.dedup.grouping import Limits
from corpus.dedup.left_groups import split_places
from corpus.dedup.minhash import MinHashConfig
from corpus.dedup.stages import MinHash, check_deduplication
from corpus.settings import UserError
from corpus.stage import FrameDocuments

LOCAL = MinHash.Config(by=("source",), leave_groups=True)
THEN = MinHash.Config(take_groups=True)


def name(component: int, part: int) -> bytes:
    return np.array([component, part], "<i8").tobytes()


def test_a_group_is_split_by_category_and_a_giant_keeps_its_parts() -> None:
    rows = [  # key, component, part, category
        (7, 1, 1, 0),
        (1, 1, 1, 0),
        (2, 1, 1, 5),
        (3, 3, 3, 0),  # one category: nothing is left for later
        (4, 3, 3, 0),
        (-5, -5, -5, 0),  # of this category five, which are too many
        (10, -5, 10, 0),
        (11, -5, 10, 0),
        (12, -5, 10, 0),
        (13, -5, 10, 0),
        (14, -5, 10, 9),
        (15, -5, -5, 9),  # of this one two, in whatever parts
    ]
    columns = dict(
        zip(("key", "component", "part", "category"), zip(*rows, strict=True), strict=True)
    )
    found = split_places(pa.table(columns).take(pa.array([*range(6, 12), *range(6)])), largest=4)
    assert {tuple(row.values()) for row in found.to_pylist()} == {
        (1, 1, None, name(1, 1)),
        (7, 1, None, name(1, 1)),
        (2, None, None, name(1, 1)),
        (3, 3, None, None),
        (4, 3, None, None),
        (-5, -5, -5, name(-5, -5)),
        (10, 10, -5, name(-5, 10)),
        (11, 10, -5, name(-5, 10)),
        (12, 10, -5, name(-5, 10)),
        (13, 10, -5, name(-5, 10)),
        (14, 14, None, name(-5, 10)),
        (15, 14, None, name(-5, -5)),
    }


def survivors(frame: DataFrame, decided: DataFrame, columns: Sequence[str] = ()) -> DataFrame:
    kept = decided.where("verdict is null").select("doc_id", *columns)
    return frame.join(kept, "doc_id").cache()


@pytest.mark.parametrize(
    ("on_driver", "largest"),
    [(1_000, 50_000), (1_000, 30), (0, 30)],
    ids=["whole groups", "a star in parts", "a star in parts, by Spark"],
)
def test_two_stages_that_link_once_decide_as_two_that_link_each(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, on_driver: int, largest: int
) -> None:
    rows = corpus()  # with families over three sources
    for number, row in enumerate(rows[-90:]):  # and the star over two
        row["source"] = "ab"[number % 2]
    frame = signed(documents(spark, rows)).cache()
    priorities = context(a=1, b=3, c=2)

    def run(config: MinHashConfig, given: DataFrame) -> DataFrame:
        stage = MinHash("minhash", config, priorities)
        return stage.decide(given.select("doc_id", *stage.needs)).cache()

    local = run(MinHash.Config(by=("source",)), frame)
    then = run(MinHash.Config(), survivors(frame, local))
    monkeypatch.setattr(
        "corpus.dedup.minhash.Limits", lambda largest: Limits(largest, driver_links=on_driver)
    )
    same = {"largest_group": largest}
    leaving = run(LOCAL.model_copy(update=same), frame)
    assert story(leaving) == story(local)
    taking = run(THEN.model_copy(update=same), survivors(frame, leaving, ["near_group"]))
    assert story(taking) == story(then)
    assert len([verdict for verdict in story(then).values() if verdict]) > 10


def test_the_second_stage_reads_no_signature(spark: SparkSession) -> None:
    rows: list[dict[str, str | None]] = [
        {"doc_id": "a", "text": BASE, "source": "a"},
        {"doc_id": "a2", "text": edited(BASE, [5]), "source": "a"},
        {"doc_id": "b", "text": edited(BASE, [9]), "source": "b"},
        {"doc_id": "alone", "text": BASE[::-1]},
    ]
    frame = signed(documents(spark, rows))
    leaving = MinHash("minhash-local", LOCAL, context()).decide(frame)
    left = survivors(frame, leaving, ["near_group"])
    assert {row.doc_id for row in left.collect() if row.near_group} == {"a", "b"}
    read = Asked(left)
    taking = MinHash("minhash-global", THEN, context()).decide_from(read)
    assert story(taking) == {"a": None, "b": ("near_duplicate", "a"), "alone": None}
    assert ("minhash",) not in read.columns
    nothing = left.where("doc_id = 'alone'")
    assert story(MinHash("minhash-global", THEN, context()).decide(nothing)) == {"alone": None}
    leaving = MinHash("minhash-local", LOCAL, context()).decide_from(FrameDocuments(nothing))
    assert [(row.verdict, row.near_group) for row in leaving.collect()] == [(None, None)]


def test_settings_that_do_not_fit_are_refused() -> None:
    for wrong, message in (
        ({"leave_groups": True}, "leave_groups: is for a stage that compares `by`"),
        (
            {"take_groups": True, "by": ["source"]},
            "take_groups: is for the stage that compares all",
        ),
        ({"take_groups": True, "against": ["stores/a"]}, "against: earlier runs are linked"),
    ):
        with pytest.raises(ValidationError, match=message):
            MinHash.Config.model_validate(wrong)
    local = MinHash("minhash-local", LOCAL, context())
    then = MinHash("minhash-global", THEN, context())
    check_deduplication([local, then], "r.yaml")
    with pytest.raises(UserError, match=r"r.yaml: stages.0.minhash-global: take_groups: no stage"):
        check_deduplication([then, local], "r.yaml")
    lower = MinHash("minhash-global", MinHash.Config(take_groups=True, threshold=0.7), context())
    with pytest.raises(UserError, match=r"stages.1.minhash-global: threshold: is 0.7, and 'min"):
        check_deduplication([local, lower], "r.yaml")
