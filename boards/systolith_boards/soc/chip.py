"""A whole chip: core, memory and the host's link, and the pins of its board."""

from amaranth.hdl import Cat, ClockDomain, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_hw.axi import master_ports
from systolith_hw.config import CoreConfig
from systolith_hw.control import slave_ports
from systolith_hw.core import Core

from ..boards import Board
from ..link import Link
from .clocking import Clocking, ecp5_pll, ice40_pll
from .memory import ChipMemory

__all__ = ["BAUD", "Soc", "Top", "top_of"]

BAUD = 1_000_000
BLINK_BITS = 24  # of the cycles between two changes of the first LED, as a power of two


class Soc(wiring.Component):
    """Core and memory behind a serial line.

    Parameters
    ----------
    config : CoreConfig
    memory_bytes : int
        System memory, from address 0.
    single_port : bool
        Whether it is the UP5K's single-port memory.
    clock_hz : int
        Cycles in a second.
    divisor : int
        Cycles of a bit on the line.

    Members
    -------
    rx, tx : ``In(1)``, ``Out(1)``
        The serial line, from and to the host.
    alive, flicker, error, busy : ``Out(1)``
        For lamps: a slow blinking and a quick one, the core has stopped at an error, something is
        done.
    """
    def __init__(self, *, config: CoreConfig, memory_bytes: int, single_port: bool = False,
                 clock_hz: int, divisor: int):
        self.config = config
        self.memory_bytes = memory_bytes
        self.single_port = single_port
        self.clock_hz = clock_hz
        self.divisor = divisor
        self.link = Link(divisor=divisor, memory_words=memory_bytes // 4, clock_hz=clock_hz,
                         fingerprint=config.fingerprint)
        self.core = Core(config=config)
        self.memory = ChipMemory(config=config.bus, size=memory_bytes, single_port=single_port)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "alive": Out(1),
                          "flicker": Out(1), "error": Out(1), "busy": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = self.link
        m.submodules.core = core = self.core
        m.submodules.memory = memory = self.memory
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx)]
        wiring.connect(m, link.request, memory.request)
        wiring.connect(m, memory.answer, link.answer)
        for name, member in slave_ports().items():
            outer, inner = getattr(link, name), getattr(core, f"s_axil_{name}")
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        for name, member in master_ports(self.config.bus).items():
            outer, inner = getattr(core, f"m_axi_{name}"), getattr(memory, name)
            m.d.comb += inner.eq(outer) if member.flow == Out else outer.eq(inner)
        count = Signal(BLINK_BITS + 1)
        m.d.sync += count.eq(count + 1)
        m.d.comb += [
            self.alive.eq(count[-1]),
            self.flicker.eq(count[-4]),
            self.error.eq(core.failed),
            self.busy.eq(core.busy | link.busy),
        ]
        return m


class Top(wiring.Component):
    """The pins of a board, and what is behind them.

    With one LED, it blinks slowly while the chip is alive, quickly while it is busy, and stays on
    after an error; with more, these are the first three of alive, error and busy.

    Parameters
    ----------
    board : Board
    config : CoreConfig
    target_hz : float
        Clock of the core; what a PLL makes is at most 2 % below.
    baud : float
        Bits on the serial line in a second; 4 % beside it at most.

    Members
    -------
    clk, uart_rx, uart_tx, led and others
        As of ``board.pins``.

    Raises
    ------
    ValueError
        The clock is none that the chip's PLL makes, ``baud`` none that divides it, or the board's
        memory neither block RAM nor single-port RAM.
    """
    def __init__(self, *, board: Board, config: CoreConfig, target_hz: float, baud: float = BAUD):
        if board.memory not in ("bram", "spram"):
            raise ValueError(f"memory of {board.name} must be bram or spram, not {board.memory!r}")
        self.board = board
        self.config = config
        self.target_hz = target_hz
        self.baud = baud
        family = board.chip.family
        self.pll = None if target_hz == board.clock_hz else (
            ecp5_pll if family == "ecp5" else ice40_pll)(board.clock_hz, target_hz)
        self.clock_hz = target_hz if self.pll is None else self.pll.frequency
        self.divisor = round(self.clock_hz / baud)
        if abs(self.divisor * baud / self.clock_hz - 1) > 0.02:
            raise ValueError(f"baud must divide the clock of {self.clock_hz / 1e6:g} MHz within "
                             f"2 %, not {baud:g}")
        outputs = {"uart_tx", "led", *(name for name, _ in board.high)}
        super().__init__({name: (Out if name in outputs else In)(len(pins))
                          for name, pins in board.pins.items()})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = sync = ClockDomain()
        m.submodules.clocking = clocking = Clocking(
            family=self.board.chip.family, pll=self.pll, source=self.board.clock_source)
        m.submodules.soc = soc = Soc(
            config=self.config, memory_bytes=self.board.memory_bytes,
            single_port=self.board.memory == "spram", clock_hz=round(self.clock_hz),
            divisor=self.divisor)
        if "clk" in self.board.pins:
            m.d.comb += clocking.pin.eq(self.clk)
        m.d.comb += [
            sync.clk.eq(clocking.clk),
            sync.rst.eq(clocking.rst),
            soc.rx.eq(self.uart_rx),
            self.uart_tx.eq(soc.tx),
        ]
        for name, _ in self.board.high:
            m.d.comb += getattr(self, name).eq(1)
        if "led" in self.board.pins:
            pins = self.board.pins["led"]
            lamps = [soc.alive, soc.error, soc.busy][:len(pins)]
            if len(pins) == 1:
                lamps = [soc.error | Mux(soc.busy, soc.flicker, soc.alive)]
            m.d.comb += self.led.eq(
                Cat(lamps) ^ Const(sum(pin.inverted << i for i, pin in enumerate(pins))))
        return m


def top_of(board: Board, config: CoreConfig, *, target_hz: float | None = None,
           baud: float = BAUD) -> Top:
    """The top of ``board`` with a core of ``config``, at the board's clock unless told."""
    return Top(board=board, config=config, target_hz=target_hz or board.target_mhz * 1e6,
               baud=baud)
