"""TFLite files of graphs, for the interpreter that judges what we read and compute."""

import flatbuffers
import numpy as np
import tflite
from systolith.models.graph import EXTREMES

TYPES = {"float32": "FLOAT32", "int8": "INT8", "int32": "INT32", "int4": "INT4", "uint8": "UINT8"}
ACTIVATIONS = {"none": 0, "relu": 1, "relu1": 2, "relu6": 3}
FUNCTIONS = {"relu": "RELU", "relu6": "RELU6", "relu1": "RELU_N1_TO_1", "logistic": "LOGISTIC",
             "tanh": "TANH"}
OPTIONS = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
           "FULLY_CONNECTED": "FullyConnectedOptions", "ADD": "AddOptions", "SUB": "SubOptions",
           "MUL": "MulOptions", "MAXIMUM": "MaximumMinimumOptions",
           "MINIMUM": "MaximumMinimumOptions", "AVERAGE_POOL_2D": "Pool2DOptions",
           "MAX_POOL_2D": "Pool2DOptions", "SOFTMAX": "SoftmaxOptions",
           "RESHAPE": "ReshapeOptions", "TRANSPOSE": "TransposeOptions",
           "CONCATENATION": "ConcatenationOptions", "PAD": "PadOptions",
           "TRANSPOSE_CONV": "TransposeConvOptions",
           "QUANTIZE": "QuantizeOptions", "DEQUANTIZE": "DequantizeOptions"}


