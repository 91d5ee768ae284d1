"""Compiled models compute what the graph does, in every byte, on any core."""

import dataclasses

import numpy as np
import pytest
import references
import systolith
from compiled import CORES, check
from configurations import core
from int8_graphs import (
    CASES,
    biases,
    image,
    like,
    made_of,
    random_broadcast,
    random_unary,
    scaled,
    weights,
)
from int8_graphs import Network as Growing
from interpreters import interpret, keywords, pictures
from systolith.compiler.compile import compile_model
from systolith.compiler.lower import TooLarge
from systolith.compiler.network import Network
from systolith.compiler.pointwise import averages
from systolith.models import Graph, Node, Quantisation, Tensor
from systolith.models.evaluate import evaluate
from systolith.models.quantiser import quantised_model
from systolith.models.read import read_model
from systolith_hw.config import CoreConfig
from trained import trained

ON_CORE = ("conv", "depthwise", "transposed_conv", "linear", "average_pool", "max_pool", "add",
           "sub", "mul", "maximum", "minimum", "convert", "relu", "concat", "pad", "transpose")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("case", ON_CORE)
def test_operators_on_the_core_equal_the_graphs(case, name, seed):
    rng = np.random.default_rng([seed, 7])
    check(CASES[case](rng), CORES[name], seed=seed)


def for_the_host():
    """A softmax of too small a scale."""
    rng, steps = np.random.default_rng(3), (np.array([1 / 256], np.float32), np.array([-128]))
    x = image(rng, (1, 9), quantisation=scaled(rng, 0.01, 0.02))
    return made_of("softmax", {"beta": 1.0}, [x], like(rng, Quantisation(*steps)), 1)


def test_other_operators_run_on_the_host_and_say_why():
    graph = for_the_host()
    network = check(graph, CORES["8x8"], seed=3, host_ops=["0:node"])
    assert "must be" in network.layers[0].host


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("op", ["add", "sub", "mul", "maximum"])
def test_operands_are_spread_along_dimensions_of_1(op, name, seed, constant):
    rng = np.random.default_rng([seed, 9])
    check(random_broadcast(rng, op, constant), CORES[name], seed=seed, orders=(None, 0))


@pytest.mark.parametrize("rounding", ["twice", "even"])
@pytest.mark.parametrize("op", ["add", "sub", "mul"])
def test_a_single_constant_makes_a_table(op, rounding):
    rng = np.random.default_rng(4)
    x, number = image(rng, (1, 3, 4, 5)), image(rng, (1,), "c")
    number = dataclasses.replace(number, data=np.array([-37], np.int8))
    network = check(made_of(op, {"activation": "none", "rounding": rounding}, [x, number],
                            like(rng), 1), CORES["8x8"], seed=4)
    assert sum(layer.host != "" for layer in network.layers) == 0


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("seed", range(4))
def test_a_difference_follows_the_convolution_that_makes_either_side(name, seed):
    rng = np.random.default_rng([seed, 17])
    net = Growing(rng, image(rng, (1, 9, 7, 10)))
    first = net.conv("x", 10)
    second = net.conv("x", 10, kernel=1)
    sides = (first, second) if seed % 2 else (second, first)
    check(net.graph(net.add("sub", sides)), CORES[name], seed=seed)


def test_weights_that_a_core_does_not_take_are_the_hosts():
    rng = np.random.default_rng(0)
    net = Growing(rng, image(rng, (1, 6, 6, 4)))
    x = net.tensors[net.conv("x", 8, kernel=1)]
    w = dataclasses.replace(weights(rng, (8, 3, 3, 1)), name="deep")
    net.tensors["deep"] = w
    made = net.add("conv", (x.name, "deep"), stride=(1, 1), pads=((1, 1), (1, 1)),
                   dilation=(1, 1), groups=8)
    config = CoreConfig().overridden(["array.weights=ternary", "array.cell=ternary",
                                      "array.strategy=soft"])
    network = check(net.graph(made), config, seed=0, host_ops=["0:conv", "1:conv"])
    assert {layer.host for layer in network.layers} == {
        "weights must be ternary for this core, not int8"}


