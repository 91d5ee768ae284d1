"""The dispatcher: parameters, indices, queue order, fences, credits, and errors."""

import random
from collections import Counter, deque

import pytest
from systolith.model.validate import prepare, substitute
from systolith_hw.config import CoreConfig
from systolith_hw.dispatch import Dispatcher
from systolith_hw.fetch import Fetch
from systolith_hw.isa import COMMAND_BYTES, COMMANDS, ControlOp, ErrorCode, Opcode

from .simulate import simulate
from .streams import plain

CONFIGS = {
    "words_of_32": CoreConfig.from_dict({
        "bus": {"data_bits": 32}, "control": {"params": 4, "queue_depth": 1, "prefetch": 1}}),
    "words_of_64": CoreConfig.preset("demo"),
    "words_of_256": CoreConfig.from_dict({"bus": {"data_bits": 256, "max_burst": 1}}),
    "words_of_512": CoreConfig.from_dict({
        "bus": {"data_bits": 512}, "control": {"queue_depth": 2}}),
    "compact": CoreConfig.from_dict({
        "bus": {"data_bits": 32, "addr_bits": 20}, "control": {
            "params": 4, "queue_depth": 2, "compact": True}}),
    "compact_words_of_512": CoreConfig.from_dict({
        "bus": {"data_bits": 512, "addr_bits": 20}, "control": {"compact": True}}),
}
# Bits of the address that the programs below draw at random, and how many are walked.
BASES = {Opcode.LOAD: ("memory_base", 21), Opcode.STORE: ("memory_base", 21),
         Opcode.EXECUTE: ("act_base", 11)}
ENGINES = (Opcode.LOAD, Opcode.EXECUTE, Opcode.VECTOR, Opcode.STORE)


def encode(opcode, **values):
    if opcode == Opcode.EXECUTE:
        values = {"k_last": 1, **values}
    return COMMANDS[opcode].encode(values)


def control(operation, register=0, value=0):
    return encode(Opcode.CONTROL, operation=operation, register=register, value=value)


