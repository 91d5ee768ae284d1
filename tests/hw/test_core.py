"""The whole core in Amaranth's simulator: one small program, and what stops one.

Larger programs run on the emitted Verilog, in ``tests/sim``.
"""

from collections import deque

import numpy as np
import pytest
from systolith.errors import CoreError
from systolith.model import CoreModel
from systolith.program import Program, Slot
from systolith_hw.config import CoreConfig
from systolith_hw.core import Core
from systolith_hw.isa import ControlOp, ErrorCode, Memory
from systolith_hw.registers import REGISTERS

from .simulate import simulate

CONFIG = CoreConfig.from_dict({
    "array": {"rows": 2, "cols": 2},
    "memory": {"act_rows": 16, "act_banks": 1, "wgt_rows": 16, "acc_rows": 16, "acc_banks": 1,
               "par_rows": 4},
    "bus": {"data_bits": 32, "max_burst": 4, "read_words": 8, "write_bursts": 2},
    "vector": {"lanes": 1, "functions": 256, "rows": 16},
    "control": {"queue_depth": 1, "prefetch": 1, "semaphores": 4, "params": 2,
                "execute_loops": 4, "load_loops": 2, "vector_loops": 3, "counters": False}})
SIZE = 4096
PROGRAM = 1024


class TB:
    """A core with memory and a host."""
    def __init__(self):
        self.dut = Core(config=CONFIG)
        self.memory = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
        self.memory[512:512 + 4 * 12] = np.array(
            [[100 * i, 1 << 30, -6] for i in range(4)], "<i4").view(np.uint8).reshape(-1)
        self.reads, self.writes, self.words = deque(), deque(), deque()
        self.answers = 0

    def run(self, program, cycles=3000):
        """Run a program; status, error code and index."""
        text = program.encode()
        self.memory[PROGRAM:PROGRAM + len(text)] = np.frombuffer(text, np.uint8)
        self.before = self.memory.copy()
        found = {}

        async def host(ctx):
            for name, value in (("window_bytes", SIZE), ("program_address", PROGRAM),
                                ("program_commands", len(program)), ("interrupt_enable", 3),
                                ("control", 1)):
                await self._set(ctx, REGISTERS[name].offset, value)
            while not ctx.get(self.dut.irq):
                await self._cycle(ctx)
            for name in ("status", "error_code", "error_index"):
                found[name] = await self._get(ctx, REGISTERS[name].offset)

        simulate(self.dut, host, cycles=cycles)
        return found

    async def _set(self, ctx, offset, value):
        dut = self.dut
        ctx.set(dut.s_axil_awaddr, offset)
        ctx.set(dut.s_axil_wdata, value)
        for port in (dut.s_axil_awvalid, dut.s_axil_wvalid, dut.s_axil_bready):
            ctx.set(port, 1)
        await self._cycle(ctx)
        ctx.set(dut.s_axil_awvalid, 0)
        ctx.set(dut.s_axil_wvalid, 0)
        for _ in range(2):
            await self._cycle(ctx)

    async def _get(self, ctx, offset):
        dut = self.dut
        ctx.set(dut.s_axil_araddr, offset)
        ctx.set(dut.s_axil_arvalid, 1)
        ctx.set(dut.s_axil_rready, 0)
        await self._cycle(ctx)
        ctx.set(dut.s_axil_arvalid, 0)
        await self._cycle(ctx)
        value = ctx.get(dut.s_axil_rdata)
        ctx.set(dut.s_axil_rready, 1)
        await self._cycle(ctx)
        return value

    async def _cycle(self, ctx):
        """One cycle of a memory that takes everything at once."""
        dut = self.dut
        ctx.set(dut.m_axi_arready, 1)
        ctx.set(dut.m_axi_awready, 1)
        ctx.set(dut.m_axi_wready, 1)
        ctx.set(dut.m_axi_rvalid, bool(self.reads))
        if self.reads:
            number, address = self.reads[0]
            ctx.set(dut.m_axi_rid, number)
            ctx.set(dut.m_axi_rdata, int.from_bytes(self.memory[address:address + 4], "little"))
        ctx.set(dut.m_axi_bvalid, self.answers > 0)
        if self.reads and ctx.get(dut.m_axi_rready):
            self.reads.popleft()
        if self.answers and ctx.get(dut.m_axi_bready):
            self.answers -= 1
        if ctx.get(dut.m_axi_arvalid):
            first = ctx.get(dut.m_axi_araddr)
            self.reads.extend((ctx.get(dut.m_axi_arid), first + 4 * i)
                              for i in range(ctx.get(dut.m_axi_arlen) + 1))
        if ctx.get(dut.m_axi_awvalid):
            first = ctx.get(dut.m_axi_awaddr)
            self.writes.extend(first + 4 * i for i in range(ctx.get(dut.m_axi_awlen) + 1))
        if ctx.get(dut.m_axi_wvalid):
            self.words.append((ctx.get(dut.m_axi_wdata), ctx.get(dut.m_axi_wstrb),
                               ctx.get(dut.m_axi_wlast)))
        while self.words and self.writes:
            (data, strobe, last), address = self.words.popleft(), self.writes.popleft()
            for lane in range(4):
                if strobe >> lane & 1:
                    self.memory[address + lane] = data >> 8 * lane & 0xff
            self.answers += last
        await ctx.tick()


