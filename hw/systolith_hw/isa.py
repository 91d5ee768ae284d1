"""Commands: declared once; decoder, assembler, disassembler, C header and manual derive from here.

Every command is a record of 64 bytes, little-endian, in system memory. The first 16 bytes are the
same for all of them, and so are the places of loop counts (16-bit slots from byte 16) and of the
primary address (32 bits at byte 28), so that the dispatcher can add a parameter register to one and
put another in place of the other without knowing the command.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

__all__ = [
    "COMMANDS", "COMMAND_BYTES", "COUNTS_BYTE", "HEADER", "MAX_COMMANDS", "ONCE", "PRIMARY_BYTE",
    "Command", "ControlOp", "ElementType", "ErrorCode", "Field", "Function", "LoadMode", "Memory",
    "Opcode", "Operand", "Reduction", "ResultType", "Scale", "VectorOp", "WeightFormat", "jumps_of",
]

COMMAND_BYTES = 64
COUNTS_BYTE = 16    # first 16-bit loop count
PRIMARY_BYTE = 28   # 32-bit primary address
MAX_COMMANDS = (1 << 20) - 1  # of a program
ONCE = 15           # semaphore level: once per command


class Opcode(IntEnum):
    """What a command is for; 0 is none, so that cleared memory is no program."""
    LOAD = 1
    EXECUTE = 2
    VECTOR = 3
    STORE = 4
    CONTROL = 5


class Memory(IntEnum):
    """Scratchpad that a load writes or a store reads."""
    ACT = 0
    WGT = 1
    PAR = 2
    FUN = 3


class LoadMode(IntEnum):
    """Where the bytes of a load come from."""
    READ = 0
    FILL = 1


class WeightFormat(IntEnum):
    """How weights are stored."""
    INT8 = 0
    INT4 = 1
    TERNARY = 2


class ElementType(IntEnum):
    """Elements of a vector command's source; the first three live in the activation scratchpad."""
    INT8 = 0
    INT16 = 1
    INT32 = 2
    ACC = 3
    ROW_VALUE = 4
    ROW_SUM = 5
    ROW_POSITION = 6


class VectorOp(IntEnum):
    """How source a and second operand b become one number; all saturate at int32."""
    ADD = 0         # a + b
    SUBTRACT = 1    # a - b
    REVERSE = 2     # b - a
    MINIMUM = 3
    MAXIMUM = 4
    BELOW = 5       # a where a < b, otherwise -2^31
    SELECT = 6      # a where the stream is not 0, otherwise b
    DISTANCE = 7    # |a - b|


class Operand(IntEnum):
    """Where the second operand comes from."""
    IMMEDIATE = 0
    STREAM = 1
    CHANNEL = 2     # bias of the parameter row
    ROW = 3         # value of the row's record


class Function(IntEnum):
    """What is done with a number x besides scaling it; u is x saturated to 18 bits."""
    NONE = 0
    TABLE = 1       # int8 from a table of 256
    LINEAR = 2      # piecewise linear, from a table of segments
    CHANNEL = 3     # u times the channel's slope, plus its base
    SQUARE = 4      # u * u
    PRODUCT = 5     # u * (stream - immediate), the latter saturated to 18 bits
    WEIGHTED = 6    # x + stream * immediate, the stream saturated to 18 bits


class Scale(IntEnum):
    """Where multiplier and shift come from."""
    CHANNEL = 0     # the parameter row
    ROW = 1         # the row's record
    UNIT = 2        # none: the number stays


class Reduction(IntEnum):
    """What becomes of the numbers of a row."""
    NONE = 0
    MAXIMUM = 1     # and the position of the first of the largest
    SUM = 2


class ResultType(IntEnum):
    """What is written; int8 to int32 go to the activation scratchpad."""
    INT8 = 0
    INT16 = 1
    INT32 = 2
    NONE = 3
    ROW_VALUE = 4   # lane 0, to the record that the result address names
    ROW_SCALE = 5   # multiplier and shift of a function of what is normalised
    ROW_ROOT = 6    # the same with half of the exponent


class ControlOp(IntEnum):
    """What the dispatcher itself does, in program order."""
    PARAM_SET = 0
    PARAM_ADD = 1
    FENCE = 2
    INTERRUPT = 3
    CREDIT = 4


