"""ONNX models of each operator, at random."""

import numpy as np
from onnx import helper
from onnx_models import model, node, real

# Operators of real numbers: nodes, shapes of inputs, constants.

def random_window(rng, kernel, dilation=(1, 1)):
    kind = rng.integers(0, 4)
    if kind == 0:
        return {"auto_pad": str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))}
    if kind == 1:
        return {}
    most = [min((k - 1) * d, 2) for k, d in zip(kernel, dilation, strict=True)]
    return {"pads": [int(rng.integers(0, one + 1)) for one in (*most, *most)]}


def conv(rng):
    groups = int(rng.choice([1, 1, 2, 4]))
    kernel, dilation = ([int(one) for one in rng.integers(1, most, 2)] for most in (4, 3))
    outputs = groups * int(rng.integers(1, 4))
    attributes = {"strides": [int(one) for one in rng.integers(1, 3, 2)], "dilations": dilation,
                  "group": groups, **random_window(rng, kernel, dilation)}
    if attributes.get("auto_pad", "").startswith("SAME"):
        attributes["dilations"] = [1, 1]
    constants = {"w": real(rng, outputs, 4 // groups, *kernel), "b": real(rng, outputs)}
    return [node("Conv", "x w b", "y", **attributes)], {"x": (1, 4, 9, 8)}, constants


def conv_transpose(rng):
    groups = int(rng.choice([1, 1, 2]))
    kernel, stride, dilation = ([int(one) for one in rng.integers(1, most, 2)]
                                for most in (5, 4, 3))
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    attributes = {"strides": stride, "dilations": dilation, "group": groups}
    kind = rng.integers(0, 3)
    if kind == 0:
        most = [min(one, 2) for one in reach] * 2
        attributes |= {"pads": [int(rng.integers(0, one + 1)) for one in most],
                       "output_padding": [int(rng.integers(0, s)) for s in stride]}
    elif kind == 1 and all(one + 1 >= s for one, s in zip(reach, stride, strict=True)):
        attributes["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER"]))
    constants = {"w": real(rng, 4, int(rng.integers(1, 4)), *kernel)}
    constants["b"] = real(rng, constants["w"].shape[1] * groups)
    return [node("ConvTranspose", "x w b", "y", **attributes)], {"x": (1, 4, 5, 6)}, constants


def conv_with_wide_pads(rng):
    return [node("Conv", "x w", "y", pads=[3, 1, 0, 2])], {"x": (1, 3, 5, 6)}, {
        "w": real(rng, 2, 3, 2, 2)}


def pool(kind, **more):
    def case(rng):
        kernel = [int(one) for one in rng.integers(1, 4, 2)]
        window = random_window(rng, kernel)
        # onnxruntime has negative pads where SAME leaves pixels out.
        most = min(kernel) + 1 if "auto_pad" in window else 4
        return [node(kind, "x", "y", kernel_shape=kernel, **more, **window,
                     strides=[int(one) for one in rng.integers(1, most, 2)])], {
            "x": (1, 3, 9, 8)}, {}
    return case


def pool_up(kind):
    def case(rng):
        return [node(kind, "x", "y", kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1,
                     pads=[1, 0, 1, 1])], {"x": (1, 3, int(rng.integers(4, 11)), 7)}, {}
    return case


def gemm(rng):
    k, n, turned = int(rng.integers(1, 20)), int(rng.integers(2, 9)), int(rng.integers(0, 2))
    bias = [real(rng, n), real(rng, 1, n), real(rng, 1), np.array(0.5, np.float32)][
        rng.integers(0, 4)]
    return [node("Gemm", "x w b", "y", alpha=float(rng.choice([1.0, 0.5])), transB=turned,
                 beta=float(rng.choice([1.0, -2.0])))], {"x": (1, k)}, {
        "w": real(rng, *((n, k) if turned else (k, n))), "b": bias}


def matmul(rng):
    k, n = int(rng.integers(1, 20)), int(rng.integers(1, 9))
    return [node("MatMul", "x w", "y")], {"x": [(1, k), (1, 3, k), (1, 2, 3, k)][
        rng.integers(0, 3)]}, {"w": real(rng, k, n)}


def pair(kind, constant):
    def case(rng):
        shape = (1, 3, 4, 5)
        if not constant:
            return [node(kind, "x z", "y")], {"x": shape, "z": shape}, {}
        shapes = [(3, 1, 1), (5,), (1,), (), (1, 3, 4, 5), (4, 1)]
        c = np.asarray(real(rng, *shapes[rng.integers(0, len(shapes))]))
        c = np.where(np.abs(c) < 0.1, np.float32(1), c)
        order = "x c" if kind == "Div" or rng.random() < 0.5 else "c x"
        return [node(kind, order, "y")], {"x": shape}, {"c": c}
    return case


def of_three(kind):
    return lambda rng: ([node(kind, "x c z", "y")], {"x": (1, 3, 4, 5), "z": (1, 1, 4, 1)}, {
        "c": real(rng, 1)})


