"""A chip's clock and reset: from the pin through a PLL, and a reset until the clock has settled."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out
from systolith_hw.cells import has_vendor_cells
from systolith_hw.checks import check_choice

__all__ = ["Clocking", "Pll", "ecp5_pll", "ice40_pll"]

FAMILIES = ("ecp5", "ice40")
SOURCES = ("pin", "pad", "internal")
# iCE40's block RAM reads zeros for some microseconds after configuration.
RESET_BITS = 10  # cycles of the reset, as a power of two: 10 us at 100 MHz


@dataclass(frozen=True, kw_only=True)
class Pll:
    """Settings of a PLL.

    Parameters
    ----------
    frequency : float
        What comes out, in Hz.
    parameters : dict
        Of the cell.
    """
    frequency: float
    parameters: dict[str, Any]


def ecp5_pll(source: float, target: float, *, phase: float | None = None) -> Pll:
    """The EHXPLLL whose output is nearest to ``target`` Hz and not above it.

    The output feeds back; the oscillator runs at 400 to 800 MHz, and compares at 3.125 MHz or more
    (Lattice FPGA-DS-02012, "sysCLOCK PLL Timing"). With a ``phase`` a second output rises so many
    degrees later, as near as an eighth of the oscillator's cycle (Lattice FPGA-TN-02200, "ECP5
    sysCLOCK PLL/DLL Design and Usage Guide").

    Raises
    ------
    ValueError
        None comes within 2 %.
    """
    frequency, divider, output, feedback = _nearest(source, target, (
        (source / divider * feedback, divider, output, feedback)
        for divider in range(1, 129) if source / divider >= 3.125e6
        for feedback in range(1, 81) if source / divider * feedback <= target
        for output in range(1, 129) if 400e6 <= source / divider * feedback * output <= 800e6))
    eighths = round((phase or 0) * output / 45)
    shifted = {} if phase is None else {
        "CLKOS_DIV": output, "CLKOS_CPHASE": output - 1 + eighths // 8,
        "CLKOS_FPHASE": eighths % 8, "CLKOS_ENABLE": "ENABLED"}
    return Pll(frequency=frequency, parameters={
        **shifted, "CLKI_DIV": divider, "CLKFB_DIV": feedback, "CLKOP_DIV": output,
        "CLKOP_CPHASE": output - 1, "CLKOP_FPHASE": 0, "CLKOP_ENABLE": "ENABLED",
        "FEEDBK_PATH": "CLKOP", "PLLRST_ENA": "DISABLED", "INTFB_WAKE": "DISABLED",
        "STDBY_ENABLE": "DISABLED", "DPHASE_SOURCE": "DISABLED", "OUTDIVIDER_MUXA": "DIVA"})


def ice40_pll(source: float, target: float) -> Pll:
    """The SB_PLL40 whose output is nearest to ``target`` Hz and not above it.

    The oscillator runs at 533 to 1066 MHz and compares at 10 to 133 MHz (Lattice FPGA-TN-02052,
    "iCE40 sysCLOCK PLL Design and Usage Guide").

    Raises
    ------
    ValueError
        None comes within 2 %.
    """
    frequency, divider, power, feedback = _nearest(source, target, (
        (source / divider * feedback / (1 << power), divider, power, feedback)
        for divider in range(1, 17) if 10e6 <= source / divider <= 133e6
        for feedback in range(1, 129) if 533e6 <= source / divider * feedback <= 1066e6
        for power in range(1, 7) if source / divider * feedback / (1 << power) <= target))
    limits = (17e6, 26e6, 44e6, 66e6, 101e6)
    return Pll(frequency=frequency, parameters={
        "FEEDBACK_PATH": "SIMPLE", "DIVR": Const(divider - 1, 4),
        "DIVF": Const(feedback - 1, 7), "DIVQ": Const(power, 3),
        "FILTER_RANGE": Const(1 + sum(source / divider >= limit for limit in limits), 3)})


def _nearest(source: float, target: float, found: Iterable[tuple]) -> tuple:
    """Of settings that begin with their frequency, which is not above ``target``: the nearest, then
    the fastest comparison, then the slowest oscillator."""
    best = min(found, key=lambda settings: (target - settings[0], *settings[1:]), default=(0,))
    if best[0] < 0.98 * target:
        raise ValueError(f"frequency must be one that a PLL makes of {source / 1e6:g} MHz within "
                         f"2 %, not {target / 1e6:g} MHz")
    return best


class Clocking(wiring.Component):
    """What domain ``sync`` of a chip is made of: the clock of the pin, through a PLL where there is
    one, and a reset until 1024 cycles after the PLL has settled. The chip defines the domain.

    Registers of an FPGA are 0 after configuration; the reset counts up from there. Without vendor
    cells the pin is the clock.

    Parameters
    ----------
    family : str
        ``ecp5`` or ``ice40``.
    pll : Pll or None
        None: the pin is the clock.
    source : str
        Of an iCE40: ``pin``, ``pad``, the PLL's own pin, or ``internal``, its oscillator of 48 MHz.

    Members
    -------
    pin : ``In(1)``
        The clock that comes in.
    clk, rst : ``Out(1)``
        Of the domain.
    shifted : ``Out(1)``
        The PLL's second output where it has one; without vendor cells it rises when ``clk`` falls.
    """
    def __init__(self, *, family: str, pll: Pll | None = None, source: str = "pin"):
        check_choice("family", family, FAMILIES)
        check_choice("source", source, SOURCES)
        self.family = family
        self.pll = pll
        self.source = source
        super().__init__({"pin": In(1), "clk": Out(1), "rst": Out(1),
                          "shifted": Out(1)})

    def elaborate(self, platform):
        m = Module()
        locked = Const(1)
        pin = self.pin
        if self.source == "internal" and has_vendor_cells(platform):
            pin = Signal()
            m.submodules.oscillator = Instance("SB_HFOSC", p_CLKHF_DIV="0b00", i_CLKHFEN=Const(1),
                                               i_CLKHFPU=Const(1), o_CLKHF=pin)
        if self.pll is None or not has_vendor_cells(platform):
            m.d.comb += [self.clk.eq(pin), self.shifted.eq(~pin)]
        else:
            settled = Signal()
            locked = Signal()
            m.submodules.pll = self._cell(self.pll, pin, settled)
            m.submodules.locked = FFSynchronizer(settled, locked, reset_less=True)
        count = Signal(RESET_BITS + 1, reset_less=True)
        with m.If(~locked):
            m.d.sync += count.eq(0)
        with m.Elif(~count[-1]):
            m.d.sync += count.eq(count + 1)
        reset = Signal(reset_less=True)
        m.d.sync += reset.eq(~count[-1])
        m.d.comb += self.rst.eq(reset)
        return m

    def _cell(self, pll, pin, locked):
        parameters = {f"p_{name}": value for name, value in pll.parameters.items()}
        if self.family == "ecp5":
            if "CLKOS_ENABLE" in pll.parameters:
                parameters["o_CLKOS"] = self.shifted
            return Instance(
                "EHXPLLL", a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1",
                a_MFG_GMCREF_SEL="2", **parameters, i_RST=Const(0), i_STDBY=Const(0),
                i_CLKI=pin, i_CLKFB=self.clk, o_CLKOP=self.clk, o_LOCK=locked,
                i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(1),
                i_PHASESTEP=Const(1), i_PHASELOADREG=Const(1), i_PLLWAKESYNC=Const(0),
                i_ENCLKOP=Const(0))
        pad = self.source == "pad"
        return Instance(
            "SB_PLL40_PAD" if pad else "SB_PLL40_CORE", **parameters,
            **{"i_PACKAGEPIN" if pad else "i_REFERENCECLK": pin},
            i_RESETB=Const(1), i_BYPASS=Const(0), o_PLLOUTGLOBAL=self.clk, o_LOCK=locked)
