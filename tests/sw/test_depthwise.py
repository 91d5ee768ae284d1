"""Convolutions of each channel by itself, on cells of pixels."""

import dataclasses

import numpy as np
import pytest
from compiled import check
from configurations import LEAST, core
from int8_graphs import biases, image, scaled, weights
from systolith.compiler.depthwise import folding_of
from systolith.compiler.operators import Operators
from systolith.cycles import Bus
from systolith.models import Graph, Node, Tensor
from systolith.models.infer import same_pads, shape_of
from systolith.program import decode_program
from systolith_hw.config import CoreConfig
from systolith_hw.isa import LoadMode, Opcode

WIDE = {"act_rows": 2048}
FAST = Bus(words=1000)      # weights cost nothing
CORES = {
    "8x8": core(8, 8, 2, WIDE),
    "16x8": core(16, 8, 4, WIDE),
    "12x12": core(12, 12, 4, WIDE),
    "6x9 with unused rows": core(7, 9, 2, WIDE),
    "8x4 least loops": core(8, 4, 1, WIDE | {"acc_rows": 16}, LEAST),
    "small weight memory": core(8, 8, 2, WIDE | {"wgt_rows": 32, "acc_rows": 32}),
    "int4 pairs": CoreConfig().overridden(
        ["array.weights=int8,int4", "array.cell=int4", "array.strategy=soft"]),
}


class Net:
    """A graph that grows."""
    def __init__(self, rng, size, channels, images=1):
        self.rng, self.tensors, self.nodes = rng, {}, []
        self.keep(image(rng, (images, *size, channels)))

    def keep(self, *tensors):
        self.tensors.update((tensor.name, tensor) for tensor in tensors)

    def conv(self, source, outputs, kernel=(1, 1), *, depthwise=False, dtype="int8", **window):
        """A convolution of tensor ``source``; the name of its result."""
        x, name = self.tensors[source], f"{len(self.nodes)}"
        w = weights(self.rng, (outputs, *kernel, 1 if depthwise else x.shape[3]))
        if dtype == "int4":
            w = dataclasses.replace(w, data=w.data >> 4)
        w = dataclasses.replace(w, name=f"{name}.w", dtype=dtype)
        b = dataclasses.replace(biases(self.rng, x, w), name=f"{name}.b")
        attributes = {"stride": (1, 1), "dilation": (1, 1), "pads": ((0, 0), (0, 0)),
                      "groups": x.shape[3] if depthwise else 1, "activation": "relu",
                      "rounding": "twice", **window}
        made = Tensor(name=name, dtype="int8", quantisation=scaled(self.rng),
                      shape=shape_of("conv", attributes, [x.shape, w.shape, b.shape]))
        self.keep(w, b, made)
        self.nodes.append(Node(name=f"{name}:conv", op="conv", inputs=(source, w.name, b.name),
                               output=name, attributes=attributes))
        return name

    def graph(self, *outputs):
        return Graph(name="net", tensors=self.tensors, nodes=self.nodes, inputs=["x"],
                     outputs=list(outputs))


def window(rng, size, kernel):
    stride, dilation = (tuple(rng.choice([1, 1, 2, 3], 2).tolist()) for _ in range(2))
    pads = same_pads(size, kernel, stride, dilation)
    if rng.random() < 0.3:
        pads = tuple(tuple(rng.integers(0, (k - 1) * d + 1, 2).tolist())
                     for k, d in zip(kernel, dilation, strict=True))
    return {"stride": stride, "dilation": dilation, "pads": pads}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", CORES)
def test_any_window_of_each_channel_equals_the_graph(name, seed):
    rng = np.random.default_rng([seed, 3])
    size = tuple(rng.integers(9, 16, 2).tolist())
    kernel = tuple(rng.integers(1, 5, 2).tolist())
    net = Net(rng, size, 3, images=1 + (seed == 5))
    channels = int(rng.integers(2, 20))
    dtype = "int4" if name == "int4 pairs" else "int8"
    a = net.conv("x", channels, dtype=dtype)
    b = net.conv(a, channels, kernel, depthwise=True, dtype=dtype, **window(rng, size, kernel))
    c = net.conv(b, 5, (3, 3), pads=((1, 1), (1, 1)))   # reads around what was made
    check(net.graph(c), CORES[name], seed=seed, bus=FAST)


@pytest.mark.parametrize("name", CORES)
def test_common_windows_are_done_on_cells(name):
    net = Net(np.random.default_rng(0), (12, 10), 8)
    a = net.conv("x", 24)
    b = net.conv(a, 24, (3, 3), depthwise=True, pads=((1, 1), (1, 1)))
    c = net.conv(b, 16)
    d = net.conv(c, 16, (3, 3), depthwise=True, pads=((0, 1), (0, 1)), stride=(2, 2))
    graph = net.graph(d)
    foldings = Operators(graph, CORES[name], exact=True, bus=FAST, stay=False,
                         spread=0).foldings
    assert a in foldings and set(foldings) <= {a, c}
    check(graph, CORES[name], seed=1, bus=FAST)


def test_a_folding_takes_the_array_fewer_cycles():
    config = CoreConfig.preset("bench16")
    same = {"kernel": (3, 3), "stride": (1, 1), "dilation": (1, 1), "pads": ((1, 1), (1, 1)),
            "config": config, "weights": "int8", "bus": Bus()}
    folding = folding_of(made=(1, 25, 5, 64), **same)
    assert folding is not None
    assert folding.cycles(64, config, 0) == 8 * 6 * 13 * 5 < 4 * 9 * 25 * 5
    assert folding.margin == ((1, 0), (0, 0))
    assert folding_of(made=(1, 1, 1, 64), **same) is None
    # What a slow memory cannot bring is not worth it.
    assert folding_of(made=(1, 25, 5, 64), **same | {"bus": Bus(words=0.05)}) is None


def test_cells_that_do_not_fit_go_through_memory():
    net = Net(np.random.default_rng(4), (14, 9), 8)
    a = net.conv("x", 16)
    b = net.conv("x", 16, (3, 3), pads=((1, 1), (1, 1)))
    c = net.conv(a, 16, (3, 3), depthwise=True, pads=((1, 1), (1, 1)))
    d = net.conv(b, 16, (3, 3), depthwise=True, pads=((1, 1), (1, 1)))
    graph = net.graph(c, d)
    for rows in (1024, 512, 256):
        config = core(8, 8, 2, {"act_rows": rows, "act_banks": 1})
        check(graph, config, seed=rows, bus=FAST)


def test_cells_of_the_same_shape_in_the_same_place_are_filled_once():
    net = Net(np.random.default_rng(4), (12, 9), 8)
    name = "x"
    quantisation = scaled(np.random.default_rng(1))
    for _ in range(3):
        name = net.conv(name, 16)
        net.keep(dataclasses.replace(net.tensors[name], quantisation=quantisation))
        name = net.conv(name, 16, (3, 3), depthwise=True, pads=((1, 1), (1, 1)))
    network = check(net.graph(name), core(8, 8, 2, {"act_rows": 1024}), seed=1)
    step, = network.steps
    fills = [fields["pad_base"] for opcode, fields in decode_program(step.image.program)
             if opcode == Opcode.LOAD and fields["mode"] == LoadMode.FILL]
    assert len(fills) == len(set(fills)) > 0
