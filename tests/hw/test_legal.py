"""Which commands a core takes: every field's values against what the bit-exact model says."""

import random

import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.model.validate import prepare
from systolith_hw.config import CoreConfig
from systolith_hw.isa import (
    COMMANDS,
    ControlOp,
    ErrorCode,
    Function,
    Memory,
    Opcode,
    Reduction,
    ResultType,
    Scale,
    jumps_of,
)
from systolith_hw.legal import (
    COUNT_SLOTS,
    bad_credit,
    bad_field,
    loops_of,
    supported,
    words_of,
    zero_count,
)
from systolith_hw.record import RECORD_BITS, Record

from .simulate import simulate

CONFIGS = {
    "demo": CoreConfig.preset("demo"),
    "tiny": CoreConfig.preset("tiny"),
    "wide": CoreConfig.from_dict({"array": {"rows": 3, "cols": 5}, "bus": {"data_bits": 512},
                                  "control": {"semaphores": 16, "execute_loops": 5,
                                              "load_loops": 1, "params": 8}}),
    "no row file": CoreConfig.from_dict({"vector": {"rows": 0, "functions": 256}}),
    "row file only": CoreConfig.from_dict({"vector": {"elementwise": False, "multiply": False,
                                                      "functions": 0, "rows": 16}}),
    "tables of bytes": CoreConfig.from_dict({"vector": {"multiply": False, "lanes": 2}}),
    "squares": CoreConfig.from_dict({"vector": {"functions": 0, "elementwise": False}}),
    "elements only": CoreConfig.from_dict({"vector": {"functions": 0, "multiply": False,
                                                      "rows": 0}}),
}
COMBINATIONS = 400  # commands with anything in all small fields


class Judge(wiring.Component):
    """The checks of all words of a command, without the dispatcher around them."""
    def __init__(self, config):
        self.config = config
        super().__init__({"record": In(RECORD_BITS), "bad": Out(1), "zero": Out(1)})

    def elaborate(self, platform):
        m = Module()
        width = self.config.bus.data_bits
        with m.Switch(self.record[:8]):
            for opcode in Opcode:
                with m.Case(opcode):
                    words = [self.record[i * width:(i + 1) * width]
                             for i in range(words_of(self.config))]
                    bad = [bad_field(opcode, word, i, self.config) for i, word in enumerate(words)]
                    if opcode == Opcode.CONTROL:
                        bad.append(bad_credit(Record(COMMANDS[opcode], self.record)))
                    m.d.sync += [
                        self.bad.eq(Cat(bad).any()),
                        self.zero.eq(Cat(zero_count(opcode, word, i)
                                         for i, word in enumerate(words)).any()),
                    ]
        return m


def judge(config, records):
    """What the hardware's checks say of each record."""
    dut = Judge(config)
    codes = []

    async def bench(ctx):
        for record in records:
            ctx.set(dut.record, int.from_bytes(record, "little"))
            await ctx.tick()
            bad, zero = ctx.get(dut.bad), ctx.get(dut.zero)
            codes.append(ErrorCode.BAD_FIELD if bad else ErrorCode.ZERO_COUNT if zero
                         else ErrorCode.NONE)

    simulate(dut, bench, cycles=len(records) + 2)
    return codes


def random_good(rng, config, opcode):
    """Fields of a command that ``config`` takes."""
    control = config.control
    values = {"opcode": int(opcode)}
    command = COMMANDS[opcode]
    if opcode == Opcode.CONTROL:
        operation = rng.choice(list(ControlOp))
        register = {ControlOp.PARAM_SET: rng.randrange(1, control.params),
                    ControlOp.PARAM_ADD: rng.randrange(1, control.params),
                    ControlOp.CREDIT: rng.randrange(control.semaphores)}.get(operation, 0)
        return {**values, "operation": int(operation), "register": register,
                "value": rng.randrange(1, 16)}
    loops = loops_of(opcode, config)
    levels = range(2 if opcode == Opcode.EXECUTE else 0, loops)
    for slot in range(2):
        values[f"level{slot}"] = rng.choice([15, *levels])
        for what in ("wait", "raise"):
            if rng.random() < 0.5:
                values[f"{what}{slot}_valid"] = 1
                values[f"{what}{slot}"] = rng.randrange(control.semaphores)
    values["ring"] = [rng.randrange(16) for _ in range(4)]
    counts = [rng.choice([1, rng.randrange(1, 1 << config.count_bits)]) for _ in range(loops)]
    values["counts"] = counts
    for field in command.body:
        if field.name.endswith(("jumps", "base", "rewind", "step")) and "eserved" not in field.text:
            numbers = [rng.randint(field.low, field.high) for _ in range(field.count)]
            values[field.name] = numbers if field.count > 1 else numbers[0]
    if opcode in (Opcode.LOAD, Opcode.STORE):
        values |= {"run_bytes": rng.randrange(1, 1 << 16), "row_bytes": rng.randrange(1, 1 << 16)}
    if opcode == Opcode.LOAD:
        memories = [memory for memory in Memory
                    if memory != Memory.FUN or config.vector.functions]
        values |= {"memory": rng.choice(memories), "mode": rng.randrange(2),
                   "fill": rng.randrange(-128, 128)}
    if opcode == Opcode.EXECUTE:
        values |= {"k_last": rng.randint(1, config.array.rows), "accumulate": rng.randrange(2)}
    if opcode == Opcode.VECTOR:
        values |= random_meaning(rng, config)
    return {name: value if isinstance(value, list) else int(value)
            for name, value in values.items()}


