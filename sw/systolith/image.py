"""Compiled programs with their memory contents, in one file.

A ``.slith`` file is a 32-byte header (``SLITH``, format version, lengths, checksum), a JSON
description, and the bytes of every memory segment one after the other. It needs no NumPy to read.
"""

import json
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np

from .device import PAGE_BYTES, Device, ModelDevice
from .layout import aligned
from .model.state import CopiesDiffer

__all__ = ["Image", "Segment", "Stored", "Tensor", "pack_file", "unpack_file"]

MAGIC = b"SLITH\r\n\x1a"
VERSION = 4
KIND = "image"     # of what a file holds
COPIES = 64         # of the model that run side by side, at most,
COPIED_BYTES = 1 << 26  # and their system memory
HEADER = struct.Struct("<8sIIQQ")  # magic, version, CRC-32 of the rest, description, contents
DTYPES = {"int8": np.dtype("<i1"), "int16": np.dtype("<i2"), "int32": np.dtype("<i4")}


def pack_file(description: Mapping[str, Any], contents: bytes) -> bytes:
    """A ``.slith`` file: header, description, contents."""
    text = json.dumps(description, sort_keys=True).encode()
    body = text + contents
    return HEADER.pack(MAGIC, VERSION, zlib.crc32(body), len(text), len(contents)) + body


def unpack_file(raw: bytes, *, kind: str | None, name: str) -> tuple[dict[str, Any], bytes]:
    """Description and contents of a ``.slith`` file.

    Parameters
    ----------
    kind : str or None
        What it must hold; None: anything.
    name : str
        For messages.

    Raises
    ------
    ValueError
        It is no such file, of another version or kind, or damaged.
    """
    if len(raw) < HEADER.size or raw[:len(MAGIC)] != MAGIC:
        raise ValueError(f"image must start with the header of a .slith file, "
                         f"not {raw[:len(MAGIC)]!r} as {name} does")
    _, version, checksum, description_bytes, content_bytes = HEADER.unpack_from(raw)
    body = raw[HEADER.size:]
    if version != VERSION:
        raise ValueError(f"version of image {name} must be {VERSION}, not {version!r}")
    if len(body) != description_bytes + content_bytes:
        raise ValueError(f"length of image {name} must be "
                         f"{HEADER.size + description_bytes + content_bytes} bytes, "
                         f"not {len(raw)!r}")
    if zlib.crc32(body) != checksum:
        raise ValueError(f"checksum of image {name} must be {checksum:#010x}, "
                         f"not {zlib.crc32(body):#010x}")
    data = json.loads(body[:description_bytes])
    if kind is not None and data["kind"] != kind:
        raise ValueError(f"{name} must hold a {kind}, not a {data['kind']}")
    return data, body[description_bytes:]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output in system memory.

    Parameters
    ----------
    name : str
    address : int
        First byte.
    shape : tuple of int
    dtype : str
        ``int8``, ``int16`` or ``int32``, little-endian.
    strides : tuple of int
        Bytes from one element to the next in each dimension; the last is the element's size.
    panel : int
        0, or in place of strides: the rows of a matrix are cut into panels of so many, one after
        the other in memory, and each panel (the last has what is left) is transposed and dense.
    gap : int
        Byte between rows that do not follow each other.
    """
    name: str
    address: int
    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...] = ()
    panel: int = 0
    gap: int = 0

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")
        if len(self.strides) != (0 if self.panel else len(self.shape)):
            raise ValueError(f"strides must be one for each dimension, or none where panel is "
                             f"given, not {self.strides!r}")
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "strides", tuple(self.strides))

    @property
    def byte_count(self) -> int:
        """Bytes from the first element to the end of the last."""
        item = DTYPES[self.dtype].itemsize
        if self.panel:
            return item * prod(self.shape)
        return item + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))

    def to_bytes(self, array: np.ndarray) -> bytes:
        """The bytes that ``array`` is in memory; between rows there is ``gap``.

        Raises
        ------
        TypeError, ValueError
            Another dtype or shape.
        """
        array = np.asarray(array)
        if array.dtype != DTYPES[self.dtype]:
            raise TypeError(f"{self.name} must be of dtype {self.dtype}, "
                            f"not {array.dtype.name!r}")
        if array.shape != self.shape:
            raise ValueError(f"{self.name} must have shape {self.shape}, not {array.shape!r}")
        if self.panel:
            return b"".join(array[start:start + self.panel].T.tobytes()
                            for start in range(0, len(array), self.panel))
        raw = np.full(self.byte_count, self.gap & 0xff, np.uint8)
        self._view(raw)[...] = array
        return raw.tobytes()

    def from_bytes(self, raw: np.ndarray) -> np.ndarray:
        """The array that ``byte_count`` bytes of memory are."""
        raw = np.ascontiguousarray(raw)
        if not self.panel:
            return self._view(raw).copy()
        flat, (rows, cols) = raw.view(DTYPES[self.dtype]), self.shape
        return np.concatenate([
            flat[start * cols:(start + self.panel) * cols].reshape(cols, -1).T
            for start in range(0, rows, self.panel)])

    def _view(self, raw: np.ndarray) -> np.ndarray:
        return np.ndarray(self.shape, DTYPES[self.dtype], raw.data, 0, self.strides)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Bytes that must be in memory before the program starts."""
    address: int
    data: bytes


