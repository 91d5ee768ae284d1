"""The parts of a configuration: array, memories, bus, vector unit and control."""

from dataclasses import dataclass

from .checks import check_bool, check_choice, check_int, check_power_of_two
from .formats import BITS, DIGIT_BITS, STRATEGIES

__all__ = ["ArrayConfig", "BusConfig", "ControlConfig", "MemoryConfig", "VectorConfig"]


@dataclass(frozen=True, kw_only=True)
class ArrayConfig:
    """Shape of the weight-stationary multiply array.

    Parameters
    ----------
    rows : int
        R, the K direction: operands multiplied per activation row. 1 to 64.
    cols : int
        C, the N direction: dot products computed side by side. 1 to 64.
    strategy : str
        How elements multiply: ``generic`` (inferred by the synthesiser), ``ecp5`` (MULT18X18D),
        ``ice40`` (SB_MAC16), ``soft`` (LUTs) or ``soft_ecp5`` (LUTs with ECP5's carry cells).
        Results and cycles of commands do not depend on it, but for the array's latency.
    weights : tuple of str
        Weight formats that commands may name: ``int8``, ``int4``, ``ternary``.
    cell : str
        Widest format that an element multiplies at once. Wider ones go digit by digit: int8 in 2
        turns where it is ``int4``, int8 in 8 and int4 in 4 where it is ``ternary``.
    pairs : bool
        Whether elements multiply by two int4 or ternary weights in place of one int8: a tile of
        those has 2C columns.
    fanout : int
        Columns that share one activation register. More of them save skew and deskew registers;
        fewer shorten the wires. 1 to 64.
    gated : bool
        Whether multipliers keep still where an activation is zero or no row is valid, for less
        power; with ``generic`` only. Results and cycles do not depend on it.
    soft_cols : int
        Columns, the last ones, in which LUTs multiply, for more of them than a chip has
        multipliers; with ``ecp5`` and without ``pairs`` only. Results and cycles do not depend on
        it.
    """
    rows: int = 8
    cols: int = 8
    strategy: str = "generic"
    weights: tuple[str, ...] = ("int8",)
    cell: str = "int8"
    pairs: bool = False
    fanout: int = 4
    gated: bool = False
    soft_cols: int = 0

    def __post_init__(self):
        check_int("array.rows", self.rows, 1, 64)
        check_int("array.cols", self.cols, 1, 64)
        check_int("array.fanout", self.fanout, 1, 64)
        check_choice("array.strategy", self.strategy, tuple(STRATEGIES))
        object.__setattr__(self, "weights", tuple(self.weights))
        for weight_format in self.weights:
            check_choice("array.weights", weight_format, tuple(BITS))
        if not self.weights or len(set(self.weights)) < len(self.weights):
            raise ValueError(f"array.weights must be different formats, at least one, not "
                             f"{self.weights!r}")
        check_choice("array.cell", self.cell, tuple(BITS))
        check_bool("array.pairs", self.pairs)
        if self.pairs and (self.cell != "int8" or "int8" not in self.weights
                           or self.weights == ("int8",)):
            raise ValueError(f"array.weights must be int8 and a narrower format, and array.cell "
                             f"int8, where array.pairs is true, not {self.weights!r} and "
                             f"{self.cell!r}")
        cells = STRATEGIES[self.strategy].pairs if self.pairs else STRATEGIES[self.strategy].cells
        if self.cell not in cells:
            way = "pairs of " if self.pairs else ""
            fitting = [name for name, strategy in STRATEGIES.items()
                       if self.cell in (strategy.pairs if self.pairs else strategy.cells)]
            raise ValueError(f"array.strategy must be one of {', '.join(fitting)} for "
                             f"{way}{self.cell} cells, not {self.strategy!r}")
        check_bool("array.gated", self.gated)
        if self.gated and self.strategy != "generic":
            raise ValueError(f"array.strategy must be generic where array.gated is true, not "
                             f"{self.strategy!r}")
        check_int("array.soft_cols", self.soft_cols, 0, self.cols)
        if self.soft_cols and (self.strategy != "ecp5" or self.pairs):
            raise ValueError(f"array.strategy must be ecp5 and array.pairs false where "
                             f"array.soft_cols is not 0, not {self.strategy!r} and {self.pairs!r}")

    def paired(self, weights: str) -> bool:
        """Whether elements multiply by two weights of this format at once."""
        return self.pairs and weights != "int8"

    def columns(self, weights: str) -> int:
        """Columns of a tile of weights of this format: C, or 2C of pairs."""
        return 2 * self.cols if self.paired(weights) else self.cols

    def digits(self, weights: str) -> int:
        """Turns that a tile of weights of this format takes."""
        return -(-BITS[weights] // DIGIT_BITS[self.cell]) if (
            BITS[weights] > BITS[self.cell]) else 1

    @property
    def weight_bits(self) -> int:
        """Bits of a weight, or of a pair, as the array takes it; low digits count from 0."""
        return {"int8": 8, "int4": 4 if self.most_digits == 1 else 5, "ternary": 2}[self.cell]

    @property
    def unpack_latency(self) -> int:
        """Cycles that weights and activations wait in a register on their way to the array."""
        return int(self.weights != (self.cell,))

    @property
    def hard_cols(self) -> int:
        """Columns but the ``soft_cols``."""
        return self.cols - self.soft_cols

    @property
    def multipliers(self) -> int:
        """Elements of the ``hard_cols``."""
        return self.rows * self.hard_cols

    @property
    def most_digits(self) -> int:
        """Turns of the format that takes the most."""
        return max(map(self.digits, self.weights))

    @property
    def sum_cols(self) -> int:
        """Sums side by side: C, or 2C with pairs."""
        return 2 * self.cols if self.pairs else self.cols


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """Scratchpads and accumulator. Every depth is a power of two.

    Parameters
    ----------
    act_rows : int
        Rows of the activation scratchpad (``CoreConfig.act_row_bytes`` bytes each).
    act_banks : int
        Banks by the top address bits; engines in different banks never meet.
    wgt_rows : int
        Rows of the weight scratchpad (C bytes each).
    acc_rows : int
        Rows of the accumulator (C int32 each), over all banks.
    acc_banks : int
        1 or 2, by the top address bit.
    par_rows : int
        Rows of the parameter memory (``lanes`` output channels each).
    par_narrow : bool
        Whether that is a memory of 16-bit words, read one after the other: less block RAM, for
        some registers; with ``control.shared`` only.
    """
    act_rows: int = 1024
    act_banks: int = 4
    wgt_rows: int = 1024
    acc_rows: int = 512
    acc_banks: int = 2
    par_rows: int = 256
    par_narrow: bool = False

    def __post_init__(self):
        check_power_of_two("memory.act_rows", self.act_rows, 16, 1 << 16)
        check_power_of_two("memory.act_banks", self.act_banks, 1, 8)
        check_power_of_two("memory.wgt_rows", self.wgt_rows, 16, 1 << 15)
        check_power_of_two("memory.acc_rows", self.acc_rows, 16, 1 << 15)
        check_power_of_two("memory.acc_banks", self.acc_banks, 1, 2)
        check_power_of_two("memory.par_rows", self.par_rows, 4, 1 << 15)
        check_bool("memory.par_narrow", self.par_narrow)