def each(kind, **attributes):
    return lambda rng: ([node(kind, "x", "y", **attributes)], {"x": (1, 3, 4, 5)}, {})


def clip(rng):
    low, high = [(0, 6), (0, None), (-1, 1), (-0.3, 0.7), (None, 0.5)][rng.integers(0, 5)]
    limits = {name: np.array(limit, np.float32)
              for name, limit in (("a", low), ("b", high)) if limit is not None}
    return [helper.make_node("Clip", ["x", *("a" if low is not None else "",
                                             *(["b"] if high is not None else []))], ["y"])], {
        "x": (1, 30)}, limits


def concat(rng):
    return [node("Relu", "x", "r"), node("Concat", "r z r", "y", axis=int(rng.integers(1, 4)))], {
        "x": (1, 2, 3, 4), "z": (1, 2, 3, 4)}, {}


def reshape(rng):
    shape = [(0, -1), (1, 4, -1), (0, 0, 20), (-1, 60)][rng.integers(0, 4)]
    return [node("Reshape", "x s", "y")], {"x": (1, 3, 4, 5)}, {"s": np.array(shape, np.int64)}


def transpose(rng):
    return [node("Transpose", "x", "y", perm=[0, *(rng.permutation(3) + 1).tolist()])], {
        "x": (1, 3, 4, 5)}, {}


def pad(rng):
    pads = rng.integers(0, 3, 8)
    pads[[0, 4]] = 0
    return [node("Pad", "x p", "y")], {"x": (1, 3, 4, 5)}, {"p": pads}


def batch_normalization(rng):
    return [node("BatchNormalization", "x s b m v", "y", epsilon=1e-3)], {"x": (1, 3, 4, 5)}, {
        "s": real(rng, 3), "b": real(rng, 3), "m": real(rng, 3), "v": real(rng, 3) ** 2}


def constants_and_shapes(rng):
    """A flattening as exporters write it."""
    return [node("Shape", "x", "s"), node("Gather", "s zero", "n", axis=0),
            node("Unsqueeze", "n axes", "n1"), node("Concat", "n1 rest", "shape", axis=0),
            node("Reshape", "x shape", "y")], {"x": (1, 3, 4, 5)}, {
        "zero": np.array(0, np.int64), "axes": np.array([0], np.int64),
        "rest": np.array([-1], np.int64)}


FLOATS = {
    "conv": conv, "conv transpose": conv_transpose, "conv with wide pads": conv_with_wide_pads,
    "max pool": pool("MaxPool"),
    "average pool": pool("AveragePool"),
    "average pool with pads": pool("AveragePool", count_include_pad=1),
    "max pool up": pool_up("MaxPool"), "average pool up": pool_up("AveragePool"),
    "global average pool": each("GlobalAveragePool"), "gemm": gemm, "matmul": matmul,
    **{f"{kind} {constant}": pair(kind, constant) for kind in ("Add", "Sub", "Mul", "Max", "Min")
       for constant in (False, True)}, "Div": pair("Div", True),
    "Max of three": of_three("Max"), "Min of one": each("Min"),
    "relu": each("Relu"), "sigmoid": each("Sigmoid"), "tanh": each("Tanh"), "clip": clip,
    "softmax": each("Softmax"), "softmax of channels": each("Softmax", axis=1),
    "identity": each("Identity"), "dropout": each("Dropout"),
    "flatten": each("Flatten", axis=2), "concat": concat, "reshape": reshape,
    "transpose": transpose, "pad": pad, "batch normalization": batch_normalization,
    "constants": constants_and_shapes}


