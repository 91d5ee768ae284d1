"""Cases of CMSIS-NN as graphs of one operator, and one more where limits are no activation's."""

import json
import re
from dataclasses import dataclass

import numpy as np
from int8_graphs import Network
from references import _nibbles as nibbles
from references import models_path
from systolith.models import Graph, Quantisation, Tensor

# Names of cases that are no graph of int8, and why: the first that matches.
REFUSED = [
    ("lstm.*", "the graph has no recurrent operator"), ("svdf.*", "the graph has no such operator"),
    (".*(int16|s16).*", "activations are int16")]
# Input shape and order: the vectors do not say them.
ORDERS = {"transpose_3dim": ((5, 4, 20), (0, 2, 1)), "transpose_matrix": ((5, 20), (1, 0)),
          "transpose_default": ((4, 3, 3, 22), (3, 2, 1, 0)),
          "transpose_nwhc": ((19, 3, 8, 8), (1, 0, 2, 3))}
CLOSE = ("softmax",)    # within a unit


@dataclass(frozen=True)
class Case:
    """A graph, what it takes, and what CMSIS-NN makes of that."""
    graph: Graph
    inputs: tuple[np.ndarray, ...]
    expected: np.ndarray


def names():
    """Of all cases that are there."""
    return sorted(path.stem for path in (models_path() / "cmsis_nn").glob("*.npz"))


def refused(name):
    """Why a case is no graph of int8, or None."""
    return next((why for pattern, why in REFUSED if re.fullmatch(pattern, name)), None)


def cases(name):
    """What the case called ``name`` is: one graph, or one of each product."""
    with np.load(models_path() / "cmsis_nn" / f"{name}.npz") as data:
        arrays = {key: data[key] for key in data.files}
    config = json.loads(str(arrays.pop("config")))
    build = next(build for pattern, build in (
        ("(fully|fc).*", _linear), ("batch.*", _products), (".*transpose_conv.*", _upward),
        ("transpose.*", lambda *_: _turned(name, arrays)), ("(add|mul).*", _pair),
        ("softmax.*", _softmax), ("(maximum|minimum).*", _extreme), ("(max|avg).*", _pool),
        ("pad.*", _padded), (".*", _conv))
        if re.fullmatch(pattern, name))
    if build is _pair:
        return [_pair(name[:3], config, arrays)]
    if build is _pool:
        return [_pool("max_pool" if name.startswith("max") else "average_pool", config, arrays)]
    found = build(config, arrays)
    return found if isinstance(found, list) else [found]


def scale_of(multiplier, shift):
    """The scale whose multiplier and shift these are, in float64, which holds it."""
    return np.atleast_1d(np.asarray(multiplier, np.float64) * 2.0 ** (
        np.asarray(shift, np.float64) - 31))


def quantised(scale=1.0, zero_point=0, axis=None):
    scale = np.atleast_1d(np.asarray(scale, np.float64))
    return Quantisation(scale, np.full(len(scale), zero_point, np.int64), axis)


def of(name, array, quantisation, dtype="int8", data=True):
    return Tensor(name=name, shape=array.shape, dtype=dtype, quantisation=quantisation,
                  data=array if data else None)


def finished(net, made, config, inputs, expected):
    """A case whose results have limits."""
    low, high = (next(config[name] for name in (f"OUT_ACTIVATION_{end}", f"ACTIVATION_{end}")
                      if name in config) for end in ("MIN", "MAX"))
    q = net.tensors[made].quantisation
    if (low, high) != (-128, 127):
        zero = int(q.zero_point[0])
        made = net.add("clip", (made,), q, low=float(low - zero), high=float(high - zero),
                       rounding="even")
    return Case(net.graph(made), tuple(inputs), expected.reshape(net.tensors[made].shape))


