"""Predicted cycles agree with the Verilog's."""

import random
from functools import cache

import pytest
from systolith.cli.measure import RESULTS, Task, measure
from systolith.shapes import Shape, suite_shapes
from systolith_boards.boards import BOARDS
from systolith_hw.config import CoreConfig
from systolith_sim.device import core_verilog

MOST = 0.035
MOST_SHARED = 0.1      # of one thing at a time, by what each takes in the mean
PRESETS = ("demo", "bench16", "ecp5_85f")
SEEDS = range(1000, 1200)  # not those that the predictions were developed with
ALWAYS = {*range(1000, 1024), 1080}     # 1080: rows of one word, one a cycle
# A command more or less is some percent of anything shorter.
CYCLES = range(2000, 60_000)


def random_task(seed):
    """A product of any proportions, and any kind of results, whose bound is within ``CYCLES``."""
    choice = random.Random(seed)
    config = CoreConfig.preset(PRESETS[seed % len(PRESETS)])
    while True:
        shape = Shape(*(round(2 ** choice.uniform(0, most)) for most in (8, 9, 10)))
        task = Task(config=config, shape=shape, results=choice.choice(list(RESULTS)))
        if task.bound.cycles in CYCLES:
            return task


@cache
def measured(task_seed):
    """Report on the task of a seed, run on the Verilog."""
    task = random_task(task_seed)
    return measure(Task(config=task.config, shape=task.shape, results=task.results,
                        verilog=core_verilog(task.config, assertions=False)))


def error(report):
    """Predicted over measured cycles, less 1."""
    return report["predicted_cycles"] / report["cycles"] - 1


@pytest.mark.parametrize("seed", [
    pytest.param(seed, marks=() if seed in ALWAYS else pytest.mark.full) for seed in SEEDS])
def test_random_products_take_as_long_as_predicted(seed):
    report = measured(seed)
    assert report["bit_exact"]
    assert abs(error(report)) <= MOST, report


@pytest.mark.full
@pytest.mark.parametrize("shape", sorted(set(suite_shapes("deepbench")), key=str), ids=str)
def test_the_suite_takes_as_long_as_predicted(shape):
    config = CoreConfig.preset("bench16")
    report = measure(Task(config=config, shape=shape,
                          verilog=core_verilog(config, assertions=False)))
    assert report["bit_exact"]
    assert abs(error(report)) <= MOST, report


@pytest.mark.parametrize("changes", [
    {"vector": {"requantiser": "serial"}}, {"control": {"compact": True}},
    {"vector": {"requantiser": "serial"}, "control": {"compact": True}}],
    ids=["serial", "compact", "serial and compact"])
@pytest.mark.parametrize("shape, results", [
    (Shape(16, 16, 64), "int8"), (Shape(20, 30, 100), "params"), (Shape(1, 50, 200), "int32")],
    ids=str)
def test_products_on_small_cores_take_as_long_as_predicted(shape, results, changes):
    config = CoreConfig.preset("demo").updated(changes)
    report = measure(Task(config=config, shape=shape, results=results,
                          verilog=core_verilog(config, assertions=False)))
    assert report["bit_exact"]
    assert abs(error(report)) <= MOST, report


@pytest.mark.parametrize("shape, results", [
    ((16, 16, 64), "int8"), ((20, 30, 100), "params"), ((1, 50, 200), "int32")])
def test_a_shared_sequencer_takes_about_as_long_as_predicted(shape, results):
    config = BOARDS["icebreaker"].config
    report = measure(Task(config=config, shape=Shape(*shape), results=results,
                          memory_timing={"latency": 1},
                          verilog=core_verilog(config, assertions=False)))
    assert report["bit_exact"]
    assert abs(error(report)) <= MOST_SHARED, report
