"""Weights stay in the core from run to run where all of them fit."""

from math import prod

import numpy as np
import pytest
import references
from compiled import CORES, check
from int8_graphs import CASES, image
from int8_graphs import Network as Growing
from networks import residual
from systolith.compiler.compile import compile_model
from systolith.compiler.network import HostStep, Network
from systolith.cycles import Bus
from systolith.device import ModelDevice
from systolith.models.evaluate import evaluate
from systolith.presets import named_bus, named_config
from systolith.program import decode_program
from systolith_hw.isa import COMMAND_BYTES, LoadMode, Memory, Opcode

ROOMY = CORES["8x8"]


def loads(program, memory):
    """Addresses and bytes of a program's loads of one memory."""
    return [(fields["memory_base"], prod(fields["counts"]) * fields["run_bytes"])
            for opcode, fields in decode_program(program)
            if opcode == Opcode.LOAD and fields["memory"] == memory
            and fields["mode"] != LoadMode.FILL]


def test_weights_that_fit_are_loaded_once_and_each_one_once():
    network = check(residual(1), ROOMY, seed=1)
    loaded = loads(network.images[0].setup, Memory.WGT)
    assert len(set(loaded)) == len(loaded) > 1
    assert network.resident_bytes == sum(size for _, size in loaded)
    assert not loads(network.images[0].program, Memory.WGT)
    assert all(layer.moved_bytes < network.resident_bytes for layer in network.layers)


def test_weights_that_do_not_fit_are_loaded_each_time():
    network = check(residual(1), CORES["small memories"], seed=1)
    assert network.resident_bytes == network.images[0].setup_commands == 0
    assert loads(network.images[0].program, Memory.WGT)


def test_a_run_after_another_networks_has_its_own_weights():
    graphs = [residual(seed) for seed in (1, 2)]
    networks = [compile_model(graph, config=ROOMY) for graph in graphs]
    device = ModelDevice(ROOMY, memory_bytes=max(each.memory_bytes for each in networks))
    rng = np.random.default_rng(0)
    for number in (0, 1, 0, 0):
        name = graphs[number].inputs[0]
        x = rng.integers(-128, 128, graphs[number].tensors[name].shape).astype(np.int8)
        found, = networks[number].run(device, x)
        assert np.array_equal(found, evaluate(graphs[number], {name: x})[graphs[number].outputs[0]])


def test_runs_after_the_first_need_no_other_load():
    graph = residual(3)
    network = compile_model(graph, config=ROOMY)
    image, = network.images
    device = ModelDevice(ROOMY, memory_bytes=network.memory_bytes)
    image.install(device)
    for address, size in loads(image.setup, Memory.WGT):
        device.write(address, bytes(size))
    x = np.random.default_rng(4).integers(-128, 128, image.inputs[0].shape).astype(np.int8)
    for _ in range(2):
        found, = image.run(device, x, install=False)
        assert np.array_equal(found.reshape(-1), evaluate(
            graph, {graph.inputs[0]: x})[graph.outputs[0]].reshape(-1))


def test_programs_between_which_the_host_works_load_their_weights_each_time():
    rng = np.random.default_rng(3)
    net = Growing(rng, image(rng, (1, 8, 8, 8)))
    first = net.conv("x", 8)
    held = net.add("softmax", (first,), beta=1.0)
    network = compile_model(net.graph(net.conv(held, 8)), config=ROOMY)
    assert sum(isinstance(step, HostStep) for step in network.steps) == 1
    assert len(network.images) == 2
    assert all(each.setup_commands == 0 and loads(each.program, Memory.WGT)
               for each in network.images)


def test_a_program_that_fits_memory_only_where_weights_are_loaded_each_time_is_not_refused():
    path = references.stored("mlperf_tiny", "kws_ref_model.tflite")
    config, bus = named_config("ulx3s_85f"), named_bus("ulx3s_85f")
    assert compile_model(path, config=config, bus=bus).resident_bytes
    network = compile_model(path, config=config, bus=bus, memory_bytes=700 * COMMAND_BYTES)
    assert network.resident_bytes == 0 and network.images[0].commands < 700


def test_a_file_keeps_what_is_loaded_once():
    network = compile_model(residual(1), config=ROOMY)
    again = Network.from_bytes(network.to_bytes())
    assert again.images == network.images and again.images[0].setup_commands


@pytest.mark.parametrize("words, row_bytes", [(1.0, 9), (0.2, 3)])
def test_pixels_are_gathered_as_takes_the_fewest_cycles_of_the_bus_or_the_scratchpad(
        words, row_bytes):
    rng = np.random.default_rng(5)
    net = Growing(rng, image(rng, (1, 16, 24, 3)))
    network = check(net.graph(net.conv("x", 8)), CORES["wide rows"], seed=5,
                    bus=Bus(latency=32, words=words))
    gathers = [fields["row_bytes"] for opcode, fields in decode_program(network.images[0].program)
               if opcode == Opcode.LOAD and fields["memory"] == Memory.ACT
               and fields["mode"] != LoadMode.FILL]
    assert set(gathers) == {row_bytes}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("case", ["conv", "depthwise", "linear"])
def test_operators_equal_the_graphs_with_a_slow_bus(case, name, seed):
    rng = np.random.default_rng([seed, 8])
    check(CASES[case](rng), CORES[name], seed=seed, bus=Bus(latency=32, words=0.1))