def matrix_product():
    """Three rows by two columns over K = 3, and stores at an odd address."""
    program = Program(config=CONFIG)
    program.load(memory=Memory.ACT, address=3, run_bytes=12, row=0, row_bytes=2)
    program.load(memory=Memory.WGT, address=40, run_bytes=6, row=0, row_bytes=2)
    program.load(memory=Memory.PAR, address=512, run_bytes=24, row=0, row_bytes=12,
                 slots=[Slot(post="loaded")])
    program.execute(counts=[3, 1, 2, 1], act_row=0, act_strides=[1, 0, 3, 0], acc_row=4,
                    acc_strides=[1, 0, 0, 0], wgt_row=0, k_last=1,
                    slots=[Slot(wait="loaded", post="summed")])
    program.vector(counts=[2, 3, 1], source=8, source_strides=[2, 0], result=40,
                   result_strides=[4, 0], zero_point=3, slots=[Slot(wait="summed", post="ready")])
    program.store(address=2001, run_bytes=6, row=10, row_bytes=2, slots=[Slot(wait="ready")])
    program.control(ControlOp.FENCE)
    return program


def test_a_program_of_all_engines_equals_the_model():
    tb = TB()
    program = matrix_product()
    found = tb.run(program)
    assert found["error_code"] == ErrorCode.NONE and found["status"] & 2
    model = CoreModel(config=CONFIG, memory=tb.before.copy())
    model.run(PROGRAM, len(program))
    assert np.array_equal(tb.memory, model.state.memory)
    assert not np.array_equal(tb.memory, tb.before)


@pytest.mark.parametrize("spoil, code", [
    (lambda p: p.load(memory=Memory.ACT, address=SIZE, run_bytes=1, row=0),
     ErrorCode.MEMORY_ADDRESS),
    (lambda p: p.store(address=0, run_bytes=1, row=0, slots=[Slot(wait="never")]),
     ErrorCode.DEADLOCK),
    (lambda p: p.records.append(bytes(64)), ErrorCode.BAD_OPCODE),
])
def test_reports_the_same_error_as_the_model(spoil, code):
    tb = TB()
    program = Program(config=CONFIG)
    program.load(memory=Memory.ACT, address=3, run_bytes=12, row=0, row_bytes=2)
    spoil(program)
    found = tb.run(program)
    with pytest.raises(CoreError) as info:
        CoreModel(config=CONFIG, memory=tb.before.copy()).run(PROGRAM, len(program))
    assert (found["error_code"], found["error_index"]) == (info.value.code, info.value.index)
    assert info.value.code == code and found["status"] & 4
