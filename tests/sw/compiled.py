"""Compiled models beside the graphs they are of, on any core."""

import numpy as np
from configurations import LEAST, core
from systolith.compiler.compile import compile_model
from systolith.device import ModelDevice
from systolith.models.evaluate import evaluate
from systolith_hw.config import CoreConfig

CORES = {
    "8x8": core(8, 8, 2),
    "3x5": core(3, 5, 2, {"act_rows": 2048}),
    "5x3 least loops": core(5, 3, 1, {"act_rows": 2048, "acc_rows": 16}, LEAST),
    "4x3 lanes with gaps": core(4, 3, 4),
    "wide rows": core(16, 8, 4, {"act_rows": 2048}, bits=64),
    "small memories": core(8, 8, 2, {"act_rows": 128, "act_banks": 1, "wgt_rows": 64,
                                     "acc_rows": 16}),
    "int4 cells": CoreConfig().overridden(
        ["array.weights=int8,int4", "array.cell=int4", "array.strategy=soft"]),
}


def run(network, config, *inputs, order=None):
    device = ModelDevice(config, memory_bytes=network.memory_bytes, order=order)
    return network.run(device, *inputs)


def check(graph, config, *, seed, orders=(None, 0, 1), host_ops=(), exact=True, bus=None):
    """A graph, compiled, computes on random inputs what it is; engines in any order."""
    network = compile_model(graph, config=config, exact=exact, bus=bus)
    assert network.host_ops == list(host_ops), [layer.host for layer in network.layers]
    rng = np.random.default_rng(seed)
    given = {name: rng.integers(-128, 128, graph.tensors[name].shape).astype(np.int8)
             for name in graph.inputs}
    wanted = evaluate(graph, given)
    for order in orders:
        found = run(network, config, *given.values(), order=order)
        for name, array in zip(graph.outputs, found, strict=True):
            off = np.abs(array.astype(int) - wanted[name]).max()
            assert off <= (0 if exact else 1), f"seed {seed}, order {order}"
    return network
