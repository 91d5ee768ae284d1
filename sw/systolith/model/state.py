"""Memories, semaphores and counters of the modelled core."""

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ErrorCode, Memory

from ..errors import CoreError
from .address import ADDRESS_MASK, wrap

__all__ = ["CopiesDiffer", "CoreState", "Scratchpad"]

SEMAPHORE_LIMIT = 15
ROW = np.dtype([("value", "i4"), ("position", "i4"), ("sum", "i4"), ("multiplier", "i4"),
                ("shift", "i1")])


class CopiesDiffer(Exception):
    """Copies of a core load other weights, parameters or tables, which they have together."""


class Scratchpad:
    """Rows of bytes, addressed as ``row * pitch + byte``.

    Parameters
    ----------
    rows, row_bytes : int
    pitch : int
        Distance between rows in byte addresses, a power of two.
    copies : int

    Members
    -------
    every : uint8 array, (copies, rows, row_bytes)
    data : uint8 array, (rows, row_bytes)
        The first copy.
    """
    def __init__(self, *, rows: int, row_bytes: int, pitch: int, copies: int = 1):
        self.rows = rows
        self.row_bytes = row_bytes
        self.pitch_bits = pitch.bit_length() - 1
        self.every = np.zeros((copies, rows, row_bytes), np.uint8)
        self.data = self.every[0]

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
        """Write ``data`` (copies, runs, run bytes) to the places ``run_rows`` gave.

        Raises
        ------
        CopiesDiffer
            There are fewer copies here, and the data are not the same.
        """
        data = self._own(data)
        copies, _, run_bytes = data.shape
        first = int(first_bytes[0])
        if run_bytes % row_bytes == 0 and (len(first_bytes) == 1 or (first_bytes == first).all()):
            self.every[:, rows.reshape(-1), first:first + row_bytes] = data.reshape(
                copies, -1, row_bytes)
        else:
            self.every.reshape(len(self.every), -1)[
                :, self._places(rows, first_bytes, row_bytes, run_bytes)] = data

    def _own(self, data: np.ndarray) -> np.ndarray:
        if len(data) > len(self.every) == 1:
            if not (data == data[:1]).all():
                raise CopiesDiffer
            return data[:1]
        return data

    def read(self, rows: np.ndarray, first_bytes: np.ndarray, row_bytes: int,
             run_bytes: int) -> np.ndarray:
        """Bytes (copies, runs, run bytes) from the places ``run_rows`` gave."""
        return self.every.reshape(len(self.every), -1)[
            :, self._places(rows, first_bytes, row_bytes, run_bytes)]

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
        data = self._own(data)[0]
        written = np.zeros(self.data.shape, bool)
        places = self._places(rows, first_bytes, row_bytes, data.shape[1])
        self.data.reshape(-1)[places] = data
        written.reshape(-1)[places] = True
        size = self.entries.shape[2]
        row, byte = np.nonzero(written[len(self.entries):, :size])
        self.entries[row, :, byte] = self.data[len(self.entries) + row, byte][:, None]


class CoreState:
    """Everything the engines share, of one core or of copies that run one program side by side.

    Parameters
    ----------
    memory : uint8 array, (window bytes,) or (copies, window bytes)
        System memory, from the window's first byte.

    Members
    -------
    memories : uint8 array, (copies, window bytes)
    pads : dict of Memory to Scratchpad
        Weights, parameters and tables are one for all copies.
    accs : int32 array, (copies, acc_rows, columns)
        Accumulators; C columns rounded up to whole lane groups, those beyond C always 0.
    records : array of ``ROW``, (copies, vector.rows)
        The vector unit's row file.
    memory, act, acc, rows
        Of the first copy.
    semaphores : list of int
    counters : dict of str to int
    """
    def __init__(self, config: CoreConfig, memory: np.ndarray):
        self.config = config
        self.memories = np.atleast_2d(memory)
        self.memory = self.memories[0]
        self.copies = copies = len(self.memories)
        sizes = config.memory
        self.pads = {
            Memory.ACT: Scratchpad(rows=sizes.act_rows, row_bytes=config.act_row_bytes,
                                   pitch=config.act_row_bytes, copies=copies),
            Memory.WGT: Scratchpad(rows=sizes.wgt_rows, row_bytes=config.wgt_row_bytes,
                                   pitch=config.wgt_row_pitch),
            Memory.PAR: Scratchpad(rows=sizes.par_rows, row_bytes=config.par_row_bytes,
                                   pitch=config.par_row_pitch),
        }
        if config.vector.functions:
            self.pads[Memory.FUN] = self.tables = Tables(config)
        self.acts = self.pads[Memory.ACT].every.view(np.int8)
        self.act = self.acts[0]
        self.wgt = self.pads[Memory.WGT].data.view(np.int8)
        self.par = self.pads[Memory.PAR].data
        self.records = np.zeros((copies, config.vector.rows), ROW)
        self.rows = self.records[0]
        columns = config.acc_group_pitch * config.vector.lanes
        self.accs = np.zeros((copies, sizes.acc_rows, columns), np.int32)
        self.acc = self.accs[0]
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
        """Writeable view whose ``[copy, a]`` is memories[copy, a : a + run_bytes]."""
        view = self._windows.get(run_bytes)
        if view is None:
            view = np.lib.stride_tricks.sliding_window_view(self.memories, run_bytes, axis=1,
                                                               writeable=True)
            self._windows[run_bytes] = view
        return view
