"""QONNX's quantisers become integers that stand for what QONNX says."""

import numpy as np
import onnx
import pytest
import references
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx_models import computed, model, node, real
from systolith.models import floats, read_model
from systolith.models.evaluate import evaluate
from trained import labelled_digits

DOMAIN = "qonnx.custom_op.general"
ROUNDED = {"ROUND": np.rint, "CEIL": np.ceil, "FLOOR": np.floor}


def defined(x, scale, zero, bits, signed, narrow, mode="ROUND"):
    """IntQuant as the operator's page defines it."""
    if signed:
        low, high = -(1 << bits - 1) + narrow, (1 << bits - 1) - 1
    else:
        low, high = 0, (1 << bits) - 1 - narrow
    return (ROUNDED[mode](np.clip(x / scale + zero, low, high)) - zero) * scale


class Quant(OpRun):
    """The same, for the package that states what a model computes."""
    op_domain = DOMAIN

    def _run(self, x, scale, zero, bits, signed=1, narrow=0, rounding_mode="ROUND"):
        made = defined(x, scale, zero, int(bits), signed, narrow, rounding_mode)
        return (np.asarray(made, np.float32),)


class BatchNormalization(OpRun):
    """At inference; that package's own of opset 9 mixes in the mean of what it is given."""

    def _run(self, x, scale, bias, mean, variance, epsilon=1e-5, momentum=0.9,
             training_mode=0):
        shape = (-1, *[1] * (x.ndim - 2))
        spread = np.sqrt(variance + np.float32(epsilon))
        return ((x - mean.reshape(shape)) / spread.reshape(shape) * scale.reshape(shape)
                + bias.reshape(shape),)


def stated(made, feeds):
    return ReferenceEvaluator(made, new_ops=[Quant, BatchNormalization]).run(None, feeds)


def quant(x, made, *numbers, kind="Quant", **attributes):
    """A quantiser with its scale, zero point and bit width, and those as constants."""
    names = [f"{made}_{number}" for number in range(len(numbers))]
    return (node(kind, " ".join([x, *names]), made, domain=DOMAIN, **attributes),
            dict(zip(names, map(np.float32, numbers), strict=True)))


def with_domain(made):
    made.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return made


def of_constant(weights, *numbers, **attributes):
    """A product with quantised constants; its weights in the graph, and what they should be."""
    first, constants = quant("w", "q", *numbers, **attributes)
    made = with_domain(model([first, node("MatMul", "x q", "y")], {"x": (2, len(weights))},
                             {"w": weights, **constants}))
    feeds = {"x": real(np.random.default_rng(0), 2, len(weights))}
    graph, (found,) = computed(made, feeds)
    (linear,) = (one for one in graph.nodes if one.op == "linear")
    return graph.of(linear, 1), found, feeds["x"]


@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("mode", [*ROUNDED, "round"])
def test_constants_become_integers_of_the_least_type_that_has_them(mode, bits, signed, narrow):
    rng = np.random.default_rng([bits, signed, narrow])
    weights = real(rng, 12, 7) * 4
    zero = rng.integers(-1, 2)
    tensor, found, x = of_constant(weights, 0.125, zero, bits, signed=signed, narrow=narrow,
                                   rounding_mode=mode)
    wanted = defined(weights, 0.125, zero, bits, signed, narrow, mode.upper()).T
    assert np.array_equal(floats.real(tensor.data, tensor), wanted)
    assert np.allclose(found, x @ wanted.T, atol=1e-5)
    assert tensor.dtype == ("ternary" if bits == 2 and signed and narrow else
                            "int4" if bits <= 3 or bits == 4 and signed else "int8")


@pytest.mark.parametrize("axis", [0, 1])
def test_constants_may_have_a_scale_for_each_channel(axis):
    rng = np.random.default_rng(axis)
    weights, shape = real(rng, 6, 5), (6, 1) if axis == 0 else (1, 5)
    scale = rng.uniform(0.1, 0.5, shape).astype(np.float32)
    tensor, _, _ = of_constant(weights, scale, 0, 4)
    wanted = defined(weights, scale, 0, 4, 1, 0).T
    assert np.allclose(floats.real(tensor.data, tensor), wanted, rtol=1e-6)
    assert tensor.quantisation.axis == 1 - axis


@pytest.mark.parametrize("kind, numbers, attributes", [
    ("BipolarQuant", (0.5,), {}), ("IntQuant", (0.5, 0, 1), {"signed": 1})])
def test_constants_of_one_bit_are_plus_and_minus_one(kind, numbers, attributes):
    weights = real(np.random.default_rng(1), 6, 5)
    weights[0, 0] = 0
    tensor, _, _ = of_constant(weights, *numbers, kind=kind, **attributes)
    assert tensor.dtype == "ternary"
    assert np.array_equal(floats.real(tensor.data, tensor), np.where(weights >= 0, 0.5, -0.5).T)


