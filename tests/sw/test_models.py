"""Models are read, checked and computed as their format's own interpreter does."""

import dataclasses
import random

import numpy as np
import pytest
import references
from damaged import check_refused_or_graph
from int8_graphs import (
    CASES,
    biases,
    image,
    like,
    made_of,
    random_concat,
    random_linear,
    random_unary,
    weights,
)
from interpreters import interpret, keywords, pictures
from systolith.models import Quantisation, Tensor, read_model
from systolith.models.evaluate import evaluate
from systolith.models.tflite import read_tflite
from tflite_models import tflite_bytes

SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES)
def test_integer_operators_equal_the_interpreters(case, seed):
    rng = np.random.default_rng([seed, len(case)])
    graph = CASES[case](rng)
    data = tflite_bytes(graph)
    read = read_tflite(data, "one.tflite")
    assert [node.op for node in read.nodes] == [node.op for node in graph.nodes]
    assert read.nodes[0].attributes == graph.nodes[0].attributes
    x = [rng.integers(-128, 128, (8, *graph.tensors[name].shape[1:])).astype(np.int8)
         for name in graph.inputs]
    found = evaluate(read, dict(zip(read.inputs, x, strict=True)))["y"]
    assert np.array_equal(found, interpret(data, x))


@pytest.mark.parametrize("rounding", ["twice", "once", "even"])
def test_a_convolution_of_a_pixel_rounds_as_a_linear_operator_does(rounding):
    rng = np.random.default_rng(4)
    x, w = image(rng, (1, 1, 1, 30)), weights(rng, (20, 1, 1, 30))
    b, made = biases(rng, x, w), like(rng)
    conv = made_of("conv", {"stride": (1, 1), "dilation": (1, 1), "pads": ((0, 0), (0, 0)),
                            "groups": 1, "activation": "none", "rounding": rounding},
                   [x, w, b], made, 1)
    flat = dataclasses.replace(w, shape=(20, 30), data=w.data.reshape(20, 30))
    linear = made_of("linear", {"activation": "none", "rounding": rounding}, [x, flat, b], made, 1)
    values = {"x": rng.integers(-128, 128, (200, 1, 1, 30)).astype(np.int8)}
    found = evaluate(conv, values)["y"]
    assert np.array_equal(found, evaluate(linear, values)["y"])
    sums = (values["x"].astype(np.int64) - x.zero_point) @ flat.data.T.astype(np.int64) + b.data
    exact = sums * (x.scale * w.quantisation.scale.astype(np.float64) / made.scale)
    far = np.abs(exact - np.floor(exact) - 0.5) > 1e-3  # from halves
    nearest = np.clip(np.rint(exact) + made.zero_point, -128, 127)
    assert far.mean() > 0.9
    assert np.abs(found - nearest).max() <= 1
    assert rounding == "twice" or np.array_equal(found[far], nearest[far])


def floated(graph):
    """The same operators on real numbers."""
    tensors = {name: dataclasses.replace(
        tensor, dtype="float32", quantisation=None,
        data=None if tensor.data is None else tensor.data.astype(np.float32) / 100)
        for name, tensor in graph.tensors.items()}
    return dataclasses.replace(graph, tensors=tensors)


@pytest.mark.parametrize("seed", SEEDS[:3])
@pytest.mark.parametrize("case", sorted(set(CASES) - {"convert"}) + ["logistic", "tanh"])
def test_float_operators_are_close_to_the_interpreters(case, seed):
    rng = np.random.default_rng([seed, len(case)])
    graph = floated(CASES[case](rng) if case in CASES else random_unary(rng, case))
    data = tflite_bytes(graph)
    x = [rng.normal(0, 3, (4, *graph.tensors[name].shape[1:])).astype(np.float32)
         for name in graph.inputs]
    read = read_tflite(data, "one.tflite")
    found = evaluate(read, dict(zip(read.inputs, x, strict=True)))["y"]
    assert np.allclose(found, interpret(data, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("to_float", [False, True])
def test_conversions_to_and_from_real_numbers_equal_the_interpreters(to_float):
    rng = np.random.default_rng(5)
    whole = image(rng, (1, 256))
    real = Tensor(name="r", shape=(1, 256), dtype="float32")
    source, made = (whole, real) if to_float else (real, whole)
    graph = made_of("convert", {}, [source], made, 1)
    x = (np.arange(-128, 128, dtype=np.int8)[None] if to_float
         else rng.normal(0, 5, (1, 256)).astype(np.float32))
    found = evaluate(graph, {source.name: x})["y"]
    assert np.array_equal(found, interpret(tflite_bytes(graph), [x]))


@pytest.mark.parametrize("function", ["logistic", "tanh"])
def test_tables_of_functions_are_within_one_of_the_interpreters(function):
    rng = np.random.default_rng(0)
    graph = random_unary(rng, function)
    x = np.arange(-128, 128, dtype=np.int8)[None]
    found = evaluate(graph, {"x": x})["y"]
    judged = interpret(tflite_bytes(graph), [x])
    assert np.abs(found.astype(int) - judged).max() <= 1


@pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.full)])
@pytest.mark.parametrize("file, inputs", [
    ("kws_ref_model.tflite", keywords), ("pretrainedResnet_quant.tflite", pictures)])