@pytest.mark.parametrize("images", [1025, 65_536])
def test_more_images_at_a_time_than_anyone_waits_for_are_refused(images):
    rng = np.random.default_rng(0)
    net = Growing(rng, image(rng, (images, 4, 4, 2)))
    with pytest.raises(ValueError, match=f"node '0:conv' must make at most 1024 images at a time, "
                                         f"not {images}: a network of one takes any number"):
        compile_model(net.graph(net.conv("x", 4)), config=CORES["8x8"])


def test_a_program_that_system_memory_cannot_hold_is_refused_as_soon_as_that_is_known():
    graph = chain(np.random.default_rng(6))
    with pytest.raises(TooLarge, match=r"more than [\d,]+ bytes for the program, not 640$"):
        compile_model(graph, config=CORES["8x8"], memory_bytes=640)
    assert compile_model(graph, config=CORES["8x8"], memory_bytes=1 << 20).images


def test_each_program_is_predicted_once(monkeypatch):
    from systolith.compiler import compile as module
    calls, predict = [], module.predict_ends
    monkeypatch.setattr(module, "predict_ends",
                        lambda commands, **how: calls.append(len(commands)) or predict(
                            commands, **how))
    network = compile_model(chain(np.random.default_rng(6)), config=CORES["8x8"])
    assert len(network.layers) > 4
    assert len(calls) == len(network.images) == 1


def test_extremes_of_other_scales_run_nowhere():
    rng = np.random.default_rng(3)
    graph = made_of("maximum", {}, [image(rng, (1, 2, 3, 4), name) for name in "ab"], like(rng), 2)
    network = compile_model(graph, config=CORES["8x8"])
    assert "must have the scale and zero point of the output" in network.layers[0].host
    x = np.zeros((1, 2, 3, 4), np.int8)
    with pytest.raises(ValueError, match="must have the scale and zero point of the output"):
        network(x, x)


@pytest.mark.parametrize("op", ["add", "sub", "mul"])
def test_pairs_whose_halves_go_to_even_are_equal_or_refused(op):
    found = set()
    for seed in range(12):
        rng = np.random.default_rng([seed, 13])
        network = compile_model(random_broadcast(rng, op, rounding="even"), config=CORES["8x8"])
        host = network.layers[0].host
        found.add(bool(host))
        if host:
            assert "for every pair of int8" in host
        else:
            rng = np.random.default_rng([seed, 13])
            check(random_broadcast(rng, op, rounding="even"), CORES["8x8"], seed=seed)
    assert False in found


def test_a_product_that_no_multiplier_gives_runs_on_the_host_and_says_why():
    # (a - za) * (b - zb) / 2: every odd product is a half, which goes to even.
    rng = np.random.default_rng(0)
    halves = [Quantisation(np.array([scale], np.float32), np.array([0])) for scale in (1, 1, 2)]
    graph = made_of("mul", {"activation": "none", "rounding": "even"},
                    [image(rng, (1, 2, 2, 2), name, q) for name, q in zip("ab", halves,
                                                                           strict=False)],
                    like(rng, halves[2]), 2)
    network = check(graph, CORES["8x8"], seed=0, host_ops=["0:node"])
    assert "must be those of the core's rounding for every pair" in network.layers[0].host


@pytest.mark.parametrize("kernel, on_host", [((3, 3), False), ((2, 2), True)])
def test_averages_whose_halves_go_to_even_run_on_the_core_where_there_are_none(kernel, on_host):
    rng = np.random.default_rng(1)
    x = image(rng, (1, 6, 6, 3))
    graph = made_of("average_pool", {"kernel": kernel, "stride": (2, 2), "activation": "none",
                                     "pads": ((0, 0), (0, 0)), "rounding": "even"},
                    [x], like(rng, x.quantisation), 1)
    check(graph, CORES["8x8"], seed=1, host_ops=["0:node"] if on_host else [])


