"""Which commands a core takes: the checks its dispatcher makes on every word of a command."""

from collections.abc import Iterator, Mapping
from enum import IntEnum

from amaranth.hdl import Cat, Const, Value

from .choose import at_most
from .config import CoreConfig
from .isa import (
    COMMAND_BYTES,
    COMMANDS,
    ONCE,
    Command,
    ControlOp,
    ElementType,
    Field,
    Function,
    LoadMode,
    Memory,
    Opcode,
    Operand,
    Reduction,
    ResultType,
    Scale,
    VectorOp,
    WeightFormat,
)
from .record import Record

__all__ = [
    "COUNT_SLOTS", "bad_credit", "bad_field", "loops_of", "supported", "words_of", "zero_count",
]

MAX_FUNCTION_SHIFT = 23
COUNT_SLOTS = 6  # 16-bit slots that a parameter register can replace


def loops_of(opcode: Opcode, config: CoreConfig) -> int:
    """Loops that ``config`` walks for commands of this kind."""
    return {Opcode.LOAD: config.control.load_loops, Opcode.STORE: config.control.load_loops,
            Opcode.EXECUTE: config.control.execute_loops,
            Opcode.VECTOR: config.control.vector_loops}[opcode]


def _without(values: type[IntEnum], present: Mapping[IntEnum, object]) -> set[IntEnum]:
    """All of ``values`` but those that are not present."""
    return {value for value in values if present.get(value, True)}


def supported(command: Command, name: str, config: CoreConfig) -> frozenset[int] | None:
    """Values of an enumerated field that ``config`` takes; None where the field is not one."""
    unit = config.vector
    scratch = {ElementType.INT8, ElementType.INT16, ElementType.INT32}
    choices = {
        (Opcode.LOAD, "memory"): {Memory.ACT, Memory.WGT, Memory.PAR}
                                 | ({Memory.FUN} if unit.functions else set()),
        (Opcode.LOAD, "mode"): {LoadMode.READ, LoadMode.FILL},
        (Opcode.STORE, "memory"): {Memory.ACT},
        (Opcode.EXECUTE, "format"): {WeightFormat[name.upper()] for name in config.array.weights},
        (Opcode.VECTOR, "operation"): _without(VectorOp, {
            **dict.fromkeys(VectorOp, unit.combines), VectorOp.ADD: True,
            VectorOp.SELECT: unit.elementwise}),
        (Opcode.VECTOR, "source_type"): _without(ElementType, {
            **dict.fromkeys(scratch, unit.elementwise), ElementType.ROW_VALUE: unit.rows,
            ElementType.ROW_SUM: unit.rows, ElementType.ROW_POSITION: unit.rows}),
        (Opcode.VECTOR, "second"): _without(Operand, {
            Operand.STREAM: unit.elementwise, Operand.ROW: unit.rows}),
        (Opcode.VECTOR, "stream_type"): scratch,
        (Opcode.VECTOR, "result_type"): _without(ResultType, {
            ResultType.ROW_VALUE: unit.rows, ResultType.ROW_SCALE: unit.rows and unit.linear,
            ResultType.ROW_ROOT: unit.rows and unit.linear}),
        (Opcode.VECTOR, "function"): _without(Function, {
            Function.TABLE: unit.functions, Function.LINEAR: unit.linear,
            Function.CHANNEL: unit.linear, Function.SQUARE: unit.multiply,
            Function.PRODUCT: unit.multiply and unit.elementwise,
            Function.WEIGHTED: unit.multiply and unit.elementwise}),
        (Opcode.VECTOR, "scale"): _without(Scale, {Scale.ROW: unit.rows}),
        (Opcode.VECTOR, "reduce"): _without(Reduction, {
            Reduction.MAXIMUM: unit.rows or unit.elementwise,
            Reduction.SUM: unit.rows or unit.elementwise}),
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
            yield ~at_most(value, control.params - 1)
    if (value := word.get("count_level")) is not None:
        yield ~at_most(value, COUNT_SLOTS - 1)
    for name in ("wait0", "wait1", "raise0", "raise1"):
        if (value := word.get(name)) is not None:
            yield word.get(f"{name}_valid") & ~at_most(value, control.semaphores - 1)
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
            yield is_param & ((register == 0) | ~at_most(register, control.params - 1))
            yield (operation == ControlOp.CREDIT) & ~at_most(register, control.semaphores - 1)
        return
    loops = loops_of(opcode, config)
    for name in ("level0", "level1"):
        if (value := word.get(name)) is not None:
            yield ~at_most(value, loops - 1) & (value != ONCE)
            if opcode == Opcode.EXECUTE:
                yield at_most(value, 1)
    for entry in range(loops):
        if (value := word.get("counts", entry)) is not None:
            yield value[config.count_bits:].any()
    for entry in range(loops, command.field("counts").count):
        if (value := word.get("counts", entry)) is not None:
            yield ~at_most(value, 1)  # 0 is a zero count
    if opcode == Opcode.EXECUTE and (value := word.get("k_last")) is not None:
        yield (value == 0) | ~at_most(value, config.array.rows)
    if opcode == Opcode.VECTOR:
        yield from _bad_vector(word, config)


def _bad_vector(word: _Word, config: CoreConfig) -> Iterator[Value]:
    """What no value of a single field says."""
    unit = config.vector
    if (tail := word.get("tail")) is not None:
        yield ~at_most(tail, unit.lanes)
    if (shift := word.get("function_shift")) is not None:
        yield ~at_most(shift, MAX_FUNCTION_SHIFT)
    if word.get("operation") is None:
        return
    function, first, result, reduce, fold, sums = (word.get(name) for name in (
        "function", "function_first", "result_type", "reduce", "fold", "sum_results"))
    product = (function == Function.PRODUCT) | (function == Function.WEIGHTED)
    to_scale = (result == ResultType.ROW_SCALE) | (result == ResultType.ROW_ROOT)
    yield product & ~first
    yield (function == Function.CHANNEL) & first
    yield fold & (reduce == Reduction.NONE)
    yield sums & ((result == ResultType.ROW_VALUE) | to_scale)
    yield (result == ResultType.ROW_VALUE) & (reduce != Reduction.NONE) & ~fold
    yield to_scale & ((function != Function.LINEAR) | ~first | (word.get("scale") != Scale.UNIT))
    if not unit.elementwise:
        yield word.get("masked") | fold
    if not unit.combines:
        yield word.get("fine")
    if not unit.rows:
        yield sums | ((reduce != Reduction.NONE) & ~fold)


def bad_field(opcode: Opcode, bits: Value, index: int, config: CoreConfig) -> Value:
    """Whether word ``index`` of a command has a field that ``config`` does not take."""
    command = COMMANDS[opcode]
    return Cat(_bad(command, _Word(command, bits, index), config)).any()


def bad_credit(record: Record) -> Value:
    """Whether a complete control command would raise a semaphore other than 1 to 15 times."""
    value = record["value"]
    return (record["operation"] == ControlOp.CREDIT) & ((value[:4] == 0) | value[4:].any())


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