def residual(rng):
    """A network with a shortcut, batch normalisation, and a classifier that reads an image."""
    nodes = [
        node("Conv", "x w1", "c1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c1 s b m v", "n1"), node("Relu", "n1", "r1"),
        node("Conv", "r1 w2", "c2", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c2 s b m v", "n2"), node("Add", "n2 r1", "a"),
        node("Relu", "a", "r2"), node("MaxPool", "r2", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "p", "f"), node("MatMul", "f w3", "l"), node("Add", "l b3", "y")]
    constants = {"w1": real(rng, 4, 3, 3, 3), "w2": real(rng, 4, 4, 3, 3), "s": real(rng, 4),
                 "b": real(rng, 4), "m": real(rng, 4), "v": real(rng, 4) ** 2 + 0.1,
                 "w3": real(rng, 64, 10) / 8, "b3": real(rng, 10)}
    return model(nodes, {"x": ("N", 3, 8, 8)}, constants)


# Operators between DequantizeLinear and QuantizeLinear.

def quantised_conv(q, x, kind="int8"):
    groups = int(q.rng.choice([1, 3]))
    weights = q.weights((6, 3 // groups, 3, 2), 0, kind)
    return q.both(q.add("Conv", [x, weights], group=groups, pads=[1, 0, 1, 1]), 0.1, 0.2)


def quantised_conv_transpose(q, x):
    return q.both(q.add("ConvTranspose", [x, q.weights((3, 6, 3, 2), 1)], strides=[2, 1],
                        pads=[1, 0, 1, 1]), 0.1, 0.2)


def quantised_layers(q, x):
    """Relu before and pooling behind, with no integers between."""
    made = q.add("Relu", [q.add("Conv", [x, q.weights((4, 3, 3, 3), 0)])])
    made = q.both(q.add("MaxPool", [made], kernel_shape=[2, 2], strides=[2, 2]), 0.1, 0.2)
    made = q.both(q.add("Flatten", [made]), 0.1, 0.2)
    return q.both(q.add("Gemm", [made, q.weights((8, 5), 1)]), 0.2, 0.4)


def quantised_shortcut(q, x):
    made = q.both(q.add("Conv", [x, q.weights((3, 3, 1, 1), 0)]), 0.1, 0.2)
    return q.both(q.add("Clip", [q.add("Add", [made, x]), q.constant(np.array(0, np.float32)),
                                 q.constant(np.array(6, np.float32))]))


def quantised_on_the_way(q, x):
    """Weights that the file has as real numbers, with operators that make them integers."""
    weights = [q.constant(real(q.rng, 4, 3, 2, 2)),
               q.constant(q.rng.uniform(0.01, 0.02, 4).astype(np.float32)),
               q.constant(np.zeros(4, np.int8))]
    made = q.add("DequantizeLinear", [q.add("QuantizeLinear", weights, axis=0), *weights[1:]],
                 axis=0)
    return q.both(q.add("Conv", [x, made]), 0.1, 0.2)


WHOLE = {
    "weights on the way": (quantised_on_the_way, ["conv"]),
    "conv": (quantised_conv, ["conv"]),
    "conv transpose": (quantised_conv_transpose, ["transposed_conv"]),
    "conv of int4": (lambda q, x: quantised_conv(q, x, "int4"), ["conv"]),
    "layers": (quantised_layers, ["conv", "max_pool", "linear"]),
    "shortcut": (quantised_shortcut, ["conv", "add"]),
    "matmul": (lambda q, x: q.both(q.add("MatMul", [x, q.weights((5, 7), 1)]), 0.1, 0.2),
               ["linear"]),
    **{kind: (lambda q, x, kind=kind: q.both(q.add(kind, [x, q.both(x)])), [op])
       for kind, op in (("Add", "add"), ("Sub", "sub"), ("Mul", "mul"), ("Max", "maximum"),
                        ("Min", "minimum"))},
    "Max of a number": (lambda q, x: q.both(q.add("Max", [q.constant(np.array(
        [0.3], np.float32)), x])), ["clip"]),
    **{kind: (lambda q, x, kind=kind: q.both(q.add(kind, [x]), 0.005, 0.01), ["unary"])
       for kind in ("Sigmoid", "Tanh", "Relu")},
    "Softmax": (lambda q, x: q.both(q.add("Softmax", [x]), 0.004, 0.005), ["softmax"]),
    "AveragePool": (lambda q, x: q.both(q.add("AveragePool", [x], kernel_shape=[2, 3])),
                    ["average_pool"]),
    "GlobalAveragePool": (lambda q, x: q.both(q.add("GlobalAveragePool", [x])),
                          ["average_pool"]),
    "Clip": (lambda q, x: q.both(q.add("Clip", [x, q.constant(np.array(-0.3, np.float32))])),
             ["clip"]),
    "Concat": (lambda q, x: q.both(q.add("Concat", [x, q.both(x)], axis=1)), ["concat"]),
    "scales": (lambda q, x: q.both(x), [])}


def linear_operators(rng, kind, dtype):
    """QLinearConv or QLinearMatMul, with uint8 or int8."""
    info = np.iinfo(dtype)

    def zero():
        return np.array(rng.integers(info.min + 50, info.max - 50), dtype)

    def scale(*shape):
        return rng.uniform(0.01, 0.05, shape).astype(np.float32)

    conv = kind == "QLinearConv"
    shape, weights = ((1, 4, 7, 6), (6, 2, 3, 3)) if conv else ((1, 20), (20, 7))
    outputs = weights[0] if conv else weights[1]
    constants = {
        "xs": scale(), "xz": zero(), "w": rng.integers(info.min, info.max + 1, weights).astype(
            dtype), "ws": scale(outputs), "wz": np.full(outputs, 0 if info.min else 128, dtype),
        "ys": scale() * 40, "yz": zero(), "b": rng.integers(-999, 999, outputs).astype(np.int32)}
    names = "x xs xz w ws wz ys yz"
    nodes = ([node(kind, f"{names} b", "y", group=2, pads=[1, 0, 1, 2], strides=[2, 1])]
             if conv else [node(kind, names, "y")])
    feeds = {"x": rng.integers(info.min, info.max + 1, shape).astype(dtype)}
    if not conv:
        del constants["b"]
    return model(nodes, {"x": shape}, constants, dtype=dtype, made=dtype), feeds