def upward(rng, size, stride, kernel, groups=1, dilation=(1, 1), pads=((1, 0), (0, 1))):
    x, w = image(rng, (1, *size, 6)), weights(rng, (12, *kernel, 6 // groups))
    return made_of("transposed_conv", {
        "stride": stride, "dilation": dilation, "pads": pads, "groups": groups,
        "activation": "none"}, [x, w, biases(rng, x, w)], like(rng), 1)


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("stride, kernel, groups, dilation, pads", [
    ((2, 3), (3, 3), 2, (1, 2), ((1, 0), (2, 1))), ((2, 2), (2, 3), 1, (2, 2), ((0, -1), (0, -1))),
    ((3, 1), (2, 4), 3, (1, 1), ((0, -2), (3, 3))), ((1, 2), (1, 1), 1, (1, 1), ((0, 0), (0, 0)))])
def test_transposed_convolutions_of_any_group_dilation_and_pads(name, stride, kernel, groups,
                                                                dilation, pads):
    graph = upward(np.random.default_rng(5), (5, 4), stride, kernel, groups, dilation, pads)
    check(graph, CORES[name], seed=5)


@pytest.mark.parametrize("stride, kernel", [((2, 2), (3, 3)), ((3, 2), (5, 2)), ((4, 1), (3, 3))])
def test_transposed_convolutions_run_in_bands(stride, kernel):
    graph = upward(np.random.default_rng(5), (17, 5), stride, kernel)
    network = check(graph, CORES["small memories"], seed=5)
    assert network.layers[0].moved_bytes > 2 * graph.tensors["y"].elements


def thinned(rng, op="conv"):
    """A layer of whose weights some tiles are zeros."""
    x, w = image(rng, (1, 9, 8, 40)), weights(rng, (12, 3, 3, 40))
    kept = rng.random((3, 3, 5)) < 0.3
    w.data[:] *= np.repeat(kept, 8, 2)
    return made_of(op, {"stride": (1, 1), "dilation": (1, 1), "pads": ((1, 1), (1, 1)),
                        "groups": 1, "activation": "none"}, [x, w, biases(rng, x, w)], like(rng), 1)


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("seed", range(1))
def test_tiles_of_zeros_are_skipped(name, seed):
    graph = thinned(np.random.default_rng([seed, 3]))
    network = check(graph, CORES[name], seed=seed, orders=(None, 0))
    if name == "8x8":
        full = dataclasses.replace(graph.tensors["w"], data=np.maximum(graph.tensors["w"].data, 1))
        whole = compile_model(dataclasses.replace(
            graph, tensors={**graph.tensors, "w": full}), config=CORES[name])
        kept = graph.tensors["w"].data.reshape(12, 9, 5, 8).any((0, 3)).mean()
        macs = network.layers[0].macs
        assert network.layers[0].left_out == pytest.approx((1 - kept) * macs)
        assert whole.layers[0].left_out == 0
        print(f"{kept:.0%} of the tiles, {network.cycles} cycles, all {whole.cycles}")
        assert network.cycles < (kept + 0.2) * whole.cycles


def pruned(rng, pads):
    """A network of which some channels have no weights, and the same with small ones there."""
    net = Growing(rng, image(rng, (1, 11, 12, 6)))
    zeros = [3, 4, 9, 13]

    def emptied(made, channels):
        w = net.tensors[net.nodes[-1].inputs[1]]
        w.data[channels] = 0
        return made

    first = emptied(net.conv("x", 16, pads=pads), zeros)
    table = net.add("unary", (first,), function="relu")
    second = emptied(net.conv(table, 12, kernel=1), [0, 5, 11])
    depth = dataclasses.replace(weights(rng, (12, 2, 2, 1)), name="dw")
    net.tensors["dw"] = depth
    apart = net.add("conv", (second, "dw"), stride=(1, 1), pads=((0, 0), (0, 0)), dilation=(1, 1),
                    groups=12)
    small = net.same("max_pool", apart, kernel=(2, 2), stride=(2, 2), pads=((0, 0), (0, 0)))
    return net.graph(emptied(net.conv(small, 7, pads=pads), [6]))


@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), ((1, 1), (1, 1))])
@pytest.mark.parametrize("name", CORES)
def test_channels_of_zero_weights_are_left_out(name, pads):
    graph = pruned(np.random.default_rng(4), pads)
    network = check(graph, CORES[name], seed=4, orders=(None,))
    left = [layer.left_out for layer in network.layers]
    assert left[0] == graph.macs(graph.nodes[0]) // 4       # 4 of 16 outputs
    # Around a padded image its constant is another number than the padding.
    padded = any(map(any, pads))
    assert left[2] == graph.macs(graph.nodes[2]) * (4 if padded else 7) // 16
    assert left[3] == (0 if padded else graph.macs(graph.nodes[3]) // 4)


def test_channels_that_a_sum_or_the_user_takes_stay():
    rng = np.random.default_rng(4)
    net = Growing(rng, image(rng, (1, 5, 4, 6)))
    a, b = net.conv("x", 8), net.conv("x", 8)
    for node in net.nodes:
        net.tensors[node.inputs[1]].data[2:5] = 0
    c = net.conv(a, 5)
    network = check(net.graph(net.add("add", (a, b)), c), CORES["8x8"], seed=4)
    assert not any(layer.left_out for layer in network.layers)


def test_biases_that_would_pass_32_bits_keep_their_channels():
    rng = np.random.default_rng(4)
    net = Growing(rng, image(rng, (1, 5, 4, 6)))
    a = net.conv("x", 8)
    net.tensors[net.nodes[0].inputs[1]].data[2:5] = 0
    made = net.conv(a, 5, pads=((0, 0), (0, 0)))
    net.tensors[net.nodes[1].inputs[2]].data[:] = (1 << 31) - 1
    network = compile_model(net.graph(made), config=CORES["8x8"])
    assert not any(layer.left_out for layer in network.layers)
    assert "sums must stay within 31 bits" in network.layers[1].host


def test_a_layer_of_zeros_makes_its_bias():
    graph = thinned(np.random.default_rng(3))
    graph.tensors["w"].data[:] = 0
    check(graph, CORES["8x8"], seed=3)


def wide(rng, op):
    """An operator on rows that do not fit a small scratchpad."""
    x = image(rng, (1, 4, 50, 20))
    if op == "linear":
        x, w = image(rng, (100, 20)), weights(rng, (11, 20))
        return made_of(op, {"activation": "none"}, [x, w, biases(rng, x, w)], like(rng), 1)
    if op == "transposed_conv":
        return upward(rng, (3, 40), (2, 3), (3, 4))
    if op in ("max_pool", "average_pool"):
        return made_of(op, {"kernel": (2, 3), "stride": (1, 2), "pads": ((1, 0), (1, 1)),
                            "activation": "none"}, [x], like(rng, x.quantisation), 1)
    w = weights(rng, (9, 3, 2, 20))
    return made_of(op, {"stride": (1, 2), "dilation": (1, 3), "pads": ((1, 1), (2, 1)),
                        "groups": 1, "activation": "relu"}, [x, w, biases(rng, x, w)], like(rng), 1)


@pytest.mark.parametrize("op", ["conv", "transposed_conv", "linear", "max_pool", "average_pool"])
def test_operators_run_in_bands_of_columns_where_no_row_fits(op):
    check(wide(np.random.default_rng(6), op), CORES["small memories"], seed=6)


@pytest.mark.parametrize("shape", [(1, 1, 1, 20), (7, 20)])
def test_weights_with_zero_points_are_sums_of_weights(shape):
    rng = np.random.default_rng(8)
    x, w = image(rng, shape), weights(rng, (12, *((1, 1, 20) if len(shape) > 2 else (20,))))
    w.data[0, ..., 0] = 127     # 127 - -128 is the sum of three
    w = dataclasses.replace(w, quantisation=Quantisation(
        w.quantisation.scale, np.where(np.arange(12) % 2, 100, -128), 0))
    ends = {"activation": "none"}
    graph = (made_of("linear", ends, [x, w, biases(rng, x, w)], like(rng), 1) if len(shape) == 2
             else made_of("conv", {**ends, "stride": (1, 1), "dilation": (1, 1), "groups": 1,
                                   "pads": ((0, 0), (0, 0))}, [x, w], like(rng), 1))
    check(graph, CORES["8x8"], seed=8)


@pytest.mark.parametrize("op", ["add", "mul", "relu", "convert"])
def test_operators_on_elements_run_in_bands(op):
    rng = np.random.default_rng(2)
    shape = (1, 40, 6, 10)
    row = dataclasses.replace(image(rng, (1, 1, 6, 10), "b"))
    graph = (made_of(op, {"activation": "none"}, [image(rng, shape, "a"), row], like(rng), 2)
             if op in ("add", "mul") else made_of(
                 "unary" if op == "relu" else op, {"function": op} if op == "relu" else {},
                 [image(rng, shape)], like(rng), 1))
    check(graph, CORES["small memories"], seed=2)


def test_a_convolution_before_a_sum_that_spreads_its_other_operand():
    graph = chain(np.random.default_rng(3))
    rng = np.random.default_rng(3)
    other = dataclasses.replace(image(rng, (10,), "o"),
                                data=rng.integers(-128, 128, 10).astype(np.int8))
    nodes = [dataclasses.replace(node, inputs=("b", "o")) if node.op == "add" else node
             for node in graph.nodes]
    check(dataclasses.replace(graph, tensors={**graph.tensors, "o": other}, nodes=nodes),
          CORES["8x8"], seed=3)


@pytest.mark.parametrize("function", ["logistic", "tanh"])
def test_functions_become_tables(function):
    check(random_unary(np.random.default_rng(1), function), CoreConfig.preset("demo"), seed=1)


def chain(rng, *, size=(9, 7), channels=(3, 10, 10)):
    """A network with a residual, a pool and a flattened end."""
    tensors, nodes = {}, []

    def keep(*given):
        tensors.update((tensor.name, tensor) for tensor in given)

    def node(op, inputs, output, made, quantisation, **attributes):
        keep(Tensor(name=output, shape=made, dtype="int8", quantisation=quantisation))
        nodes.append(Node(name=f"{len(nodes)}:{op}", op=op, inputs=inputs, output=output,
                          attributes=attributes))

    same = {"pads": ((1, 1), (1, 1)), "stride": (1, 1), "dilation": (1, 1), "groups": 1,
            "activation": "relu", "rounding": "twice"}
    before, first, second = channels
    x = image(rng, (1, *size, before))
    keep(x)

    def conv(source, output, filters, inputs):
        w = dataclasses.replace(weights(rng, (filters, 3, 3, inputs)), name=f"{output}.w")
        b = dataclasses.replace(biases(rng, tensors[source], w), name=f"{output}.b")
        keep(w, b)
        node("conv", (source, w.name, b.name), output, (1, *size, filters), scaled(rng), **same)

    conv("x", "a", first, before)
    conv("a", "b", second, first)
    node("add", ("a", "b"), "c", (1, *size, second), scaled(rng), activation="none",
         rounding="twice")
    pooled = (size[0] // 2, size[1] // 2)
    node("max_pool", ("c",), "d", (1, *pooled, second), tensors["c"].quantisation,
         kernel=(2, 2), stride=(2, 2), pads=((0, 0), (0, 0)), activation="none")
    k = pooled[0] * pooled[1] * second
    node("reshape", ("d",), "e", (1, k), tensors["d"].quantisation, shape=(1, k))
    w = dataclasses.replace(weights(rng, (6, k)), name="f.w")
    keep(w)
    node("linear", ("e", "f.w"), "f", (1, 6), scaled(rng), activation="none", rounding="twice")
    return Graph(name="chain", tensors=tensors, nodes=nodes, inputs=["x"], outputs=["f"])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CORES)
def test_a_network_equals_the_graph(name, seed):
    check(chain(np.random.default_rng(seed)), CORES[name], seed=seed)


def test_what_comes_out_in_the_middle_and_at_the_end():
    graph = chain(np.random.default_rng(8))
    check(dataclasses.replace(graph, outputs=["a", "e", "f"]), CORES["8x8"], seed=8)


def test_a_sum_without_a_second_multiplier_equals_the_graph():
    config = core(8, 8, 2, {"act_rows": 1024}).overridden(["vector.multiply=false",
                                                           "vector.functions=0"])
    check(chain(np.random.default_rng(2)), config, seed=2)


def test_a_reshape_in_the_middle_goes_through_memory():
    rng = np.random.default_rng(5)
    x = image(rng, (1, 4, 6, 5))
    flat = Tensor(name="r", shape=(1, 6, 4, 5), dtype="int8", quantisation=x.quantisation)
    w = weights(rng, (7, 2, 2, 5))
    conv = made_of("conv", {"stride": (1, 1), "dilation": (1, 1), "pads": ((0, 0), (0, 0)),
                            "groups": 1, "activation": "none"}, [flat, w], like(rng), 1)
    pool = made_of("max_pool", {"kernel": (1, 1), "stride": (1, 1), "pads": ((0, 0), (0, 0)),
                                "activation": "none"}, [x], like(rng, x.quantisation), 1)
    first = dataclasses.replace(pool.tensors["y"], name="p")
    graph = Graph(name="shapes", inputs=["x"], outputs=["y"],
                  tensors={**conv.tensors, "x": x, "p": first, "r": flat}, nodes=[
                      dataclasses.replace(pool.nodes[0], name="0:pool", output="p"),
                      Node(name="1:reshape", op="reshape", inputs=("p",), output="r",
                           attributes={"shape": (1, 6, 4, 5)}),
                      dataclasses.replace(conv.nodes[0], name="2:conv")])
    check(graph, CORES["8x8"], seed=5)


def test_several_runs_and_floats():
    graph = chain(np.random.default_rng(4))
    config = CORES["8x8"]
    network = compile_model(graph, config=config)
    x = np.random.default_rng(4).integers(-128, 128, (3, 9, 7, 3)).astype(np.int8)
    wanted = evaluate(graph, {"x": x})["f"]
    assert np.array_equal(network(x, integers=True), wanted)
    q = graph.tensors["x"].quantisation
    real = ((x.astype(np.float64) - q.zero_point) * q.scale).astype(np.float32)
    made = graph.tensors["f"]
    assert np.allclose(network(real), (wanted.astype(float) - made.zero_point) * made.scale)


def test_compiling_twice_gives_the_same_file_and_the_file_the_same_network():
    graph, config = chain(np.random.default_rng(6)), CORES["8x8"]
    raw = compile_model(graph, config=config).to_bytes()
    assert raw == compile_model(graph, config=config).to_bytes()
    again = Network.from_bytes(raw)
    assert again.to_bytes() == raw
    x = np.zeros((1, 9, 7, 3), np.int8)
    assert np.array_equal(again(x, integers=True), evaluate(graph, {"x": x})["f"])


def test_a_network_with_host_steps_is_stored_whole():
    graph = for_the_host()
    raw = compile_model(graph, config=CORES["8x8"]).to_bytes()
    given = [np.ones(graph.tensors[name].shape, np.int8) for name in graph.inputs]
    wanted = evaluate(graph, dict(zip(graph.inputs, given, strict=True)))["y"]
    assert np.array_equal(Network.from_bytes(raw)(*given, integers=True), wanted)


@pytest.mark.parametrize("harm, what", [
    (lambda raw: raw[:-1], "length of image"), (lambda raw: raw[:20], "must start with the header"),
    (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "checksum of image")])
def test_a_damaged_file_is_refused(harm, what):
    raw = compile_model(chain(np.random.default_rng(6)), config=CORES["8x8"]).to_bytes()
    with pytest.raises(ValueError, match=what):
        Network.from_bytes(harm(raw))


@pytest.mark.parametrize("array, what", [
    (np.zeros((1, 9, 7, 4), np.int8), "must be of shape"),
    (np.zeros((1, 9, 7, 3), np.int16), "must be int8 or float"),
    (np.full((1, 9, 7, 3), np.nan), "must be finite"),
    (np.zeros((0, 9, 7, 3), np.int8), "one number of runs")])
def test_wrong_inputs_are_refused(array, what):
    network = compile_model(chain(np.random.default_rng(6)), config=CORES["8x8"])
    with pytest.raises((TypeError, ValueError), match=what):
        network(array)


@pytest.mark.parametrize("count", [1, 2, 6, 25, 49, 64, 100, 125, 168])
def test_averages_are_rounded_away_from_0_for_every_sum(count):
    sums = np.arange(-128 * count, 127 * count + 1)
    wanted = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
    assert np.array_equal(averages(sums, count), wanted)


def test_a_core_of_fewer_rows_than_lanes_is_refused():
    with pytest.raises(ValueError, match=r"array.rows must be at least vector.lanes=4"):
        compile_model(chain(np.random.default_rng(1)), config=core(2, 8, 4))


@pytest.mark.parametrize("rounding", ["once", "even"])
@pytest.mark.parametrize("seed", range(3))
def test_sums_rounded_otherwise_equal_the_graphs(rounding, seed):
    rng = np.random.default_rng([seed, 12])
    x, w = image(rng, (1, 30)), weights(rng, (20, 30))
    graph = made_of("linear", {"activation": "none", "rounding": rounding},
                    [x, w, biases(rng, x, w)], like(rng), 1)
    # The multiplier of one output has too few bits with seed 1.
    check(graph, CORES["8x8"], seed=seed, host_ops=["0:node"] if seed == 1 else [])
    check(graph, CORES["8x8"], seed=seed, exact=False)


def test_halves_that_the_core_rounds_otherwise_are_left_to_the_host():
    rng = np.random.default_rng(2)
    x = image(rng, (1, 4), quantisation=Quantisation(np.array([0.5], np.float32), np.array([0])))
    w = dataclasses.replace(weights(rng, (3, 4)), quantisation=Quantisation(
        np.ones(3, np.float32), np.zeros(3, np.int64), 0))
    made = Tensor(name="like", shape=(1,), dtype="int8", quantisation=Quantisation(
        np.ones(1, np.float32), np.array([0])))
    graph = made_of("linear", {"activation": "none", "rounding": "even"}, [x, w], made, 1)
    network = check(graph, CORES["8x8"], seed=2, host_ops=["0:node"])
    assert "results of output 0 must be those of the core's rounding" in network.layers[0].host


@pytest.mark.parametrize("format_", ["int8", "int4", "ternary"])
def test_a_quantised_float_model_runs_on_the_core_alone(format_):
    graph, inputs, _, data = trained("digits")
    made = quantised_model(graph, {name: x[:50] for name, x in data.items()}, weights=format_)
    config = CoreConfig.preset("bench16").overridden(["array.weights=int8,int4,ternary"])
    network = compile_model(made, config=config)
    assert network.host_ops == []
    assert {layer.weights for layer in network.layers if layer.weights} == {format_}
    x = {name: values[:3] for name, values in inputs.items()}
    assert np.array_equal(network(*x.values()), evaluate(made, x)[made.outputs[0]])


def test_a_ternary_network_of_qonnx_runs_on_integers():
    graph = read_model(references.stored("qonnx", "TFC_2W2A.onnx"))
    config = CoreConfig.preset("bench16").overridden(["array.weights=int8,ternary"])
    network = compile_model(graph, config=config)
    assert {layer.name for layer in network.layers if layer.op == "linear" and layer.host} == {
        "25:matmul"}    # makes real numbers
    x = np.random.default_rng(1).random((3, 1, 28, 28)).astype(np.float32)
    assert np.array_equal(network(x), evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]])


