"""ONNX models as graphs; the operators are those of https://onnx.ai/onnx/operators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from . import floats
from .builder import Builder
from .channels_last import channels_last
from .fuse import fuse
from .graph import BITS, MOST_DIMENSIONS, MOST_OPERATORS, Graph, Quantisation, Tensor
from .onnx_extremes import EXTREMES
from .onnx_operators import OPERATORS
from .onnx_quantised import QUANTISED
from .onnx_transposed import TRANSPOSED
from .qdq import integers_between
from .qonnx import DOMAINS, QUANTISERS

__all__ = ["read_onnx"]

ALL = {**OPERATORS, **EXTREMES, **TRANSPOSED, **QUANTISED}
KNOWN = {"": ALL, "ai.onnx": ALL, **dict.fromkeys(DOMAINS, QUANTISERS)}     # by domain
LEAST_OPSET = 7     # from which on shapes are broadcast as NumPy does
MOST_FOLDED = 1 << 24
_TYPES = {"FLOAT": "float32", "UINT8": "uint8", "INT8": "int8"}
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Pow", "Equal", "Less", "Greater", "Where", "Min",
                "Max"}
_ASIDE = ("transpose", "reshape", "pad", "convert")  # what other operators need beside them
# What is computed where all inputs are constants.
_FOLDED = {*_ELEMENTWISE, "Abs", "Cast", "Ceil", "Concat", "Floor", "Gather", "Identity", "Neg",
           "Reshape", "Round", "Slice", "Sqrt", "Squeeze", "Transpose", "Unsqueeze"}


def read_onnx(data: bytes, name: str) -> Graph:
    """A model's graph.

    Raises
    ------
    ImportError
        Package ``onnx`` is missing.
    ValueError
        It is no such model, or has operators, types or shapes that are not known; names the node.
    """
    try:
        import onnx
        import onnx.reference
    except ImportError:
        raise ImportError("ONNX models must have package onnx installed: pip install "
                          "'systolith[models]'") from None
    from google.protobuf.message import DecodeError
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"{name} must be a whole ONNX model, not a damaged one") from None
    try:
        reader = Reader(model, onnx, name, MOST_FOLDED + len(data))
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} must be a whole ONNX model, not a damaged one ({error.reason})"
                         ) from None
    with np.errstate(all="ignore"):     # what is not finite is refused
        return integers_between(fuse(channels_last(reader.graph())))


@dataclass(frozen=True, eq=False)
class Operation:
    """A node of the file.

    Parameters
    ----------
    name : str
        Number and kind.
    kind : str
    inputs, outputs : sequence of str
        "" where one is left out.
    attributes : mapping
        As Python values.
    """
    name: str
    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Any]

    def has(self, number: int) -> bool:
        """Whether input ``number`` is there."""
        return number < len(self.inputs) and self.inputs[number] != ""

    def number(self, attribute: str, default: float) -> Any:
        """A number among the attributes."""
        found = self.attributes.get(attribute, default)
        if not isinstance(found, int | float) or isinstance(found, bool) or not np.isfinite(found):
            raise ValueError(f"{attribute} must be a number, not {found!r}")
        return found

    def integer(self, attribute: str, default: int) -> int:
        """A whole number among the attributes."""
        found = self.number(attribute, default)
        if found != int(found):
            raise ValueError(f"{attribute} must be a whole number, not {found!r}")
        return int(found)

    def text(self, attribute: str, default: str) -> str:
        """A text among the attributes."""
        found = self.attributes.get(attribute, default.encode())
        if not isinstance(found, bytes):
            raise ValueError(f"{attribute} must be a text, not {found!r}")
        return found.decode("utf-8", "replace")

    def integers(self, attribute: str, default: Sequence[int]) -> tuple[int, ...]:
        """Whole numbers among the attributes, as many as the default has, where it has any."""
        found = self.attributes.get(attribute, default)
        if not isinstance(found, list | tuple) or not all(isinstance(one, int) for one in found):
            raise ValueError(f"{attribute} must be whole numbers, not {found!r}")
        if default and len(found) != len(default):
            raise ValueError(f"{attribute} must be {len(default)} numbers, not {len(found)}")
        return tuple(found)


class Reader:
    """One model; operators add to ``build`` what they are.

    Members
    -------
    build : Builder
    opset : int
    constants : dict of str to array
        Of names in the file, what is known before the model runs.
    values : dict of str to str
        Of the other names, tensors of ``build``.
    """

    def __init__(self, model: Any, onnx: Any, name: str, most_folded: int):
        self.onnx = onnx
        self.name = name
        self.left = most_folded     # elements that constants may have that are computed
        self.model = model.graph
        newest = onnx.defs.onnx_opset_version()
        self.opset = max((one.version for one in model.opset_import
                          if one.domain in ("", "ai.onnx")), default=0)
        if not LEAST_OPSET <= self.opset <= newest:
            raise ValueError(f"{name} must be an ONNX model of opset {LEAST_OPSET} to {newest}, "
                             f"not {self.opset}")
        if len(self.model.node) > MOST_OPERATORS:
            raise ValueError(f"{name} must have at most {MOST_OPERATORS:,} operators")
        if len(self.model.sparse_initializer):
            raise ValueError(f"{name} must have no sparse initializers")
        self.constants = {tensor.name: self.array(tensor) for tensor in self.model.initializer}
        inputs = [self.input(value) for value in self.model.input
                  if value.name not in self.constants]
        self.outputs = {value.name: self.type(value) for value in self.model.output}
        self.build = Builder(name, inputs, list(self.outputs))
        self.values = {tensor.name: tensor.name for tensor in inputs}
        self.taken = {*self.outputs, *(one for node in self.model.node for one in node.input)}
        self.taken.discard("")

    def array(self, tensor: Any) -> np.ndarray:
        """Numbers of a constant."""
        name, dims = tensor.name, tuple(tensor.dims)
        if tensor.external_data or tensor.data_location:
            raise ValueError(f"constant {name!r} must lie in the model's file, not in another one")
        # A number takes at least two bits.
        if min(dims, default=1) < 0 or len(dims) > MOST_DIMENSIONS or (
                prod(dims) > 4 * tensor.ByteSize()):
            raise ValueError(f"constant {name!r} must have as many numbers as its shape says, "
                             f"{dims!r}")
        known = self.onnx.TensorProto.DataType
        if tensor.data_type not in known.values() or tensor.data_type == known.UNDEFINED:
            raise ValueError(f"constant {name!r} must be of a known type, not {tensor.data_type}")
        try:
            found = self.onnx.numpy_helper.to_array(tensor)
        except (TypeError, ValueError) as error:
            raise ValueError(f"constant {name!r} must be whole ({_line(error)})") from None
        if found.dtype.name not in (*BITS, "uint4"):
            raise ValueError(f"constant {name!r} must be of type {', '.join(BITS)} or uint4, "
                             f"not {found.dtype}")
        return found

    def type(self, value: Any) -> str:
        """Name of the type of an input's or output's elements."""
        number = value.type.tensor_type.elem_type
        known = self.onnx.TensorProto.DataType
        return known.Name(number) if number in known.values() else str(number)

    def input(self, value: Any) -> Tensor:
        """What comes in, of a known size."""
        kind = self.type(value)
        if kind not in _TYPES:
            raise ValueError(f"input {value.name!r} must be of type {', '.join(_TYPES)}, "
                             f"not {kind}")
        shape = []
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value") and axis:
                raise ValueError(f"dimension {axis} of input {value.name!r} must be of one size, "
                                 f"not {dim.dim_param or '?'!r}")
            shape.append(dim.dim_value if dim.HasField("dim_value") else 1)
        return Tensor(name=value.name, shape=tuple(shape), dtype=_TYPES[kind])

    def graph(self) -> Graph:
        """The whole model."""
        for number, node in enumerate(self.model.node):
            name = f"{number}:{node.op_type.lower()}"
            try:
                self.node(name, node)
            except ValueError as error:
                raise ValueError(f"node {name!r}: {_line(error)}".replace(": it must ", " must ")
                                 ) from None
            # What damaged attributes end with.
            except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
                raise ValueError(f"node {name!r} must be whole, not a damaged one "
                                 f"({type(error).__name__}: {_line(error)})") from None
        for name, kind in self.outputs.items():
            if name in self.constants and name not in self.values:
                self.values[name] = self.real(name, name)
            if name not in self.values:
                raise ValueError(f"output {name!r} must be made by a node")
            if kind == "UINT8":
                self.values[name] = self.unsigned(name)
            else:
                self.values[name] = self.unpacked(self.build[self.values[name]]).name
        return self.build.graph({name: self.values[name] for name in self.outputs})

    def unsigned(self, name: str) -> str:
        """A uint8 output, of the int8 tensor that it is inside."""
        tensor = self.build[self.values[name]]
        q = tensor.quantisation
        if tensor.dtype != "int8" or q is None:
            return tensor.name
        like = Tensor(name=name, shape=tensor.shape, dtype="uint8",
                      quantisation=Quantisation(q.scale, q.zero_point + 128, q.axis))
        return self.build.add(f"{tensor.name}.unsigned", "convert", [tensor.name], {}, like)

    def node(self, name: str, node: Any) -> None:
        """What an operator of the file is."""
        attributes = {}
        for attribute in node.attribute:
            found = self.onnx.helper.get_attribute_value(attribute)
            attributes[attribute.name] = (
                self.array(found) if isinstance(found, self.onnx.TensorProto) else found)
        op = Operation(name, node.op_type, list(node.input), list(node.output), attributes)
        if not op.outputs or not op.outputs[0]:
            raise ValueError("it must make something")
        for made in op.outputs:
            if made and (made in self.constants or made in self.values):
                raise ValueError(f"it must make what is not there yet, not {made!r}")
        for taken in op.inputs:
            if taken and taken not in self.constants and taken not in self.values:
                raise ValueError(f"it must take what is made before it, not {taken!r}")
        known = [self.constants[one] for one in op.inputs if one in self.constants]
        if op.kind == "Shape" and not node.domain:
            if not op.inputs or not op.inputs[0]:
                raise ValueError("it must have an input")
            shape = np.array(self.shape(op.inputs[0]), np.int64)
            start, end = op.integer("start", 0), op.attributes.get("end")
            self.constants[op.outputs[0]] = shape[start:end]
        elif (op.kind in _FOLDED and node.domain in ("", "ai.onnx") and known
              and len(known) == sum(map(bool, op.inputs))):
            self.constants[op.outputs[0]] = self.folded(op, node, known)
        else:
            operator = KNOWN.get(node.domain, {}).get(op.kind)
            if operator is None:
                domain = f"{node.domain}." if node.domain else ""
                raise ValueError(f"it must be an operator that is known, not {domain}{op.kind}")
            if operator.inputs > sum(map(bool, op.inputs[:operator.inputs])):
                raise ValueError(f"it must have {operator.inputs} inputs")
            for made in op.outputs[1:]:
                if made in self.taken:
                    raise ValueError(f"nothing may take its output {made!r}")
            operator.read(self, op)

    def spend(self, count: int) -> None:
        """``count`` more elements of constants are computed."""
        self.left -= count
        if self.left < 0:
            raise ValueError(f"constants that are computed must have fewer than "
                             f"{MOST_FOLDED:,} elements")

    def folded(self, op: Operation, node: Any, known: list[np.ndarray]) -> np.ndarray:
        """What an operator makes of constants."""
        if op.kind in _ELEMENTWISE:
            count = prod(np.broadcast_shapes(*(one.shape for one in known)))
        elif op.kind == "Gather":
            axis = op.integer("axis", 0)
            if len(known) != 2 or not -known[0].ndim <= axis < known[0].ndim:
                raise ValueError(f"it must have two inputs and an axis of the first, not {axis!r}")
            count = known[1].size * (known[0].size // max(known[0].shape[axis], 1))
        else:
            count = sum(one.size for one in known)
        self.spend(count)
        helper = self.onnx.helper
        inputs = [one for one in op.inputs if one]
        model = helper.make_model(
            helper.make_graph([node], "folded",
                              [helper.make_tensor_value_info(one, 0, None) for one in set(inputs)],
                              [helper.make_tensor_value_info(op.outputs[0], 0, None)]),
            opset_imports=[helper.make_opsetid("", self.opset)])
        try:
            evaluator = self.onnx.reference.ReferenceEvaluator(model)
            with np.errstate(all="ignore"):
                found, *_ = evaluator.run(None, dict(zip(inputs, known, strict=True)))
        # What that package says of attributes and operands that do not fit.
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"it must be what its constants allow ({_line(error)})") from None
        return np.asarray(found)

    # What operators are read with.

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in the file's layout."""
        return (self.constants[name].shape if name in self.constants
                else self.build[self.values[name]].shape)

    def numbers(self, op: Operation, number: int) -> np.ndarray:
        """Input ``number``, which must be a constant."""
        name = op.inputs[number]
        if name in self.constants:
            return self.constants[name]
        tensor = self.build[self.values[name]]
        if tensor.data is None:
            raise ValueError(f"input {number} must be a constant")
        return floats.real(tensor.data, tensor)

    def integers(self, op: Operation, number: int) -> list[int]:
        """Whole numbers that are input ``number``, a constant."""
        found = self.numbers(op, number)
        if found.dtype.kind not in "iu":
            raise ValueError(f"input {number} must be whole numbers, not {found.dtype}")
        return found.reshape(-1).tolist()

    def real(self, name: str, made: str) -> str:
        """Tensor of a name in the file; of real numbers, as a constant has them."""
        if name not in self.values:
            if not name:
                raise ValueError("an input that it needs must not be left out")
            found = self.constants[name]
            if found.dtype.kind != "f":
                raise ValueError(f"constant {name!r} must be real numbers, not {found.dtype}")
            self.values[name] = self.build.constant(made, found.astype(np.float32))
        return self.values[name]

    def stored(self, op: Operation, number: int) -> Tensor:
        """Input ``number``: real numbers, or int8 with a scale; a constant as it is stored."""
        name = self.real(op.inputs[number], f"{op.name}.{number}")
        tensor = self.build[name]
        if tensor.dtype != "float32" and tensor.quantisation is None:
            raise ValueError(f"input {number} must be real numbers or have a scale, not {tensor}")
        return tensor

    def take(self, op: Operation, number: int) -> Tensor:
        """Input ``number``: real numbers, or int8 with a scale; a constant as real numbers."""
        return self.unpacked(self.stored(op, number))

    def unpacked(self, tensor: Tensor) -> Tensor:
        """The same; a constant as real numbers."""
        if tensor.data is None or tensor.quantisation is None:
            return tensor
        return self.build[self.build.constant(tensor.name, floats.real(tensor.data, tensor))]

    def add(self, op: Operation, kind: str, inputs: Sequence[str], like: Tensor | None = None,
            **attributes: Any) -> str:
        """Name of what a new node makes; of the operator's name, unless it is beside it."""
        name = f"{op.name}.{kind}" if kind in _ASIDE else op.name
        return self.build.add(name, kind, inputs, attributes, like)

    def put(self, op: Operation, name: str) -> None:
        """What the operator makes is tensor ``name``."""
        self.values[op.outputs[0]] = name


def _line(error: Exception) -> str:
    """What an error says, in a line."""
    return " ".join(str(error).split())[:300]
