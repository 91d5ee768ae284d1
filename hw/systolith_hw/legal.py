"""Which commands a core takes: the checks its dispatcher makes on every word of a command."""

from collections.abc import Iterator

from amaranth.hdl import Cat, Const, Value

from .config import CoreConfig
from .isa import (
    COMMAND_BYTES,
    COMMANDS,
    ONCE,
    Command,
    ControlOp,
    ElementType,
    Field,
    LoadMode,
    Memory,
    Opcode,
    VectorOp,
    WeightFormat,
)
from .record import Record

__all__ = [
    "COUNT_SLOTS", "bad_credit", "bad_field", "loops_of", "supported", "words_of", "zero_count",
]

COUNT_SLOTS = 6  # 16-bit slots that a parameter register can replace


def loops_of(opcode: Opcode, config: CoreConfig) -> int:
    """Loops that ``config`` walks for commands of this kind."""
    return {Opcode.LOAD: config.control.load_loops, Opcode.STORE: config.control.load_loops,
            Opcode.EXECUTE: config.control.execute_loops,
            Opcode.VECTOR: config.control.vector_loops}[opcode]


def supported(command: Command, name: str, config: CoreConfig) -> frozenset[int] | None:
    """Values of an enumerated field that ``config`` takes; None where the field is not one."""
    choices = {
        (Opcode.LOAD, "memory"): {Memory.ACT, Memory.WGT, Memory.PAR},
        (Opcode.LOAD, "mode"): {LoadMode.READ, LoadMode.FILL},
        (Opcode.STORE, "memory"): {Memory.ACT},
        (Opcode.EXECUTE, "format"): {WeightFormat[name.upper()] for name in config.array.weights},
        (Opcode.VECTOR, "operation"): {VectorOp.REQUANTISE, VectorOp.ADD_BIAS},
        (Opcode.VECTOR, "source_type"): {ElementType.ACC},
        (Opcode.VECTOR, "result_type"): {ElementType.INT8, ElementType.INT32},
        (Opcode.CONTROL, "operation"): set(ControlOp),
    }.get((command.opcode, name))
    return None if choices is None else frozenset(int(choice) for choice in choices)


class _Word:
    """A bus word of a command: slices of the fields that lie in it."""
    def __init__(self, command: Command, bits: Value, index: int):
        self.command = command
        self.bits = bits
        self.first = index * len(bits)

    def has(self, field: Field, entry: int = 0) -> bool:
        return 0 <= field.bit + entry * field.bits - self.first < len(self.bits)

    def get(self, name: str, entry: int = 0) -> Value | None:
        field = self.command.field(name)
        start = field.bit + entry * field.bits - self.first
        return self.bits[start:start + field.bits] if self.has(field, entry) else None


def _reserved(command: Command, word: _Word) -> Value:
    """Whether a bit is set that must be 0 (the index aside: the dispatcher writes it)."""
    mask = command.reserved_mask
    for field in command.fields:
        if "eserved, 0" in field.text:
            mask |= ((1 << (field.bits * field.count)) - 1) << field.bit
    mask = (mask >> word.first) & ((1 << len(word.bits)) - 1)
    return (word.bits & Const(mask, len(word.bits))).any() if mask else Const(0)


def _bad(command: Command, word: _Word, config: CoreConfig) -> Iterator[Value]:
    opcode = command.opcode
    control = config.control
    yield _reserved(command, word)
    for field in command.fields:
        choices = supported(command, field.name, config)
        value = word.get(field.name)
        if choices is not None and value is not None:
            yield ~Cat(value == choice for choice in sorted(choices)).any()
    for name in ("address_param", "count_param"):
        if (value := word.get(name)) is not None:
            yield value >= control.params
    if (value := word.get("count_level")) is not None:
        yield value >= COUNT_SLOTS
    for name in ("wait0", "wait1", "raise0", "raise1"):
        if (value := word.get(name)) is not None:
            yield word.get(f"{name}_valid") & (value >= control.semaphores)
    if opcode == Opcode.CONTROL:
        for name in ("wait0", "wait1", "raise0", "raise1"):
            if (valid := word.get(f"{name}_valid")) is not None:
                yield valid
        for name in ("level0", "level1"):
            if (value := word.get(name)) is not None:
                yield value != ONCE
        if (operation := word.get("operation")) is not None:
            register = word.get("register")
            is_param = (operation == ControlOp.PARAM_SET) | (operation == ControlOp.PARAM_ADD)
            yield is_param & ((register == 0) | (register >= control.params))
            yield (operation == ControlOp.CREDIT) & (register >= control.semaphores)
        return
    loops = loops_of(opcode, config)
    for name in ("level0", "level1"):
        if (value := word.get(name)) is not None:
            yield (value >= loops) & (value != ONCE)
            if opcode == Opcode.EXECUTE:
                yield value < 2
    for entry in range(loops, command.field("counts").count):
        if (value := word.get("counts", entry)) is not None:
            yield value > 1  # 0 is a zero count
    if opcode == Opcode.EXECUTE and (value := word.get("k_last")) is not None:
        yield (value == 0) | (value > config.array.rows)
    if opcode == Opcode.VECTOR and (value := word.get("operation")) is not None:
        yield ((value == VectorOp.REQUANTISE)
               != (word.get("result_type") == ElementType.INT8))


def bad_field(opcode: Opcode, bits: Value, index: int, config: CoreConfig) -> Value:
    """Whether word ``index`` of a command has a field that ``config`` does not take."""
    command = COMMANDS[opcode]
    return Cat(_bad(command, _Word(command, bits, index), config)).any()


def bad_credit(record: Record) -> Value:
    """Whether a complete control command would raise a semaphore other than 1 to 15 times."""
    value = record["value"]
    return (record["operation"] == ControlOp.CREDIT) & ((value < 1) | (value > 15))


def zero_count(opcode: Opcode, bits: Value, index: int) -> Value:
    """Whether word ``index`` of a command has a count or length of 0."""
    if opcode == Opcode.CONTROL:
        return Const(0)
    command = COMMANDS[opcode]
    word = _Word(command, bits, index)
    zeros = []
    for name in ("counts", "run_bytes", "row_bytes"):
        fields = [field for field in command.fields if field.name == name]
        for field in fields:
            zeros += [word.get(name, i) == 0 for i in range(field.count) if word.has(field, i)]
    return Cat(zeros).any() if zeros else Const(0)


def words_of(config: CoreConfig) -> int:
    """Bus words of a command."""
    return COMMAND_BYTES // config.bus.data_bytes