TRAINED = {
    "kws": ("mlperf_tiny", "kws_ref_model.tflite"),
    "resnet": ("mlperf_tiny", "pretrainedResnet_quant.tflite"),
}


@pytest.mark.parametrize("preset", ["bench16", "ecp5_85f"])
@pytest.mark.parametrize("name", TRAINED)
def test_trained_models_equal_the_reference(name, preset):
    graph = read_model(references.stored(*TRAINED[name]))
    check(graph, CoreConfig.preset(preset), seed=1, orders=(None, 3))


@pytest.mark.full
@pytest.mark.parametrize("name, inputs", [("kws", keywords), ("resnet", pictures)])
def test_trained_models_answer_1000_inputs_as_the_interpreters_reference_kernels(name, inputs):
    path = references.stored(*TRAINED[name])
    x = inputs(1000)
    found = compile_model(path, config=CoreConfig.preset("bench16"))(x, integers=True)
    assert np.array_equal(found, interpret(path.read_bytes(), [x]))


@pytest.mark.parametrize("name", TRAINED)
def test_close_trained_models_run_on_the_core_alone(name):
    graph = read_model(references.stored(*TRAINED[name]))
    check(graph, CoreConfig.preset("bench16"), seed=1, orders=(None,), exact=False)


@pytest.mark.parametrize("name", ["kws", pytest.param("resnet", marks=pytest.mark.full)])
def test_trained_models_run_from_a_small_scratchpad(name):
    graph = read_model(references.stored(*TRAINED[name]))
    check(graph, CoreConfig.preset("demo"), seed=2, orders=(None,))


