"""ONNX models of a few nodes, and what judges how they are read."""

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from systolith.models.evaluate import evaluate
from systolith.models.onnx import read_onnx

OPSET = 21
TYPES = {"float32": onnx.TensorProto.FLOAT, "int8": onnx.TensorProto.INT8,
         "uint8": onnx.TensorProto.UINT8}


def value(name, shape, dtype="float32"):
    return helper.make_tensor_value_info(name, TYPES[dtype], shape)


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def model(nodes, inputs, constants=None, *, outputs=("y",), opset=OPSET, dtype="float32",
          made="float32"):
    """A model; ``inputs`` are shapes by name, ``constants`` arrays."""
    graph = helper.make_graph(
        nodes, "graph", [value(name, shape, dtype) for name, shape in inputs.items()],
        [value(name, None, made) for name in outputs],
        [array if isinstance(array, onnx.TensorProto) else numpy_helper.from_array(array, name)
         for name, array in (constants or {}).items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def computed(made, feeds):
    """The graph that a model is read as, and what it computes."""
    graph = read_onnx(made.SerializeToString(), "model.onnx")
    found = evaluate(graph, feeds)
    return graph, [found[name] for name in graph.outputs]


def stated(made, feeds):
    """What ONNX says that a model computes."""
    return ReferenceEvaluator(made).run(None, feeds)


def real(rng, *shape):
    return rng.normal(0, 1, shape).astype(np.float32)


class Quantised:
    """A model with QuantizeLinear and DequantizeLinear around operators, grown from the input.

    Parameters
    ----------
    rng : Generator
    dtype : "int8" or "uint8"
    """

    def __init__(self, rng, dtype):
        self.rng, self.dtype = rng, np.dtype(dtype)
        self.nodes, self.constants, self.count = [], {}, 0

    def name(self):
        self.count += 1
        return f"t{self.count}"

    def constant(self, array):
        name = self.name()
        self.constants[name] = array
        return name

    def scale(self, low=0.02, high=0.06):
        return self.constant(np.array(self.rng.uniform(low, high), np.float32))

    def add(self, kind, inputs, **attributes):
        name = self.name()
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def both(self, x, low=0.02, high=0.06):
        """``x``, made integers and real again."""
        info = np.iinfo(self.dtype)
        zero = self.constant(np.array(self.rng.integers(info.min + 64, info.max - 64), self.dtype))
        with_scale = [self.scale(low, high), zero]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [x, *with_scale]),
                                             *with_scale])

    def weights(self, shape, axis, kind="int8"):
        """Integers with a scale for each index along ``axis``, and no zero points but 0."""
        rng = self.rng
        name = self.name()
        scale = self.constant(rng.uniform(0.01, 0.03, shape[axis]).astype(np.float32))
        low, high = {"int8": (-127, 128), "int4": (-8, 8)}[kind]
        numbers = rng.integers(low, high, shape)
        self.constants[name] = helper.make_tensor(
            name, getattr(onnx.TensorProto, kind.upper()), shape, numbers.reshape(-1).tolist())
        zero = self.name()
        self.constants[zero] = helper.make_tensor(
            zero, getattr(onnx.TensorProto, kind.upper()), (shape[axis],), [0] * shape[axis])
        return self.add("DequantizeLinear", [name, scale, zero], axis=axis)

    def model(self, shape, last):
        """The whole; ``last`` is its output."""
        self.nodes.append(helper.make_node("Identity", [last], ["y"]))
        return model(self.nodes, {"x": shape}, self.constants)
