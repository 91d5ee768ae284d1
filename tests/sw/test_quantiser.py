"""Models of real numbers become models on int8 that make nearly the same."""

import dataclasses

import numpy as np
import pytest
from float_models import POOL, SIZE, Model, network, nodes
from systolith.models import Quantisation, Tensor
from systolith.models.builder import Builder
from systolith.models.calibrate import CALIBRATIONS
from systolith.models.evaluate import evaluate
from systolith.models.quantiser import output_error, quantised_model
from test_models import interpret
from tflite_models import tflite_bytes

SEEDS = range(4)
FORMATS = {"int8": 127, "int4": 7, "ternary": 1}


@pytest.mark.parametrize("weights, most", [("int8", 0.01), ("int4", 0.05), ("ternary", 0.6)])
@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_on_int8_makes_nearly_the_same(seed, calibration, weights, most):
    graph, data = network(seed)
    made = quantised_model(graph, data, weights=weights, calibration=calibration)
    assert output_error(graph, made, data) < most
    assert (list(made.inputs), list(made.outputs)) == (["x"], ["y"])
    assert {node.name for node in graph.nodes} <= {node.name for node in made.nodes}
    for node in made.nodes:
        assert node.attributes.get("rounding", "twice") == "twice"
        if node.op != "convert":
            assert made.output(node).dtype == "int8"
    for node in nodes(made, "conv", "linear"):
        tensor, bias = made.of(node, 1), made.of(node, 2)
        assert tensor.dtype == weights
        assert 1 <= np.abs(tensor.data).max() <= FORMATS[weights]
        assert tensor.quantisation.axis == 0
        assert not tensor.quantisation.zero_point.any()
        assert bias.dtype == "int32"
        assert np.allclose(bias.quantisation.scale,
                           made.of(node, 0).scale * tensor.quantisation.scale)


def test_networks_on_int8_are_those_that_the_interpreter_computes():
    graph, data = network(9)
    made = quantised_model(graph, data)
    linear = nodes(made, "linear")[0]   # that of the interpreter rounds once
    once = [dataclasses.replace(node, attributes={**node.attributes, "rounding": "once"})
            if node is linear else node for node in made.nodes]
    made = dataclasses.replace(made, nodes=once)
    assert np.array_equal(evaluate(made, data)["y"], interpret(tflite_bytes(made), [data["x"]]))


def pool(model, op):
    return model.add(op, model.conv("x"), **POOL)


def padded(model):
    return model.add("pad", model.conv("x"), pads=((0, 0), (1, 2), (0, 1), (0, 0)))


def turned(model):
    return model.add("transpose", model.conv("x"), order=(0, 3, 1, 2))


def pair(model, op, **attributes):
    return model.add(op, model.conv("x"), model.conv("x", kernel=1), **attributes)


def with_constant(model, op):
    return model.add(op, "x", model.constant(model.numbers(1, 8, 6)))


def twice_the_same(model):
    x = model.conv("x")
    return model.add("add", x, x)


def joined(model):
    far = model.conv("x", bias=np.full(6, 9))
    return model.add("concat", model.conv("x"), far, model.constant(model.numbers(*SIZE)), axis=3)


def joined_shares(model):
    answer = model.add("softmax", model.conv("x"), beta=0.5)
    return model.add("concat", answer, model.conv("x"), axis=2)


def function(model, name):
    x = model.conv("x")
    return model.add("concat", model.add("unary", x, function=name), x, axis=3)


def clipped(model):
    return model.add("mul", model.add("clip", model.conv("x"), low=-0.5, high=1.5), "x")


def strided(model):
    return model.conv("x", stride=(2, 1), dilation=(1, 2), groups=3, weights=model.numbers(
        6, 3, 3, 2), pads=((0, 2), (2, 2)))


def upward(model):
    return model.add("transposed_conv", "x", model.constant(model.numbers(4, 3, 2, 3) / 4),
                     model.constant(model.numbers(4)), stride=(2, 1), dilation=(1, 2), groups=2,
                     pads=((1, -1), (0, 1)))


def rows(model):
    return model.linear(model.add("transpose", "x", order=(0, 3, 1, 2)), activation="relu")