class ErrorCode(IntEnum):
    """Why the core stopped."""
    NONE = 0
    BAD_OPCODE = 1
    BAD_FIELD = 2
    ZERO_COUNT = 3
    MEMORY_ADDRESS = 4
    SCRATCHPAD_ADDRESS = 5
    READ_RESPONSE = 6
    WRITE_RESPONSE = 7
    SEMAPHORE_OVERFLOW = 8
    DEADLOCK = 9


ERROR_TEXT = MappingProxyType({
    ErrorCode.NONE: "no error",
    ErrorCode.BAD_OPCODE: "the opcode must be one of load, execute, vector, store, control",
    ErrorCode.BAD_FIELD: "every field must be one this core is configured for, and reserved bits 0",
    ErrorCode.ZERO_COUNT: "loop counts and run lengths must be at least 1",
    ErrorCode.MEMORY_ADDRESS: "system memory must be addressed inside the window",
    ErrorCode.SCRATCHPAD_ADDRESS: "scratchpad addresses must lie inside the scratchpad",
    ErrorCode.READ_RESPONSE: "the bus must answer reads without error",
    ErrorCode.WRITE_RESPONSE: "the bus must answer writes without error",
    ErrorCode.SEMAPHORE_OVERFLOW: "a semaphore must not be raised beyond 15",
    ErrorCode.DEADLOCK: "every semaphore waited for must be raised by some command",
})


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a command, or an array of ``count`` adjacent ones.

    Parameters
    ----------
    name : str
    byte : int
        Offset of the (first) field.
    shift : int
        Lowest bit within that byte, for fields smaller than a byte.
    bits : int
        Width of each.
    signed : bool
        Two's complement.
    count : int
        Number of adjacent fields.
    default : int
        Value the assembler puts where none is given.
    values : IntEnum class or None
        Names for the values.
    text : str
        One sentence for the manual.
    """
    name: str
    byte: int
    bits: int
    shift: int = 0
    signed: bool = False
    count: int = 1
    default: int = 0
    values: type[IntEnum] | None = None
    text: str = ""

    @property
    def bit(self) -> int:
        """Offset of the first bit in the record."""
        return 8 * self.byte + self.shift

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - self.signed)) - 1

    def check(self, value: int) -> None:
        """Raise ``ValueError`` or ``TypeError`` where ``value`` does not fit."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{self.name} must be an integer, not {value!r}")
        if not self.low <= value <= self.high:
            raise ValueError(f"{self.name} must be from {self.low} to {self.high}, not {value!r}")


def _slot(name: str, byte: int) -> tuple[Field, Field]:
    return (Field(name=f"{name}_valid", byte=byte, shift=7, bits=1,
                  text=f"Whether {name} is used."),
            Field(name=name, byte=byte, bits=5, text="Semaphore number."))


HEADER = (
    Field(name="opcode", byte=0, bits=8, values=Opcode, text="Which command this is."),
    Field(name="level0", byte=2, bits=4, default=ONCE,
          text="Loop level at whose iterations wait0 and raise0 act; 15 = once per command."),
    Field(name="level1", byte=2, shift=4, bits=4, default=ONCE,
          text="The same for wait1 and raise1."),
    Field(name="address_param", byte=3, bits=4,
          text="Parameter register added to the primary address; 0 = none."),
    Field(name="count_param", byte=3, shift=4, bits=4,
          text="Parameter register that takes the place of a loop count; 0 = none."),
    *_slot("wait0", 4), *_slot("wait1", 5), *_slot("raise0", 6), *_slot("raise1", 7),
    Field(name="ring", byte=8, bits=4, count=4,
          text="Per scratchpad stream: 0 = linear, n = addresses wrap within an aligned ring of "
               "2^n rows (lane groups in vector commands)."),
    Field(name="count_level", byte=10, bits=4,
          text="16-bit slot (from byte 16) that count_param replaces."),
    Field(name="index", byte=12, bits=32,
          text="0 in memory; the core writes the command's position in the program here."),
)

