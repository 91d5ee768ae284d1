"""A whole chip: core, memory and the host's link, and the pins of its board."""

from typing import Any

from amaranth.hdl import Cat, ClockDomain, Const, IOPort, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.board import DEFAULT_BAUD
from systolith_hw.config import CoreConfig
from systolith_hw.control import slave_ports as control_ports
from systolith_hw.core import Core

from ..boards import Board
from ..link import Link
from .clocking import Clocking, ecp5_pll, ice40_pll
from .external import ExternalMemory
from .litedram import Geometry, litedram
from .memory import ChipMemory, slave_ports
from .sdram import Pads, Sdram
from .words import WordMemory

__all__ = ["Soc", "Top", "top_of"]

SDRAM_PINS = ("clk", "clk_en", *Pads.INVERTED, "ba", "a", "dqm", "dq")
BLINK_BITS = 24  # of the cycles between two changes of the first LED, as a power of two


class Soc(wiring.Component):
    """Core and memory behind a serial line.

    Parameters
    ----------
    config : CoreConfig
    memory_bytes : int
        System memory, from address 0.
    memory : str
        Where it lies: ``bram``, ``spram`` or ``sdram``, whose size is a power of two.
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
    beats, words : ``Out(stream)``, ``In(stream)``
        With SDRAM: as of ``ExternalMemory``.
    """
    def __init__(self, *, config: CoreConfig, memory_bytes: int, memory: str = "bram",
                 clock_hz: int, divisor: int):
        self.config = config
        self.memory_bytes = memory_bytes
        self.external = memory == "sdram"
        self.clock_hz = clock_hz
        self.divisor = divisor
        self.link = Link(divisor=divisor, memory_words=memory_bytes // 4, clock_hz=clock_hz,
                         fingerprint=config.fingerprint)
        self.core = Core(config=config)
        if self.external:
            self.memory: Any = ExternalMemory(config=config.bus, size=memory_bytes)
        else:
            kind = WordMemory if config.control.shared else ChipMemory
            self.memory = kind(config=config.bus, size=memory_bytes,
                               single_port=memory == "spram")
        streams = {name: self.memory.signature.members[name] for name in ("beats", "words")
                   if self.external}
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "alive": Out(1),
                          "flicker": Out(1), "error": Out(1), "busy": Out(1), **streams})

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = self.link
        m.submodules.core = core = self.core
        m.submodules.memory = memory = self.memory
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx)]
        wiring.connect(m, link.request, memory.request)
        wiring.connect(m, memory.answer, link.answer)
        if self.external:
            wiring.connect(m, memory.beats, wiring.flipped(self.beats))
            wiring.connect(m, wiring.flipped(self.words), memory.words)
        for name, member in control_ports().items():
            _wire(m, member, getattr(link, name), getattr(core, f"s_axil_{name}"))
        for name, member in slave_ports(self.config.bus).items():
            _wire(m, member, getattr(core, f"m_axi_{name}"), getattr(memory, name))
        count = Signal(BLINK_BITS + 1)
        m.d.sync += count.eq(count + 1)
        m.d.comb += [
            self.alive.eq(count[-1]),
            self.flicker.eq(count[-4]),
            self.error.eq(core.failed),
            self.busy.eq(core.busy | link.busy),
        ]
        return m


