"""Rows between system memory and the activation scratchpad."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import Memory

from ..layout import aligned
from ..program import Program, Slot

__all__ = ["Buffer", "Chunk", "Region", "issue", "move", "pitch_of"]

RUN_BYTES = COUNT = (1 << 16) - 1


def pitch_of(cols: int, size: int, config: CoreConfig, *, spread: bool = False) -> int:
    """Scratchpad rows of a row of ``cols`` numbers of ``size`` bytes, whole aligned groups."""
    lanes, width = config.vector.lanes, config.act_row_bytes
    row_bytes = cols * lanes * size if spread else aligned(cols, lanes) * size
    return aligned(-(-row_bytes // width), max(1, size * lanes // width))


@dataclass(frozen=True, kw_only=True)
class Region:
    """Rows of numbers in system memory.

    Parameters
    ----------
    addresses : int array, (rows,)
        First byte of each.
    cols, size : int
        Numbers of a row, and bytes of each.
    dense : bool
        False: all numbers of a row are one, which lies at its address.
    """
    addresses: np.ndarray
    cols: int
    size: int
    dense: bool = True


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """Rows of the activation scratchpad from ``row`` on, ``pitch`` apart.

    Parameters
    ----------
    spread : bool
        Whether each number takes a lane group of its own.
    """
    row: int
    pitch: int
    spread: bool = False


class Chunk(NamedTuple):
    """What appends the loads, the passes and the stores of a chunk."""
    load: Callable[[], None]
    compute: Callable[[], None]
    store: Callable[[], None]


def issue(chunks: Sequence[Chunk], *, copies: int) -> None:
    """Append chunks with so many buffers each.

    With two, loads are issued a chunk ahead of passes and stores a chunk behind, so that full
    queues hold up neither.
    """
    ahead = copies - 1
    for number in range(-ahead, len(chunks) + ahead):
        if number + ahead < len(chunks):
            chunks[number + ahead].load()
        if 0 <= number < len(chunks):
            chunks[number].compute()
        if number - ahead >= 0:
            chunks[number - ahead].store()


def move(program: Program, region: Region, buffer: Buffer, *, store: bool = False,
         wait: str | None = None, post: str | None = None,
         announce: str | None = None) -> None:
    """Append loads (or stores) of all rows of ``region``.

    The first waits for the semaphore ``wait``, and the last raises ``post`` and ``announce``.
    """
    commands = list(_commands(program.config, region, buffer))
    for index, fields in enumerate(commands):
        slot = Slot(wait=wait if index == 0 else None,
                    post=post if index == len(commands) - 1 else None)
        slots = [slot] if slot.wait or slot.post else []
        if announce and index == len(commands) - 1:
            slots.append(Slot(post=announce))
        if store:
            program.store(slots=slots, **fields)
        else:
            program.load(memory=Memory.ACT, slots=slots, **fields)


def _commands(config: CoreConfig, region: Region, buffer: Buffer) -> Iterator[dict]:
    width, loops = config.act_row_bytes, config.control.load_loops
    size, cols = region.size, region.cols
    pitch = buffer.pitch * width
    if buffer.spread or not region.dense:
        apart = size * config.vector.lanes if buffer.spread else size
        for start, rows, stride in _affine(region.addresses):
            if loops == 1:
                for row in range(start, start + rows):
                    yield {"address": int(region.addresses[row]), "run_bytes": size,
                           "row": buffer.row + row * buffer.pitch, "counts": [cols],
                           "strides": [size * region.dense], "byte_strides": [apart]}
            else:
                yield {"address": int(region.addresses[start]), "run_bytes": size,
                       "row": buffer.row + start * buffer.pitch, "counts": [cols, rows],
                       "strides": [size * region.dense, stride], "byte_strides": [apart, pitch]}
        return
    row_bytes, most = cols * size, RUN_BYTES // width * width
    for start, rows, stride in _affine(region.addresses):
        address, row = int(region.addresses[start]), buffer.row + start * buffer.pitch
        if stride == row_bytes == pitch or rows == 1 or row_bytes > most:
            # Whole rows that follow each other on both sides are one run, and long runs are cut.
            pieces = 1 if stride == row_bytes == pitch else rows
            length = row_bytes * (rows // pieces)
            for piece in range(pieces):
                for offset in range(0, length, most):
                    yield {"address": address + piece * stride + offset,
                           "row": row + piece * buffer.pitch + offset // width,
                           "run_bytes": min(most, length - offset), "row_bytes": width}
            continue
        yield {"address": address, "row": row, "run_bytes": row_bytes, "row_bytes": width,
               "counts": [rows], "strides": [stride], "row_strides": [buffer.pitch]}


def _affine(addresses: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """First row, rows and stride of each longest stretch of equally spaced addresses."""
    start = 0
    while start < len(addresses):
        steps = np.diff(addresses[start:start + COUNT])
        stride = int(steps[0]) if len(steps) else 0
        change = np.flatnonzero(steps != stride)
        rows = int(change[0]) + 1 if len(change) else len(steps) + 1
        yield start, rows, stride
        start += rows
