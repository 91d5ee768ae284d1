"""A stand-in for the core: the same ports, and just enough behind them to try the harness on."""

import pytest
from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_hw.cells import check
from systolith_hw.config import CoreConfig
from systolith_hw.registers import REGISTERS, constants


class Copier(wiring.Component):
    """Copies `program_commands` (1 to 4) bus words from `program_address` to `param1`.

    Faults on request, by bits of `param2`: 1 raises wlast in the wrong place, 2 withdraws awvalid,
    4 crosses a 4 KB boundary, 8 fails an assertion, 16 never ends.
    """

    def __init__(self, config):
        self.config = config
        bits, addr = config.bus.data_bits, config.bus.addr_bits
        request = {"valid": Out(1), "ready": In(1), "id": Out(1), "addr": Out(addr), "len": Out(8),
                   "size": Out(3), "burst": Out(2), "cache": Out(4), "prot": Out(3)}
        channels = {
            "aw": request, "ar": request,
            "w": {"valid": Out(1), "ready": In(1), "data": Out(bits), "strb": Out(bits // 8),
                  "last": Out(1)},
            "b": {"valid": In(1), "ready": Out(1), "id": In(1), "resp": In(2)},
            "r": {"valid": In(1), "ready": Out(1), "id": In(1), "data": In(bits), "resp": In(2),
                  "last": In(1)},
        }
        lite_request = {"valid": In(1), "ready": Out(1), "addr": In(12), "prot": In(3)}
        lite_channels = {
            "aw": lite_request, "ar": lite_request,
            "w": {"valid": In(1), "ready": Out(1), "data": In(32), "strb": In(4)},
            "b": {"valid": Out(1), "ready": In(1), "resp": Out(2)},
            "r": {"valid": Out(1), "ready": In(1), "data": Out(32), "resp": Out(2)},
        }
        super().__init__({
            **{f"m_axi_{channel}{name}": member for channel, members in channels.items()
               for name, member in members.items()},
            **{f"s_axil_{channel}{name}": member for channel, members in lite_channels.items()
               for name, member in members.items()},
            "irq": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        registers = {name: Signal(32, name=name) for name in (
            "program_address", "program_commands", "window_low", "window_bytes",
            "interrupt_enable", "param1", "param2", "counter_cycles")}
        start, reset, clear = Signal(), Signal(), Signal()
        busy, done, error, interrupt = Signal(), Signal(), Signal(), Signal()
        error_code = Signal(32)
        words = Array(Signal(self.config.bus.data_bits, name=f"word{i}", reset_less=True)
                      for i in range(4))
        index = Signal(3)
        failed = Signal()
        size = (self.config.bus.data_bytes - 1).bit_length()
        faults = registers["param2"]

        m.d.comb += [
            self.irq.eq(interrupt),
            self.m_axi_araddr.eq(registers["window_low"] + registers["program_address"]),
            self.m_axi_awaddr.eq(registers["window_low"] + registers["param1"]),
            self.m_axi_arlen.eq(registers["program_commands"] - 1),
            self.m_axi_awlen.eq(registers["program_commands"] - 1),
            self.m_axi_arsize.eq(size), self.m_axi_awsize.eq(size),
            self.m_axi_arburst.eq(1), self.m_axi_awburst.eq(1),
            self.m_axi_wdata.eq(words[index[:2]]), self.m_axi_wstrb.eq(~0),
            self.m_axi_wlast.eq((index == self.m_axi_awlen) ^ faults[0]),
        ]
        check(m, platform, ~(busy & faults[3]), "bit 3 of param2 must be 0")
        m.d.sync += registers["counter_cycles"].eq(registers["counter_cycles"] + busy)
        with m.FSM():
            with m.State("idle"):
                with m.If(start):
                    m.d.sync += [busy.eq(1), done.eq(0), error.eq(0), index.eq(0), failed.eq(0),
                                 registers["counter_cycles"].eq(0)]
                    m.next = "ask"
            with m.State("ask"):
                m.d.comb += self.m_axi_arvalid.eq(1)
                with m.If(self.m_axi_arready):
                    m.next = "read"
            with m.State("read"):
                m.d.comb += self.m_axi_rready.eq(1)
                with m.If(self.m_axi_rvalid):
                    m.d.sync += [words[index[:2]].eq(self.m_axi_rdata), index.eq(index + 1)]
                    with m.If(self.m_axi_rresp != 0):
                        m.d.sync += failed.eq(1)
                    with m.If(self.m_axi_rlast):
                        m.d.sync += index.eq(0)
                        m.next = "address"
            with m.State("address"):
                m.d.comb += self.m_axi_awvalid.eq(1)
                with m.If(self.m_axi_awready & ~faults[4]):
                    m.next = "write"
                with m.Elif(faults[1]):
                    m.next = "write"
            with m.State("write"):
                m.d.comb += self.m_axi_wvalid.eq(1)
                with m.If(self.m_axi_wready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == self.m_axi_awlen):
                        m.next = "answer"
            with m.State("answer"):
                m.d.comb += self.m_axi_bready.eq(1)
                with m.If(self.m_axi_bvalid):
                    bad = failed | (self.m_axi_bresp != 0)
                    m.d.sync += [busy.eq(0), done.eq(~bad), error.eq(bad),
                                 error_code.eq(6), interrupt.eq(1)]
                    m.next = "idle"

        write = self.s_axil_awvalid & self.s_axil_wvalid & ~self.s_axil_bvalid
        m.d.comb += [self.s_axil_awready.eq(write), self.s_axil_wready.eq(write)]
        with m.If(write):
            m.d.sync += self.s_axil_bvalid.eq(1)
            with m.Switch(self.s_axil_awaddr):
                for name in ("program_address", "program_commands", "window_low", "window_bytes",
                             "interrupt_enable", "param1", "param2"):
                    with m.Case(REGISTERS[name].offset):
                        m.d.sync += registers[name].eq(self.s_axil_wdata)
                with m.Case(REGISTERS["control"].offset):
                    m.d.comb += [start.eq(self.s_axil_wdata[0]), reset.eq(self.s_axil_wdata[1]),
                                 clear.eq(self.s_axil_wdata[2])]
        with m.Elif(self.s_axil_bready):
            m.d.sync += self.s_axil_bvalid.eq(0)
        with m.If(clear | reset):
            m.d.sync += interrupt.eq(0)

        readable = {REGISTERS[name].offset: value
                    for name, value in constants(self.config).items()}
        readable[REGISTERS["status"].offset] = busy | done << 1 | error << 2 | interrupt << 3
        readable[REGISTERS["error_code"].offset] = error_code
        readable[REGISTERS["counter_cycles"].offset if "counter_cycles" in REGISTERS else 0x100] = \
            registers["counter_cycles"]
        m.d.comb += self.s_axil_arready.eq(~self.s_axil_rvalid)
        with m.If(self.s_axil_arvalid & ~self.s_axil_rvalid):
            m.d.sync += [self.s_axil_rvalid.eq(1), self.s_axil_rdata.eq(0)]
            with m.Switch(self.s_axil_araddr):
                for offset, value in readable.items():
                    with m.Case(offset):
                        m.d.sync += self.s_axil_rdata.eq(value)
        with m.Elif(self.s_axil_rready):
            m.d.sync += self.s_axil_rvalid.eq(0)
        return m


@pytest.fixture
def copier():
    """Make a stand-in for the core of a configuration."""
    return Copier


@pytest.fixture
def copier_config():
    """Configuration of a bus of the given width."""
    def make(data_bits=64):
        return CoreConfig.from_dict({"name": "copier", "bus": {"data_bits": data_bits}})
    return make