def _wire(m, member, master, slave):
    """One wire of a bus; ``member`` is the slave's."""
    m.d.comb += slave.eq(master) if member.flow == In else master.eq(slave)


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
        Bits on the serial line in a second; what the clock is divided to is at most 2 % beside it.

    Members
    -------
    clk, uart_rx, uart_tx, led and others
        As of ``board.pins``. Data pins of SDRAM are the port ``dq`` instead.

    Attributes
    ----------
    sources : tuple of str
        Verilog of the modules that it instantiates.

    Raises
    ------
    ValueError
        The clock is none that the chip's PLL makes, ``baud`` none that divides it, or the board's
        SDRAM none that there is a controller for.
    ImportError
        The board has SDRAM, and the packages that make its controller are missing.
    """
    def __init__(self, *, board: Board, config: CoreConfig, target_hz: float,
                 baud: float = DEFAULT_BAUD):
        self.board = board
        self.config = config
        self.target_hz = target_hz
        self.baud = baud
        external = board.memory == "sdram"
        geometry = sdram_geometry(board) if external else None
        if external:
            self.pll = ecp5_pll(board.clock_hz, target_hz, phase=board.sdram_phase)
        elif target_hz == board.clock_hz:
            self.pll = None
        else:
            make = ecp5_pll if board.chip.family == "ecp5" else ice40_pll
            self.pll = make(board.clock_hz, target_hz)
        self.clock_hz = target_hz if self.pll is None else self.pll.frequency
        self.divisor = round(self.clock_hz / baud)
        if abs(self.divisor * baud / self.clock_hz - 1) > 0.02:
            raise ValueError(f"baud must divide the clock of {self.clock_hz / 1e6:g} MHz within "
                             f"2 %, not {baud:g}")
        self.sdram: Sdram | None = None
        self.sources: tuple[str, ...] = ()
        if geometry is not None:
            controller = litedram(geometry, self.clock_hz)
            self.sources = (controller.verilog,)
            self.dq = IOPort(geometry.data_bits, name="sdram_dq")
            self.sdram = Sdram(geometry=geometry, controller=controller,
                               word_bits=config.bus.data_bits, dq=self.dq)
        outputs = {"uart_tx", "led", *(name for name, _ in board.high),
                   *(name for name in board.pins if name.startswith("sdram_"))}
        super().__init__({name: (Out if name in outputs else In)(len(pins))
                          for name, pins in board.pins.items() if name != "sdram_dq"})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = sync = ClockDomain()
        m.submodules.clocking = clocking = Clocking(
            family=self.board.chip.family, pll=self.pll, source=self.board.clock_source)
        m.submodules.soc = soc = Soc(
            config=self.config, memory_bytes=self.board.memory_bytes,
            memory=self.board.memory, clock_hz=round(self.clock_hz), divisor=self.divisor)
        if self.sdram is not None:
            m.submodules.sdram = sdram = self.sdram
            wiring.connect(m, soc.beats, sdram.beats)
            wiring.connect(m, sdram.words, soc.words)
            m.d.comb += sdram.clock.eq(clocking.shifted)
            m.d.comb += self.sdram_clk.eq(sdram.clk_out)
            m.d.comb += [getattr(self, f"sdram_{name}").eq(getattr(sdram, name))
                         for name in sdram.pads.outputs]
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
            m.d.sync += self.led.eq(
                Cat(lamps) ^ Const(sum(pin.inverted << i for i, pin in enumerate(pins))))
        return m


def sdram_geometry(board: Board) -> Geometry:
    """Shape of the board's SDRAM, by its pins and its size.

    Raises
    ------
    ValueError
        It lacks a pin that the controller drives, or has no such size.
    """
    widths = {name: len(board.pins.get(f"sdram_{name}", ())) for name in SDRAM_PINS}
    missing = [name for name, width in widths.items() if not width]
    if missing:
        raise ValueError(f"sdram of {board.name} must have the pins {', '.join(SDRAM_PINS)}, not "
                         f"lack {', '.join(missing)}")
    words = board.memory_bytes * 8 // widths["dq"]
    geometry = Geometry(
        row_bits=widths["a"], bank_bits=widths["ba"], data_bits=widths["dq"],
        column_bits=max(words.bit_length() - 1 - widths["a"] - widths["ba"], 0))
    if geometry.size != board.memory_bytes:
        raise ValueError(f"memory_bytes of {board.name} must be a power of two that its address "
                         f"pins reach, not {board.memory_bytes!r}")
    return geometry


def top_of(board: Board, config: CoreConfig, *, target_hz: float | None = None,
           baud: float = DEFAULT_BAUD) -> Top:
    """The top of ``board`` with a core of ``config``, at the board's clock unless told."""
    return Top(board=board, config=config, target_hz=target_hz or board.target_mhz * 1e6,
               baud=baud)