_TRANSFER = (
    Field(name="counts", byte=16, bits=16, count=3, default=1,
          text="Iterations of the run loops, innermost first."),
    Field(name="run_bytes", byte=22, bits=16, default=1,
          text="Contiguous bytes of memory in each run."),
    Field(name="row_bytes", byte=24, bits=16, default=1,
          text="Bytes of a run in each scratchpad row; the next byte goes to the next row, at the "
               "same first byte."),
    Field(name="row_step", byte=26, bits=16, signed=True, default=1,
          text="Rows from one scratchpad row of a run to the next."),
    Field(name="memory_base", byte=28, bits=32,
          text="Byte address of the first run, relative to the window."),
    Field(name="memory_jumps", byte=32, bits=32, signed=True, count=3,
          text="Added to the memory address when loop 0, 1, 2 advances (inner loops rewound)."),
    Field(name="pad_base", byte=44, bits=32,
          text="Scratchpad byte address of the first run: row * row pitch + byte in the row."),
    Field(name="pad_jumps", byte=48, bits=32, signed=True, count=3,
          text="Added to the scratchpad address when loop 0, 1, 2 advances."),
    Field(name="memory", byte=60, bits=8, values=Memory, text="Which scratchpad."),
)


@dataclass(frozen=True)
class Command:
    """A kind of command: its opcode and its fields after the header."""
    opcode: Opcode
    name: str
    text: str
    body: tuple[Field, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        return HEADER + self.body

    def field(self, name: str) -> Field:
        """The field called ``name``."""
        for candidate in self.fields:
            if candidate.name == name:
                return candidate
        raise ValueError(f"field of {self.name} must be one of "
                         f"{', '.join(f.name for f in self.fields)}, not {name!r}")

    def encode(self, values: Mapping[str, int | list[int] | tuple[int, ...]]) -> bytes:
        """The record with ``values``; fields left out (also at the end of arrays) are default.

        Raises
        ------
        TypeError, ValueError
            An unknown field, a value of the wrong kind or out of range, too many in an array.
        """
        word = 0
        given = {"opcode": int(self.opcode), **values}
        for name in given:
            self.field(name)
        for f in self.fields:
            value = given.get(f.name, [] if f.count > 1 else f.default)
            entries = list(value) if isinstance(value, (list, tuple)) else [value]
            if len(entries) > f.count:
                raise ValueError(f"{f.name} must have at most {f.count} values, not {value!r}")
            entries += [f.default] * (f.count - len(entries))
            for i, entry in enumerate(entries):
                f.check(int(entry) if isinstance(entry, IntEnum) else entry)
                word |= (int(entry) & ((1 << f.bits) - 1)) << (f.bit + i * f.bits)
        return word.to_bytes(COMMAND_BYTES, "little")

    def decode(self, record: bytes) -> dict[str, int | tuple[int, ...]]:
        """Every field's value; arrays as tuples."""
        word = int.from_bytes(record, "little")
        result: dict[str, int | tuple[int, ...]] = {}
        for f in self.fields:
            entries = []
            for i in range(f.count):
                value = (word >> (f.bit + i * f.bits)) & ((1 << f.bits) - 1)
                entries.append(value - (1 << f.bits) if f.signed and value > f.high else value)
            result[f.name] = tuple(entries) if f.count > 1 else entries[0]
        return result

    @property
    def reserved_mask(self) -> int:
        """Bits of the record that no field uses; they must be 0."""
        used = 0
        for f in self.fields:
            used |= ((1 << (f.bits * f.count)) - 1) << f.bit
        return ~used & ((1 << (8 * COMMAND_BYTES)) - 1)


COMMANDS = MappingProxyType({command.opcode: command for command in (
    Command(Opcode.LOAD, "load",
            "Copies runs of bytes from system memory into a scratchpad, or fills them with a "
            "constant. ring[0] wraps the scratchpad row. Function tables have two addresses: in "
            "rows from vector.functions on, the bytes of the first lane go to every lane.",
            (*_TRANSFER,
             Field(name="fill", byte=61, bits=8, signed=True, text="Byte that a fill writes."),
             Field(name="mode", byte=62, bits=8, values=LoadMode, text="Where bytes come from."))),
    Command(Opcode.EXECUTE, "execute",
            "Streams activation rows through the array. Loops 0 and 1 walk the rows of a tile; the "
            "core's outermost loop (execute_loops - 1, usually 5) walks column tiles; the loops "
            "between walk the K direction, and each of their iterations takes the next weight "
            "tile. Where weights are wider than array.cell, loop 2 walks their digits instead, the "
            "lowest first, with the same tile: int8 in 2 (int4 cells) or 8 (ternary cells), int4 "
            "in 4; sums of digit d count 2^4d or 2^d times. "
            "Semaphore levels are 2 and up. ring[0], ring[1], ring[2] wrap activation, weight and "
            "accumulator rows. Raises happen when the iteration's sums stand in the accumulator. "
            "Rows of one tile must differ in their accumulator row, and tiles that follow each "
            "other must come back to a row no sooner than min(R, 5) rows later. Row addresses are "
            "16 bits and wrap.",
            (Field(name="counts", byte=16, bits=16, count=6, default=1,
                   text="Iterations of the loops, innermost first."),
             Field(name="act_base", byte=28, bits=32, text="First activation row."),
             Field(name="act_jumps", byte=32, bits=16, signed=True, count=6,
                   text="Added to the activation row when loop 0..5 advances."),
             Field(name="acc_base", byte=44, bits=16, text="First accumulator row."),
             Field(name="acc_jumps", byte=46, bits=16, signed=True, count=6,
                   text="Added to the accumulator row when loop 0..5 advances."),
             Field(name="wgt_base", byte=58, bits=16,
                   text="Weight row 0 of the first tile; a tile's rows follow each other, and "
                        "the next tile begins with the row after the last valid one. Array rows of "
                        "a narrow format share a weight row, as many as fit, the first in the low "
                        "bits."),
             Field(name="wgt_rewind", byte=60, bits=16, signed=True,
                   text="Added to the weight row besides when the outermost loop advances."),
             Field(name="k_last", byte=62, bits=8, default=1,
                   text="Valid array rows, 1 to R, of the tile at the last iteration of loop 2 "
                        "(loop 3 where loop 2 walks digits); the rest count as zeros and take no "
                        "weight rows."),
             Field(name="accumulate", byte=63, bits=1,
                   text="0: the first iteration of the K loops overwrites the accumulator rows; "
                        "1: it adds to them."),
             Field(name="format", byte=63, shift=4, bits=2, values=WeightFormat,
                   text="Weight format, one of array.weights. With array.pairs, tiles of narrow "
                        "weights have 2C columns: c and C + c follow each other. Of int8 tiles the "
                        "sums from C on are 0."))),
    Command(Opcode.VECTOR, "vector",
            "Walks elements in groups of `lanes`. Of each: a second operand is combined with the "
            "source, then a function and a scale are applied in either order, and the result is "
            "written; on the way, rows can be reduced. Loop 0 walks the lane groups of a row, "
            "loops 1 to 3 go on by jumps. Addresses count lane groups: `lanes` bytes in the "
            "activation scratchpad, `lanes` columns in the accumulator, records of the row file; "
            "they are 16 bits and wrap. Elements of 2 and 4 bytes are groups of 2 and 4 units, "
            "aligned to the smaller of their size and a row. ring[0], ring[1], ring[2] wrap "
            "source, stream and result.",
            (Field(name="tail", byte=1, bits=8,
                   text="Lanes of the last group of loop 0 that reductions take, 0 = all."),
             Field(name="counts", byte=16, bits=16, count=4, default=1,
                   text="Iterations of the loops, innermost first."),
             Field(name="operation", byte=24, bits=3, values=VectorOp,
                   text="How source and second operand are combined."),
             Field(name="source_type", byte=24, shift=3, bits=3, default=int(ElementType.ACC),
                   values=ElementType, text="Elements of the source."),
             Field(name="second", byte=24, shift=6, bits=3, default=int(Operand.CHANNEL),
                   values=Operand, text="Second operand."),
             Field(name="stream_type", byte=24, shift=9, bits=2, values=ElementType,
                   text="Elements of the stream: int8, int16 or int32."),
             Field(name="result_type", byte=24, shift=11, bits=3, values=ResultType,
                   text="What is written."),
             Field(name="function", byte=24, shift=14, bits=3, values=Function,
                   text="Function."),
             Field(name="function_first", byte=24, shift=17, bits=1,
                   text="Whether the function comes before the scale; needed by product and "
                        "weighted, and excluded by channel."),
             Field(name="scale", byte=24, shift=18, bits=2, values=Scale, text="Scale."),
             Field(name="masked", byte=24, shift=20, bits=1,
                   text="Where the stream is 0, -2^31 takes the place of the combined number."),
             Field(name="reduce", byte=24, shift=21, bits=2, values=Reduction,
                   text="What combined numbers are reduced by."),
             Field(name="fold", byte=24, shift=23, bits=1,
                   text="1: each lane is reduced for itself, and only the reduced group goes on; "
                        "0: all lanes of a row, to value of the row's record, for a maximum with "
                        "its position."),
             Field(name="sum_results", byte=24, shift=24, bits=1,
                   text="Whether the results of a row are summed up to sum of its record."),
             Field(name="span", byte=24, shift=25, bits=1,
                   text="What a row is: 0 = loop 0, 1 = loops 0 and 1. Its record is row_base "
                        "plus the number of rows before it."),
             Field(name="fine", byte=24, shift=26, bits=1,
                   text="Whether the source is shifted left by 8 bits."),
             Field(name="stream_step", byte=24, shift=27, bits=1, default=1,
                   text="Whether loop 0 advances the stream by a group."),
             Field(name="result_step", byte=24, shift=28, bits=1, default=1,
                   text="Whether loop 0 advances the result by a group."),
             Field(name="param_step", byte=24, shift=29, bits=1, default=1,
                   text="1: the parameter row is param_base + i0 + i2 * counts[0], where i0 and i2 "
                        "are the indices of loops 0 and 2; 0: param_base."),
             Field(name="function_signed", byte=24, shift=30, bits=1,
                   text="Whether the segments lie on both sides of 0."),
             Field(name="segments", byte=24, shift=31, bits=1,
                   text="0: 64 segments, 1: 256."),
             Field(name="source_base", byte=28, bits=32, text="First lane group of the source."),
             Field(name="source_jumps", byte=32, bits=16, signed=True, count=3,
                   text="Added to the source address when loop 1, 2, 3 advances."),
             Field(name="stream_base", byte=38, bits=16, text="First lane group of the stream."),
             Field(name="stream_jumps", byte=40, bits=16, signed=True, count=3,
                   text="Added to the stream address when loop 1, 2, 3 advances."),
             Field(name="result_base", byte=46, bits=16, text="First lane group of the result."),
             Field(name="result_jumps", byte=48, bits=16, signed=True, count=3,
                   text="Added to the result address when loop 1, 2, 3 advances."),
             Field(name="param_base", byte=54, bits=16, text="First parameter row."),
             Field(name="immediate", byte=56, bits=16, signed=True,
                   text="Second operand; zero point or weight of the stream."),
             Field(name="source_step", byte=58, bits=8, signed=True, default=1,
                   text="Added to the source address when loop 0 advances."),
             Field(name="row_base", byte=59, bits=8, text="First record of the row file."),
             Field(name="clamp_low", byte=60, bits=8, signed=True, default=-128,
                   text="Least int8 result."),
             Field(name="clamp_high", byte=61, bits=8, signed=True, default=127,
                   text="Largest int8 result."),
             Field(name="zero_point", byte=62, bits=8, signed=True,
                   text="Added to the scaled number; the exponent of a row scale."),
             Field(name="function_shift", byte=63, bits=5,
                   text="Log2 of a segment's width, 0 to 23."),
             Field(name="function_base", byte=63, shift=5, bits=3,
                   text="First table entry / 64."))),
    Command(Opcode.STORE, "store",
            "Copies runs of bytes from the activation scratchpad to system memory. ring[0] wraps "
            "the scratchpad row.", _TRANSFER),
    Command(Opcode.CONTROL, "control",
            "Takes no semaphore slots. Done by the dispatcher itself, in program order. Fence "
            "waits until every engine is idle and all writes are answered; interrupt raises the "
            "interrupt; credit raises a semaphore `value` times.",
            (Field(name="operation", byte=16, bits=8, values=ControlOp, text="What is done."),
             Field(name="register", byte=17, bits=8,
                   text="Parameter register (1 and up) or semaphore."),
             Field(name="value", byte=20, bits=32, signed=True,
                   text="Value to set or add, or number of raises, 1 to 15."))),
)})


def jumps_of(counts: Sequence[int], strides: Sequence[int]) -> list[int]:
    """What to add when each loop advances, given every loop's stride.

    ``jump[i] = stride[i] - sum((count[j] - 1) * stride[j] for j < i)``: the step from the last
    element of all inner loops to the first of the next iteration of loop i.
    """
    jumps, rewind = [], 0
    for count, stride in zip(counts, strides, strict=True):
        jumps.append(stride - rewind)
        rewind += (count - 1) * stride
    return jumps