class Stored(ABC):
    """What a ``.slith`` file holds."""
    @abstractmethod
    def to_bytes(self) -> bytes:
        """A file's contents."""

    @classmethod
    @abstractmethod
    def from_bytes(cls, raw: bytes, *, name: str = "contents") -> Self:
        """What ``to_bytes`` wrote; ``name`` is for messages.

        Raises
        ------
        ValueError
            It is none, of another version, or damaged.
        """

    def save(self, path: str | Path) -> None:
        """Write it to a file."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read it from a file; errors as ``from_bytes``."""
        return cls.from_bytes(Path(path).read_bytes(), name=str(path))


@dataclass(frozen=True, kw_only=True)
class Image(Stored):
    """A program, what must be in memory, and where inputs and outputs are.

    Parameters
    ----------
    fingerprint : int
        Of the configuration it was compiled for.
    memory_bytes : int
        System memory that it uses, from the window's first byte.
    program_address, commands : int
    segments : tuple of Segment
        Programs, weights and parameters.
    inputs, outputs : tuple of Tensor
    setup_address, setup_commands : int
        A program that loads what stays in the core from run to run; 0 commands where nothing does.
    """
    fingerprint: int
    memory_bytes: int
    program_address: int
    commands: int
    segments: tuple[Segment, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    setup_address: int = 0
    setup_commands: int = 0

    def to_bytes(self) -> bytes:
        """The image as one file's contents."""
        return pack_file({
            "kind": KIND,
            "fingerprint": f"{self.fingerprint:016x}", "memory_bytes": self.memory_bytes,
            "program_address": self.program_address, "commands": self.commands,
            "setup_address": self.setup_address, "setup_commands": self.setup_commands,
            "segments": [[s.address, len(s.data)] for s in self.segments],
            "inputs": [asdict(t) for t in self.inputs],
            "outputs": [asdict(t) for t in self.outputs],
        }, b"".join(s.data for s in self.segments))

    @classmethod
    def from_bytes(cls, raw: bytes, *, name: str = "contents") -> "Image":
        """The image that ``to_bytes`` wrote; ``name`` is for messages."""
        data, contents = unpack_file(raw, kind=KIND, name=name)
        segments, offset = [], 0
        for address, length in data["segments"]:
            segments.append(Segment(address=address, data=contents[offset:offset + length]))
            offset += length
        return cls(fingerprint=int(data["fingerprint"], 16), memory_bytes=data["memory_bytes"],
                   program_address=data["program_address"], commands=data["commands"],
                   setup_address=data["setup_address"], setup_commands=data["setup_commands"],
                   segments=tuple(segments), inputs=tuple(Tensor(**t) for t in data["inputs"]),
                   outputs=tuple(Tensor(**t) for t in data["outputs"]))

    @property
    def orientation(self) -> str:
        """Which operand streams: ``"plain"``, the activations, or ``"swapped"``, the weights."""
        return "swapped" if self.inputs[0].panel else "plain"

    @property
    def program(self) -> bytes:
        """The commands."""
        return self._segment(self.program_address)

    @property
    def setup(self) -> bytes:
        """The commands that load what stays in the core; none where nothing does."""
        return self._segment(self.setup_address) if self.setup_commands else b""

    def _segment(self, address: int) -> bytes:
        return next(s.data for s in self.segments if s.address == address)

    def install(self, device: Device) -> None:
        """Write programs, weights and parameters to the memory of ``device``, and load what stays
        in its core, where it is until another image's program runs.

        Raises
        ------
        ValueError
            The device has another configuration, or too little memory.
        CoreError
            The core stopped.
        """
        self.write(device)
        if self.setup_commands:
            device.run(self.setup_address, self.setup_commands)

    def write(self, device: Device) -> None:
        """Write programs, weights and parameters to the memory of ``device``.

        Raises
        ------
        ValueError
            The device has another configuration, or too little memory.
        """
        if device.config.fingerprint != self.fingerprint:
            raise ValueError(f"fingerprint of the image must be {device.config.fingerprint:#018x}, "
                             f"that of configuration {device.config.name}, "
                             f"not {self.fingerprint:#018x}")
        if device.memory_bytes < self.memory_bytes:
            raise ValueError(f"memory_bytes of the device must be at least {self.memory_bytes} "
                             f"for this image, not {device.memory_bytes!r}")
        for segment in self.segments:
            device.write(segment.address, segment.data)

    def run(self, device: Device, *inputs: np.ndarray, install: bool = True,
            params: Mapping[int, int] | None = None) -> tuple[np.ndarray, ...]:
        """Run on ``device`` and return the outputs.

        Parameters
        ----------
        inputs : arrays
            In the order of ``self.inputs``.
        install : bool
            False where ``install`` was called before, and nothing else since.
        params : mapping of int to int
            Parameter registers to set.

        Raises
        ------
        TypeError, ValueError
            Wrong inputs, or a device of another configuration or with too little memory.
        CoreError
            The core stopped.
        """
        contents = self._contents(inputs)
        if install:
            self.install(device)
        for tensor, data in zip(self.inputs, contents, strict=True):
            device.write(tensor.address, data)
        device.run(self.program_address, self.commands, params=params)
        return tuple(t.from_bytes(device.read(t.address, t.byte_count)) for t in self.outputs)

    def run_each(self, device: Device, runs: Sequence[Sequence[np.ndarray]], *,
                 each: Callable[[], None] | None = None) -> list[tuple[np.ndarray, ...]]:
        """Run with one set of inputs after the other, none of which sees what another left; on the
        model side by side, as long as they load the same weights. Otherwise as ``run``.

        Parameters
        ----------
        runs : sequence of sequence of arrays
        each : callable or None
            Called after each run.
        """
        if type(device) is ModelDevice and len(runs) > 1:
            most = max(1, min(COPIES, COPIED_BYTES // self.memory_bytes))
            try:
                return [made for start in range(0, len(runs), most) for made in self._side_by_side(
                    device, runs[start:start + most], each)]
            except CopiesDiffer:
                pass
        made = []
        for number, inputs in enumerate(runs):
            made.append(self.run(device, *inputs, install=number == 0))
            if each is not None:
                each()
        return made

    def _side_by_side(self, device: ModelDevice, runs: Sequence[Sequence[np.ndarray]],
                      each: Callable[[], None] | None) -> list[tuple[np.ndarray, ...]]:
        contents = [self._contents(inputs) for inputs in runs]
        copies = ModelDevice(device.config, memory_bytes=aligned(self.memory_bytes, PAGE_BYTES),
                             order=device.model.order, copies=len(runs))
        self.install(copies)
        for memory, data in zip(copies.memories, contents, strict=True):
            for tensor, raw in zip(self.inputs, data, strict=True):
                memory[tensor.address:tensor.address + len(raw)] = np.frombuffer(raw, np.uint8)
        copies.run(self.program_address, self.commands)
        device.model.state.counters = copies.counters()
        made = []
        for memory in copies.memories:
            made.append(tuple(t.from_bytes(memory[t.address:t.address + t.byte_count])
                              for t in self.outputs))
            if each is not None:
                each()
        return made

    def _contents(self, inputs: Sequence[np.ndarray]) -> list[bytes]:
        if len(inputs) != len(self.inputs):
            raise ValueError(f"inputs must be {len(self.inputs)} arrays, not {len(inputs)!r}")
        return [t.to_bytes(array) for t, array in zip(self.inputs, inputs, strict=True)]