CASES = {
    "max_pool": lambda model: pool(model, "max_pool"),
    "average_pool": lambda model: pool(model, "average_pool"), "pad": padded,
    "transpose": turned, "add": lambda model: pair(model, "add", activation="relu6"),
    "sub": lambda model: pair(model, "sub"), "maximum": lambda model: pair(model, "maximum"),
    "minimum of a constant": lambda model: with_constant(model, "minimum"),
    "mul": lambda model: pair(model, "mul", activation="relu1"),
    "add a constant": lambda model: with_constant(model, "add"),
    "times a constant": lambda model: with_constant(model, "mul"), "to itself": twice_the_same,
    "concat": joined, "concat of shares": joined_shares, "clip": clipped,
    **{name: lambda model, name=name: function(model, name)
       for name in ("relu", "relu6", "relu1", "logistic", "tanh")},
    "strided": strided, "upward": upward, "rows": rows}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", SEEDS)
def test_each_operator_becomes_one_on_int8(seed, case):
    model = Model([seed, len(case)])
    graph = model.graph(CASES[case](model))
    made = quantised_model(graph, model.data, calibration="minmax")
    assert output_error(graph, made, model.data) < 0.001
    for node in nodes(made, "reshape", "transpose", "pad", "max_pool", "average_pool", "concat",
                      "clip", "maximum", "minimum"):
        for number in range(len(node.inputs)):
            assert str(made.of(node, number)).split("]")[1] == str(made.output(node)).split("]")[1]
    for node in nodes(made, "softmax"):
        assert (made.output(node).scale, made.output(node).zero_point) == (1 / 256, -128)


def test_weights_of_a_transposed_layer_are_fitted_to_what_they_meet():
    model = Model(7)
    model.data["x"] += 3 * model.numbers(24, 1, 1, 6)   # neighbours are alike
    graph = model.graph(upward(model))
    made = quantised_model(graph, model.data, weights="int4")
    error = output_error(graph, made, model.data)
    # The nearest integers, without what the data say.
    node, = nodes(made, "transposed_conv")
    old = graph.tensors[graph.nodes[0].inputs[1]].data
    weights = made.of(node, 1)
    scale = weights.quantisation.scale.reshape(-1, 1, 1, 1)
    whole = np.clip(np.rint(old / scale), -7, 7).astype(np.int8)
    nearest = dataclasses.replace(weights, data=whole)
    other = dataclasses.replace(made, tensors={**made.tensors, weights.name: nearest})
    assert error < 0.02 and error < output_error(graph, other, model.data)


def test_normalisation_and_activation_behind_a_layer_go_into_it():
    model = Model(2)
    scaled = model.add("mul", model.conv("x"), model.constant(model.numbers(1, 1, 1, 6)))
    moved = model.add("sub", scaled, model.constant(model.numbers(6)))
    graph = model.graph(model.add("unary", moved, function="relu6"))
    made = quantised_model(graph, model.data)
    assert [node.op for node in made.nodes] == ["convert", "conv", "convert"]
    assert output_error(graph, made, model.data) < 0.001


def test_models_may_have_several_inputs_and_outputs_and_runs_of_several_rows():
    build = Builder("model", [Tensor(name=name, shape=(2, 5, 4, 3), dtype="float32")
                              for name in ("x", "z")], ["y", "sum", "z_again"])
    model = Model(0, (2, 5, 4, 3))
    model.build, model.data["z"] = build, model.numbers(48, 5, 4, 3) * 7
    total = model.add("add", "x", "z")
    graph = build.graph({"y": model.conv(total), "sum": total, "z_again": "z"})
    made = quantised_model(graph, model.data, weights="int4")
    exact, found = evaluate(graph, model.data), evaluate(made, model.data)
    assert list(found) == ["y", "sum", "z_again"]
    assert all(found[name].shape == exact[name].shape for name in exact)
    assert output_error(graph, made, model.data) < 0.01
    assert made.outputs == graph.outputs and made.inputs == graph.inputs


def test_what_only_a_clip_takes_has_the_range_of_the_clip():
    model = Model(1)
    graph = model.graph(clipped(model))
    made = quantised_model(graph, model.data, calibration="minmax")
    (clip,) = nodes(made, "clip")
    assert np.isclose(made.of(clip, 0).scale, (1.5 + 0.5) / 255)


def test_the_same_arguments_make_the_same_model():
    graph, data = network(3)
    first, second = (quantised_model(graph, data, weights="auto", max_loss=0.05) for _ in "ab")
    assert str(first) == str(second)
    for name, tensor in first.tensors.items():
        assert tensor.data is None or np.array_equal(tensor.data, second.tensors[name].data)


# Biases, and channels that are unlike others.

