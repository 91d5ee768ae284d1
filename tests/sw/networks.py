"""Small networks of several operators on int8."""

from dataclasses import replace

import numpy as np
from int8_graphs import biases, image, scaled, weights
from systolith.models import Graph, Node, Tensor

SAME = {"pads": ((1, 1), (1, 1)), "stride": (1, 1), "dilation": (1, 1), "activation": "relu",
        "rounding": "twice"}


def residual(seed, *, size=(9, 7), channels=10):
    """A convolution, a depthwise one of its result, their sum, and its largest pixels."""
    rng = np.random.default_rng(seed)
    x = image(rng, (1, *size, 3))
    made = {x.name: x}
    nodes = []

    def append(op, inputs, shape, quantisation, **attributes):
        name = f"{op}{len(nodes)}"
        made[name] = Tensor(name=name, shape=shape, dtype="int8", quantisation=quantisation)
        nodes.append(Node(name=f"{len(nodes)}:{op}", op=op, inputs=inputs, output=name,
                          attributes=attributes))
        return name

    def conv(source, depth, groups):
        w = replace(weights(rng, (channels, 3, 3, depth)), name=f"w{len(nodes)}")
        b = replace(biases(rng, made[source], w), name=f"b{len(nodes)}")
        made.update({w.name: w, b.name: b})
        return append("conv", (source, w.name, b.name), (1, *size, channels), scaled(rng),
                      groups=groups, **SAME)

    first = conv("x", 3, 1)
    second = conv(first, 1, channels)
    total = append("add", (first, second), (1, *size, channels), scaled(rng), activation="none",
                   rounding="twice")
    last = append("max_pool", (total,), (1, size[0] // 2, size[1] // 2, channels),
                  made[total].quantisation, kernel=(2, 2), stride=(2, 2),
                  pads=((0, 0), (0, 0)), activation="none")
    return Graph(name="residual", tensors=made, nodes=nodes, inputs=["x"], outputs=[last])
