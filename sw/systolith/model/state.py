"""Memories, semaphores and counters of the modelled core."""

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ErrorCode, Memory

from ..errors import CoreError
from .address import ADDRESS_MASK, wrap

__all__ = ["CoreState", "Scratchpad"]

SEMAPHORE_LIMIT = 15
ROW = np.dtype([("value", "i4"), ("position", "i4"), ("sum", "i4"), ("multiplier", "i4"),
                ("shift", "i1")])


class Scratchpad:
    """Rows of bytes, addressed as ``row * pitch + byte``.

    Parameters
    ----------
    rows, row_bytes : int
    pitch : int
        Distance between rows in byte addresses, a power of two.
    """
    def __init__(self, *, rows: int, row_bytes: int, pitch: int):
        self.rows = rows
        self.row_bytes = row_bytes
        self.pitch_bits = pitch.bit_length() - 1
        self.data = np.zeros((rows, row_bytes), np.uint8)

    def run_rows(self, addresses: np.ndarray, *, base: int, ring: int, run_bytes: int,
                 row_bytes: int, row_step: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Rows (runs, rows of a run) and first bytes (runs,) of runs; None where one is outside."""
        addresses = addresses & ADDRESS_MASK
        first_bytes = addresses & ((1 << self.pitch_bits) - 1)
        first_rows = addresses >> self.pitch_bits
        row_count = -(-run_bytes // row_bytes)
        rows = first_rows[:, None] + row_step * np.arange(row_count, dtype=np.int64)
        rows = wrap(rows & (ADDRESS_MASK >> self.pitch_bits), base >> self.pitch_bits, ring)
        if rows.max() >= self.rows or first_bytes.max() + row_bytes > self.row_bytes:
            return None
        return rows, first_bytes

    def write(self, rows: np.ndarray, first_bytes: np.ndarray, row_bytes: int,
              data: np.ndarray) -> None:
        """Write ``data`` (runs, run bytes) to the places ``run_rows`` gave."""
        run_bytes = data.shape[1]
        first = int(first_bytes[0])
        if run_bytes % row_bytes == 0 and (len(first_bytes) == 1 or (first_bytes == first).all()):
            self.data[rows.reshape(-1), first:first + row_bytes] = data.reshape(-1, row_bytes)
        else:
            self.data.reshape(-1)[self._places(rows, first_bytes, row_bytes, run_bytes)] = data

    def read(self, rows: np.ndarray, first_bytes: np.ndarray, row_bytes: int,
             run_bytes: int) -> np.ndarray:
        """Bytes (runs, run bytes) from the places ``run_rows`` gave."""
        return self.data.reshape(-1)[self._places(rows, first_bytes, row_bytes, run_bytes)]

    def _places(self, rows: np.ndarray, first_bytes: np.ndarray, row_bytes: int,
                run_bytes: int) -> np.ndarray:
        places = ((rows * self.row_bytes + first_bytes[:, None])[:, :, None]
                  + np.arange(row_bytes, dtype=np.int64))
        return places.reshape(len(rows), -1)[:, :run_bytes]


class Tables(Scratchpad):
    """Function tables; in the upper half of the rows, what is written to the first lane goes to
    every lane, and what is written beside it nowhere.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    entries : uint8 array, (functions, lanes, bytes of an entry)
    """
    def __init__(self, config: CoreConfig):
        unit = config.vector
        super().__init__(rows=2 * unit.functions, row_bytes=config.fun_row_bytes,
                         pitch=config.fun_row_bytes)
        self.entries = self.data[:unit.functions].reshape(unit.functions, unit.lanes, -1)

    def write(self, rows: np.ndarray, first_bytes: np.ndarray, row_bytes: int,
              data: np.ndarray) -> None:
        written = np.zeros(self.data.shape, bool)
        places = self._places(rows, first_bytes, row_bytes, data.shape[1])
        self.data.reshape(-1)[places] = data
        written.reshape(-1)[places] = True
        size = self.entries.shape[2]
        row, byte = np.nonzero(written[len(self.entries):, :size])
        self.entries[row, :, byte] = self.data[len(self.entries) + row, byte][:, None]


class CoreState:
    """Everything the engines share.

    Members
    -------
    memory : uint8 array, (window bytes,)
        System memory, from the window's first byte.
    pads : dict of Memory to Scratchpad
    acc : int32 array, (acc_rows, columns)
        Accumulator; C columns rounded up to whole lane groups, those beyond C always 0.
    rows : array of ``ROW``, (vector.rows,)
        The vector unit's row file.
    semaphores : list of int
    counters : dict of str to int
    """
    def __init__(self, config: CoreConfig, memory: np.ndarray):
        self.config = config
        self.memory = memory
        sizes = config.memory
        self.pads = {
            Memory.ACT: Scratchpad(rows=sizes.act_rows, row_bytes=config.act_row_bytes,
                                   pitch=config.act_row_bytes),
            Memory.WGT: Scratchpad(rows=sizes.wgt_rows, row_bytes=config.wgt_row_bytes,
                                   pitch=config.wgt_row_pitch),
            Memory.PAR: Scratchpad(rows=sizes.par_rows, row_bytes=config.par_row_bytes,
                                   pitch=config.par_row_pitch),
        }
        if config.vector.functions:
            self.pads[Memory.FUN] = self.tables = Tables(config)
        self.act = self.pads[Memory.ACT].data.view(np.int8)
        self.wgt = self.pads[Memory.WGT].data.view(np.int8)
        self.par = self.pads[Memory.PAR].data
        self.rows = np.zeros(config.vector.rows, ROW)
        columns = config.acc_group_pitch * config.vector.lanes
        self.acc = np.zeros((sizes.acc_rows, columns), np.int32)
        self._windows: dict[int, np.ndarray] = {}
        self.interrupt = False
        self.reset()

    def reset(self) -> None:
        """What a start clears: semaphores, interrupt and counters, but no memory."""
        self.semaphores = [0] * self.config.control.semaphores
        self.counters = {"rows": 0, "load_words": 0, "store_words": 0, "fetch_words": 0}
        self.interrupt = False

    def raise_semaphore(self, number: int, times: int, index: int) -> None:
        """Raise a semaphore; an error of command ``index`` beyond 15."""
        self.semaphores[number] += times
        if self.semaphores[number] > SEMAPHORE_LIMIT:
            raise CoreError(ErrorCode.SEMAPHORE_OVERFLOW, index)

    def memory_runs(self, addresses: np.ndarray, run_bytes: int, index: int) -> np.ndarray:
        """Checked addresses of runs, inside the window."""
        addresses = addresses & ADDRESS_MASK
        if addresses.max() + run_bytes > len(self.memory):
            raise CoreError(ErrorCode.MEMORY_ADDRESS, index)
        return addresses

    def words(self, addresses: np.ndarray, run_bytes: int) -> int:
        """Bus words that runs touch."""
        size = self.config.bus.data_bytes
        return int(((addresses + run_bytes - 1) // size - addresses // size + 1).sum())

    def window(self, run_bytes: int) -> np.ndarray:
        """Writeable view whose row ``a`` is memory[a : a + run_bytes]."""
        view = self._windows.get(run_bytes)
        if view is None:
            view = np.lib.stride_tricks.sliding_window_view(self.memory, run_bytes, writeable=True)
            self._windows[run_bytes] = view
        return view
