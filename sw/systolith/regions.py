"""Regions of system memory, handed out one after the other."""

from collections.abc import Sequence
from math import prod

from .image import DTYPES, Image, Segment, Tensor
from .layout import aligned
from .program import Program

__all__ = ["Regions"]

REGION_BYTES = 64   # every region of memory starts at a multiple


class Regions:
    """Regions of system memory, and what must be in them."""
    def __init__(self):
        self.end = 0
        self.segments: list[Segment] = []

    def take(self, count: int) -> int:
        """First byte of a new region."""
        start = self.end
        self.end = aligned(start + count, REGION_BYTES)
        return start

    def keep(self, data: bytes) -> int:
        """First byte of a new region that holds ``data``."""
        address = self.take(len(data))
        if data:
            self.segments.append(Segment(address=address, data=data))
        return address

    def tensor(self, name: str, shape: Sequence[int], dtype: str) -> Tensor:
        """A dense array."""
        item = DTYPES[dtype].itemsize
        strides = [item * prod(shape[axis + 1:]) for axis in range(len(shape))]
        return Tensor(name=name, address=self.take(item * prod(shape)), shape=tuple(shape),
                      dtype=dtype, strides=tuple(strides))

    def image(self, program: Program, inputs: Sequence[Tensor], outputs: Sequence[Tensor], *,
              setup: Program | None = None) -> Image:
        """The image of a complete program, and of what runs once before it."""
        address = self.keep(program.encode())
        once = {"setup_address": self.keep(setup.encode()),
                "setup_commands": len(setup.records)} if setup else {}
        return Image(fingerprint=program.config.fingerprint, memory_bytes=self.end,
                     program_address=address, commands=len(program.records), **once,
                     segments=tuple(self.segments), inputs=tuple(inputs), outputs=tuple(outputs))
