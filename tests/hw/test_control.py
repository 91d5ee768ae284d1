"""Control: registers over AXI4-Lite, the core's state, errors, resets, interrupt and counters."""

import random

import pytest
from systolith_hw.config import CoreConfig
from systolith_hw.control import Control
from systolith_hw.isa import ErrorCode
from systolith_hw.registers import COUNTERS, REGISTERS, constants

from .simulate import simulate

CONFIG = CoreConfig.preset("demo")
START, RESET, CLEAR = (1 << REGISTERS["control"].bits.index(bit)
                       for bit in ("start", "reset", "clear_interrupt"))


class Bus:
    """A register master; address and data of a write come in any order."""
    def __init__(self, ctx, dut, rng):
        self.ctx, self.dut, self.rng = ctx, dut, rng

    async def write(self, name, value):
        ctx, dut, rng = self.ctx, self.dut, self.rng
        ctx.set(dut.awaddr, REGISTERS[name].offset)
        ctx.set(dut.wdata, value)
        ctx.set(dut.wstrb, 15)
        delays = {"aw": rng.randrange(3), "w": rng.randrange(3)}
        for cycle in range(20):
            for channel, delay in delays.items():
                ctx.set(getattr(dut, f"{channel}valid"), delay is not None and cycle >= delay)
            ctx.set(dut.bready, cycle > 5)
            *_, aw, w, b = await ctx.tick().sample(
                dut.awvalid & dut.awready, dut.wvalid & dut.wready, dut.bvalid & dut.bready)
            delays["aw"] = None if aw else delays["aw"]
            delays["w"] = None if w else delays["w"]
            if b:
                ctx.set(dut.bready, 0)
                return
        raise TimeoutError("a write must be answered")

    async def read(self, name):
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.araddr, REGISTERS[name].offset)
        ctx.set(dut.arvalid, 1)
        await ctx.tick().until(dut.arready)
        ctx.set(dut.arvalid, 0)
        for _ in range(self.rng.randrange(4)):
            await ctx.tick()
        ctx.set(dut.rready, 1)
        *_, value = await ctx.tick().sample(dut.rdata).until(dut.rvalid)
        ctx.set(dut.rready, 0)
        return value

    async def status(self):
        value = await self.read("status")
        return {bit for i, bit in enumerate(REGISTERS["status"].bits) if value >> i & 1}


def run(body, config=CONFIG):
    dut = Control(config=config)

    async def bench(ctx):
        ctx.set(dut.bus_idle, 1)
        await body(ctx, dut, Bus(ctx, dut, random.Random(0)))

    simulate(dut, bench, cycles=3000)


def test_identifies_the_core_and_keeps_what_is_written():
    async def body(ctx, dut, bus):
        for name, value in constants(CONFIG).items():
            assert await bus.read(name) == value
        written = {"program_address": 0x12345640, "program_commands": 0x54321,
                   "window_low": 0xabcde000, "window_bytes": 0xffffffff, "interrupt_enable": 6,
                   "param1": 0xdeadbeef, "param15": 7}
        for name, value in written.items():
            await bus.write(name, value)
        for name, value in written.items():
            assert await bus.read(name) == value
        assert ctx.get(dut.window) == 0xabcde000
        assert ctx.get(dut.params[15]) == 7 and ctx.get(dut.params[0]) == 0
        await bus.write("window_low", 0xfff)
        assert await bus.read("window_low") == 0, "the window starts at a multiple of 4096"

    run(body)


@pytest.mark.parametrize("written", [0, 1, (1 << 17) - 64, 1 << 17, (1 << 17) + 1, 0xffffffff])
def test_a_compact_core_takes_what_is_beyond_memory_for_the_least_that_is(written):
    tiny = CoreConfig.preset("tiny")

    async def body(ctx, dut, bus):
        for name, most in (("program_address", 1 << 17), ("window_bytes", 1 << 17),
                           ("program_commands", 1 << 12)):
            await bus.write(name, written)
            assert await bus.read(name) == min(written, most)

    assert tiny.control.compact
    run(body, tiny)


def test_a_program_runs_from_start_to_finished():
    async def body(ctx, dut, bus):
        await bus.write("interrupt_enable", 1)
        seen = []
        ctx.set(dut.awaddr, REGISTERS["control"].offset)
        ctx.set(dut.wdata, START)
        ctx.set(dut.awvalid, 1)
        ctx.set(dut.wvalid, 1)
        await ctx.tick()
        ctx.set(dut.awvalid, 0)
        ctx.set(dut.wvalid, 0)
        ctx.set(dut.bready, 1)
        ctx.set(dut.finished, 1)  # as it is before anything has begun
        for _ in range(6):
            seen.append((ctx.get(dut.clear), ctx.get(dut.begin)))
            if ctx.get(dut.begin):
                ctx.set(dut.finished, 0)
            await ctx.tick()
        assert seen.count((1, 0)) == 1 and seen.count((0, 1)) == 1
        assert seen.index((0, 1)) == seen.index((1, 0)) + 1, "begin comes after clear"
        assert await bus.status() == {"busy"}
        await bus.write("control", START)
        assert not ctx.get(dut.clear), "a second start does nothing"
        assert ctx.get(dut.irq) == 0
        ctx.set(dut.finished, 1)
        await ctx.tick()
        assert await bus.status() == {"done", "interrupt"}
        assert ctx.get(dut.irq) == 1
        await bus.write("control", CLEAR)
        assert await bus.status() == {"done"}
        assert ctx.get(dut.irq) == 0

    run(body)


