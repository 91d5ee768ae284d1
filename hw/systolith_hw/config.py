"""The one configuration that hardware, compiler, model and simulation are derived from."""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from .checks import check_bool, check_choice, check_int, check_power_of_two

__all__ = [
    "COMMAND_VERSION", "PRESETS", "ArrayConfig", "BusConfig", "ControlConfig", "CoreConfig",
    "MemoryConfig", "VectorConfig",
]

COMMAND_VERSION = 2
STRATEGIES = ("generic",)
WEIGHT_FORMATS = ("int8",)


def _power_of_two_from(value: int) -> int:
    """Smallest power of two that is at least ``value``."""
    return 1 << (value - 1).bit_length()


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
        How one element multiplies: ``generic`` (inferred by the synthesiser).
    weights : tuple of str
        Weight formats the core takes: ``int8``.
    fanout : int
        Columns that share one activation register. More of them save skew and deskew registers;
        fewer shorten the wires. 1 to 64.
    """
    rows: int = 8
    cols: int = 8
    strategy: str = "generic"
    weights: tuple[str, ...] = ("int8",)
    fanout: int = 4

    def __post_init__(self):
        check_int("array.rows", self.rows, 1, 64)
        check_int("array.cols", self.cols, 1, 64)
        check_int("array.fanout", self.fanout, 1, 64)
        check_choice("array.strategy", self.strategy, STRATEGIES)
        object.__setattr__(self, "weights", tuple(self.weights))
        for weight_format in self.weights:
            check_choice("array.weights", weight_format, WEIGHT_FORMATS)
        if "int8" not in self.weights:
            raise ValueError(f"array.weights must contain int8, not {self.weights!r}")


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
    """
    act_rows: int = 1024
    act_banks: int = 4
    wgt_rows: int = 1024
    acc_rows: int = 512
    acc_banks: int = 2
    par_rows: int = 256

    def __post_init__(self):
        check_power_of_two("memory.act_rows", self.act_rows, 16, 1 << 16)
        check_power_of_two("memory.act_banks", self.act_banks, 1, 8)
        check_power_of_two("memory.wgt_rows", self.wgt_rows, 16, 1 << 15)
        check_power_of_two("memory.acc_rows", self.acc_rows, 16, 1 << 15)
        check_power_of_two("memory.acc_banks", self.acc_banks, 1, 2)
        check_power_of_two("memory.par_rows", self.par_rows, 4, 1 << 15)


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
    """
    lanes: int = 4
    elementwise: bool = True
    multiply: bool = True
    functions: int = 512
    rows: int = 256

    def __post_init__(self):
        check_power_of_two("vector.lanes", self.lanes, 1, 64)
        check_bool("vector.elementwise", self.elementwise)
        check_bool("vector.multiply", self.multiply)
        if self.functions:
            check_power_of_two("vector.functions", self.functions, 256, 512)
        if self.rows:
            check_power_of_two("vector.rows", self.rows, 16, 256)

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
        Commands fetched ahead of dispatch, a power of two.
    semaphores : int
        Counting semaphores, 4 bits each, a power of two up to 32.
    params : int
        Parameter registers, a power of two up to 16; register 0 always reads 0.
    execute_loops, load_loops, vector_loops : int
        Nested loops each engine's addresses can walk (stores walk ``load_loops``). Loops beyond
        these must have a count of 1. The outermost execute loop walks column tiles.
    counters : bool
        Busy and stall counters for every engine, beside cycles, rows and bus words.
    """
    queue_depth: int = 4
    prefetch: int = 4
    semaphores: int = 32
    params: int = 16
    execute_loops: int = 6
    load_loops: int = 3
    vector_loops: int = 4
    counters: bool = True

    def __post_init__(self):
        check_power_of_two("control.queue_depth", self.queue_depth, 1, 16)
        check_power_of_two("control.prefetch", self.prefetch, 1, 16)
        check_power_of_two("control.semaphores", self.semaphores, 4, 32)
        check_power_of_two("control.params", self.params, 2, 16)
        check_int("control.execute_loops", self.execute_loops, 4, 6)
        check_int("control.load_loops", self.load_loops, 1, 3)
        check_int("control.vector_loops", self.vector_loops, 3, 4)
        check_bool("control.counters", self.counters)


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """One accelerator, complete.

    Parameters
    ----------
    name : str
        Name of the emitted top-level module; an identifier in lower case.
    array, memory, bus, vector, control
        The parts' configurations.

    Raises
    ------
    TypeError, ValueError
        A field of the wrong kind, out of range, or at odds with another one.
    """
    name: str = "systolith"
    array: ArrayConfig = field(default_factory=ArrayConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    bus: BusConfig = field(default_factory=BusConfig)
    vector: VectorConfig = field(default_factory=VectorConfig)
    control: ControlConfig = field(default_factory=ControlConfig)

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, not {self.name!r}")
        if not (self.name.isidentifier() and self.name.isascii() and self.name.islower()):
            raise ValueError(f"name must be a lower-case identifier, not {self.name!r}")
        if self.vector.lanes > self.act_row_bytes:
            raise ValueError(f"vector.lanes must be at most the {self.act_row_bytes} bytes of an "
                             f"activation row, not {self.vector.lanes!r}")
        if self.vector.lanes > _power_of_two_from(self.array.cols):
            raise ValueError(f"vector.lanes must be at most {_power_of_two_from(self.array.cols)} "
                             f"for array.cols={self.array.cols}, not {self.vector.lanes!r}")
        if self.memory.act_rows // self.memory.act_banks < 4:
            raise ValueError(f"memory.act_banks must leave at least 4 rows in each bank, "
                             f"not {self.memory.act_banks!r}")
        if self.act_groups > 1 << 16:
            raise ValueError(f"memory.act_rows must be at most "
                             f"{(1 << 16) * self.vector.lanes // self.act_row_bytes} for "
                             f"vector.lanes={self.vector.lanes}, not {self.memory.act_rows!r}")
        if self.acc_groups > 1 << 16:
            raise ValueError(f"memory.acc_rows must be at most "
                             f"{(1 << 16) // self.acc_group_pitch} for "
                             f"vector.lanes={self.vector.lanes}, not {self.memory.acc_rows!r}")

    # Sizes everything else is derived from.

    @property
    def act_row_bytes(self) -> int:
        """Bytes of an activation row: R and at least 4, rounded up to a power of two."""
        return _power_of_two_from(max(self.array.rows, 4))

    @property
    def wgt_row_bytes(self) -> int:
        """Bytes of a weight row: C."""
        return self.array.cols

    @property
    def wgt_row_pitch(self) -> int:
        """Distance between weight rows in scratchpad byte addresses, a power of two."""
        return _power_of_two_from(self.wgt_row_bytes)

    @property
    def par_row_bytes(self) -> int:
        """Bytes of a parameter row: 12 for each lane (bias, multiplier, shift)."""
        return 12 * self.vector.lanes

    @property
    def par_row_pitch(self) -> int:
        """Distance between parameter rows in scratchpad byte addresses, a power of two."""
        return _power_of_two_from(self.par_row_bytes)

    @property
    def fun_row_bytes(self) -> int:
        """Bytes of a row of function tables: for each lane an int8, or a segment of 4 bytes."""
        return (4 if self.vector.linear else 1) * self.vector.lanes

    @property
    def acc_group_pitch(self) -> int:
        """Lane groups from one accumulator row to the next, a power of two."""
        return _power_of_two_from(self.groups_per_row)

    @property
    def groups_per_row(self) -> int:
        """Lane groups that hold the C columns of an accumulator row."""
        return -(-self.array.cols // self.vector.lanes)

    @property
    def acc_groups(self) -> int:
        """Size of the accumulator's address space in lane groups."""
        return self.memory.acc_rows * self.acc_group_pitch

    @property
    def act_groups(self) -> int:
        """Size of the activation scratchpad in units of ``lanes`` bytes."""
        return self.memory.act_rows * self.act_row_bytes // self.vector.lanes

    @property
    def macs_per_cycle(self) -> int:
        """Peak multiply-accumulates per cycle."""
        return self.array.rows * self.array.cols

    @property
    def fingerprint(self) -> int:
        """64 bits that name what gives commands and data their meaning.

        Array and memory sizes, formats, arithmetic options and the command version take part;
        multiplier strategy, bus, banks, queue depths and counters do not.
        """
        meaning = {
            "version": COMMAND_VERSION,
            "array": [self.array.rows, self.array.cols, sorted(self.array.weights)],
            "memory": [self.memory.act_rows, self.memory.wgt_rows, self.memory.acc_rows,
                       self.memory.par_rows],
            "vector": [self.vector.lanes, self.vector.elementwise, self.vector.multiply,
                       self.vector.functions, self.vector.rows],
            "control": [self.control.semaphores, self.control.params, self.control.execute_loops,
                        self.control.load_loops, self.control.vector_loops],
        }
        digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).digest()
        return int.from_bytes(digest[:8], "little")

    # From and to presets, dictionaries and TOML.

    @classmethod
    def preset(cls, name: str) -> "CoreConfig":
        """The preset called ``name``.

        Raises
        ------
        ValueError
            There is no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, not {name!r}")
        return PRESETS[name]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "CoreConfig":
        """Build a configuration from nested tables; what they leave out keeps its default."""
        return cls().updated(data)

    @classmethod
    def from_toml(cls, path: str | Path) -> "CoreConfig":
        """Read a configuration; ``preset = "name"`` in it names one to start from.

        Raises
        ------
        ValueError
            The file is not TOML, or a field is unknown or out of range.
        """
        try:
            data = tomllib.loads(Path(path).read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"configuration {path} must be TOML: {error}") from None
        start = cls.preset(data.pop("preset")) if "preset" in data else cls()
        return start.updated(data)

    def to_dict(self) -> dict[str, Any]:
        """Nested tables that ``from_dict`` turns back into this configuration."""
        data = asdict(self)
        data["array"]["weights"] = list(data["array"]["weights"])
        return data

    def updated(self, data: dict[str, Any]) -> "CoreConfig":
        """This configuration with the fields in ``data`` (nested tables) replaced.

        Raises
        ------
        TypeError, ValueError
            A field is unknown, of the wrong kind or out of range.
        """
        changes: dict[str, Any] = {}
        tables = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        for key, value in data.items():
            if key == "name":
                changes[key] = value
            elif key not in tables:
                raise ValueError(f"field must be one of name, {', '.join(tables)}, not {key!r}")
            elif not isinstance(value, dict):
                raise TypeError(f"{key} must be a table, not {value!r}")
            else:
                known = [f.name for f in fields(tables[key])]
                for name in value:
                    if name not in known:
                        raise ValueError(f"field of {key} must be one of {', '.join(known)}, "
                                         f"not {name!r}")
                changes[key] = replace(tables[key], **value)
        return replace(self, **changes)

    def overridden(self, assignments: list[str]) -> "CoreConfig":
        """This configuration with ``section.field=value`` assignments applied together.

        Raises
        ------
        TypeError, ValueError
            An assignment is malformed, or its field unknown, of the wrong kind or out of range.
        """
        data: dict[str, Any] = {}
        for assignment in assignments:
            path, equals, text = assignment.partition("=")
            section, dot, name = path.strip().partition(".")
            if not equals or (not dot and section != "name"):
                raise ValueError(f"assignment must be section.field=value, not {assignment!r}")
            if section == "name":
                data["name"] = text.strip()
            else:
                kind = get_type_hints(type(getattr(self, section, None))).get(name)
                data.setdefault(section, {})[name] = _parse(text.strip(), kind)
        return self.updated(data)


def _parse(text: str, kind: Any) -> Any:
    """The value ``text`` stands for in a field of type ``kind``; text itself where it is none."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is int:
        try:
            return int(text, 0)
        except ValueError:
            return text
    if kind == tuple[str, ...]:
        return tuple(text.split(","))
    return text


def _core(name: str, **tables: dict[str, Any]) -> CoreConfig:
    return CoreConfig.from_dict({"name": name, **tables})


PRESETS = MappingProxyType({
    "demo": _core("demo"),
    "tiny": _core(
        "tiny", array={"rows": 4, "cols": 4},
        memory={"act_rows": 512, "act_banks": 2, "wgt_rows": 512, "acc_rows": 256, "acc_banks": 1,
                "par_rows": 128},
        bus={"data_bits": 32, "addr_bits": 17, "max_burst": 16, "read_words": 16,
             "write_bursts": 2},
        vector={"lanes": 1, "elementwise": False, "multiply": False, "functions": 0, "rows": 0},
        control={"queue_depth": 2, "prefetch": 2, "semaphores": 8, "params": 4,
                 "execute_loops": 4, "load_loops": 2, "vector_loops": 3, "counters": False}),
    "ecp5_25f": _core(
        "ecp5_25f", array={"rows": 8, "cols": 3},
        memory={"act_rows": 2048, "wgt_rows": 2048, "acc_rows": 1024, "par_rows": 512},
        bus={"data_bits": 32}, vector={"lanes": 1, "multiply": False, "functions": 256}),
    "ecp5_85f": _core(
        "ecp5_85f", array={"rows": 16, "cols": 8},
        memory={"act_rows": 4096, "wgt_rows": 4096, "acc_rows": 1024, "par_rows": 128}),
    "bench16": _core(
        "bench16", array={"rows": 16, "cols": 16},
        memory={"act_rows": 4096, "wgt_rows": 2048, "acc_rows": 1024, "par_rows": 128},
        bus={"data_bits": 128}, vector={"lanes": 8}),
})
