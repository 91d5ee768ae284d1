"""An SDRAM in Verilog: LiteDRAM's memory model behind the pins of a chip."""

import re
from pathlib import Path
from unittest.mock import patch

from amaranth.hdl import ClockSignal, IOPort, Module
from amaranth.lib import wiring
from systolith_boards.soc.external import ExternalMemory
from systolith_boards.soc.litedram import Geometry, litedram, plain, slowest
from systolith_boards.soc.memory import link_ports, slave_ports
from systolith_boards.soc.sdram import Sdram
from systolith_hw.cells import flat_ports
from systolith_hw.config import BusConfig

CHIP = Geometry(row_bits=13, column_bits=9, bank_bits=2, data_bits=16)
CLOCK_HZ = 40e6
PINS = ("clk", "clk_en", "cs", "ras", "cas", "we", "ba", "a", "dqm", "dq")
STATE = {"failure": 8, "mode": 13, "modes": 32, "refreshes": 32, "gap": 32}


def memory_chip(geometry: Geometry = CHIP, clock_hz: float = CLOCK_HZ) -> str:
    """Module ``memory_chip``, whose timing is checked by LiteDRAM's model."""
    from litedram.common import PhySettings
    from litedram.phy import model
    from litex.gen.fhdl.verilog import convert
    from migen import ClockDomain, Module, Signal
    violated = Signal(name="violated")
    m = Module()
    m.clock_domains.sys = ClockDomain()
    settings = PhySettings(
        phytype="SDRAMPHYModel", memtype="SDR", databits=geometry.data_bits,
        dfi_databits=geometry.data_bits, nphases=1, rdphase=0, wrphase=0, cl=2, read_latency=1,
        write_latency=0)
    with patch.object(model, "Display", lambda *_: violated.eq(1)):
        m.submodules.model = memory = model.SDRAMPHYModel(
            slowest(geometry)(clock_hz, "1:1"), settings, clk_freq=clock_hz,
            verbosity=model.SDRAM_VERBOSE_STD)
    pins = memory.dfi.p0
    text = plain(convert(m, {
        m.sys.clk, m.sys.rst, violated, pins.address, pins.bank, pins.cs_n, pins.ras_n,
        pins.cas_n, pins.we_n, pins.wrdata, pins.wrdata_mask, pins.rddata,
        pins.rddata_valid}, name="memory_model"))
    chip = (Path(__file__).parent / "memory_chip.v").read_text()
    for name, value in {"BANK_BITS": geometry.bank_bits, "DATA_BITS": geometry.data_bits,
                        "ADDRESS_BITS": max(geometry.row_bits, geometry.column_bits),
                        "POWER_UP": round(200e-6 * clock_hz)}.items():
        chip = re.sub(rf"\b{name}\b", str(value), chip)
    return f"{text}\n{chip}"


def board_around(name: str, component: wiring.Component) -> str:
    """Module ``board``: ``component``, emitted as ``name``, and a memory chip at its ``sdram_*``.

    It has the other ports of ``component`` and those of the chip's state; a lamp more, behind those
    of ``led``, is lit when the chip has found a rule broken.
    """
    ports = {port: (len(value), is_input)
             for port, (value, is_input) in flat_ports(component).items()}
    if "clk" not in ports:
        ports |= {"clk": (1, True), "rst": (1, True)}   # of the clock domain
    ports["sdram_dq"] = (CHIP.data_bits, False)
    inner = {port: f"{port}_lamps" if port == "led" else port for port in ports}
    declared = [f"output [{width - 1}:0] chip_{port}" for port, width in STATE.items()]
    lines = []
    for port, (width, is_input) in ports.items():
        if port.startswith("sdram_"):
            lines.append(f"wire [{width - 1}:0] {port};")
        elif port == "led":
            declared.append(f"output [{width}:0] led")
            lines += [f"wire [{width - 1}:0] {inner[port]};",
                      f"assign led = {{|chip_failure, {inner[port]}}};"]
        else:
            declared.append(f"{'input' if is_input else 'output'} [{width - 1}:0] {port}")
    driver = [f".{port}({wire})" for port, wire in inner.items()]
    chip = [*(f".{pin}(sdram_{pin})" for pin in PINS),
            *(f".{port}(chip_{port})" for port in STATE)]
    return "\n".join([
        f"module board({', '.join(declared)});", *lines, f"{name} driver({', '.join(driver)});",
        f"memory_chip chip({', '.join(chip)});", "endmodule", ""])


class MemorySystem(wiring.Component):
    """External memory and its controller, with the core's bus, the link's words, and pins."""
    def __init__(self, *, data_bits: int, clock_hz: float = CLOCK_HZ):
        self.controller = litedram(CHIP, clock_hz)
        self.front = ExternalMemory(config=BusConfig(data_bits=data_bits), size=CHIP.size)
        self.dq = IOPort(CHIP.data_bits, name="sdram_dq")
        self.back = Sdram(geometry=CHIP, controller=self.controller, word_bits=data_bits,
                          dq=self.dq)
        ports = slave_ports(self.front.config)
        super().__init__({
            **{f"s_axi_{name}": member for name, member in ports.items()},
            **link_ports(CHIP.size),
            **{f"sdram_{name}": wiring.Out(width) for name, width in
               (("clk", 1), *self.back.pads.outputs.items())}})

    def elaborate(self, platform):
        m = Module()
        m.submodules.front = front = self.front
        m.submodules.back = back = self.back
        wiring.connect(m, front.beats, back.beats)
        wiring.connect(m, back.words, front.words)
        m.d.comb += back.clock.eq(~ClockSignal())  # half a cycle later
        wiring.connect(m, wiring.flipped(self.request), front.request)
        wiring.connect(m, front.answer, wiring.flipped(self.answer))
        for name, member in slave_ports(front.config).items():
            inner, outer = getattr(front, name), getattr(self, f"s_axi_{name}")
            m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
        m.d.comb += self.sdram_clk.eq(back.clk_out)
        for name in back.pads.outputs:
            m.d.comb += getattr(self, f"sdram_{name}").eq(getattr(back, name))
        return m
