"""Compiled networks that move elements: concatenation, padding, transposition."""

import dataclasses

import numpy as np
import pytest
from compiled import CORES, check
from int8_graphs import Network, grown, image, scaled
from systolith.compiler.compile import compile_model
from systolith.program import decode_program
from systolith_hw.isa import Memory, Opcode


@pytest.mark.parametrize("widths", [(8, 8), (8, 5), (5, 8), (16, 3, 2)])
@pytest.mark.parametrize("name", CORES)
def test_a_concatenation_of_convolutions_equals_the_graph(name, widths):
    net = Network(np.random.default_rng(1), image(np.random.default_rng(0), (1, 6, 5, 3)))
    q = scaled(net.rng)
    parts = [net.conv("x", width, quantisation=q) for width in widths]
    whole = net.add("concat", parts, q, axis=3)
    check(net.graph(net.conv(whole, 7)), CORES[name], seed=1)


def moved(network):
    """Operators that take cycles or bytes."""
    return {layer.op for layer in network.layers if layer.cycles or layer.moved_bytes}


def test_what_begins_with_a_plane_is_written_in_its_place_and_costs_nothing():
    net = Network(np.random.default_rng(1), image(np.random.default_rng(0), (1, 6, 5, 3)))
    q = scaled(net.rng)
    parts = [net.conv("x", width, quantisation=q) for width in (16, 8, 4)]
    summed = net.add("add", [parts[1], net.conv("x", 8)], q)
    whole = net.add("concat", [parts[0], summed, parts[2]], q, axis=3)
    later = net.conv(parts[0], 4)       # a part that is also taken by itself
    network = check(net.graph(net.conv(whole, 7), later, parts[2]), CORES["8x8"], seed=1)
    layer = next(layer for layer in network.layers if layer.op == "concat")
    assert (layer.cycles, layer.moved_bytes) == (0, 0)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("name", CORES)
def test_inputs_of_other_scales_are_brought_to_the_results(name, axis):
    rng = np.random.default_rng(axis)
    net = Network(rng, *(image(rng, (2, 3, 4, 8), name) for name in "abc"))
    made = net.same("max_pool", "a", kernel=(1, 1), stride=(1, 1), pads=((0, 0), (0, 0)))
    whole = net.add("concat", [made, "b", "c"], axis=axis, activation="relu6")
    check(net.graph(net.conv(whole, 3), whole), CORES[name], seed=axis)


@pytest.mark.parametrize("rounding", ["twice", "even"])
def test_a_constant_and_the_same_input_twice_are_joined(rounding):
    rng = np.random.default_rng(5)
    c = dataclasses.replace(image(rng, (1, 3, 4, 8), "c"),
                            data=rng.integers(-128, 128, (1, 3, 4, 8)).astype(np.int8))
    net = Network(rng, image(rng, (1, 3, 4, 8)))
    net.tensors["c"] = c
    whole = net.add("concat", ["x", "c", "x"], axis=3, rounding=rounding)
    check(net.graph(net.conv(whole, 3)), CORES["8x8"], seed=5)


@pytest.mark.parametrize("pads", [((1, 2), (0, 3)), ((1, 0), (1, 1)), ((4, 0), (0, 0))])
@pytest.mark.parametrize("also", [False, True])
@pytest.mark.parametrize("name", CORES)
def test_padding_is_written_around_a_map(name, pads, also):
    net = Network(np.random.default_rng(2), image(np.random.default_rng(0), (1, 6, 5, 3)))
    made = net.conv("x", 10)
    padded = net.same("pad", made, pads=((0, 0), *pads, (0, 0)))
    ends = [net.conv(padded, 4), padded] + ([net.conv(made, 3)] if also else [])
    check(net.graph(*ends), CORES[name], seed=2)


def test_padding_that_only_convolutions_read_is_theirs():
    net = Network(np.random.default_rng(2), image(np.random.default_rng(0), (1, 6, 5, 3)))
    padded = net.same("pad", "x", pads=((0, 0), (1, 0), (1, 1), (0, 0)))
    network = check(net.graph(net.conv(padded, 4, pads=((0, 1), (0, 0)))), CORES["8x8"], seed=2)
    assert "pad" not in moved(network)


