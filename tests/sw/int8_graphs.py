"""Random graphs of int8 operators."""

import dataclasses

import numpy as np
from systolith.models import Graph, Node, Quantisation, Tensor
from systolith.models.graph import EXTREMES, OPERATORS
from systolith.models.infer import same_pads, shape_of


def scaled(rng, low=0.01, high=0.1):
    return Quantisation(rng.uniform(low, high, 1).astype(np.float32),
                        rng.integers(-128, 128, 1))


def made_of(op, attributes, tensors, output, inputs):
    """A graph of one node."""
    if "rounding" in OPERATORS[op].attributes:
        attributes = {"rounding": "twice", **attributes}
    shape = shape_of(op, attributes, [tensor.shape for tensor in tensors])
    made = Tensor(name="y", shape=shape, dtype=output.dtype, quantisation=output.quantisation)
    return Graph(name="one", tensors={t.name: t for t in (*tensors, made)},
                 nodes=[Node(name="0:node", op=op, inputs=tuple(t.name for t in tensors),
                             output="y", attributes=attributes)],
                 inputs=[t.name for t in tensors[:inputs]], outputs=["y"])


def image(rng, shape, name="x", quantisation=None):
    return Tensor(name=name, shape=shape, dtype="int8",
                  quantisation=quantisation or scaled(rng))


def like(rng, quantisation=None):
    return Tensor(name="like", shape=(1,), dtype="int8", quantisation=quantisation or scaled(rng))


def window(rng, size, kernel, dilation=(1, 1)):
    stride = tuple(rng.integers(1, 4, 2).tolist())
    pads = same_pads(size, kernel, stride, dilation) if rng.random() < 0.6 else ((0, 0), (0, 0))
    return {"stride": stride, "pads": pads,
            "activation": str(rng.choice(["none", "relu", "relu6", "relu1"]))}


def weights(rng, shape, per_channel=True):
    count = shape[0] if per_channel else 1
    return Tensor(
        name="w", shape=shape, dtype="int8", data=rng.integers(-127, 128, shape).astype(np.int8),
        quantisation=Quantisation(rng.uniform(0.001, 0.01, count).astype(np.float32),
                                  np.zeros(count, np.int64), 0 if per_channel else None))


def biases(rng, x, w):
    return Tensor(name="b", shape=(w.shape[0],), dtype="int32",
                  data=rng.integers(-9999, 9999, w.shape[0]).astype(np.int32),
                  quantisation=Quantisation(x.quantisation.scale * w.quantisation.scale,
                                            np.zeros(len(w.quantisation.scale), np.int64),
                                            w.quantisation.axis))


def random_conv(rng):
    size = tuple(rng.integers(5, 12, 2).tolist())
    kernel, dilation = (tuple(rng.integers(1, most, 2).tolist()) for most in (4, 3))
    inputs, outputs = rng.integers(1, 9, 2).tolist()
    x = image(rng, (1, *size, inputs))
    w = weights(rng, (outputs, *kernel, inputs))
    return made_of("conv", {**window(rng, size, kernel, dilation), "dilation": dilation,
                            "groups": 1}, [x, w, biases(rng, x, w)], like(rng), 1)


def random_transposed_conv(rng):
    size, stride, kernel = (tuple(rng.integers(1, most, 2).tolist()) for most in (7, 4, 5))
    inputs, outputs = rng.integers(1, 9, 2).tolist()
    pads = ((0, 0), (0, 0))
    if rng.random() < 0.6:      # SAME: as many results as pixels times the stride
        pads = same_pads([n * s for n, s in zip(size, stride, strict=True)], kernel, stride)
        pads = tuple((before, (n - 1) * s + k - n * s - before) for (before, _), n, s, k in zip(
            pads, size, stride, kernel, strict=True))
    x, w = image(rng, (1, *size, inputs)), weights(rng, (outputs, *kernel, inputs))
    return made_of("transposed_conv", {
        "stride": stride, "dilation": (1, 1), "pads": pads, "groups": 1,
        "activation": str(rng.choice(["none", "relu", "relu6"]))},
        [x, w, biases(rng, x, w)], like(rng), 1)


