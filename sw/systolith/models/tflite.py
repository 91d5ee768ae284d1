"""TFLite models as graphs; the format is that of tensorflow/lite/schema/schema.fbs, version 3."""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from .graph import MOST_OPERATORS, OPERATORS, Graph, Node, Quantisation, Tensor
from .infer import same_pads

__all__ = ["read_tflite"]

_TYPES = {"FLOAT32": "float32", "FLOAT16": "float16", "FLOAT64": "float64", "INT4": "int4",
          "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64", "UINT8": "uint8",
          "BOOL": "bool"}
_ACTIVATIONS = ("none", "relu", "relu1", "relu6")   # by number
_FUNCTIONS = {"RELU": "relu", "RELU6": "relu6", "RELU_N1_TO_1": "relu1", "LOGISTIC": "logistic",
              "TANH": "tanh"}


def read_tflite(data: bytes, name: str) -> Graph:
    """The first subgraph of a model.

    Raises
    ------
    ImportError
        Package ``tflite`` is missing.
    ValueError
        It is no such model, or has operators or types that are not known; names the node.
    """
    try:
        import tflite
    except ImportError:
        raise ImportError("TFLite models must have package tflite installed: pip install "
                          "'systolith[models]'") from None
    if data[4:8] != b"TFL3":
        raise ValueError(f"{name} must be a TFLite model of version 3")
    try:
        return _Reader(tflite.Model.GetRootAsModel(data, 0), tflite, name).graph()
    # What the accessors of a damaged file end with.
    except (struct.error, IndexError, OverflowError, TypeError) as error:
        raise ValueError(f"{name} must be a whole TFLite model, not a damaged one "
                         f"({type(error).__name__}: {error})") from None


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


