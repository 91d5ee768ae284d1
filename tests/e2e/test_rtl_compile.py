"""Compiled models on the emitted Verilog: every byte, and how many cycles they take."""

from dataclasses import replace

import numpy as np
import pytest
import references
from interpreters import interpret, keywords, pictures
from systolith.compiler.compile import compile_model
from systolith.compiler.lower import lower
from systolith.device import open_device
from systolith.models.evaluate import evaluate
from systolith.models.read import read_model
from systolith.picture import load_timeline
from systolith.presets import named_bus
from systolith_boards.boards import BOARDS
from systolith_hw.config import CoreConfig

# Multiplications a cycle of 256, at least, over the whole network.
TRAINED = {
    "kws": ("kws_ref_model.tflite", 0.42, 2),
    "resnet": ("pretrainedResnet_quant.tflite", 0.8, 1),
}


@pytest.mark.full
@pytest.mark.parametrize("name, inputs, count", [("kws", keywords, 20), ("resnet", pictures, 5)])
def test_a_trained_model_answers_its_inputs_as_the_interpreters_reference_kernels(
        name, inputs, count):
    path = references.stored("mlperf_tiny", TRAINED[name][0])
    config, x = CoreConfig.preset("bench16"), inputs(count)
    network = compile_model(path, config=config)
    with open_device("rtl", config, memory_bytes=network.memory_bytes) as device:
        found, = network.run(device, x)
    assert np.array_equal(found, interpret(path.read_bytes(), [x]))


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_model_equals_its_reference_and_keeps_the_array_busy(name):
    file, share, runs = TRAINED[name]
    graph = read_model(references.stored("mlperf_tiny", file))
    config = CoreConfig.preset("bench16")
    network = compile_model(graph, config=config)
    rng = np.random.default_rng(11)
    shape = graph.tensors[graph.inputs[0]].shape
    x = rng.integers(-128, 128, (runs, *shape[1:])).astype(np.int8)
    cycles = []
    with open_device("rtl", config, memory_bytes=network.memory_bytes) as device:
        found, = network.run(device, x, each=lambda: cycles.append(device.counters()["cycles"]))
    assert np.array_equal(found, evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]])
    assert len(set(cycles)) == 1
    macs = sum(layer.macs for layer in network.layers)
    print(f"{name}: {cycles[0]} cycles, {network.cycles} predicted")
    assert macs / cycles[0] / config.macs_per_cycle >= share
    assert abs(network.cycles - cycles[0]) <= 0.05 * cycles[0]


@pytest.mark.full
@pytest.mark.parametrize("name, preset, most", [
    ("kws", "models", 45_000), ("resnet", "models", 110_000),
    ("kws", "wide", 36_000), ("resnet", "wide", 67_000)])
def test_beside_a_boards_slow_memory_weights_stay_and_cycles_are_as_predicted(name, preset, most):
    graph = read_model(references.stored("mlperf_tiny", TRAINED[name][0]))
    config, bus = BOARDS["ulx3s_85f"].running(preset).config, named_bus("ulx3s_85f")
    network = compile_model(graph, config=config, bus=bus)
    x = np.random.default_rng(12).integers(
        -128, 128, (2, *network.inputs[0].shape[1:])).astype(np.int8)
    cycles = []
    with open_device("rtl", config, memory_bytes=network.memory_bytes, latency=bus.latency,
                     bandwidth=bus.words, shared=True) as device:
        found, = network.run(device, x, each=lambda: cycles.append(device.counters()["cycles"]))
    assert np.array_equal(found, evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]])
    print(f"{name}, {preset}: {cycles} cycles, {network.cycles} predicted")
    assert network.resident_bytes and max(cycles) <= most
    assert abs(network.cycles - cycles[0]) <= 0.05 * cycles[0]


def ends_of(trace):
    """By engines' commands of the one program of a timeline: when each had done its work; and the
    program's cycles."""
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    program, = (event for event in slices if event["cat"] == "program")
    assert program["args"]["complete"]
    ends = {event["args"]["command"]: event["ts"] + event["dur"] for event in slices
            if event["cat"] == "command" and not event["name"].startswith("fetch")}
    return ends, program["dur"]


@pytest.mark.full
@pytest.mark.parametrize("name", TRAINED)
def test_each_layer_of_a_trained_model_ends_as_predicted(name, tmp_path):
    graph = read_model(references.stored("mlperf_tiny", TRAINED[name][0]))
    config = CoreConfig.preset("bench16")
    network = compile_model(graph, config=config)
    of_core = [node for node, layer in zip(graph.nodes, network.layers, strict=True)
               if not layer.host]
    lowered = lower(replace(graph, nodes=of_core, outputs=[of_core[-1].output]), config)
    image, = network.images
    assert lowered.image.program == image.program
    with open_device("rtl", config, memory_bytes=network.memory_bytes,
                     trace=tmp_path / "run.json") as device:
        network.run(device, np.zeros((1, *network.inputs[0].shape[1:]), np.int8))
    ends, cycles = ends_of(load_timeline(tmp_path / "run.json"))
    until = lowered.layer_ends([*(ends.get(i, 0) for i in range(len(lowered.origins))), cycles])
    layers = {layer.name: layer for layer in network.layers}
    assert [name for name, layer in layers.items() if layer.cycles] == [
        name for name in layers if name in until]
    before = 0
    for name, end in until.items():     # in the order that they are done in
        found, before = end - before, end
        print(f"{name}: {found} cycles, {layers[name].cycles} predicted")
        assert abs(layers[name].cycles - found) <= 0.05 * found
