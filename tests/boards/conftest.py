"""A design that blinks and answers what it is told, as small as a chip's top can be."""

import pytest
from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Blink(wiring.Component):
    """Counts on the LEDs of a board, and holds high what must be high.

    Parameters
    ----------
    board : Board
    bits : int
        Width of the counter, and so the length of the slowest path.
    """

    def __init__(self, *, board, bits=24):
        self.board = board
        self.bits = bits
        flows = {"i": In, "o": Out, "io": Out}
        super().__init__({name: flows[pins[0].direction](len(pins))
                          for name, pins in board.pins.items() if not name.startswith("sdram")})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain(reset_less=True)
        if "clk" in self.board.pins:
            m.d.comb += ClockSignal().eq(self.clk)
        else:
            m.submodules.oscillator = Instance("SB_HFOSC", i_CLKHFEN=1, i_CLKHFPU=1,
                                               o_CLKHF=ClockSignal())
        count = Signal(self.bits)
        m.d.sync += count.eq(count + 1)
        leds = self.board.pins.get("led", ())
        if leds:
            m.d.comb += self.led.eq(count[-len(leds):])
        m.d.comb += self.uart_tx.eq(self.uart_rx ^ count[-1])
        m.d.comb += [getattr(self, name).eq(1) for name, _ in self.board.high]
        return m


@pytest.fixture
def blink():
    return Blink


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
