"""ONNX models are read, checked and computed as ONNX says."""

import gzip

import numpy as np
import onnx
import pytest
import references
from onnx_cases import FLOATS, WHOLE, linear_operators, residual
from onnx_models import OPSET, Quantised, computed, model, node, real, stated
from systolith.models import read_model
from systolith.models.evaluate import evaluate

SEEDS = range(4)
MOVED = {"transpose", "reshape"}


def onnxruntime(made, feeds):
    """What onnxruntime computes, or where it is missing, what ONNX states."""
    try:
        import onnxruntime as ort
    except ImportError:
        return stated(made, feeds)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(made.SerializeToString(), options,
                                   providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", FLOATS)
def test_operators_of_real_numbers_are_close_to_onnxruntime(case, seed):
    rng = np.random.default_rng([seed, len(case)])
    nodes, inputs, constants = FLOATS[case](rng)
    made = model(nodes, inputs, constants)
    feeds = {name: real(rng, *shape) * 3 for name, shape in inputs.items()}
    graph, (found,) = computed(made, feeds)
    (judged,) = onnxruntime(made, feeds)
    assert found.shape == judged.shape
    assert np.allclose(found, judged, rtol=1e-5, atol=1e-5)
    # Runs side by side are those one by one.
    twice = evaluate(graph, {name: np.concatenate([x, -x]) for name, x in feeds.items()})
    assert np.allclose(twice[graph.outputs[0]][:len(found)], found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 12, 13, 17, OPSET, 26])
def test_operators_are_read_as_their_opset_has_them(opset):
    rng = np.random.default_rng(opset)
    nodes = [node("Conv", "x w", "a"), node("BatchNormalization", "a s s m s", "n"),
             node("Relu", "n", "b"), node("MaxPool", "b", "c", kernel_shape=[2, 2]),
             node("Softmax", "c", "p"),     # along two dimensions more before opset 13
             node("Flatten", "p", "d"), node("Gemm", "d v u", "y")]
    made = model(nodes, {"x": (1, 2, 6, 6)}, {
        "w": real(rng, 3, 2, 3, 3), "v": real(rng, 27, 5), "u": real(rng, 5),
        "s": real(rng, 3) ** 2 + 0.1, "m": real(rng, 3)}, opset=opset)
    feeds = {"x": real(rng, 1, 2, 6, 6)}
    assert np.allclose(computed(made, feeds)[1][0], onnxruntime(made, feeds)[0], atol=1e-5)


def test_a_network_of_images_keeps_no_transpose_but_that_of_its_input():
    rng = np.random.default_rng(0)
    made, feeds = residual(rng), {"x": real(rng, 5, 3, 8, 8)}
    graph, (found,) = computed(made, feeds)
    assert [one.op for one in graph.nodes] == [
        "transpose", "conv", "conv", "add", "max_pool", "reshape", "linear"]
    assert [one.attributes.get("activation") for one in graph.nodes] == [
        None, "relu", "none", "relu", "none", None, "none"]
    assert np.allclose(found, stated(made, feeds)[0], atol=1e-4)


def test_a_transpose_that_a_reshape_reads_for_something_else_stays():
    rng = np.random.default_rng(1)
    nodes = [node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("Softmax", "f", "y")]
    made = model(nodes, {"x": (1, 2, 4, 4)}, {"w": real(rng, 3, 2, 2, 2)})
    feeds = {"x": real(rng, 1, 2, 4, 4)}
    graph, (found,) = computed(made, feeds)
    assert [one.op for one in graph.nodes] == ["transpose", "conv", "transpose", "reshape",
                                               "softmax"]
    assert np.allclose(found, stated(made, feeds)[0], atol=1e-5)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", WHOLE)
def test_operators_between_quantised_tensors_are_integer_nodes_and_equal_what_onnx_states(
        case, seed, dtype):
    grow, expected = WHOLE[case]
    q = Quantised(np.random.default_rng([seed, len(case)]), dtype)
    made = q.model((1, 3, 6, 5), grow(q, q.both("x")))
    feeds = {"x": real(q.rng, 1, 3, 6, 5) * 2}
    graph, (found,) = computed(made, feeds)
    computing = [one for one in graph.nodes if one.op not in (*MOVED, "convert")]
    assert [one.op for one in computing] == expected
    assert all(graph.output(one).dtype == "int8" for one in computing)
    assert all(one.attributes.get("rounding", "even") == "even" for one in graph.nodes)
    assert np.array_equal(found, stated(made, feeds)[0])


def test_biases_of_a_quantised_network_become_int32():
    q = Quantised(np.random.default_rng(3), "int8")
    weights = q.weights((4, 3, 1, 1), 0)
    last = q.both(q.add("Conv", [q.both("x"), weights, q.constant(real(q.rng, 4))]), 0.1, 0.2)
    graph, (found,) = computed(made := q.model((1, 3, 6, 5), last), feeds := {
        "x": real(q.rng, 1, 3, 6, 5)})
    (conv,) = (one for one in graph.nodes if one.op == "conv")
    assert graph.of(conv, 2).dtype == "int32"
    step = np.unique(np.abs(stated(made, feeds)[0])).min()
    # Half a step of the sums, which is far less than one of the results.
    assert np.abs(found - stated(made, feeds)[0]).max() <= step + 0.2


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["QLinearConv", "QLinearMatMul"])
def test_linear_operators_on_integers_equal_what_onnx_states(kind, seed, dtype):
    made, feeds = linear_operators(np.random.default_rng([seed, len(kind)]), kind, dtype)
    graph, (found,) = computed(made, feeds)
    (judged,) = stated(made, feeds)
    assert found.dtype == judged.dtype == dtype
    assert np.array_equal(found, judged)
    assert len(np.unique(judged)) > 3


# Trained models.

def digits(count):
    images = gzip.decompress(references.stored("mnist", "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress(references.stored("mnist", "t10k-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)[:count]
    return x / np.float32(255), np.frombuffer(labels, np.uint8, offset=8)[:count]


@pytest.mark.parametrize("count, right", [
    (300, 296), pytest.param(10_000, 9_890, marks=pytest.mark.full)])
def test_a_trained_network_names_digits(count, right):
    path = references.stored("onnx", "opt-mnist.onnx")
    x, labels = digits(count)
    graph = read_model(path)
    assert "transpose" not in [one.op for one in graph.nodes]
    found = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    judged = onnxruntime(onnx.load(path), {"Input3": x[:1]})[0]
    assert np.allclose(found[:1], judged, rtol=1e-5, atol=1e-4)
    assert (found.argmax(1) == labels).sum() == right