def random_depthwise(rng):
    size = tuple(rng.integers(5, 12, 2).tolist())
    kernel = tuple(rng.integers(1, 4, 2).tolist())
    inputs, multiple = int(rng.integers(2, 9)), int(rng.integers(1, 4))
    x = image(rng, (1, *size, inputs))
    w = weights(rng, (inputs * multiple, *kernel, 1))
    attributes = {**window(rng, size, kernel), "dilation": (1, 1), "groups": inputs}
    attributes["stride"] = (attributes["stride"][0],) * 2
    if any(map(any, attributes["pads"])):
        attributes["pads"] = same_pads(size, kernel, attributes["stride"])
    return made_of("conv", attributes, [x, w, biases(rng, x, w)], like(rng), 1)


def random_linear(rng):
    k, n = rng.integers(1, 40, 2).tolist()
    x, w = image(rng, (1, k)), weights(rng, (n, k), per_channel=False)
    return made_of("linear", {"activation": "relu", "rounding": "once"},
                   [x, w, biases(rng, x, w)], like(rng), 1)


def random_pool(rng, op):
    size = tuple(rng.integers(4, 12, 2).tolist())
    kernel = tuple(rng.integers(1, 5, 2).tolist())
    x = image(rng, (1, *size, 5))
    attributes = {**window(rng, size, kernel), "kernel": kernel}
    return made_of(op, attributes, [x], like(rng, x.quantisation), 1)


def random_sum(rng, op):
    shape = (1, *rng.integers(1, 6, 3).tolist())
    return made_of(op, {"activation": str(rng.choice(["none", "relu6"]))},
                   [image(rng, shape, "a"), image(rng, shape, "b")], like(rng), 2)


def random_extreme(rng, op):
    shape, q = (1, *rng.integers(1, 6, 3).tolist()), scaled(rng)
    return made_of(op, {}, [image(rng, shape, "a", q), image(rng, shape, "b", q)], like(rng, q), 2)


def random_broadcast(rng, op, constant=False, rounding="twice"):
    """Operands of which some dimensions are 1, or one of which is a constant."""
    shape = tuple(rng.integers(2, 7, 3).tolist())
    narrow = tuple(size if rng.random() < 0.5 else 1 for size in shape)
    a, b = image(rng, (1, *shape), "a"), image(rng, (1, *narrow)[rng.integers(0, 3):], "b")
    if constant:
        b = dataclasses.replace(b, data=rng.integers(-128, 128, b.shape).astype(np.int8))
    first, second = (a, b) if constant or rng.random() < 0.5 else (b, a)
    if op in EXTREMES:
        second = dataclasses.replace(second, quantisation=first.quantisation)
        return made_of(op, {}, [first, second], first, 1 if constant else 2)
    return made_of(op, {"activation": str(rng.choice(["none", "relu6"])), "rounding": rounding},
                   [first, second], like(rng), 1 if constant else 2)


def random_softmax(rng):
    steps = Quantisation(np.array([1 / 256], np.float32), np.array([-128]))
    return made_of("softmax", {"beta": 1.0},
                   [image(rng, (1, int(rng.integers(2, 30))), quantisation=scaled(rng, 0.01, 0.5))],
                   like(rng, steps), 1)


def random_concat(rng):
    shape, same = tuple(rng.integers(1, 6, 3).tolist()), scaled(rng)
    axis = int(rng.integers(1, 4))
    return made_of("concat", {"axis": axis, "activation": "none"},
                   [image(rng, (1, *shape), name, same) for name in "abc"], like(rng, same), 3)


def random_pad(rng):
    x = image(rng, (1, 4, 5, 3))
    pads = tuple(tuple(pair) for pair in rng.integers(0, 3, (4, 2)).tolist())
    return made_of("pad", {"pads": ((0, 0), *pads[1:])}, [x], like(rng, x.quantisation), 1)


def random_transpose(rng):
    x = image(rng, (1, 3, 4, 5))
    return made_of("transpose", {"order": (0, *(rng.permutation(3) + 1).tolist())}, [x],
                   like(rng, x.quantisation), 1)


def random_unary(rng, function):
    ranges = {"logistic": (1 / 256, -128), "tanh": (1 / 128, 0)}
    made = Quantisation(*(np.array([value], kind) for value, kind in zip(
        ranges[function], (np.float32, np.int64), strict=True))) if function in ranges else None
    return made_of("unary", {"function": function}, [image(rng, (1, 256))], like(rng, made), 1)


def random_convert(rng):
    return made_of("convert", {}, [image(rng, (1, 256))], like(rng), 1)


