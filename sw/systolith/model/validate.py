"""What the dispatcher checks before a command reaches an engine."""

from typing import Any

from systolith_hw.config import CoreConfig
from systolith_hw.isa import (
    COMMANDS,
    COUNTS_BYTE,
    ONCE,
    PRIMARY_BYTE,
    ControlOp,
    ElementType,
    ErrorCode,
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

from .uses import Fields, Uses

__all__ = ["Fields", "engine_loops", "prepare"]

COUNT_SLOTS = 6  # 16-bit slots that a parameter register can replace

_RESERVED_FIELDS = {
    opcode: tuple(f for f in command.fields if "reserved, 0" in f.text.lower())
    for opcode, command in COMMANDS.items()
}
# Name, lowest bit, width, mask, value from which on it is negative, number of entries.
_PLACES = {
    opcode: tuple((f.name, f.bit, f.bits, (1 << f.bits) - 1,
                   1 << (f.bits - 1) if f.signed else 1 << f.bits, f.count)
                  for f in command.fields)
    for opcode, command in COMMANDS.items()
}
_RESERVED_MASKS = {opcode: command.reserved_mask for opcode, command in COMMANDS.items()}
_LOWEST_LEVEL = {Opcode.LOAD: 0, Opcode.EXECUTE: 2, Opcode.VECTOR: 0, Opcode.STORE: 0}


def engine_loops(config: CoreConfig, opcode: Opcode) -> int:
    """Nested loops of the engine that runs ``opcode``."""
    control = config.control
    return {Opcode.LOAD: control.load_loops, Opcode.STORE: control.load_loops,
            Opcode.EXECUTE: control.execute_loops, Opcode.VECTOR: control.vector_loops}[opcode]


def decode(word: int, opcode: Opcode) -> dict[str, Any]:
    """What ``Command.decode`` gives, faster."""
    fields: dict[str, Any] = {}
    for name, bit, bits, mask, negative, count in _PLACES[opcode]:
        value = word >> bit & mask
        if count == 1:
            fields[name] = value - mask - 1 if value >= negative else value
            continue
        entries = []
        for start in range(bit, bit + bits * count, bits):
            value = word >> start & mask
            entries.append(value - mask - 1 if value >= negative else value)
        fields[name] = tuple(entries)
    return fields


def substitute(record: bytes, registers: list[int]) -> bytes:
    """The record with its parameter registers applied."""
    address_param, count_param, count_level = record[3] & 15, record[3] >> 4, record[10] & 15
    if not (address_param or count_param):
        return record
    word = bytearray(record)
    if address_param:
        primary = int.from_bytes(word[PRIMARY_BYTE:PRIMARY_BYTE + 4], "little")
        primary = (primary + registers[address_param]) & 0xffffffff
        word[PRIMARY_BYTE:PRIMARY_BYTE + 4] = primary.to_bytes(4, "little")
    if count_param:
        slot = COUNTS_BYTE + 2 * count_level
        word[slot:slot + 2] = (registers[count_param] & 0xffff).to_bytes(2, "little")
    return bytes(word)


def prepare(record: bytes, config: CoreConfig,
            registers: list[int]) -> tuple[ErrorCode, Opcode, Fields]:
    """Apply parameter registers to a record and check it.

    Returns
    -------
    code : ErrorCode
        ``NONE`` where the command may run.
    opcode : Opcode
    fields : mapping
        Every field's value, after substitution.
    """
    if record[0] not in COMMANDS:
        return ErrorCode.BAD_OPCODE, Opcode.CONTROL, {}
    opcode = Opcode(record[0])
    if (max(record[3] & 15, record[3] >> 4) >= config.control.params
            or record[10] & 15 >= COUNT_SLOTS):
        return ErrorCode.BAD_FIELD, opcode, {}
    word = int.from_bytes(substitute(record, registers), "little")
    fields = decode(word, opcode)
    if (word & _RESERVED_MASKS[opcode] or fields["index"]
            or any(fields[f.name] not in (0, (0,) * f.count) for f in _RESERVED_FIELDS[opcode])):
        return ErrorCode.BAD_FIELD, opcode, fields
    if not (_semaphores_fit(fields, opcode, config) and _CHECKS[opcode](fields, config)):
        return ErrorCode.BAD_FIELD, opcode, fields
    if opcode != Opcode.CONTROL and (
            0 in fields["counts"] or 0 in (fields.get("run_bytes"), fields.get("row_bytes"))):
        return ErrorCode.ZERO_COUNT, opcode, fields
    return ErrorCode.NONE, opcode, fields


def _semaphores_fit(fields: Fields, opcode: Opcode, config: CoreConfig) -> bool:
    for name in ("wait0", "wait1", "raise0", "raise1"):
        if fields[f"{name}_valid"]:
            if fields[name] >= config.control.semaphores or opcode == Opcode.CONTROL:
                return False
    levels = (fields["level0"], fields["level1"])
    if opcode == Opcode.CONTROL:
        return all(level == ONCE for level in levels)
    allowed = range(_LOWEST_LEVEL[opcode], engine_loops(config, opcode))
    return all(level == ONCE or level in allowed for level in levels)


def _loops_fit(fields: Fields, loops: int, config: CoreConfig) -> bool:
    # A zero beyond the loops is reported as a zero count.
    return (all(count in (0, 1) for count in fields["counts"][loops:])
            and all(count >> config.count_bits == 0 for count in fields["counts"]))


def _check_load(fields: Fields, config: CoreConfig) -> bool:
    return (_loops_fit(fields, config.control.load_loops, config)
            and fields["memory"] in set(Memory) and fields["mode"] in set(LoadMode)
            and (fields["memory"] != Memory.FUN or config.vector.functions > 0))


def _check_store(fields: Fields, config: CoreConfig) -> bool:
    return _loops_fit(fields, config.control.load_loops, config) and fields["memory"] == Memory.ACT


def _check_execute(fields: Fields, config: CoreConfig) -> bool:
    return (_loops_fit(fields, config.control.execute_loops, config)
            and 1 <= fields["k_last"] <= config.array.rows
            and fields["format"] in {WeightFormat[name.upper()] for name in config.array.weights})


def _check_vector(fields: Fields, config: CoreConfig) -> bool:
    unit = config.vector
    source, function = fields["source_type"], fields["function"]
    first, result = fields["function_first"], fields["result_type"]
    uses = Uses(fields)
    product = function in (Function.PRODUCT, Function.WEIGHTED)
    return (_loops_fit(fields, config.control.vector_loops, config)
            and source in set(ElementType) and fields["second"] in set(Operand)
            and fields["stream_type"] < ElementType.ACC and result in set(ResultType)
            and function in set(Function) and fields["scale"] in set(Scale)
            and fields["reduce"] in set(Reduction) and fields["tail"] <= unit.lanes
            and fields["function_shift"] <= 23
            and (unit.rows > 0 or not uses.row_file)
            and (unit.elementwise or not uses.scratchpad)
            and (unit.combines or (fields["operation"] == VectorOp.ADD and not fields["fine"]))
            and (unit.multiply or function in (Function.NONE, Function.TABLE))
            and (unit.functions > 0 or not uses.table)
            and (first or not product) and not (first and function == Function.CHANNEL)
            and not (fields["fold"] and not fields["reduce"])
            and (result < ResultType.ROW_VALUE or not fields["sum_results"])
            and (result != ResultType.ROW_VALUE or fields["fold"] or not fields["reduce"])
            and (result not in (ResultType.ROW_SCALE, ResultType.ROW_ROOT)
                 or (function == Function.LINEAR and first and fields["scale"] == Scale.UNIT)))


def _check_control(fields: Fields, config: CoreConfig) -> bool:
    operation = fields["operation"]
    if operation in (ControlOp.PARAM_SET, ControlOp.PARAM_ADD):
        return 1 <= fields["register"] < config.control.params
    if operation == ControlOp.CREDIT:
        return fields["register"] < config.control.semaphores and 1 <= fields["value"] <= 15
    return operation in (ControlOp.FENCE, ControlOp.INTERRUPT)


_CHECKS = {
    Opcode.LOAD: _check_load, Opcode.EXECUTE: _check_execute, Opcode.VECTOR: _check_vector,
    Opcode.STORE: _check_store, Opcode.CONTROL: _check_control,
}