def random_meaning(rng, config):
    """What a vector command computes, such that ``config`` takes it."""
    command, unit = COMMANDS[Opcode.VECTOR], config.vector
    values = {"tail": rng.randrange(unit.lanes + 1), "function_shift": rng.randrange(24)}
    for field in command.body:
        if field.values:
            values[field.name] = rng.choice(sorted(supported(command, field.name, config)))
        elif field.bits == 1:
            values[field.name] = rng.randrange(2)
        elif field.name in ("clamp_low", "clamp_high", "zero_point", "immediate"):
            values[field.name] = rng.randint(field.low, field.high)
    if values["result_type"] in (ResultType.ROW_SCALE, ResultType.ROW_ROOT):
        values |= {"function": Function.LINEAR, "function_first": 1, "scale": Scale.UNIT}
    if values["result_type"] > ResultType.NONE or not unit.rows:
        values["sum_results"] = 0
    if values["function"] in (Function.PRODUCT, Function.WEIGHTED):
        values["function_first"] = 1
    if values["function"] == Function.CHANNEL:
        values["function_first"] = 0
    if not unit.elementwise:
        values |= {"masked": 0, "fold": 0}
    if not unit.combines:
        values["fine"] = 0
    if not unit.rows and values["reduce"]:
        values["fold"] = 1
    if not values["reduce"]:
        values["fold"] = 0
    if values["result_type"] == ResultType.ROW_VALUE and not values["fold"]:
        values["reduce"] = Reduction.NONE
    return values


def combinations(rng, config):
    """Vector commands with anything in the fields that say what is computed."""
    command = COMMANDS[Opcode.VECTOR]
    for _ in range(COMBINATIONS):
        values = random_good(rng, config, Opcode.VECTOR)
        for name in rng.sample([field.name for field in command.body
                                if field.values or field.bits == 1], 6):
            field = command.field(name)
            values[name] = rng.randint(field.low, field.high)
        yield command.encode(values)


def mutations(rng, config, opcode):
    """Commands with one field changed to each of its values, or to the telling ones of many."""
    command = COMMANDS[opcode]
    for field in command.fields:
        if field.name in ("opcode", "index"):
            continue
        edges = {field.low, field.low + 1, 0, 1, 2, field.high - 1, field.high,
                 config.array.rows, config.array.rows + 1, config.control.semaphores,
                 config.control.semaphores - 1, config.control.params, config.control.params - 1,
                 *(1 << i for i in range(field.bits))}
        choices = (range(field.low, field.high + 1) if field.bits <= 5
                   else sorted(v for v in edges if field.low <= v <= field.high))
        for value in choices:
            for entry in range(field.count):
                good = random_good(rng, config, opcode)
                if field.count == 1:
                    good[field.name] = value
                else:
                    numbers = list(good.get(field.name, []))
                    numbers += [field.default] * (field.count - len(numbers))
                    numbers[entry] = value
                    good[field.name] = numbers
                yield command.encode(good)
    reserved = command.reserved_mask
    for bit in range(RECORD_BITS):
        if reserved >> bit & 1:
            record = command.encode(random_good(rng, config, opcode))
            yield (int.from_bytes(record, "little") | 1 << bit).to_bytes(64, "little")


def fields(record):
    return COMMANDS[Opcode(record[0])].decode(record)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("opcode", list(Opcode))
def test_flags_exactly_the_field_values_that_the_model_refuses(name, opcode):
    config = CONFIGS[name]
    rng = random.Random(f"{name} {opcode}")
    registers = [0] * config.control.params
    # The dispatcher puts parameter registers in before a command is judged; here they are not used.
    records = [record for record in mutations(rng, config, opcode)
               if fields(record)["count_param"] not in range(1, config.control.params)]
    if opcode == Opcode.VECTOR:
        records += combinations(rng, config)
    codes = judge(config, records)
    for record, code in zip(records, codes, strict=True):
        assert code == prepare(record, config, registers)[0], fields(record)
    assert {ErrorCode.NONE, ErrorCode.BAD_FIELD} <= set(codes)


@pytest.mark.parametrize("name", CONFIGS)
def test_takes_good_commands(name):
    config = CONFIGS[name]
    rng = random.Random(name)
    records = [COMMANDS[opcode].encode(random_good(rng, config, opcode))
               for opcode in Opcode for _ in range(40)]
    assert judge(config, records) == [ErrorCode.NONE] * len(records)


def test_flags_a_count_level_beyond_the_slots():
    records = [COMMANDS[Opcode.LOAD].encode({"count_level": level}) for level in range(16)]
    codes = judge(CONFIGS["demo"], records)
    assert [code == ErrorCode.BAD_FIELD for code in codes] == [
        level >= COUNT_SLOTS for level in range(16)]


def test_takes_what_the_assembler_computes():
    counts, strides = [3, 2, 4, 1, 2, 2], [1, 40, 3, 0, 80, 0]
    record = COMMANDS[Opcode.EXECUTE].encode({
        "counts": counts, "act_jumps": jumps_of(counts, strides), "k_last": 8})
    assert judge(CONFIGS["demo"], [record]) == [ErrorCode.NONE]
