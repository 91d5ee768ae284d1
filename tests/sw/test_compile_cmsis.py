"""CMSIS-NN's cases, compiled: what the core makes of them, byte by byte."""

import cmsis_graphs
import numpy as np
import pytest
from compiled import CORES, run
from systolith.compiler.compile import compile_model
from systolith.models.evaluate import evaluate
from systolith_hw.config import CoreConfig

NAMES = [name for name in cmsis_graphs.names() if cmsis_graphs.refused(name) is None]
CONFIGS = {
    "demo": CoreConfig.preset("demo"), "3x5": CORES["3x5"], "4x3 lanes with gaps":
    CORES["4x3 lanes with gaps"], "small memories": CORES["small memories"],
    "int4 cells": CORES["int4 cells"],
    "pairs": CoreConfig().overridden(["array.weights=int8,int4", "array.pairs=true"])}
# What a core is too small for runs on the host, and says why.
TOO_SMALL = {("conv_5", "small memories"): "memory.act_rows must be at least 144",
             ("depthwise_int4_generic_5", "small memories"): "memory.act_rows must be at least 243",
             **{("softmax", config): "channels must be at most" for config in (
                 "3x5", "4x3 lanes with gaps")}}


def test_every_case_is_compiled_or_has_a_reason():
    names = cmsis_graphs.names()
    if not names:
        pytest.skip("CMSIS-NN vectors are not there")
    reasons = {name: why for name in names if (why := cmsis_graphs.refused(name))}
    for name, why in reasons.items():
        print(f"{name}: {why}")
    assert (len(NAMES), len(reasons)) == (75, 29)


@pytest.mark.parametrize("name, config", [
    pytest.param(name, config, marks=[pytest.mark.full] * (
        (name, config) == ("conv_1_x_n_7", "small memories")))
    for config in CONFIGS for name in NAMES])
def test_equals_cmsis_nn(name, config):
    close = name in cmsis_graphs.CLOSE
    for case in cmsis_graphs.cases(name)[:3]:
        network = compile_model(case.graph, config=CONFIGS[config], exact=not close)
        hosts = [layer.host for layer in network.layers if layer.host]
        reason = TOO_SMALL.get((name, config))
        assert not hosts if reason is None else all(reason in host for host in hosts), hosts
        found, = run(network, CONFIGS[config], *case.inputs)
        assert found.dtype == case.expected.dtype
        assert np.abs(found.astype(int) - case.expected).max() <= int(close)
        wanted = evaluate(case.graph, dict(zip(case.graph.inputs, case.inputs, strict=True)))
        assert np.array_equal(wanted[case.graph.outputs[0]], case.expected)