def layer(config, arrays, x, weights, op, input_scale=1.0, **attributes):
    """A convolution or linear operator."""
    int4 = "input_weights" in arrays or config.get("W_TYPE") == "INT4" or config.get("int4", False)
    multiplier, shift = (next(
        source[name] for source in (arrays, config) for name in found if name in source)
        for found in (("output_multiplier", "output_mult", "OUTPUT_MULTIPLIER"),
                      ("output_shift", "OUTPUT_SHIFT")))
    scale = scale_of(multiplier, shift)
    if len(scale) == 1 and op != "linear":
        scale = np.repeat(scale, len(weights))
    source = of("x", x, quantised(1.0, -config["INPUT_OFFSET"]), data=False)
    net = Network(None, source)
    w = of("w", weights, quantised(scale, -config.get("FILTER_OFFSET", 0),
                                   0 if len(scale) > 1 else None), "int4" if int4 else "int8")
    net.tensors["w"] = w
    names = ["x", "w"]
    bias = next((arrays[name] for name in ("biases", "bias", "input_bias") if name in arrays), None)
    if bias is not None:
        net.tensors["b"] = of("b", bias.astype(np.int32), quantised(
            scale, axis=0 if len(scale) > 1 else None), "int32")
        names.append("b")
    made = net.add(op, names, quantised(1.0, config["OUTPUT_OFFSET"]), **attributes)
    return finished(net, made, config, [x], arrays.get("output_ref", arrays.get("output")))


def _linear(config, arrays):
    depth, outputs = config["ACCUMULATION_DEPTH"], config["OUT_CH"]
    weights = (nibbles(arrays["input_weights"], outputs, depth) if "input_weights" in arrays
               else arrays["weights"].reshape(outputs, depth))
    return layer(config, arrays, arrays["input"].reshape(-1, depth), weights, "linear")


def _window(config, of_output=False):
    """Stride, dilation and pads, of a convolution or of one that is transposed."""
    stride, dilation = ((config[f"{name}_Y"], config[f"{name}_X"])
                        for name in ("STRIDE", "DILATION"))
    pads = []
    for axis, size, step, apart in zip("YX", "HW", stride, dilation, strict=True):
        before, given, made = config[f"PAD_{axis}"], config[f"INPUT_{size}"], config[
            f"OUTPUT_{size}"]
        reach = (config[f"FILTER_{axis}"] - 1) * apart + 1
        behind = ((given - 1) * step + reach - made - before if of_output else
                  max(0, (made - 1) * step + reach - given - before))
        pads.append((before, behind))
    return {"stride": stride, "dilation": dilation, "pads": tuple(pads)}


def _image(config, x):
    return x.reshape(-1, config["INPUT_H"], config["INPUT_W"], config["IN_CH"])


