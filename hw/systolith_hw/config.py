"""The one configuration that hardware, compiler, model and simulation are derived from."""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from .formats import BITS
from .parts import ArrayConfig, BusConfig, ControlConfig, MemoryConfig, VectorConfig

__all__ = [
    "COMMAND_VERSION", "PRESETS", "ArrayConfig", "BusConfig", "ControlConfig", "CoreConfig",
    "MemoryConfig", "VectorConfig",
]

COMMAND_VERSION = 2


# What a core with ``control.shared`` is like.
_SHARED = MappingProxyType({
    "control.compact": True, "control.counters": False, "bus.data_bits": 32, "bus.max_burst": 1,
    "array.pairs": False, "memory.act_banks": 1,
    "memory.acc_banks": 1, "vector.lanes": 1, "vector.elementwise": False,
    "vector.multiply": False, "vector.functions": 0, "vector.rows": 0,
    "vector.requantiser": "serial"})


def _power_of_two_from(value: int) -> int:
    """Smallest power of two that is at least ``value``."""
    return 1 << (value - 1).bit_length()


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
        if self.array.most_digits > 1 and self.control.execute_loops < 5:
            raise ValueError(f"control.execute_loops must be at least 5 for weights wider than "
                             f"array.cell={self.array.cell!r}, not {self.control.execute_loops!r}")
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

        if self.memory.par_narrow and not self.control.shared:
            raise ValueError("memory.par_narrow must be False without control.shared, not True")
        if self.control.shared:
            for name, value in _SHARED.items():
                section, _, field_name = name.partition(".")
                found = getattr(getattr(self, section), field_name)
                if found != value:
                    raise ValueError(f"{name} must be {value!r} with control.shared, not "
                                     f"{found!r}")
            if self.array.weights != (self.array.cell,):
                raise ValueError(f"array.weights must be {self.array.cell!r} alone, as array.cell, "
                                 f"with control.shared, not {self.array.weights!r}")

    # Sizes everything else is derived from.

    @property
    def act_row_bytes(self) -> int:
        """Bytes of an activation row: R and at least 4, rounded up to a power of two."""
        return _power_of_two_from(max(self.array.rows, 4))

    @property
    def wgt_row_bytes(self) -> int:
        """Bytes of a weight row: C columns of the widest format, up to whole bytes."""
        return -(-max(self.weight_bits(name) for name in self.array.weights) // 8)

    def weight_bits(self, weights: str) -> int:
        """Bits of one array row of weights of this format."""
        return self.array.columns(weights) * BITS[weights]

    def weight_parts(self, weights: str) -> int:
        """Array rows of weights of this format in a row of the weight scratchpad, a power of two.

        Each follows the one before without a gap, the first in the low bits; what does not fill
        the row stays unused.
        """
        return 1 << (8 * self.wgt_row_bytes // self.weight_bits(weights)).bit_length() - 1

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
        return _power_of_two_from(-(-self.array.sum_cols // self.vector.lanes))

    @property
    def groups_per_row(self) -> int:
        """Lane groups that hold C columns of an accumulator row."""
        return -(-self.array.cols // self.vector.lanes)

    def groups_of(self, weights: str) -> int:
        """Lane groups that hold the sums of a tile of weights of this format."""
        return -(-self.array.columns(weights) // self.vector.lanes)

    @property
    def acc_groups(self) -> int:
        """Size of the accumulator's address space in lane groups."""
        return self.memory.acc_rows * self.acc_group_pitch

    @property
    def act_groups(self) -> int:
        """Size of the activation scratchpad in units of ``lanes`` bytes."""
        return self.memory.act_rows * self.act_row_bytes // self.vector.lanes

    @property
    def count_bits(self) -> int:
        """Bits of a loop's count."""
        return 12 if self.control.compact else 16

    @property
    def macs_per_cycle(self) -> int:
        """Peak multiply-accumulates per cycle, with the weights that elements multiply by at
        once; pairs are twice as many."""
        return self.array.rows * self.array.cols

    def peak(self, weights: str) -> float:
        """Peak multiply-accumulates per cycle with weights of this format."""
        return (self.array.rows * self.array.columns(weights) / self.array.digits(weights))

    @property
    def fingerprint(self) -> int:
        """64 bits that name what gives commands and data their meaning.

        Array and memory sizes, formats, arithmetic options and the command version take part;
        multiplier strategy, requantiser, bus, banks, queue depths and counters do not.
        """
        meaning = {
            "version": COMMAND_VERSION,
            "array": [self.array.rows, self.array.cols, sorted(self.array.weights),
                      self.array.cell, self.array.pairs],
            "memory": [self.memory.act_rows, self.memory.wgt_rows, self.memory.acc_rows,
                       self.memory.par_rows],
            "vector": [self.vector.lanes, self.vector.elementwise, self.vector.multiply,
                       self.vector.functions, self.vector.rows],
            "control": [self.control.semaphores, self.control.params, self.control.execute_loops,
                        self.control.load_loops, self.control.vector_loops],
        }
        if self.control.compact:    # what cores without it do not refuse
            meaning["control"].append("compact")
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
        memory={"act_rows": 512, "act_banks": 1, "wgt_rows": 512, "acc_rows": 256, "acc_banks": 1,
                "par_rows": 128},
        bus={"data_bits": 32, "addr_bits": 17, "max_burst": 16, "read_words": 16,
             "write_bursts": 2},
        vector={"lanes": 1, "elementwise": False, "multiply": False, "functions": 0, "rows": 0,
                "requantiser": "serial"},
        control={"queue_depth": 2, "prefetch": 2, "semaphores": 8, "params": 2,
                 "execute_loops": 4, "load_loops": 2, "vector_loops": 3, "counters": False,
                 "traffic": False, "compact": True}),
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