class TB:
    """Words in, commands out, parameter registers and semaphores around a dispatcher."""
    def __init__(self, config, *, seed=0, pause=0.0, drain=0.5):
        self.config, self.pause, self.drain = config, pause, drain
        self.rng = random.Random(seed)
        self.dut = Dispatcher(config=config)
        self.registers = [0] * config.control.params
        self.taken = {opcode: [] for opcode in ENGINES}
        self.credits = Counter()
        self.interrupts = 0
        self.taken_idle = {}   # index: whether the engines were idle when it was taken
        self.error = None
        self.bad_words = set()
        self.fetched = None    # commands that can be fetched, of those asked for
        self.busy_until = 0

    def run(self, records, cycles=6000):
        """Until the program is finished, or an error."""
        width = self.config.bus.data_bytes
        text = b"".join(records)
        words = deque({"data": int.from_bytes(text[i:i + width], "little"),
                       "error": i // width in self.bad_words}
                      for i in range(0, len(text), width))
        self.offered = False

        async def bench(ctx):
            ctx.set(self.dut.commands, len(records) if self.fetched is None else self.fetched)
            ctx.set(self.dut.start, 1)
            await ctx.tick()
            ctx.set(self.dut.start, 0)
            self.cycle = 0
            while self.error is None and not ctx.get(self.dut.finished):
                await self._cycle(ctx, words)
            for _ in range(5):
                assert self.error is not None or ctx.get(self.dut.finished)
                await ctx.tick()

        simulate(self.dut, bench, cycles=cycles)

    async def _cycle(self, ctx, words):
        dut, rng = self.dut, self.rng
        self.offered = bool(words) and (self.offered or rng.random() >= self.pause)
        ctx.set(dut.words.valid, self.offered)
        if self.offered:
            ctx.set(dut.words.payload, words[0])
        ctx.set(dut.fetch_blocked, self.fetched is not None and not words)
        ctx.set(dut.fetch_left, 0 if self.fetched is None else 1)
        for i in range(1, len(self.registers)):
            ctx.set(dut.params[i], self.registers[i])
        drains = [rng.random() < self.drain for _ in ENGINES]
        for i, ready in enumerate(drains):
            ctx.set(dut.command[i].ready, ready)
        raises = rng.random() >= self.pause
        ctx.set(dut.raise_.ready, raises)
        idle = self.cycle >= self.busy_until
        ctx.set(dut.idle, -idle & 0b1111)
        for i, opcode in enumerate(ENGINES):
            if ctx.get(dut.command[i].valid) and drains[i]:
                record = ctx.get(dut.command[i].payload).to_bytes(COMMAND_BYTES, "little")
                self.taken[opcode].append(record)
                self.taken_idle[int.from_bytes(record[12:16], "little")] = idle
                self.busy_until = self.cycle + 60
        if ctx.get(dut.raise_.valid) and raises:
            self.credits[ctx.get(dut.raise_.payload)] += 1
        self.interrupts += ctx.get(dut.interrupt)
        write = (ctx.get(dut.param_number), ctx.get(dut.param_value)) if ctx.get(
            dut.param_write) else None
        if self.offered and ctx.get(dut.words.ready):
            words.popleft()
            self.offered = False
        error = plain(ctx.get(dut.error))
        if error["valid"]:
            self.error = (error["code"], error["index"])
        self.cycle += 1
        await ctx.tick()
        if write:
            self.registers[write[0]] = write[1]


def expected(config, records):
    """Each engine's commands, credits and interrupts, as the model would have them."""
    registers = [0] * config.control.params
    commands = {opcode: [] for opcode in ENGINES}
    credits, interrupts = Counter(), 0
    for index, record in enumerate(records):
        code, opcode, fields = prepare(record, config, registers)
        assert code == ErrorCode.NONE
        if opcode != Opcode.CONTROL:
            word = bytearray(substitute(record, registers))
            word[12:16] = index.to_bytes(4, "little")
            if config.control.compact and opcode in BASES:
                word = fitted(word, *BASES[opcode], opcode)
            commands[opcode].append(bytes(word))
        elif fields["operation"] == ControlOp.PARAM_SET:
            registers[fields["register"]] = fields["value"] & 0xffffffff
        elif fields["operation"] == ControlOp.PARAM_ADD:
            registers[fields["register"]] = (registers[fields["register"]]
                                             + fields["value"]) & 0xffffffff
        elif fields["operation"] == ControlOp.CREDIT:
            credits[fields["register"]] += fields["value"]
        interrupts += opcode == Opcode.CONTROL and fields["operation"] == ControlOp.INTERRUPT
    return commands, credits, interrupts, registers


def fitted(record, name, bits, opcode):
    """An address that has no place in so many bits is the highest alone, in these."""
    field = COMMANDS[opcode].field(name)
    value = int.from_bytes(record, "little")
    address = value >> field.bit & 0xffffffff
    if (1 << bits - 1) <= address < (1 << 32) - (1 << bits - 1):
        value &= ~(((1 << bits) - 1) << field.bit)
        value |= 1 << field.bit + bits - 1
    return value.to_bytes(COMMAND_BYTES, "little")


def random_program(rng, config, length):
    params = config.control.params
    records = []
    for register in range(1, params):
        records.append(control(ControlOp.PARAM_SET, register, rng.randrange(1, 1 << 16)))
    while len(records) < length:
        opcode = rng.choice([*ENGINES, Opcode.CONTROL, Opcode.CONTROL])
        if opcode == Opcode.CONTROL:
            operation = rng.choice(list(ControlOp))
            register, value = 0, rng.randrange(1, 16)
            if operation in (ControlOp.PARAM_SET, ControlOp.PARAM_ADD):
                register = rng.randrange(1, params)
                value = rng.choice([rng.randrange(1, 100), -1])
            elif operation == ControlOp.CREDIT:
                register = rng.randrange(config.control.semaphores)
            record = control(operation, register, value)
        else:
            # Slots 0 to 2 are counts of every kind of command.
            field = {Opcode.EXECUTE: "act_base", Opcode.VECTOR: "source_base"}.get(
                opcode, "memory_base")
            record = encode(opcode, **{field: rng.getrandbits(32)}, level0=rng.choice([2, 15]),
                            counts=[rng.randrange(1, 1 << 16) for _ in range(3)],
                            address_param=rng.randrange(params), count_param=rng.randrange(params),
                            count_level=rng.randrange(3), raise0_valid=1, raise0=rng.randrange(32))
        if prepare(record, config, expected(config, records)[3])[0] == ErrorCode.NONE:
            records.append(record)
    return records


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pause, drain", [(0.0, 1.0), (0.3, 0.2)])
def test_commands_reach_their_queues_in_order_with_parameters_and_index(name, pause, drain):
    config = CONFIGS[name]
    rng = random.Random(name)
    records = random_program(rng, config, 50)
    tb = TB(config, pause=pause, drain=drain)
    tb.run(records)
    assert tb.error is None and tb.credits
    assert (tb.taken, tb.credits, tb.interrupts, tb.registers) == expected(config, records)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_fence_holds_what_follows_until_the_engines_are_idle(name):
    tb = TB(CONFIGS[name], drain=0.3)
    tb.run([encode(Opcode.LOAD), encode(Opcode.STORE), control(ControlOp.FENCE),
            encode(Opcode.VECTOR)])
    assert tb.error is None
    assert sorted(tb.taken_idle) == [0, 1, 3] and tb.taken_idle[3]


def test_a_full_queue_holds_up_the_program_but_not_the_other_engines():
    tb = TB(CONFIGS["words_of_64"])
    depth = tb.config.control.queue_depth

    async def bench(ctx):
        records = [encode(Opcode.LOAD)] * (depth + 1) + [encode(Opcode.STORE)]
        words = deque(int.from_bytes(record[i:i + 8], "little") for record in records
                      for i in range(0, 64, 8))
        ctx.set(tb.dut.commands, len(records))
        ctx.set(tb.dut.start, 1)
        await ctx.tick()
        ctx.set(tb.dut.start, 0)
        ctx.set(tb.dut.words.valid, 1)
        for cycle in range(200):
            ctx.set(tb.dut.words.payload.data, words[0] if words else 0)
            ctx.set(tb.dut.words.valid, bool(words))
            ctx.set(tb.dut.command[0].ready, cycle == 120)
            if cycle == 110:
                # The queue full, one of it at the engine; the next one held back.
                assert ctx.get(tb.dut.index) == depth and ctx.get(tb.dut.blocked)
                assert not ctx.get(tb.dut.command[3].valid)
            if words and ctx.get(tb.dut.words.ready):
                words.popleft()
            await ctx.tick()
        assert ctx.get(tb.dut.command[3].valid)

    simulate(tb.dut, bench)


GOOD = encode(Opcode.LOAD)
RESERVED_BIT = GOOD[:1] + b"\1" + GOOD[2:16] + bytes(2) + GOOD[18:]    # and a count of 0


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("record, code", [
    (bytes(64), ErrorCode.BAD_OPCODE),
    (bytes([200]) + bytes(63), ErrorCode.BAD_OPCODE),
    (encode(Opcode.LOAD, mode=3), ErrorCode.BAD_FIELD),
    (encode(Opcode.LOAD, index=1), ErrorCode.BAD_FIELD),
    (RESERVED_BIT, ErrorCode.BAD_FIELD),
    (encode(Opcode.LOAD, run_bytes=0), ErrorCode.ZERO_COUNT),
    (encode(Opcode.EXECUTE, counts=[1, 1, 0]), ErrorCode.ZERO_COUNT),
    # The register it is to be replaced by reads 0.
    (encode(Opcode.LOAD, counts=[5], count_param=1), ErrorCode.ZERO_COUNT),
    (control(ControlOp.CREDIT, 1, 0), ErrorCode.BAD_FIELD),
    (control(ControlOp.CREDIT, 1, 16), ErrorCode.BAD_FIELD),
    (control(ControlOp.CREDIT, 1, -1), ErrorCode.BAD_FIELD),
    (control(ControlOp.PARAM_SET, 0, 1), ErrorCode.BAD_FIELD),
    (control(7), ErrorCode.BAD_FIELD),
])
def test_reports_what_is_wrong_with_a_command(name, record, code):
    config = CONFIGS[name]
    assert prepare(record, config, [0] * config.control.params)[0] == code
    tb = TB(config, drain=1)
    tb.run([GOOD, GOOD, record, GOOD])
    assert tb.error == (code, 2)
    assert not tb.credits


def test_reports_a_word_that_the_bus_could_not_read():
    tb = TB(CONFIGS["words_of_64"])
    tb.bad_words = {11}
    tb.run([GOOD] * 3)
    assert tb.error == (ErrorCode.READ_RESPONSE, 1)


def test_reports_a_program_that_leaves_the_window():
    tb = TB(CONFIGS["words_of_64"])
    tb.fetched = 3
    tb.run([GOOD] * 2)
    assert tb.error == (ErrorCode.MEMORY_ADDRESS, 2)


@pytest.mark.parametrize("data_bits, max_burst", [(32, 4), (32, 16), (64, 256), (512, 1)])
def test_fetch_asks_for_every_word_once_inside_the_window(data_bits, max_burst):
    config = CoreConfig.from_dict({"bus": {"data_bits": data_bits, "max_burst": max_burst,
                                           "read_words": 256}})
    dut = Fetch(config=config)
    size = config.bus.data_bytes
    asked = []

    async def bench(ctx):
        rng = random.Random(0)
        ctx.set(dut.address, 256)
        ctx.set(dut.commands, 5)
        ctx.set(dut.window_bytes, 256 + 4 * 64)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for _ in range(150):
            ready = rng.random() < 0.5
            ctx.set(dut.bursts.ready, ready)
            if ctx.get(dut.bursts.valid) and ready:
                burst = plain(ctx.get(dut.bursts.payload))
                assert burst["words"] < max_burst
                asked.extend(range(burst["word"], burst["word"] + burst["words"] + 1))
            await ctx.tick()
        assert ctx.get(dut.blocked) and ctx.get(dut.left) == 1

    simulate(dut, bench)
    assert asked == list(range(256 // size, 512 // size))