@pytest.mark.parametrize("weights", ["int4", "ternary"])
@pytest.mark.parametrize("seed", SEEDS)
def test_bias_correction_takes_the_mean_error_from_each_channel(seed, weights):
    model = Model(seed, (1, 9, 8, 3), runs=40)
    model.data["x"] = np.abs(model.data["x"])
    graph = model.graph(model.conv("x", 8))
    exact = evaluate(graph, model.data)["y"]
    with_it, without = (np.abs((evaluate(quantised_model(
        graph, model.data, weights=weights, calibration="minmax", bias_correction=on),
        model.data)["y"] - exact).mean((0, 1, 2))) for on in (True, False))
    step = (exact.max() - exact.min()) / 255
    assert (with_it <= np.maximum(without, 0.2 * step)).all()
    assert with_it.mean() < 0.5 * without.mean()


def test_bias_correction_takes_up_what_inputs_are_rounded_by():
    data = np.full((20, 4, 4, 3), 0.4, np.float32)
    data[0, 0, 0], data[0, 0, 1] = (-127, 127, 0), (128, -127, 0)   # steps of 1
    model = Model(1, (1, 4, 4, 3))
    graph = model.graph(model.conv("x", kernel=1, weights=np.ones((1, 1, 1, 3)), bias=[0]))
    exact = evaluate(graph, {"x": data})["y"]
    with_it, without = ((evaluate(quantised_model(
        graph, {"x": data}, bias_correction=on, calibration="minmax"), {"x": data})["y"] - exact
        ).mean() for on in (True, False))
    assert np.isclose(without, -1.2, atol=0.05)     # three inputs that become 0
    assert abs(with_it) < 0.01


def one_conv(weights, bias, data=None, **attributes):
    """A convolution of one pixel, quantised, and what it makes; and the exact results."""
    model = Model(5, (1, 4, 4, 3))
    data = model.data if data is None else {"x": data}
    graph = model.graph(model.conv("x", weights=np.asarray(weights).reshape(-1, 1, 1, 3), kernel=1,
                                   bias=bias, **attributes))
    made = quantised_model(graph, data)
    return made, evaluate(made, data)["y"], evaluate(graph, data)["y"]


def test_channels_without_weights_keep_their_biases():
    weights = np.array([[0, 0, 0], [0.01, -0.02, 0.01], [0, 0, 0], [1e-42, 0, 0]])
    data = np.random.default_rng(0).normal(0, 100, (6, 4, 4, 3)).astype(np.float32)
    made, found, exact = one_conv(weights, [0.37, 0.1, -2.5, 1.25], data)
    step = made.output(nodes(made, "conv")[0]).scale
    assert np.abs(found - exact)[..., [0, 2, 3]].max() <= 0.51 * step
    assert np.abs(found - exact).max() < 4 * step


def test_a_bias_that_is_huge_beside_its_weights_is_kept():
    made, found, exact = one_conv([[1e-12, 2e-12, 0], [1, 1, 1]], [3.0, 1.0])
    assert np.abs(found - exact).max() <= 2 * made.output(nodes(made, "conv")[0]).scale


@pytest.mark.parametrize("value", [0.0, 3.0, -7.5])
def test_inputs_that_never_change_are_exact(value):
    data = np.full((6, 4, 4, 3), value, np.float32)
    made, found, exact = one_conv(np.eye(3), [0, 1, 2], data)
    assert np.abs(found - exact).max() <= made.output(nodes(made, "conv")[0]).scale


def test_a_layer_whose_results_are_far_less_than_its_products_stays_in_reach():
    made, found, exact = one_conv([[1, 0, 0]], [-1e3], activation="relu")
    assert not found.any() and not exact.any()
    data = np.random.default_rng(0).uniform(0.99999, 1, (6, 4, 4, 3)).astype(np.float32)
    made, found, exact = one_conv([[900, -900, 0]], [0], data)
    conv, = nodes(made, "conv")
    step = made.of(conv, 0).scale * made.of(conv, 1).quantisation.scale[0]
    assert 1 / 256 < made.output(conv).scale / step < 1 / 32    # that of the data is 1/390
    assert np.abs(found - exact).max() < 0.02


def test_weights_that_a_file_stores_as_integers_are_read_as_real():
    rng = np.random.default_rng(0)
    build = Builder("model", [Tensor(name="x", shape=(1, 6), dtype="float32")], ["y"])
    weights = build.constant("w", rng.integers(-100, 100, (4, 6)).astype(np.int8),
                             quantisation=Quantisation(np.array([0.01], np.float32), np.array([5])))
    graph = build.graph({"y": build.add("linear", "linear", ["x", weights],
                                        {"activation": "none"})})
    data = {"x": rng.normal(0, 1, (30, 6)).astype(np.float32)}
    assert output_error(graph, quantised_model(graph, data), data) < 0.0005


# Formats for each layer.

def formats(made):
    return [made.of(node, 1).dtype for node in nodes(made, "conv", "linear")]