@dataclass(frozen=True, kw_only=True)
class BusConfig:
    """The bus master that reads and writes system memory.

    Parameters
    ----------
    kind : str
        ``axi4``.
    data_bits : int
        Width of the data channels: 32 to 512, a power of two.
    addr_bits : int
        Width of the bus address: 16 to 64.
    max_burst : int
        Longest burst, in bus words: 1 to 256. Bursts never cross a 4 KB boundary.
    read_words : int
        Bus words of read data that may be under way; space for each is reserved before it is
        asked for. Hides a latency of about this many cycles.
    write_bursts : int
        Write bursts that may wait for their response.
    """
    kind: str = "axi4"
    data_bits: int = 64
    addr_bits: int = 32
    max_burst: int = 16
    read_words: int = 128
    write_bursts: int = 64

    def __post_init__(self):
        check_choice("bus.kind", self.kind, ("axi4",))
        check_power_of_two("bus.data_bits", self.data_bits, 32, 512)
        check_int("bus.addr_bits", self.addr_bits, 16, 64)
        check_power_of_two("bus.max_burst", self.max_burst, 1, 256)
        check_power_of_two("bus.read_words", self.read_words, 2, 1024)
        check_power_of_two("bus.write_bursts", self.write_bursts, 1, 256)
        if self.read_words < self.max_burst:
            raise ValueError(f"bus.read_words must be at least bus.max_burst={self.max_burst}, "
                             f"not {self.read_words!r}")

    @property
    def data_bytes(self) -> int:
        return self.data_bits // 8


