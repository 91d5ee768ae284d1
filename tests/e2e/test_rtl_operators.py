"""Compiled networks of one operator or few on the emitted Verilog: every byte."""

import cmsis_graphs
import numpy as np
import pytest
from int8_graphs import CASES, grown
from systolith.compiler.compile import compile_model
from systolith.device import open_device
from systolith.models.evaluate import evaluate
from systolith_hw.config import CoreConfig


def check(graph, config, *, seed):
    network = compile_model(graph, config=config)
    assert network.host_ops == []
    rng = np.random.default_rng(seed)
    given = {name: rng.integers(-128, 128, graph.tensors[name].shape).astype(np.int8)
             for name in graph.inputs}
    wanted = evaluate(graph, given)
    with open_device("rtl", config, memory_bytes=network.memory_bytes) as device:
        found = network.run(device, *given.values())
    for name, array in zip(graph.outputs, found, strict=True):
        assert np.array_equal(array, wanted[name]), f"seed {seed}, {name}"


@pytest.mark.parametrize("seed", range(4))
def test_networks_that_move_elements_equal_the_graph(seed):
    check(grown(np.random.default_rng([seed, 21])), CoreConfig.preset("demo"), seed=seed)


@pytest.mark.parametrize("case", [
    "transposed_conv", "sub", "mul", "maximum", "minimum", "concat", "transpose", "pad"])
def test_operators_equal_the_graphs(case):
    check(CASES[case](np.random.default_rng([3, 7])), CoreConfig.preset("demo"), seed=3)


SHAPES = {"demo": CoreConfig.preset("demo"), "bench16": CoreConfig.preset("bench16").overridden(
    ["array.weights=int8,int4"])}


@pytest.mark.parametrize("core", ["demo", pytest.param("bench16", marks=pytest.mark.full)])
@pytest.mark.parametrize("name", [name for name in cmsis_graphs.names()
                                  if cmsis_graphs.refused(name) is None])
def test_equals_cmsis_nn(name, core):
    close, config = name in cmsis_graphs.CLOSE, SHAPES[core]
    for case in cmsis_graphs.cases(name)[:2]:
        network = compile_model(case.graph, config=config, exact=not close)
        assert network.host_ops == []
        with open_device("rtl", config, memory_bytes=network.memory_bytes) as device:
            found, = network.run(device, *case.inputs)
        assert np.abs(found.astype(int) - case.expected).max() <= int(close)