def test_layers_get_as_few_bits_as_the_loss_allows():
    graph, data = network(2)
    widths = []
    for most in (0.0, 0.005, 0.03, 1e9):
        made = quantised_model(graph, data, weights="auto", max_loss=most)
        error = output_error(graph, made, data)
        assert error <= most or set(formats(made)) == {"int8"}
        widths.append(sum({"int8": 8, "int4": 4, "ternary": 2}[one] for one in formats(made)))
    assert widths == sorted(widths, reverse=True)
    assert (widths[0], widths[-1]) == (4 * 8, 4 * 2)
    assert len(set(widths)) == 4


def test_a_layer_that_hardly_matters_is_the_first_with_fewer_bits():
    model = Model(7)
    loud, faint = model.conv("x", kernel=1), model.conv("x", kernel=1)
    faint = model.add("mul", faint, model.constant(np.full((1, 1, 1, 1), 0.003)))
    graph = model.graph(model.add("add", loud, model.add("unary", faint, function="tanh")))
    made = quantised_model(graph, model.data, weights="auto", max_loss=0.001)
    assert formats(made) == ["int8", "ternary"]


# What is refused.

def small():
    model = Model(0, (1, 4))
    return model, model.graph(model.linear("x"))


@pytest.mark.parametrize("data, says", [
    ({}, "inputs must be x, not "),
    ({"z": np.zeros((2, 4), np.float32)}, "inputs must be x, not z"),
    ({"x": np.zeros((2, 5), np.float32)}, "input 'x' must be of shape"),
    ({"x": np.zeros((0, 4), np.float32)}, "input 'x' must be of shape"),
    ({"x": np.zeros((2, 4))}, "input 'x' must be float32, not float64"),
    ({"x": np.full((2, 4), np.nan, np.float32)},
     "input 'x' must be finite numbers, not inf or NaN"),
    ({"x": np.full((2, 4), 3e38, np.float32)},
     "tensor 'y' must be finite on the calibration data")])
def test_data_that_are_none_for_the_model_are_refused(data, says):
    with pytest.raises(ValueError) as error:
        quantised_model(small()[1], data)
    assert str(error.value).startswith(says)


@pytest.mark.parametrize("options, kind, says", [
    ({"weights": "int2"}, ValueError,
     "weights must be one of int8, int4, ternary, auto, not 'int2'"),
    ({"calibration": "median"}, ValueError,
     "calibration must be one of minmax, percentile, mse, not 'median'"),
    ({"bias_correction": 1}, TypeError, "bias_correction must be a boolean, not 1"),
    ({"max_loss": -1.0}, ValueError, "max_loss must be a number of at least 0, not -1.0"),
    ({"max_loss": float("nan")}, ValueError, "max_loss must be a number of at least 0, not nan"),
    ({"max_loss": "little"}, TypeError, "max_loss must be a number, not 'little'")])
def test_options_that_are_none_are_refused(options, kind, says):
    model, graph = small()
    with pytest.raises(kind) as error:
        quantised_model(graph, model.data, **options)
    assert str(error.value) == says


def test_weights_that_are_no_numbers_are_refused():
    model = Model(0, (1, 4))
    weights = model.constant(np.full((3, 4), np.nan), "w")
    with pytest.raises(ValueError, match="constant 'w' must be finite numbers, not inf or NaN"):
        model.graph(model.add("linear", "x", weights))


def test_a_model_that_is_one_of_integers_is_refused():
    model, graph = small()
    made = quantised_model(graph, model.data)
    with pytest.raises(ValueError, match=r"tensor 'x.int8' must be float32 to be quantised, not "
                                         r"int8\[1, 4\] scale"):
        quantised_model(made, model.data)


def test_weights_that_are_computed_are_refused():
    model = Model(0, (4, 4))
    graph = model.graph(model.add("linear", "x", "x"))
    with pytest.raises(ValueError, match="node 'linear': 'x' must be a constant"):
        quantised_model(graph, model.data)


def test_operators_that_int8_has_not_are_refused():
    model = Model(0, (1, 4))
    graph = model.graph(model.build.add("cast", "convert", ["x"], {}))
    with pytest.raises(ValueError, match="node 'cast' must be one of conv, .* to be "
                                         "quantised, not convert"):
        quantised_model(graph, model.data)


def test_nodes_of_constants_only_are_refused():
    model = Model(0, (1, 4))
    made = model.add("mul", model.constant([[2.0]]), model.constant([[3.0]]))
    graph = model.graph(model.add("add", "x", made))
    with pytest.raises(ValueError, match="node 'mul' must take what is computed, not constants"):
        quantised_model(graph, model.data)
