"""Compiled models: steps on the core and on the host, in one file.

A ``.slith`` file of a network has the header of an image; its description says what comes in and
goes out, which steps there are and what each operator takes, and its contents are the images and
constants of those steps one after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig

from ..contents import moved_bytes
from ..device import PAGE_BYTES, Device, ModelDevice
from ..image import Image, Stored, pack_file, unpack_file
from ..layout import aligned
from ..models.evaluate import evaluate
from ..models.graph import Graph
from ..models.store import graph_from, stored_graph
from ..program import decode_program

__all__ = ["CoreStep", "HostStep", "Layer", "Network", "Port"]

KIND = "network"


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output of a network.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Of one run.
    dtype : str
    scale, zero_point : float, int
        What integers stand for: ``scale * (n - zero_point)``; a scale of 0 where they are numbers.
    """
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0

    def taken(self, array: np.ndarray) -> np.ndarray:
        """What the network gets for ``array``: floats become its integers.

        Raises
        ------
        TypeError, ValueError
            Another type or shape.
        """
        array = np.asarray(array)
        if self.scale and array.dtype.kind == "f":
            if not np.isfinite(array).all():
                raise ValueError(f"input {self.name!r} must be finite numbers, not NaN")
            limits = np.iinfo(self.dtype)
            array = np.clip(np.rint(array / self.scale) + self.zero_point, limits.min,
                            limits.max).astype(self.dtype)
        elif self.dtype == "float32" and array.dtype.kind == "f":
            array = array.astype(np.float32)
        if array.dtype != self.dtype:
            raise TypeError(f"input {self.name!r} must be {self.dtype}"
                            f"{' or float' if self.scale else ''}, not {array.dtype}")
        if array.shape[1:] != self.shape[1:] or not array.ndim or len(array) % self.shape[0]:
            raise ValueError(f"input {self.name!r} must be of shape (n * {self.shape[0]}, "
                             f"{', '.join(map(str, self.shape[1:]))}), not {array.shape!r}")
        return array

    def real(self, array: np.ndarray) -> np.ndarray:
        """The numbers that integers stand for."""
        if not self.scale:
            return array
        return ((array.astype(np.float64) - self.zero_point) * self.scale).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operator, as it was compiled.

    Parameters
    ----------
    name, op : str
    shape : tuple of int
        Of what it makes.
    weights : str
        Format of its weights; empty where it has none.
    macs : int
    host : str
        Why it runs on the host; empty on the core.
    cycles : int
        Predicted: from when those done before it have ended to when it has.
    moved_bytes : int
        Between system memory and the core.
    left_out : int
        Multiplications of channels and of tiles whose weights are all zero, which are not done.
    """
    name: str
    op: str
    shape: tuple[int, ...]
    weights: str = ""
    macs: int = 0
    host: str = ""
    cycles: int = 0
    moved_bytes: int = 0
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class CoreStep:
    """A program; ``inputs`` and ``outputs`` are names of tensors."""
    image: Image
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class HostStep:
    """Operators that NumPy does."""
    graph: Graph


@dataclass(frozen=True, kw_only=True, eq=False)
class Network(Stored):
    """A model, compiled for one configuration.

    Parameters
    ----------
    name : str
    config : dict
        The configuration.
    inputs, outputs : tuple of Port
    steps : tuple of CoreStep and HostStep
    layers : tuple of Layer
    """
    name: str
    config: Mapping[str, Any]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    steps: tuple[CoreStep | HostStep, ...]
    layers: tuple[Layer, ...]

    @property
    def images(self) -> list[Image]:
        """Programs, in their order."""
        return [step.image for step in self.steps if isinstance(step, CoreStep)]

    @property
    def memory_bytes(self) -> int:
        """Bytes of system memory that a device needs; whole pages."""
        most = max((image.memory_bytes for image in self.images), default=0)
        return aligned(max(1, most), PAGE_BYTES)

    @property
    def resident_bytes(self) -> int:
        """Bytes of weights that stay in the core from run to run."""
        return sum(moved_bytes(command) for image in self.images
                   for command in decode_program(image.setup))

    @property
    def host_ops(self) -> list[str]:
        """Names of operators that run on the host, but for conversions of inputs and outputs."""
        return [layer.name for layer in self.layers if layer.host and layer.op != "convert"]

    @property
    def cycles(self) -> int:
        """Predicted, of all programs."""
        return sum(layer.cycles for layer in self.layers)

    def __call__(self, *inputs: np.ndarray, device: Device | None = None,
                 integers: bool = False) -> Any:
        """Run the network; arrays hold one or more runs along their first dimension.

        Parameters
        ----------
        inputs : arrays
            Floats, or what the network's inputs are.
        device : Device or None
            None: a ``ModelDevice``.
        integers : bool
            Whether outputs stay what the network makes.

        Returns
        -------
        array, or tuple of arrays where there are several outputs
        """
        if device is None:
            device = ModelDevice(CoreConfig.from_dict(dict(self.config)),
                                 memory_bytes=self.memory_bytes)
        found = self.run(device, *inputs)
        made = tuple(array if integers else port.real(array)
                     for port, array in zip(self.outputs, found, strict=True))
        return made[0] if len(made) == 1 else made

    def run(self, device: Device, *inputs: np.ndarray,
            each: Callable[[], None] | None = None) -> tuple[np.ndarray, ...]:
        """Run on ``device``, run after run; the outputs as they are.

        Parameters
        ----------
        each : callable or None
            Called after each run of a program.

        Raises
        ------
        TypeError, ValueError
            Wrong inputs, or a device of another configuration or with too little memory.
        CoreError
            The core stopped.
        """
        values, count = self.taken(inputs)
        for step in self.steps:
            if isinstance(step, HostStep):
                values |= evaluate(step.graph, {name: values[name] for name in step.graph.inputs})
                continue
            parts = step.image.run_each(device, [
                [values[name].reshape(count, *tensor.shape)[number]
                 for name, tensor in zip(step.inputs, step.image.inputs, strict=True)]
                for number in range(count)], each=each)
            for name, arrays in zip(step.outputs, zip(*parts, strict=True), strict=True):
                values[name] = np.concatenate([array[None] if not array.ndim else array
                                               for array in arrays])
        return tuple(values[port.name] for port in self.outputs)

    def taken(self, inputs: Sequence[np.ndarray]) -> tuple[dict[str, np.ndarray], int]:
        """Inputs by name, as the network takes them, and of how many runs they are.

        Raises
        ------
        TypeError, ValueError
            Wrong inputs.
        """
        if len(inputs) != len(self.inputs):
            raise ValueError(f"inputs must be {len(self.inputs)} arrays, not {len(inputs)!r}")
        values = {port.name: port.taken(array)
                  for port, array in zip(self.inputs, inputs, strict=True)}
        counts = {len(values[port.name]) // port.shape[0] for port in self.inputs}
        if len(counts) != 1 or not min(counts):
            raise ValueError(f"inputs must be for one number of runs, not {sorted(counts)}")
        count, = counts
        return values, count

    # Files.

    def to_bytes(self) -> bytes:
        """The network as one file's contents."""
        steps: list[dict[str, Any]] = []
        contents: list[bytes] = []
        for step in self.steps:
            if isinstance(step, HostStep):
                description, data = stored_graph(step.graph)
                steps.append({"graph": description, "bytes": len(data)})
            else:
                data = step.image.to_bytes()
                steps.append({"inputs": step.inputs, "outputs": step.outputs, "bytes": len(data)})
            contents.append(data)
        return pack_file({"kind": KIND, "name": self.name, "config": dict(self.config),
                          "inputs": [asdict(port) for port in self.inputs],
                          "outputs": [asdict(port) for port in self.outputs],
                          "layers": [asdict(layer) for layer in self.layers], "steps": steps},
                         b"".join(contents))

    @classmethod
    def from_bytes(cls, raw: bytes, *, name: str = "contents") -> "Network":
        """The network that ``to_bytes`` wrote; ``name`` is for messages.

        Raises
        ------
        ValueError
            It is none, of another version, or damaged.
        """
        data, contents = unpack_file(raw, kind=KIND, name=name)
        steps: list[CoreStep | HostStep] = []
        offset = 0
        for step in data["steps"]:
            part = contents[offset:offset + step["bytes"]]
            offset += step["bytes"]
            steps.append(HostStep(graph=graph_from(step["graph"], part)) if "graph" in step else
                         CoreStep(image=Image.from_bytes(part, name=name),
                                  inputs=tuple(step["inputs"]), outputs=tuple(step["outputs"])))
        return cls(name=data["name"], config=data["config"], inputs=_of(Port, data["inputs"]),
                   outputs=_of(Port, data["outputs"]), layers=_of(Layer, data["layers"]),
                   steps=tuple(steps))


def _of(kind: Any, values: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(kind(**{**value, "shape": tuple(value["shape"])}) for value in values)