class _Reader:
    """One model."""

    def __init__(self, model: Any, tflite: Any, name: str):
        self.model = model
        self.tflite = tflite
        self.name = name
        if model.SubgraphsLength() < 1:
            raise ValueError(f"{name} must have a subgraph")
        self.subgraph = model.Subgraphs(0)
        self.types = _names(tflite.TensorType)
        self.builtins = _names(tflite.BuiltinOperator)
        self.tensors: dict[str, Tensor] = {}
        self.by_number: list[str] = []

    def graph(self) -> Graph:
        subgraph = self.subgraph
        if max(subgraph.TensorsLength(), subgraph.OperatorsLength()) > MOST_OPERATORS:
            raise ValueError(f"{self.name} must have at most {MOST_OPERATORS:,} operators")
        for number in range(subgraph.TensorsLength()):
            tensor = self.tensor(number)
            self.by_number.append(tensor.name)
            self.tensors[tensor.name] = tensor
        nodes = [self.node(number) for number in range(subgraph.OperatorsLength())]
        inputs, outputs = ([get(i) for i in range(count)] for get, count in (
            (subgraph.Inputs, subgraph.InputsLength()),
            (subgraph.Outputs, subgraph.OutputsLength())))
        if not all(0 <= number < subgraph.TensorsLength() for number in (*inputs, *outputs)):
            raise ValueError(f"inputs and outputs of {self.name} must be tensors of the model")
        return Graph(name=self.name, tensors=self.tensors, nodes=nodes,
                     inputs=[self.by_number[number] for number in inputs],
                     outputs=[self.by_number[number] for number in outputs])

    def tensor(self, number: int) -> Tensor:
        """A tensor, and its numbers where it is a constant."""
        tensor = self.subgraph.Tensors(number)
        name = (tensor.Name() or b"").decode("utf-8", "replace") or f"tensor_{number}"
        if name in self.tensors:
            name = f"{name}#{number}"
        kind = self.types.get(tensor.Type(), str(tensor.Type()))
        if kind not in _TYPES:
            raise ValueError(f"tensor {name!r} must be of type {', '.join(_TYPES)}, not {kind}")
        dtype = _TYPES[kind]
        shape = tuple(tensor.Shape(i) for i in range(tensor.ShapeLength()))
        signature = [tensor.ShapeSignature(i) for i in range(tensor.ShapeSignatureLength())]
        if min(signature[1:], default=0) < 0:
            raise ValueError(f"tensor {name!r} must be of one size, not {tuple(signature)!r}")
        raw = None
        if 0 <= tensor.Buffer() < self.model.BuffersLength():
            found = self.model.Buffers(tensor.Buffer()).DataAsNumpy()
            raw = None if isinstance(found, int) else found.tobytes()
        return Tensor(name=name, shape=shape, dtype=dtype,
                      quantisation=self.quantisation(tensor),
                      data=_numbers(name, raw, dtype, shape) if raw else None)

    def quantisation(self, tensor: Any) -> Quantisation | None:
        found = tensor.Quantization()
        if found is None or not found.ScaleLength():
            return None
        scale = np.array(found.ScaleAsNumpy(), np.float32)
        zero = (np.array(found.ZeroPointAsNumpy(), np.int64) if found.ZeroPointLength()
                else np.zeros(len(scale), np.int64))
        return Quantisation(scale, zero,
                            found.QuantizedDimension() if len(scale) > 1 else None)

    def node(self, number: int) -> Node:
        """Operator ``number``."""
        operator = self.subgraph.Operators(number)
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        kind = self.builtins.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "?")
        inputs = [operator.Inputs(i) for i in range(operator.InputsLength())]
        while inputs and inputs[-1] == -1:  # left out
            inputs.pop()
        outputs = [operator.Outputs(i) for i in range(operator.OutputsLength())]
        name = f"{number}:{kind.lower()}"
        count = len(self.by_number)
        if len(outputs) != 1 or not all(0 <= i < count for i in (*inputs, *outputs)):
            raise ValueError(f"node {name!r} must take tensors of the model and make one")
        make: Callable[..., tuple[str, list[int], dict[str, Any]]] | None = getattr(
            self, f"_{kind.lower()}", None)
        if kind in _FUNCTIONS:
            op, inputs, attributes = "unary", inputs, {"function": _FUNCTIONS[kind]}
        elif make is None:
            raise ValueError(f"node {name!r} must be an operator that is known, not {kind}")
        else:
            if len(inputs) < 1:
                raise ValueError(f"node {name!r} must have an input")
            op, inputs, attributes = make(name, operator, inputs, outputs[0])
        if "rounding" in OPERATORS[op].attributes:
            attributes = {"rounding": "twice", **attributes}
        return Node(name=name, op=op, inputs=tuple(self.by_number[i] for i in inputs),
                    output=self.by_number[outputs[0]], attributes=attributes)

    # Of each builtin operator: what it is, which inputs are tensors, and its attributes.

    def options(self, operator: Any, kind: str) -> Any:
        """Options of an operator, as table ``kind``."""
        table = operator.BuiltinOptions()
        if table is None:
            raise ValueError(f"{kind} must be there")
        options = getattr(self.tflite, kind)()
        options.Init(table.Bytes, table.Pos)
        return options

    def shape(self, number: int) -> tuple[int, ...]:
        return self.tensors[self.by_number[number]].shape

    def constant(self, name: str, inputs: list[int], position: int) -> np.ndarray:
        """Numbers that say what a node does."""
        data = (self.tensors[self.by_number[inputs[position]]].data
                if position < len(inputs) else None)
        if data is None:
            raise ValueError(f"input {position} of node {name!r} must be a constant")
        return data

    def window(self, options: Any, image: int, kernel: tuple[int, ...],
               dilation: tuple[int, int] = (1, 1)) -> dict[str, Any]:
        """Attributes of what slides over an image."""
        stride = (options.StrideH(), options.StrideW())
        size = self.shape(image)[1:3]
        if min(*stride, *dilation) < 1 or len(size) != 2 or len(kernel) != 2:
            raise ValueError(f"stride must be at least 1 and images of 4 dimensions, not "
                             f"{stride!r} and {self.shape(image)!r}")
        same = options.Padding() == self.tflite.Padding.SAME
        return {"stride": stride, "activation": _activation(options),
                "pads": same_pads(size, kernel, stride, dilation) if same else ((0, 0), (0, 0))}

    def _conv_2d(self, name, operator, inputs, output):
        options = self.options(operator, "Conv2DOptions")
        dilation = (options.DilationHFactor(), options.DilationWFactor())
        image, weights = (self.shape(i) for i in inputs[:2])
        groups = image[3] // max(weights[3], 1) if len(image) == len(weights) == 4 else 1
        return "conv", inputs, {**self.window(options, inputs[0], weights[1:3], dilation),
                                "dilation": dilation, "groups": groups}

    def _depthwise_conv_2d(self, name, operator, inputs, output):
        options = self.options(operator, "DepthwiseConv2DOptions")
        dilation = (options.DilationHFactor(), options.DilationWFactor())
        weights = self.shape(inputs[1])
        # From (1, height, width, outputs) to (outputs, height, width, 1).
        self.constant(name, inputs, 1)
        window = self.window(options, inputs[0], weights[1:3], dilation)
        return "conv", [inputs[0], self.turned(inputs[1], (3, 1, 2, 0)), *inputs[2:]], {
            **window, "dilation": dilation, "groups": self.shape(inputs[0])[3]}

    def _transpose_conv(self, name, operator, inputs, output):
        options = self.options(operator, "TransposeConvOptions")
        size, image, weights = self.shape(output)[1:3], inputs[2], self.shape(inputs[1])
        stride = (options.StrideH(), options.StrideW())
        found = self.shape(image)[1:3]
        if min(stride) < 1 or not len(size) == len(found) == len(weights[1:3]) == 2:
            raise ValueError(f"stride must be at least 1 and images of 4 dimensions, not "
                             f"{stride!r} and {self.shape(image)!r}")
        same = options.Padding() == self.tflite.Padding.SAME
        # As for the convolution that makes the input of the output.
        pads = same_pads(size, weights[1:3], stride) if same else ((0, 0), (0, 0))
        pads = tuple((before, (n - 1) * s + k - out - before) for n, s, k, out, (before, _) in zip(
            found, stride, weights[1:3], size, pads, strict=True))
        return "transposed_conv", [image, inputs[1], *inputs[3:]], {
            "stride": stride, "pads": pads, "dilation": (1, 1), "groups": 1,
            "activation": _activation(options)}

    def turned(self, number: int, order: tuple[int, ...]) -> int:
        """A constant with its dimensions in another order, as a tensor of its own."""
        tensor = self.tensors[self.by_number[number]]
        if len(tensor.shape) != len(order) or tensor.data is None:
            raise ValueError(f"tensor {tensor.name!r} must have {len(order)} dimensions, "
                             f"not {tensor.shape!r}")
        q = tensor.quantisation
        data = np.ascontiguousarray(tensor.data.transpose(order))
        made = Tensor(name=f"{tensor.name}#turned", shape=data.shape, dtype=tensor.dtype,
                      quantisation=q and q.in_order(order), data=data)
        self.tensors[made.name] = made
        self.by_number.append(made.name)
        return len(self.by_number) - 1

    def _fully_connected(self, name, operator, inputs, output):
        options = self.options(operator, "FullyConnectedOptions")
        # Unlike the other operators of the reference interpreter: so does that of LiteRT 2.3.
        return "linear", inputs, {"activation": _activation(options), "rounding": "once"}

    def _pool(self, op, operator, inputs):
        options = self.options(operator, "Pool2DOptions")
        kernel = (options.FilterHeight(), options.FilterWidth())
        return op, inputs, {**self.window(options, inputs[0], kernel), "kernel": kernel}

    def _average_pool_2d(self, name, operator, inputs, output):
        return self._pool("average_pool", operator, inputs)

    def _max_pool_2d(self, name, operator, inputs, output):
        return self._pool("max_pool", operator, inputs)

    def _add(self, name, operator, inputs, output):
        return "add", inputs, {"activation": _activation(self.options(operator, "AddOptions"))}

    def _sub(self, name, operator, inputs, output):
        return "sub", inputs, {"activation": _activation(self.options(operator, "SubOptions"))}

    def _mul(self, name, operator, inputs, output):
        return "mul", inputs, {"activation": _activation(self.options(operator, "MulOptions"))}

    def _maximum(self, name, operator, inputs, output):
        return "maximum", inputs, {}

    def _minimum(self, name, operator, inputs, output):
        return "minimum", inputs, {}

    def _softmax(self, name, operator, inputs, output):
        return "softmax", inputs, {"beta": self.options(operator, "SoftmaxOptions").Beta()}

    def _reshape(self, name, operator, inputs, output):
        return "reshape", inputs[:1], {"shape": self.shape(output)}

    def _transpose(self, name, operator, inputs, output):
        order = self.constant(name, inputs, 1)
        return "transpose", inputs[:1], {"order": tuple(order.reshape(-1).tolist())}

    def _concatenation(self, name, operator, inputs, output):
        options = self.options(operator, "ConcatenationOptions")
        axis = options.Axis() % max(len(self.shape(output)), 1)
        return "concat", inputs, {"axis": axis, "activation": _activation(options)}

    def _pad(self, name, operator, inputs, output):
        pads = self.constant(name, inputs, 1).reshape(-1, 2)
        return "pad", inputs[:1], {"pads": tuple(tuple(pair) for pair in pads.tolist())}

    def _quantize(self, name, operator, inputs, output):
        return "convert", inputs, {}

    def _dequantize(self, name, operator, inputs, output):
        return "convert", inputs, {}


def _activation(options: Any) -> str:
    number = options.FusedActivationFunction()
    if not 0 <= number < len(_ACTIVATIONS):
        raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, not {number}")
    return _ACTIVATIONS[number]


def _numbers(name: str, raw: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Elements of a constant; int4 lie low nibble first."""
    count = 1
    for size in shape:
        count *= size
    if dtype == "int4":
        packed = np.frombuffer(raw, np.uint8)
        nibbles = np.stack([packed & 15, packed >> 4], -1).reshape(-1).astype(np.int8)
        found = np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.int8)[:count]
        expected = (count + 1) // 2
    else:
        kind = np.dtype(dtype).newbyteorder("<")
        expected = count * kind.itemsize
        found = np.frombuffer(raw, kind) if len(raw) == expected else np.empty(0)
    if len(raw) != expected or count != len(found):
        raise ValueError(f"constant {name!r} must have {expected} bytes, not {len(raw)}")
    return found.astype(found.dtype.newbyteorder("=")).reshape(shape)