def _conv(config, arrays):
    taps, inputs, outputs = (config["FILTER_Y"], config["FILTER_X"]), config["IN_CH"], config[
        "OUT_CH"]
    groups = inputs if "CH_MULT" in config else inputs // config.get("FILTER_CH", inputs)
    shape = (*taps, outputs) if "CH_MULT" in config else (outputs, *taps, inputs // groups)
    packed = arrays.get("weights", arrays.get("input_weights"))
    int4 = packed.size < np.prod(shape)
    weights = nibbles(packed, *shape) if int4 else packed.reshape(shape)
    if "CH_MULT" in config:
        weights = weights.transpose(2, 0, 1)[..., None]
    return layer({**config, "int4": int4}, arrays, _image(config, arrays["input"]),
                 np.ascontiguousarray(weights), "conv", groups=groups, **_window(config))


def _upward(config, arrays):
    weights = arrays["weights"].reshape(
        config["OUT_CH"], config["FILTER_Y"], config["FILTER_X"], config["IN_CH"])
    return layer(config, arrays, _image(config, arrays["input"]), weights, "transposed_conv",
                 groups=1, **_window(config, of_output=True))


def _products(config, arrays):
    """Products of matrices, the second as weights."""
    sides = []
    for side, adjoint in (("LHS", "ADJ_X"), ("RHS", "ADJ_Y")):
        shape = [config[f"{side}_{axis}"] for axis in ("BATCH", "HEIGHT", "ROWS", "COLS")]
        operand = arrays[f"{side.lower()}_input_tensor"].reshape(shape)
        sides.append(operand.swapaxes(2, 3) if config[adjoint] else operand)
    shape = [config[f"OUTPUT_{axis}"] for axis in ("BATCH", "HEIGHT", "ROWS", "COLS")]
    lhs, rhs = (np.broadcast_to(side, (*shape[:2], *side.shape[2:])) for side in sides)
    expected = arrays["output"].reshape(shape)
    how = {"INPUT_OFFSET": config["LHS_OFFSET"], "FILTER_OFFSET": config["RHS_OFFSET"], **config}
    return [layer(how, {"output": expected[place]}, np.ascontiguousarray(lhs[place]),
                  np.ascontiguousarray(rhs[place].T), "linear") for place in np.ndindex(*shape[:2])]


def _turned(name, arrays):
    shape, order = ORDERS[name]
    x = arrays["input_tensor"].reshape(shape)
    net = Network(None, of("x", x, quantised(), data=False))
    made = net.same("transpose", "x", order=order)
    return Case(net.graph(made), (x,), arrays["output"].reshape(net.tensors[made].shape))


def _pair(op, config, arrays):
    inputs = [arrays[f"input{number}"].reshape(1, -1) for number in (1, 2)]
    if op == "add":
        assert config["LEFT_SHIFT"] == 20
        scales = [2 * scale_of(config[f"INPUT{number}_MULT"], config[f"INPUT{number}_SHIFT"])
                  for number in (1, 2)]
        out = 2 * max(scales) / 2.0 ** 20 / scale_of(config["OUTPUT_MULT"], config["OUTPUT_SHIFT"])
    else:
        scales = [scale_of(config["OUTPUT_MULT"], config["OUTPUT_SHIFT"]), np.ones(1)]
        out = np.ones(1)
    net = Network(None, *(of(name, x, quantised(scale, -config[f"INPUT{number}_OFFSET"]),
                             data=False)
                          for number, name, x, scale in zip((1, 2), "ab", inputs, scales,
                                                            strict=True)))
    # The limits are those of int8 in units of the result's scale.
    made = net.add(op, ("a", "b"), quantised(out, config["OUTPUT_OFFSET"]))
    assert (config["OUT_ACTIVATION_MIN"], config["OUT_ACTIVATION_MAX"]) == (-128, 127)
    return finished(net, made, config, inputs, arrays["output_ref"])


def _extreme(config, arrays):
    inputs = [arrays[f"input_tensor_{number}"].reshape(
        [config[f"{axis}_{number}"] for axis in ("BATCH", "HEIGHT", "WIDTH", "CHANNEL")])
        for number in (1, 2)]
    net = Network(None, *(of(name, x, quantised(), data=False)
                          for name, x in zip("ab", inputs, strict=True)))
    made = net.add(config["LAYER_TYPE"], ("a", "b"), quantised())
    return finished(net, made, config, inputs, arrays["output"])


def _softmax(config, arrays):
    x = arrays["input"].reshape(config["NUM_ROWS"], config["ROW_SIZE"])
    # The multiplier is that of numbers with 26 bits of fraction.
    scale = config["INPUT_MULT"] * 2.0 ** (config["INPUT_LEFT_SHIFT"] - 31 - 26)
    net = Network(None, of("x", x, quantised(scale), data=False))
    made = net.add("softmax", ("x",), quantised(1 / 256, -128), beta=1.0)
    return Case(net.graph(made), (x,), arrays["output_ref"].reshape(x.shape))


def _pool(op, config, arrays):
    shape = [config[key] for key in ("BATCH_SIZE", "INPUT_H", "INPUT_W", "INPUT_C")]
    kernel, stride = ((config[f"{name}_H"], config[f"{name}_W"]) for name in ("FILTER", "STRIDE"))
    pads = tuple((before, max(0, (made - 1) * step + size - given - before))
                 for before, made, step, size, given in zip(
        (config["PADDING_H"], config["PADDING_W"]), (config["OUTPUT_H"], config["OUTPUT_W"]),
        stride, kernel, shape[1:3], strict=True))
    x = arrays["input_tensor"].reshape(shape)
    net = Network(None, of("x", x, quantised(), data=False))
    made = net.same(op, "x", kernel=kernel, stride=stride, pads=pads)
    return finished(net, made, config, [x], arrays["output"])


def _padded(config, arrays):
    shape = [config[f"INPUT_{axis}"] for axis in "NHWC"]
    x = arrays["input_tensor"].reshape(shape)
    net = Network(None, of("x", x, quantised(1.0, config["PAD_VALUE"]), data=False))
    made = net.same("pad", "x", pads=tuple(
        (config[f"PRE_PAD_{axis}"], config[f"POST_PAD_{axis}"]) for axis in "NHWC"))
    return Case(net.graph(made), (x,), arrays["output"].reshape(net.tensors[made].shape))