def test_an_error_halts_and_stays_until_a_reset_with_a_quiet_bus():
    async def body(ctx, dut, bus):
        await bus.write("control", START)
        await ctx.tick().repeat(4)
        ctx.set(dut.error, {"valid": 1, "code": ErrorCode.DEADLOCK, "index": 0x4321})
        await ctx.tick()
        ctx.set(dut.error, {"valid": 1, "code": ErrorCode.BAD_FIELD, "index": 1})
        await ctx.tick()
        ctx.set(dut.error, {"valid": 0, "code": 0, "index": 0})
        assert ctx.get(dut.halt) == 1
        assert await bus.status() == {"error", "interrupt"}
        assert await bus.read("error_code") == ErrorCode.DEADLOCK, "the first error counts"
        assert await bus.read("error_index") == 0x4321
        await bus.write("control", START)
        assert await bus.status() == {"error", "interrupt"} and ctx.get(dut.halt) == 1
        ctx.set(dut.bus_idle, 0)
        await bus.write("control", RESET)
        for _ in range(10):
            assert ctx.get(dut.halt) == 1 and ctx.get(dut.clear) == 0
            await ctx.tick()
        assert "resetting" in await bus.status()
        ctx.set(dut.bus_idle, 1)
        await ctx.tick()
        assert ctx.get(dut.clear) == 1 and ctx.get(dut.halt) == 1
        await ctx.tick()
        assert (ctx.get(dut.clear), ctx.get(dut.halt)) == (0, 0)
        assert await bus.status() == set()
        assert await bus.read("error_code") == 0

    run(body)


@pytest.mark.parametrize("bus_idle", [0, 1])
def test_a_start_written_beside_a_reset_begins_nothing(bus_idle):
    async def body(ctx, dut, bus):
        ctx.set(dut.bus_idle, bus_idle)
        begun = False

        async def watch(cycles):
            nonlocal begun
            for _ in range(cycles):
                *_, begin = await ctx.tick().sample(dut.begin)
                begun |= bool(begin)

        ctx.set(dut.awaddr, REGISTERS["control"].offset)
        ctx.set(dut.wdata, START | RESET)
        ctx.set(dut.awvalid, 1)
        ctx.set(dut.wvalid, 1)
        ctx.set(dut.bready, 1)
        await watch(1)
        ctx.set(dut.awvalid, 0)
        ctx.set(dut.wvalid, 0)
        await watch(10)
        ctx.set(dut.bus_idle, 1)
        await watch(10)
        assert not begun
        assert await bus.status() == set()

    run(body)


def test_nothing_is_an_error_before_the_program_has_begun():
    async def body(ctx, dut, bus):
        ctx.set(dut.error, {"valid": 1, "code": 1, "index": 0})
        for _ in range(3):
            await ctx.tick()
        assert await bus.status() == set()

    run(body)


def test_commands_write_parameter_registers():
    async def body(ctx, dut, bus):
        for number, value in ((3, 0xcafe), (0, 5)):
            ctx.set(dut.param_write, 1)
            ctx.set(dut.param_number, number)
            ctx.set(dut.param_value, value)
            await ctx.tick()
        ctx.set(dut.param_write, 0)
        assert await bus.read("param3") == 0xcafe
        assert ctx.get(dut.params[0]) == 0

    run(body)


@pytest.mark.parametrize("all_counters", [True, False])
def test_counters_count_their_events_while_a_program_runs(all_counters):
    config = CoreConfig.from_dict({"control": {"counters": all_counters}})

    async def body(ctx, dut, bus):
        names = list(COUNTERS)
        events = 1 | 1 << names.index("rows") | 1 << names.index("store_stall")
        ctx.set(dut.events, events)
        await ctx.tick().repeat(3)
        await bus.write("control", START)
        await ctx.tick().repeat(20)
        ctx.set(dut.finished, 1)
        await ctx.tick().repeat(9)
        ctx.set(dut.finished, 0)
        found = {name: await bus.read(COUNTERS[name].name) for name in names}
        cycles = found["cycles"]
        assert 20 <= cycles <= 30
        assert found["rows"] == cycles
        assert found["store_stall"] == (cycles if all_counters else 0)
        assert found["load_busy"] == 0
        await bus.write("control", START)
        assert await bus.read("counter_cycles") < 20, "a start sets them to 0"

    run(body, config)