def test_trained_models_equal_the_interpreters_reference_kernels(file, inputs, count):
    path = references.stored("mlperf_tiny", file)
    graph, x = read_model(path), inputs(count)
    found = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    assert np.array_equal(found, interpret(path.read_bytes(), [x]))


def test_a_float_model_is_close_to_the_interpreters_reference_kernels():
    path = references.stored("mlperf_tiny", "pretrainedResnet.tflite")
    graph = read_model(path)
    x = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype(np.float32)
    found = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    assert np.allclose(found, interpret(path.read_bytes(), [x]), atol=1e-4)


def test_a_model_of_float_activations_and_int8_weights_names_the_same_words():
    path = references.stored("mlperf_tiny", "kws_ref_model_float32.tflite")
    graph = read_model(path)
    x = ((keywords(100).astype(np.float32) - 83) * 0.58470333).astype(np.float32)
    found = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    # The interpreter makes activations integers on the way.
    assert (found.argmax(1) == interpret(path.read_bytes(), [x]).argmax(1)).mean() >= 0.98


def test_a_graph_is_printed_a_line_for_each_node():
    graph = random_linear(np.random.default_rng(1))
    lines = str(graph).splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("0:node = linear(x, int8[")
    assert lines[2] == "output 0:node"


def test_multiplications_and_bytes_of_a_trained_model():
    graph = read_model(references.stored("mlperf_tiny", "pretrainedResnet_quant.tflite"))
    assert sum(map(graph.macs, graph.nodes)) == 12_501_632
    # Weights of int8 and biases of int32.
    assert 77_000 < graph.weight_bytes < 79_000


@pytest.mark.parametrize("change, says", [
    ({"op": "sigmoid"}, "node '0:node' must be one of conv, .* not 'sigmoid'"),
    ({"inputs": ("x",)}, "node '0:node' must have 2 to 3 inputs, not 1"),
    ({"inputs": ("x", "z")}, "node '0:node' must take what is made before it, not 'z'"),
    ({"output": "x"}, "node '0:node' must make a tensor of its own, not 'x'"),
    ({"attributes": {}}, "node '0:node' must have the attributes"),
    ({"attributes": {"activation": "none", "rounding": "up"}},
     "rounding of node '0:node' must be one of twice, once, even, not 'up'"),
    ({"inputs": ("w", "x")}, r"node '0:node' \(linear\) must make")])
def test_what_is_no_graph_is_refused(change, says):
    graph = random_linear(np.random.default_rng(3))
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(graph, nodes=[dataclasses.replace(graph.nodes[0], **change)])


@pytest.mark.parametrize("change, says", [
    ({"shape": (1, 0)}, "of a known size of at least 1"),
    ({"shape": (1 << 20, 1 << 20)}, r"fewer than 2\^31 elements"),
    ({"dtype": "complex64"}, "must be of type"),
    ({"data": np.array([np.nan], np.float32), "shape": (1,), "dtype": "float32"},
     "must be finite numbers"),
    ({"quantisation": Quantisation(np.array([0.0], np.float32), np.array([0]))},
     "must be positive"),
    ({"quantisation": Quantisation(np.ones(3, np.float32), np.zeros(3, np.int64), 1)},
     "one for each index")])
def test_what_is_no_tensor_is_refused(change, says):
    graph = random_linear(np.random.default_rng(3))
    tensors = {**graph.tensors, "x": dataclasses.replace(graph.tensors["x"], **change)}
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(graph, tensors=tensors)


@pytest.mark.parametrize("x, says", [
    (np.zeros((2, 7), np.int8), "must be of shape"),
    (np.zeros((2, 7), np.float32), "must be"),
    (np.zeros((0, 7), np.int8), "must be of shape")])
def test_inputs_of_another_kind_are_refused(x, says):
    graph = random_concat(np.random.default_rng(0))
    with pytest.raises(ValueError, match=says):
        evaluate(graph, dict.fromkeys("abc", x))


def test_files_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "model.txt"
    path.write_text("text")
    with pytest.raises(ValueError, match=r"a model must end in \.onnx, \.tflite, not 'model.txt'"):
        read_model(path)
    with pytest.raises(ValueError, match=r"must be a TFLite model of version 3"):
        read_tflite(b"text", "model.tflite")


@pytest.mark.parametrize("seed", range(300))
def test_damaged_files_are_refused_or_are_graphs(seed):
    choice = random.Random(seed)
    data = bytearray(tflite_bytes(CASES[choice.choice(list(CASES))](
        np.random.default_rng(seed))))
    for _ in range(choice.randint(1, 12)):
        data[choice.randrange(8, len(data))] = choice.randrange(256)
    del data[choice.choice([len(data), choice.randrange(8, len(data))]):]
    check_refused_or_graph(read_tflite, bytes(data), "damaged.tflite")


@pytest.mark.parametrize("dtype, zero_point", [("int8", 128), ("int8", 1 << 62), ("uint8", -1)])
def test_zero_points_outside_their_type_are_refused(dtype, zero_point):
    x = Tensor(name="x", shape=(1, 4), dtype=dtype, quantisation=Quantisation(
        np.ones(1, np.float32), np.array([zero_point])))
    with pytest.raises(ValueError, match=f"zero points of tensor 'x' must be numbers of its type, "
                                         f"{dtype}"):
        made_of("reshape", {"shape": (4, 1)}, [x], x, 1)