class Writer:
    """One model; tensors are numbered as they are asked for."""

    def __init__(self, graph):
        self.graph = graph
        self.builder = flatbuffers.Builder(1 << 16)
        self.numbers = {}
        self.tensors = []
        self.buffers = [b""]
        self.codes = []

    def table(self, name, **fields):
        """A table; vectors and strings are made before it."""
        getattr(tflite, f"{name}Start")(self.builder)
        for field, value in fields.items():
            if value is not None:
                getattr(tflite, f"{name}Add{field}")(self.builder, value)
        return getattr(tflite, f"{name}End")(self.builder)

    def offsets(self, found):
        self.builder.StartVector(4, len(found), 4)
        for offset in reversed(found):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def array(self, values, dtype):
        return self.builder.CreateNumpyVector(np.asarray(values, dtype).reshape(-1))

    def tensor(self, name, shape, dtype, quantisation=None, data=None):
        """Number of a new tensor."""
        q = None
        if quantisation is not None:
            scale = self.array(quantisation.scale, np.float32)
            zero = self.array(quantisation.zero_point, np.int64)
            q = self.table("QuantizationParameters", Scale=scale, ZeroPoint=zero,
                           QuantizedDimension=quantisation.axis or 0)
        buffer = 0
        if data is not None:
            raw = data.astype(dtype if dtype != "int4" else np.int8)
            if dtype == "int4":
                flat = np.append(raw.reshape(-1), np.zeros(raw.size % 2, np.int8)) & 15
                raw = (flat[::2] | (flat[1::2] << 4)).astype(np.uint8)
            self.buffers.append(raw.tobytes())
            buffer = len(self.buffers) - 1
        made = self.table("Tensor", Shape=self.array(shape, np.int32),
                          Type=getattr(tflite.TensorType, TYPES[dtype]), Buffer=buffer,
                          Name=self.builder.CreateString(name), Quantization=q)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def of(self, name):
        """Number of a tensor of the graph."""
        if name not in self.numbers:
            t = self.graph.tensors[name]
            self.numbers[name] = self.tensor(name, t.shape, t.dtype, t.quantisation, t.data)
        return self.numbers[name]

    def constant(self, name, values):
        return self.tensor(name, values.shape, "int32", data=values)

    def node(self, node):
        """An operator."""
        kind, inputs, options = self.kind(node)
        table = OPTIONS.get(kind)
        made = self.table(table, **options) if table else None
        self.codes.append(getattr(tflite.BuiltinOperator, kind))
        return self.table(
            "Operator", OpcodeIndex=len(self.codes) - 1, Inputs=self.array(inputs, np.int32),
            Outputs=self.array([self.of(node.output)], np.int32),
            BuiltinOptionsType=getattr(tflite.BuiltinOptions, table) if table else None,
            BuiltinOptions=made)

    def kind(self, node):
        """Builtin operator, numbers of its inputs, fields of its options."""
        a = dict(node.attributes)
        activation = {"FusedActivationFunction": ACTIVATIONS[a.get("activation", "none")]}
        window = {}
        if "stride" in a:
            padded = any(side for pair in a["pads"] for side in pair)
            window = {"StrideH": a["stride"][0], "StrideW": a["stride"][1], **activation,
                      "Padding": tflite.Padding.SAME if padded else tflite.Padding.VALID}
        if node.op == "conv":
            dilation = {"DilationHFactor": a["dilation"][0], "DilationWFactor": a["dilation"][1]}
            if a["groups"] == 1:
                return "CONV_2D", [self.of(name) for name in node.inputs], {**window, **dilation}
            t = self.graph.tensors[node.inputs[1]]
            q = t.quantisation and type(t.quantisation)(
                t.quantisation.scale, t.quantisation.zero_point, 3)
            data = t.data.transpose(3, 1, 2, 0)
            weights = self.tensor(f"{node.name}_weights", data.shape, t.dtype, q, data)
            inputs = [self.of(node.inputs[0]), weights, *map(self.of, node.inputs[2:])]
            return "DEPTHWISE_CONV_2D", inputs, {
                **window, **dilation, "DepthMultiplier": t.shape[0] // a["groups"]}
        inputs = [self.of(name) for name in node.inputs]
        if node.op == "transposed_conv":
            size = self.graph.tensors[node.output].shape
            same = any(side for pair in a["pads"] for side in pair)
            shape = self.constant(f"{node.name}_shape", np.array(size))
            return "TRANSPOSE_CONV", [shape, inputs[1], inputs[0], *inputs[2:]], {
                "StrideH": a["stride"][0], "StrideW": a["stride"][1], **activation,
                "Padding": tflite.Padding.SAME if same else tflite.Padding.VALID}
        if node.op in ("average_pool", "max_pool"):
            return f"{node.op.upper()}_2D", inputs, {
                **window, "FilterHeight": a["kernel"][0], "FilterWidth": a["kernel"][1]}
        if node.op == "linear":
            return "FULLY_CONNECTED", inputs, activation
        if node.op in ("add", "sub", "mul"):
            return node.op.upper(), inputs, activation
        if node.op in EXTREMES:
            return node.op.upper(), inputs, {}
        if node.op == "softmax":
            return "SOFTMAX", inputs, {"Beta": a["beta"]}
        if node.op == "concat":
            return "CONCATENATION", inputs, {"Axis": a["axis"], **activation}
        if node.op == "reshape":
            return "RESHAPE", [*inputs, self.constant(f"{node.name}_shape",
                                                      np.array(a["shape"]))], {}
        if node.op == "transpose":
            return "TRANSPOSE", [*inputs, self.constant(f"{node.name}_order",
                                                        np.array(a["order"]))], {}
        if node.op == "pad":
            return "PAD", [*inputs, self.constant(f"{node.name}_pads", np.array(a["pads"]))], {}
        if node.op == "unary":
            return FUNCTIONS[a["function"]], inputs, {}
        floats = self.graph.tensors[node.output].dtype == "float32"
        return "DEQUANTIZE" if floats else "QUANTIZE", inputs, {}

    def model(self):
        """Bytes of the file."""
        inputs = [self.of(name) for name in self.graph.inputs]
        nodes = [self.node(node) for node in self.graph.nodes]
        outputs = [self.of(name) for name in self.graph.outputs]
        subgraph = self.table(
            "SubGraph", Tensors=self.offsets(self.tensors), Inputs=self.array(inputs, np.int32),
            Outputs=self.array(outputs, np.int32), Operators=self.offsets(nodes))
        buffers = [self.table("Buffer", Data=self.builder.CreateByteVector(data) if data else None)
                   for data in self.buffers]
        codes = [self.table("OperatorCode", BuiltinCode=code, DeprecatedBuiltinCode=min(code, 127),
                            Version=1) for code in self.codes]
        model = self.table(
            "Model", Version=3, OperatorCodes=self.offsets(codes),
            Subgraphs=self.offsets([subgraph]), Buffers=self.offsets(buffers))
        self.builder.Finish(model, b"TFL3")
        return bytes(self.builder.Output())


def tflite_bytes(graph):
    """The TFLite file of a graph; windows are padded by nothing, or as SAME does."""
    return Writer(graph).model()