def test_from_python_floats_go_in_and_come_out(tmp_path):
    graph = chain(np.random.default_rng(8))
    network = systolith.compile(graph, preset="bench16")
    assert network.config == CoreConfig.preset("bench16").to_dict()
    port, made = *network.inputs, *network.outputs
    x = np.random.default_rng(9).integers(-128, 128, (3, *port.shape[1:])).astype(np.int8)
    wanted, = evaluate(graph, {port.name: x}).values()
    assert np.array_equal(network(x, integers=True), wanted)
    found = network(port.real(x))
    assert found.dtype == np.float32
    assert np.array_equal(found, made.real(wanted))


def test_a_float_model_is_quantised_on_the_way():
    graph, _, _, data = trained("digits")
    x = {name: values[:20] for name, values in data.items()}
    network = systolith.compile(graph, preset="bench16", calibrate=x)
    wanted, = evaluate(quantised_model(graph, x), x).values()
    assert network.host_ops == []
    assert np.array_equal(network(*x.values()), wanted)


def test_a_board_names_its_configuration():
    boards = pytest.importorskip("systolith_boards.boards").BOARDS
    network = systolith.compile(chain(np.random.default_rng(8)), preset="ulx3s_85f")
    assert network.config == boards["ulx3s_85f"].config.to_dict()


@pytest.mark.parametrize("options, error, sentence", [
    ({}, TypeError, "config or preset must be given, and not both, not None and None"),
    ({"preset": "none"}, ValueError, "preset must be one of demo, tiny, "),
    ({"preset": "demo", "weights": "int4"}, ValueError,
     "calibrate must be given for weights of another format, not for 'int4' alone"),
])
def test_what_it_is_compiled_for_must_be_said(options, error, sentence):
    with pytest.raises(error) as caught:
        systolith.compile(chain(np.random.default_rng(8)), **options)
    assert str(caught.value).startswith(sentence)