CASES = {"conv": random_conv, "transposed_conv": random_transposed_conv,
         "depthwise": random_depthwise, "linear": random_linear,
         "softmax": random_softmax, "concat": random_concat, "pad": random_pad,
         "transpose": random_transpose, "convert": random_convert,
         **{op: lambda rng, op=op: random_pool(rng, op) for op in ("average_pool", "max_pool")},
         **{op: lambda rng, op=op: random_sum(rng, op) for op in ("add", "sub", "mul")},
         **{op: lambda rng, op=op: random_extreme(rng, op) for op in EXTREMES},
         **{f: lambda rng, f=f: random_unary(rng, f) for f in ("relu", "relu6")}}


class Network:
    """A graph that grows node by node."""

    def __init__(self, rng, *inputs):
        self.rng = rng
        self.tensors = {tensor.name: tensor for tensor in inputs}
        self.inputs = [tensor.name for tensor in inputs]
        self.nodes = []

    def add(self, op, inputs, quantisation=None, **attributes):
        if "rounding" in OPERATORS[op].attributes:
            attributes = {"rounding": "twice", **attributes}
        if "activation" in OPERATORS[op].attributes:
            attributes = {"activation": "none", **attributes}
        name = f"t{len(self.nodes)}"
        shape = shape_of(op, attributes, [self.tensors[one].shape for one in inputs])
        self.tensors[name] = Tensor(name=name, shape=shape, dtype="int8",
                                    quantisation=quantisation or scaled(self.rng))
        self.nodes.append(Node(name=f"{len(self.nodes)}:{op}", op=op, inputs=tuple(inputs),
                               output=name, attributes=attributes))
        return name

    def conv(self, source, outputs, kernel=3, quantisation=None, pads=None):
        number, x = len(self.nodes), self.tensors[source]
        w = dataclasses.replace(weights(self.rng, (outputs, kernel, kernel, x.shape[3])),
                                name=f"w{number}")
        b = dataclasses.replace(biases(self.rng, x, w), name=f"b{number}")
        self.tensors |= {w.name: w, b.name: b}
        side = (kernel // 2, kernel // 2)
        return self.add("conv", (source, w.name, b.name), quantisation, stride=(1, 1),
                        pads=(side, side) if pads is None else pads, dilation=(1, 1), groups=1)

    def same(self, op, source, **attributes):
        """An operator whose result has its source's scale."""
        return self.add(op, (source,), self.tensors[source].quantisation, **attributes)

    def graph(self, *outputs):
        return Graph(name="network", tensors=self.tensors, nodes=self.nodes, inputs=self.inputs,
                     outputs=list(outputs))


def grown(rng):
    """A random network of convolutions, sums and what moves elements, with branches."""
    q = scaled(rng)
    net = Network(rng, image(rng, (1, 6, 7, 3), quantisation=q))
    names = [net.conv("x", int(rng.choice([8, 16, 5])), quantisation=q)]
    for _ in range(9):
        source = str(rng.choice(names))
        shape = net.tensors[source].shape
        kind = rng.choice(["conv", "pad", "turn", "concat", "concat", "add", "table"])
        same = [name for name in names if net.tensors[name].shape[:3] == shape[:3]]
        if kind == "conv":
            names.append(net.conv(source, int(rng.choice([8, 16, 3])), quantisation=q))
        elif kind == "pad" and max(shape) < 20:
            pads = tuple(tuple(pair) for pair in rng.integers(0, 2, (2, 2)).tolist())
            names.append(net.same("pad", source, pads=((0, 0), *pads, (0, 0))))
        elif kind == "turn":
            names.append(net.same("transpose", source, order=(0, 2, 1, 3)))
        elif kind == "concat":
            chosen = rng.choice(same, min(len(same), 3), replace=False).tolist()
            if sum(net.tensors[one].shape[3] for one in chosen) <= 48:
                names.append(net.add("concat", chosen, q, axis=3))
        elif kind == "add":
            other = [name for name in same if net.tensors[name].shape == shape]
            names.append(net.add("add", (source, str(rng.choice(other))), q))
        else:
            names.append(net.add("unary", (source,), q, function="relu"))
    used = {name for node in net.nodes for name in node.inputs}
    return net.graph(*[name for name in names if name not in used or rng.random() < 0.2])