@dataclass(frozen=True, kw_only=True)
class VectorConfig:
    """The vector unit; what is left out costs nothing.

    Parameters
    ----------
    lanes : int
        Elements per cycle, a power of two.
    elementwise : bool
        Operands from the activation scratchpad, and folds over loops.
    multiply : bool
        Another multiplier in each lane: products, squares, piecewise linear functions.
    functions : int
        Entries of each lane's function table: 0, 256 or 512.
    rows : int
        Records of the row file that reductions write: 0, or a power of two from 16 to 256.
    requantiser : str
        ``pipelined``, a group of lanes each cycle, or ``serial``, a group every 24 cycles with an
        eighth of the LUTs, for chips without multipliers to spare. Results do not depend on it.
    """
    lanes: int = 4
    elementwise: bool = True
    multiply: bool = True
    functions: int = 512
    rows: int = 256
    requantiser: str = "pipelined"

    def __post_init__(self):
        check_power_of_two("vector.lanes", self.lanes, 1, 64)
        check_bool("vector.elementwise", self.elementwise)
        check_bool("vector.multiply", self.multiply)
        if self.functions:
            check_power_of_two("vector.functions", self.functions, 256, 512)
        if self.rows:
            check_power_of_two("vector.rows", self.rows, 16, 256)
        check_choice("vector.requantiser", self.requantiser, ("pipelined", "serial"))

    @property
    def combines(self) -> bool:
        """Whether there are operations other than additions to the accumulator."""
        return self.elementwise or self.rows > 0

    @property
    def linear(self) -> bool:
        """Whether functions may be piecewise linear."""
        return self.multiply and self.functions > 0


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """Command queues, semaphores, loops and counters.

    Parameters
    ----------
    queue_depth : int
        Commands each engine can hold beside the one it runs, a power of two.
    prefetch : int
        Commands fetched ahead of dispatch, a power of two; with ``shared`` and 1 two words of the
        next one, in registers.
    semaphores : int
        Counting semaphores, 4 bits each, a power of two up to 32.
    params : int
        Parameter registers, a power of two up to 16; register 0 always reads 0.
    execute_loops, load_loops, vector_loops : int
        Nested loops each engine's addresses can walk (stores walk ``load_loops``). Loops beyond
        these must have a count of 1. The outermost execute loop walks column tiles.
    counters : bool
        Busy and stall counters for every engine, beside those of ``traffic``.
    traffic : bool
        Counters of rows and bus words, beside cycles.
    compact : bool
        Whether an engine begins a command only when it has done the one before, keeps it once, and
        walks addresses no wider than memories, and memories have few registers: less area, speed
        and clock. A ring must be no larger than its memory, and a count less than 4096.
    shared : bool
        Whether one sequencer walks the commands of all engines, one piece of work after the other,
        where their queue keeps them, and the bus carries single words: far less area, and cycles
        for each piece. Of the least cores alone: compact, one lane, one format of weights.
    """
    queue_depth: int = 4
    prefetch: int = 4
    semaphores: int = 32
    params: int = 16
    execute_loops: int = 6
    load_loops: int = 3
    vector_loops: int = 4
    counters: bool = True
    traffic: bool = True
    compact: bool = False
    shared: bool = False

    def __post_init__(self):
        check_power_of_two("control.queue_depth", self.queue_depth, 1, 16)
        check_power_of_two("control.prefetch", self.prefetch, 1, 16)
        check_power_of_two("control.semaphores", self.semaphores, 4, 32)
        check_power_of_two("control.params", self.params, 1, 16)
        check_int("control.execute_loops", self.execute_loops, 4, 6)
        check_int("control.load_loops", self.load_loops, 1, 3)
        check_int("control.vector_loops", self.vector_loops, 3, 4)
        check_bool("control.counters", self.counters)
        check_bool("control.traffic", self.traffic)
        check_bool("control.compact", self.compact)
        check_bool("control.shared", self.shared)
