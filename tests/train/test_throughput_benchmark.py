"""The throughput benchmark takes the training loop's own steps: held here, since it needs a GPU."""

import runpy
from pathlib import Path

import pytest
from cpt_run import LENGTH, losses_of, write_config, write_inputs

from train import cpt, launch
from train.run_config import read_run_config
from train.run_plan import plan_run

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "train_throughput.py"


def test_the_benchmarks_steps_are_those_of_a_run(tmp_path: Path) -> None:
    our_step = runpy.run_path(str(BENCHMARK))["our_step"]
    write_inputs(tmp_path)
    (tmp_path / "mixture.yaml").write_text(
        f"sequence_length: {LENGTH}\nstages: [{{name: two-steps, tokens: {2 * 8 * LENGTH}}}]\n"
    )
    phases = [{"name": "all", "learning_rate": {"peak": 1e-4, "schedule": "constant"}}]
    config = write_config(tmp_path, phases=phases, checkpoints={"every_steps": 0})
    run = read_run_config(config)
    ranks = launch.start(60)
    found, pairs = {}, {}
    for masks in (True, False):
        step = our_step(run, plan_run(run, 1), ranks, masks)
        steps = [step(number) for number in range(2)]
        found[masks] = [loss for loss, _, _ in steps]
        pairs[masks] = steps[0][1][0].documents.attended_pairs()
    assert cpt.main([str(config)]) == 0
    # The benchmark rounds the first weights to bf16, as a model that is loaded has them.
    assert found[True] == pytest.approx(losses_of(config), rel=1e-3)
    assert found[False] != pytest.approx(found[True], rel=1e-6)
    assert pairs[True] < pairs[False] == 4 * LENGTH * (LENGTH + 1) // 2
