"""Float models that grow node by node, with calibration data."""

import numpy as np
from systolith.models import Tensor
from systolith.models.builder import Builder
from systolith.models.graph import OPERATORS

SIZE = (1, 9, 8, 6)
WINDOW = {"stride": (1, 1), "pads": ((1, 1), (1, 1)), "activation": "none"}
CONV = {**WINDOW, "dilation": (1, 1), "groups": 1}
POOL = {"stride": (2, 2), "pads": ((0, 1), (0, 0)), "kernel": (2, 2), "activation": "none"}


class Model:
    """A float model that grows from input ``x``, and calibration data."""

    def __init__(self, seed, size=SIZE, runs=24):
        self.rng = np.random.default_rng(seed)
        self.build = Builder("model", [Tensor(name="x", shape=size, dtype="float32")], ["y"])
        self.data = {"x": self.numbers(runs * size[0], *size[1:])}

    def numbers(self, *shape):
        return self.rng.normal(0, 1, shape).astype(np.float32)

    def constant(self, array, name="constant"):
        return self.build.constant(name, np.asarray(array, np.float32))

    def add(self, op, *inputs, **attributes):
        if "activation" in OPERATORS[op].attributes:
            attributes = {"activation": "none", **attributes}
        return self.build.add(op, op, inputs, attributes)

    def conv(self, x, outputs=6, kernel=3, weights=None, bias=None, **attributes):
        inputs = self.build[x].shape[3] // attributes.get("groups", 1)
        if weights is None:
            weights = self.numbers(outputs, kernel, kernel, inputs) / 4
        bias = self.numbers(outputs) if bias is None else bias
        pads = ((kernel // 2, kernel // 2),) * 2
        return self.add("conv", x, self.constant(weights), self.constant(bias),
                        **{**CONV, "pads": pads, **attributes})

    def linear(self, x, outputs=5, **attributes):
        inputs = self.build[x].shape[-1]
        return self.add("linear", x, self.constant(self.numbers(outputs, inputs) / inputs ** 0.5),
                        self.constant(self.numbers(outputs)), **attributes)

    def flat(self, x):
        shape = self.build[x].shape
        return self.add("reshape", x, shape=(shape[0], int(np.prod(shape[1:]))))

    def graph(self, last):
        return self.build.graph({"y": last})


def network(seed):
    """Convolutions of all kinds, a shortcut, pooling and an answer."""
    model = Model(seed)
    first = model.conv("x", activation="relu")
    apart = model.conv(first, groups=6, activation="relu6")
    last = model.add("add", first, model.conv(apart, kernel=1), activation="relu")
    small = model.add("max_pool", last, **POOL)
    answer = model.linear(model.flat(model.add("average_pool", small, **POOL)))
    return model.graph(model.add("softmax", answer, beta=1.0)), model.data


def nodes(graph, *ops):
    return [node for node in graph.nodes if node.op in ops]
