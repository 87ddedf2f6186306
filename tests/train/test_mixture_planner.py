"""Weights: golden cases by hand, the projection against scipy, and refusals that say why."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from corpus.settings import UserError
from train.buckets import Bucket, imaginary_buckets
from train.planner import on_grid, plan, project
from train.ratios import constraints
from train.schedule import Schedule

TOKENS = {
    "en-finance-filing": 100,
    "en-general-web": 300,
    "zh-finance-news": 200,
    "zh-general-book": 300,
    "zh-general-law": 100,
}


def schedule(mix: dict[str, Any], **more: Any) -> Schedule:
    stage = {"name": "only", "tokens": 1000, "mix": mix}
    content = {"sequence_length": 1, "batch_tokens": 10, "stages": [stage], "max_epochs": 100}
    return Schedule.model_validate(content | more)


def test_without_ratios_tokens_are_drawn_as_they_exist() -> None:
    made = plan(schedule({}), imaginary_buckets(TOKENS))
    np.testing.assert_allclose(made.weights[0], [[0.1, 0.3, 0.2, 0.3, 0.1]] * 2, atol=1e-12)


def test_one_ratio_scales_its_parts_and_keeps_their_insides() -> None:
    made = plan(schedule({"lang": {"zh": 3, "en": 1}}), imaginary_buckets(TOKENS))
    # zh has 600 tokens for three quarters, en 400 for one
    np.testing.assert_allclose(made.weights[0, 0], [0.0625, 0.1875, 0.25, 0.375, 0.125], atol=1e-12)


def test_two_ratios_that_hold_together() -> None:
    made = plan(
        schedule({"lang": {"zh": 3, "en": 1}, "domain": {"general": "9 -> 4", "finance": 1}}),
        imaginary_buckets(TOKENS),
    )
    start, end = made.weights[0]
    assert start[[2, 3, 4]].sum() == pytest.approx(0.75, abs=1e-10)
    assert start[[0, 2]].sum() == pytest.approx(0.1, abs=1e-10)
    assert end[[0, 2]].sum() == pytest.approx(0.2, abs=1e-10)
    # within a cell nothing is preferred
    assert start[3] / start[4] == pytest.approx(3, abs=1e-9)
    # the odds ratio of the prior survives (an I-projection's property)
    prior = (0.1 * 0.4) / (0.3 * 0.2)
    assert start[0] * (start[3] + start[4]) / (start[1] * start[2]) == pytest.approx(prior)


def test_what_a_ratio_does_not_name_stays_free() -> None:
    made = plan(schedule({"kind": {"book": 1, "law": 1}}), imaginary_buckets(TOKENS))
    weights = made.weights[0, 0]
    assert weights[3] == pytest.approx(weights[4], abs=1e-10)
    assert weights[:3] / weights[0] == pytest.approx([1, 3, 2])
    # book 3, law 1 → both at sqrt(3): the mass that the ratio costs, 2·sqrt(3) of 4
    assert weights[3] / weights[0] == pytest.approx(np.sqrt(3))


def test_zero_leaves_a_value_out_and_other_names_the_rest() -> None:
    mix = {"kind": {"book": 1, "web": 3, "other": 0}}
    made = plan(schedule(mix), imaginary_buckets(TOKENS))
    np.testing.assert_allclose(made.weights[0, 0], [0, 0.75, 0, 0.25, 0], atol=1e-12)


def test_groups_and_slices() -> None:
    made = plan(
        schedule(
            {"kind within zh-general": {"knowledge": 1}, "bucket within zh": {"zh-general-law": 1,
             "other": 1}},
            groups={"knowledge": ["book", "law"]},
        ),
        imaginary_buckets(TOKENS),
    )  # fmt: skip
    weights = made.weights[0, 0]
    assert weights[4] == pytest.approx(weights[2] + weights[3], abs=1e-10)


def test_temperature_evens_the_prior() -> None:
    made = plan(schedule({}, temperature=2.0), imaginary_buckets({"a-b-c": 100, "a-b-d": 400}))
    np.testing.assert_allclose(made.weights[0, 0], [1 / 3, 2 / 3], atol=1e-11)


def test_weights_sum_to_exactly_one() -> None:
    weights = on_grid(np.array([1.0, 1e-9, 1 / 3, 0.0]))
    assert weights.sum() == 1.0
    assert weights[3] == 0.0
    assert (weights * 2**40 == np.rint(weights * 2**40)).all()


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"lang": {"zh": 3, "fr": 1}}, r"no bucket with tokens is fr; there are en, zh"),
        ({"language": {"zh": 3}}, r"there is no tag 'language'; there are bucket, domain, kind"),
        ({"kind within zh-genral": {"law": 1}}, r"'genral' is neither a group nor a value"),
        ({"kind within en-news": {"news": 1}}, r"no bucket with tokens lies within en-news"),
        ({"kind": {"k": 1, "law": 1}}, r"bucket zh-general-law belongs to two parts"),
    ],
)
def test_a_ratio_that_means_nothing_is_refused(mix: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(schedule(mix, groups={"k": ["law", "book"]}), imaginary_buckets(TOKENS))


def refusal(mix: dict[str, Any], **more: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        plan(schedule(mix, **more), imaginary_buckets(TOKENS))
    return str(caught.value).splitlines()


def test_contradictory_ratios_are_refused_with_the_smallest_conflict_and_a_proposal() -> None:
    mix = {
        "kind within zh-general": {"book": 1, "law": 1},
        "lang": {"zh": 3, "en": 1},
        "domain": {"general": 2, "finance": 1},
        "bucket": {"en-general-web": 1, "other": 1},
    }
    assert refusal(mix) == [
        "stage 'only', at its start: these lines cannot all hold:",
        "    lang: {zh: 3, en: 1}",
        "    bucket: {en-general-web: 1, other: 1}",
        "  with the others as they are, nearest to it is   lang: {zh: 1, en: 1}",
        "  with the others as they are, nearest to it is   bucket: {en-general-web: 1, other: 3}",
    ]


def test_proposals_can_be_drawn() -> None:
    mix = {"lang": {"zh": 3, "en": 1}, "bucket": {"en-general-web": 1, "other": 3}}
    weights = plan(schedule(mix), imaginary_buckets(TOKENS)).weights[0, 0]
    np.testing.assert_allclose(weights, [0, 0.25, 0.25, 0.375, 0.125], atol=1e-9)
    mix = {"lang": {"zh": 1, "en": 1}, "bucket": {"en-general-web": 1, "other": 1}}
    weights = plan(schedule(mix), imaginary_buckets(TOKENS)).weights[0, 0]
    np.testing.assert_allclose(weights, [0, 0.5, 1 / 6, 0.25, 1 / 12], atol=1e-9)


def test_a_conflict_at_a_ramps_end_says_so() -> None:
    mix = {"lang": {"zh": "3 -> 1", "en": 1}, "kind": {"law": "1 -> 3", "other": 3}}
    rows = refusal(mix | {"domain": {"general": 1, "finance": "0.5 -> 4"}})
    assert rows[0] == "stage 'only', at its end: these lines cannot all hold:"
    assert "    domain: {general: 1, finance: 0.5 -> 4}" in rows


def test_too_many_epochs_are_refused_with_the_numbers() -> None:
    mix = {"lang": {"zh": 1, "en": 1}, "kind": {"law": 1, "other": 1}}
    assert "\n".join(refusal(mix, max_epochs=4)) == (
        "max_epochs: these buckets would be read too often:\n"
        "    zh-general-law: 500 tokens to be drawn, 100 there are: 5.00 epochs, allowed 4\n"
        "these lines and limits cannot all hold:\n"
        "    stage 'only': kind: {law: 1, other: 1}\n"
        "    max_epochs 4: zh-general-law (100 tokens)\n"
        "  it can be drawn with every limit times 1.25 (max_epochs: 5), with every stage at 0.8 of "
        "its tokens, or with milder ratios"
    )
    made = plan(schedule(mix, max_epochs=5.1), imaginary_buckets(TOKENS))
    assert made.epochs[4] == pytest.approx(5)


def test_what_a_limited_bucket_may_not_give_its_like_give() -> None:
    limits = {"default": 3, "buckets": {"zh-general-book": 0.5}}
    made = plan(
        schedule({"lang": {"zh": 3, "en": 1}}, max_epochs=limits), imaginary_buckets(TOKENS)
    )
    # zh: 750 tokens; the book gives 150 of its 300, the others 600, in proportion 2 to 1
    assert made.epochs == pytest.approx([0.625, 0.625, 2.0, 0.5, 2.0])
    assert refusal({}, max_epochs={"default": 3, "buckets": {"zh-book": 0.5}})[0].startswith(
        "max_epochs.buckets.zh-book: there is no such bucket; there are en-finance-filing, "
    )


@st.composite
def feasible(draw: st.DrawFn) -> tuple[tuple[Bucket, ...], dict[str, Any]]:
    """Buckets and ratios that some distribution meets: the ratios of a random one."""
    langs, domains, kinds = ["zh", "en", "fr"], ["general", "finance"], ["book", "law", "web"]
    names = [f"{a}-{b}-{c}" for a in langs for b in domains for c in kinds]
    chosen = draw(st.lists(st.sampled_from(names), min_size=3, max_size=10, unique=True))
    tokens = {name: draw(st.integers(1, 10_000)) for name in chosen}
    target = {name: draw(st.integers(1, 50)) for name in chosen}

    def ratio(place: int, within: str | None = None) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, mass in target.items():
            parts = name.split("-")
            if within is None or within in parts:
                found[parts[place]] = found.get(parts[place], 0) + mass
        return found

    mix: dict[str, Any] = {"lang": ratio(0), "domain": ratio(1)}
    slice_name = draw(st.sampled_from(sorted({n.split("-")[0] for n in chosen})))
    mix[f"kind within {slice_name}"] = ratio(2, slice_name)
    for key in draw(st.sets(st.sampled_from(sorted(mix)), max_size=2)):
        del mix[key]
    return imaginary_buckets(tokens), mix


@settings(max_examples=30, deadline=None)
@given(feasible())
def test_the_projection_is_the_closest_distribution(
    case: tuple[tuple[Bucket, ...], dict[str, Any]],
) -> None:
    buckets, mix = case
    wanted = schedule(mix)
    bound = [constraints(line, wanted, buckets)[0] for line in wanted.lines(0)]
    prior = np.array([bucket.tokens for bucket in buckets], np.float64)
    prior /= prior.sum()
    weights, error = project(prior, bound)
    assert error < 1e-9
    rows = []
    for constraint in bound:
        held = constraint.labels >= 0
        for part, share in enumerate(constraint.shares):
            rows.append((constraint.labels == part) - share * held)
    # the same problem for scipy's general solver
    matrix = np.array([*rows, np.ones(len(prior))], np.float64)
    right = np.zeros(len(matrix))
    right[-1] = 1.0

    def divergence(p: np.ndarray) -> float:
        return float(np.sum(p * np.log(np.maximum(p, 1e-300) / prior)))

    def gradient(p: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(p, 1e-300) / prior) + 1

    _, values, basis = np.linalg.svd(matrix, full_matrices=False)
    kept = basis[values > 1e-9]
    solved = minimize(
        divergence,
        weights * 0.9 + 0.1 * prior,
        jac=gradient,
        method="SLSQP",
        bounds=[(1e-12, 1.0)] * len(prior),
        constraints={"type": "eq", "fun": lambda p: kept @ (p - weights), "jac": lambda p: kept},
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert np.abs(matrix @ weights - right).max() < 1e-9
    assert divergence(weights) <= divergence(solved.x) + 1e-9
    np.testing.assert_allclose(weights, solved.x, atol=2e-4)