@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("bits", range(2, 9))
def test_numbers_that_are_computed_become_int8_of_the_same_values(bits, signed, narrow):
    rng = np.random.default_rng([bits, signed, narrow])
    scale = np.float32(2.0 ** rng.integers(-4, 2))
    zero = 2 * rng.integers(0, 1 << bits - signed - 1)  # halves are the same with and without it
    last, constants = quant("x", "y", scale, zero, bits, signed=signed, narrow=narrow)
    made = with_domain(model([last], {"x": (9, 50)}, constants))
    feeds = {"x": real(rng, 9, 50) * scale * (1 << bits - 1)}
    graph, (found,) = computed(made, feeds)
    assert np.array_equal(found, stated(made, feeds)[0])
    assert [graph.output(one).dtype for one in graph.nodes][-2:] == ["int8", "float32"]


@pytest.mark.parametrize("seed", range(5))
def test_a_network_between_quantisers_is_one_of_integers(seed):
    rng = np.random.default_rng(seed)
    first, c1 = quant("x", "a", 0.5, 0, 3)
    weights, c2 = quant("w", "b", 0.25, 0, 2, narrow=1)
    last, c3 = quant("n", "y", 0.5, 0, 4, signed=0)
    made = with_domain(model(
        [first, weights, node("Conv", "a b", "c"),
         node("BatchNormalization", "c s o m v", "n"), last], {"x": (40, 3, 5, 5)},
        {**c1, **c2, **c3, "w": real(rng, 4, 3, 3, 3), "s": real(rng, 4), "o": real(rng, 4),
         "m": real(rng, 4), "v": real(rng, 4) ** 2 + 0.1}))
    feeds = {"x": real(rng, 40, 3, 5, 5)}
    graph, (found,) = computed(made, feeds)
    (conv,) = (one for one in graph.nodes if one.op == "conv")
    assert (graph.of(conv, 1).dtype, graph.output(conv).dtype) == ("ternary", "int8")
    off = np.abs(found - stated(made, feeds)[0])
    # Biases are in steps of the sums, 1/32 of those of the file.
    assert off.max() <= 0.5 and (off > 0).mean() < 0.02
    assert (found > 0).any()


@pytest.mark.parametrize("numbers, attributes, says", [
    ((0.5, 0, 9), {}, "its bit width must be a whole number from 1 to 8, not"),
    ((0.5, 0, 2.5), {}, "its bit width must be a whole number from 1 to 8, not"),
    ((0.5, 0, [2, 3]), {}, "its bit width must be a whole number from 1 to 8, not"),
    ((0, 0, 4), {}, "its scale must be positive, and its zero point whole and within 255"),
    ((0.5, 0.5, 4), {}, "its scale must be positive, and its zero point whole and within 255"),
    ((np.nan, 0, 4), {}, "its scale must be finite numbers, not inf or NaN"),
    (([0.5] * 5, 0, 4), {}, "of what is computed, its scale and zero point must be one"),
    ((0.5, 0, 1), {}, "of what is computed, its scale and zero point must be one"),
    ((0.5, 0, 4), {"rounding_mode": "FLOOR"}, "of what is computed, its scale and zero point"),
    ((0.5, 200, 4), {}, "its zero point must be from -128 to 127, not 200"),
    ((0.5, 0, 4), {"rounding_mode": "UP"},
     "rounding_mode must be one of ROUND, HALF_EVEN, CEIL, FLOOR, not 'UP'")])
def test_quantisers_that_int8_cannot_be_are_refused(numbers, attributes, says):
    last, constants = quant("x", "y", *numbers, **attributes)
    with pytest.raises(ValueError) as error:
        computed(with_domain(model([last], {"x": (2, 5)}, constants)), {})
    assert str(error.value).startswith(f"node '0:quant': {says}")


@pytest.mark.parametrize("scale", [np.ones((3, 1)), np.ones((2, 5)), np.ones(5)])
def test_scales_that_do_not_meet_their_constant_are_refused(scale):
    with pytest.raises(ValueError, match="its scale and zero point must be one, or one for each "
                                         "index along a dimension"):
        of_constant(real(np.random.default_rng(0), 2, 5), scale, 0, 4)


def test_what_is_computed_does_not_become_one_bit():
    last, constants = quant("x", "y", 1.0, kind="BipolarQuant")
    with pytest.raises(ValueError, match="node '0:bipolarquant' must be of a constant"):
        computed(with_domain(model([last], {"x": (2, 5)}, constants)), {})


@pytest.mark.parametrize("count, right", [
    (1000, 966), pytest.param(10_000, 9_660, marks=pytest.mark.full)])
def test_a_trained_ternary_network_names_as_many_digits_as_its_makers_state(count, right):
    path = references.stored("qonnx", "TFC_2W2A.onnx")
    graph, (x, labels) = read_model(path), labelled_digits()
    x, labels = x[:count], labels[:count]
    found = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    layers = [one for one in graph.nodes if one.op == "linear"]
    assert [graph.of(one, 1).dtype for one in layers] == ["ternary"] * 4
    assert [graph.output(one).dtype for one in layers] == ["int8"] * 3 + ["float32"]
    assert (found.argmax(1) == labels).sum() == right
    made = onnx.load(path)
    for one in made.graph.node:
        one.domain = one.domain and DOMAIN
    with_domain(made)
    judged = np.concatenate([stated(made, {"0": image[None]})[0] for image in x[:100]])
    assert np.array_equal(found[:100].argmax(1), judged.argmax(1))
    assert np.isclose(found[:100], judged, atol=1e-4).all(1).mean() >= 0.97