def test_padding_of_channels_images_and_from_another_zero_point():
    net = Network(np.random.default_rng(3), image(np.random.default_rng(0), (1, 3, 4, 5)))
    made = net.same("pad", "x", pads=((1, 1), (0, 1), (0, 0), (3, 2)))
    other = net.add("pad", (net.conv(made, 6),), pads=((0, 0), (1, 0), (2, 0), (0, 0)))
    check(net.graph(net.conv(other, 3), other), CORES["3x5"], seed=3)


ORDERS = [(0, 3, 1, 2), (0, 2, 3, 1), (0, 2, 1, 3), (3, 0, 1, 2), (1, 0, 2, 3), (0, 1, 3, 2)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CORES)
def test_a_transposition_in_the_middle_equals_the_graph(name, order):
    net = Network(np.random.default_rng(2), image(np.random.default_rng(0), (2, 3, 4, 9)))
    turned = net.same("transpose", net.conv("x", 6, kernel=1), order=order)
    shape = net.tensors[turned].shape
    flat = net.same("reshape", turned, shape=(shape[0], int(np.prod(shape[1:]))))
    check(net.graph(net.conv(turned, 5), flat), CORES[name], seed=2, orders=(None, 0))


def test_a_transposition_of_a_matrix_and_one_that_moves_nothing():
    net = Network(np.random.default_rng(2), image(np.random.default_rng(0), (7, 9)))
    turned = net.same("transpose", "x", order=(1, 0))
    wide = net.same("reshape", turned, shape=(1, 9, 1, 7))
    still = net.same("transpose", wide, order=(0, 2, 1, 3))
    network = check(net.graph(net.conv(still, 4, kernel=1), turned), CORES["8x8"], seed=2)
    assert network.layers[2].op == "transpose" and not network.layers[2].host


@pytest.mark.parametrize("seed", [*range(8), 37, *(pytest.param(seed, marks=pytest.mark.full)
                                               for seed in range(8, 20))])
@pytest.mark.parametrize("name", ["8x8", "3x5", "small memories", "4x3 lanes with gaps"])
def test_random_networks_equal_the_graph(name, seed):
    graph = grown(np.random.default_rng([seed, 21]))
    # Where a row of pixels does not fit.
    host = {layer.name: layer.host for layer in compile_model(graph, config=CORES[name]).layers
            if layer.host}
    assert all("memory.act_rows must be at least" in why for why in host.values())
    assert len(host) <= 2
    check(graph, CORES[name], seed=seed, orders=(None, 0), host_ops=[*host])


@pytest.mark.parametrize("seed", [*range(4), 37, *(pytest.param(seed, marks=pytest.mark.full)
                                               for seed in range(4, 12))])
def test_random_networks_without_some_channels_equal_the_graph(seed):
    graph, rng = grown(np.random.default_rng([seed, 21])), np.random.default_rng(seed)
    for name, tensor in graph.tensors.items():
        if name.startswith("w"):    # and their biases, so that padding is what they make
            zeros = rng.random(len(tensor.data)) < 0.4
            for array in (tensor.data, graph.tensors[f"b{name[1:]}"].data):
                array[zeros] = 0
    network = compile_model(graph, config=CORES["8x8"])
    check(graph, CORES["8x8"], seed=seed, host_ops=network.host_ops)


def test_a_core_without_operations_on_the_scratchpad_moves_elements_through_memory():
    config = CORES["8x8"].overridden(["vector.elementwise=false", "vector.functions=0",
                                      "vector.multiply=false", "vector.rows=0"])
    net = Network(np.random.default_rng(2), image(np.random.default_rng(0), (1, 4, 5, 8)))
    q = scaled(net.rng)
    parts = [net.conv("x", 8, quantisation=q), net.conv("x", 3, quantisation=q)]
    whole = net.add("concat", [*parts, parts[0]], q, axis=3)
    padded = net.same("pad", whole, pads=((0, 0), (1, 1), (0, 0), (0, 0)))
    check(net.graph(net.conv(padded, 5), padded), config, seed=2)


def test_bytes_of_a_transposition_go_to_rows_in_one_run():
    net = Network(np.random.default_rng(2), image(np.random.default_rng(0), (1, 8, 10, 12)))
    turned = net.same("transpose", "x", order=(0, 2, 3, 1))
    network = compile_model(net.graph(net.conv(turned, 4, kernel=1)), config=CORES["8x8"])
    loads = [fields for opcode, fields in decode_program(network.images[0].program)
             if opcode == Opcode.LOAD and fields["memory"] == Memory.ACT]
    load, = loads
    assert (load["run_bytes"], load["row_bytes"], load["counts"]) == (12, 1, (10, 8, 1))
