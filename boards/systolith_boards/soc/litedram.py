"""LiteDRAM's memory controller as Verilog, and what a memory chip must be told before its use.

The text is made when it is needed, of the Python packages ``litedram``, ``litex`` and ``migen``;
their licences (BSD 2-clause) stand at its top.
"""

import math
from dataclasses import dataclass
from importlib import metadata
from typing import Any

__all__ = ["NAME", "Controller", "Geometry", "Step", "litedram", "plain", "slowest"]

NAME = "litedram"  # of the module
PACKAGES = ("litedram", "litex", "migen")
FASTEST_HZ = 133e6  # with a CAS latency of 3
# Seconds of a running clock before the first command: Winbond's W9825G6KH asks for 200 us, others
# for 100.
POWER_UP = 200e-6


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Shape of a memory chip.

    Parameters
    ----------
    row_bits, column_bits, bank_bits : int
        Of an address.
    data_bits : int
        Of a word, a multiple of 8.
    """
    row_bits: int
    column_bits: int
    bank_bits: int
    data_bits: int

    @property
    def address_bits(self) -> int:
        """Of the address of a word."""
        return self.row_bits + self.column_bits + self.bank_bits

    @property
    def size(self) -> int:
        """Bytes."""
        return (1 << self.address_bits) * self.data_bits // 8


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command of the initialisation, and the cycles until the next one.

    Parameters
    ----------
    address, bank : int
        Levels of the pins.
    ras, cas, we : bool
        What is asserted; none of them: no command.
    cycles : int
        At least 1.
    """
    address: int
    bank: int
    ras: bool
    cas: bool
    we: bool
    cycles: int


@dataclass(frozen=True, kw_only=True)
class Controller:
    """A memory controller.

    Parameters
    ----------
    verilog : str
        Text of the module ``NAME``.
    steps : tuple of Step
        What a chip must be told first, from the clock being enabled on.
    """
    verilog: str
    steps: tuple[Step, ...]


def litedram(geometry: Geometry, clock_hz: float) -> Controller:
    """The controller of a single-data-rate chip of this shape.

    Its timing is that of the slowest chip of this shape that the package knows, so that whichever
    a board has been fitted with is served. The text depends on the arguments and on the packages'
    versions only.

    Raises
    ------
    ImportError
        A package is missing.
    ValueError
        The package knows no such chip, or none so fast.
    """
    if clock_hz > FASTEST_HZ:
        raise ValueError(f"clock of a chip with SDRAM must be at most {FASTEST_HZ / 1e6:g} MHz, "
                         f"not {clock_hz / 1e6:g}")
    try:
        versions = {package: metadata.version(package) for package in PACKAGES}
        from litedram.common import PhySettings, get_default_cl
        from litedram.core.controller import LiteDRAMController
        from litedram.core.crossbar import LiteDRAMCrossbar
        from litedram.init import get_sdram_phy_init_sequence
        from litex.gen.fhdl.verilog import convert
        from migen import ClockDomain, Module
    except ImportError:
        raise ImportError("litedram must be installed for boards with SDRAM: pip install "
                          "'systolith[boards]'") from None
    chip = slowest(geometry)(clock_hz, "1:1")
    cl = get_default_cl("SDR", 1 / clock_hz)
    # As of the package's GENSDRPHY: registers on the pins, in both directions.
    settings = PhySettings(
        phytype="GENSDRPHY", memtype="SDR", databits=geometry.data_bits,
        dfi_databits=geometry.data_bits, nphases=1, rdphase=0, wrphase=0, cl=cl,
        read_latency=cl + 1, write_latency=0)
    m: Any = Module()
    m.clock_domains.sys = ClockDomain()
    m.submodules.controller = controller = LiteDRAMController(
        settings, chip.geom_settings, chip.timing_settings, clock_hz)
    m.submodules.crossbar = crossbar = LiteDRAMCrossbar(controller.interface)
    port, pins = crossbar.get_port(), controller.dfi.p0
    text = convert(m, {
        m.sys.clk, m.sys.rst,
        port.cmd.valid, port.cmd.ready, port.cmd.we, port.cmd.addr,
        port.wdata.ready, port.wdata.data, port.wdata.we, port.rdata.valid, port.rdata.data,
        pins.address, pins.bank, pins.cs_n, pins.ras_n, pins.cas_n, pins.we_n,
        pins.wrdata, pins.wrdata_en, pins.wrdata_mask, pins.rddata}, name=NAME)
    sequence, _ = get_sdram_phy_init_sequence(settings, chip.timing_settings)
    # The package's pauses assume that a processor takes its time for each command.
    least = max(chip.timing_settings.tRFC, chip.timing_settings.tRP) + 2
    return Controller(verilog=_header(versions) + plain(text), steps=tuple(
        Step(address=address, bank=bank, ras="COMMAND_RAS" in command,
             cas="COMMAND_CAS" in command, we="COMMAND_WE" in command,
             cycles=max(pause, least, 0 if "COMMAND" in command else
                        math.ceil(POWER_UP * clock_hz)))
        for _, address, bank, command, pause in sequence))


def plain(text: Any) -> str:
    """The module that LiteX made, without the day, as Verilator takes it: registers that are none
    are assigned like registers there."""
    module = str(text)[str(text).index("module "):str(text).rindex("endmodule")]
    return f"// verilator lint_off COMBDLY\n{module}endmodule\n// verilator lint_on COMBDLY\n"


def slowest(geometry: Geometry) -> type[Any]:
    """A chip of this shape, as slow as the slowest that the package knows in each respect."""
    from litedram import modules
    shape = {"nbanks": 1 << geometry.bank_bits, "nrows": 1 << geometry.row_bits,
             "ncols": 1 << geometry.column_bits}
    chips = [chip for chip in vars(modules).values()
             if isinstance(chip, type) and issubclass(chip, modules.SDRModule)
             and {name: getattr(chip, name, 0) for name in shape} == shape]
    if not chips:
        raise ValueError(f"memory must have a shape that litedram knows, not {geometry!r}")

    def least_fast(name: str, choose: Any = max) -> Any:
        found = [timing for chip in chips
                 for each in (chip.technology_timings, chip.speedgrade_timings["default"])
                 if (timing := getattr(each, name, None)) is not None]
        if not found or not isinstance(found[0], tuple):
            return choose(found, default=None)
        return tuple(max((part for part in parts if part is not None), default=None)
                     for parts in zip(*found, strict=True))

    technology = modules._TechnologyTimings(
        # The package rounds up to whole cycles, which must not be too long.
        tREFI=0.99 * least_fast("tREFI", min), tWTR=least_fast("tWTR"),
        tCCD=least_fast("tCCD"), tRRD=least_fast("tRRD"))
    grade = modules._SpeedgradeTimings(
        tRP=least_fast("tRP"), tRCD=least_fast("tRCD"), tWR=least_fast("tWR"),
        tRFC=least_fast("tRFC"), tFAW=least_fast("tFAW"), tRAS=least_fast("tRAS"))
    return type("Slowest", (modules.SDRModule,), {
        **shape, "technology_timings": technology, "speedgrade_timings": {"default": grade}})


def _header(versions: dict[str, str]) -> str:
    """Where the text is from, and under which licences."""
    lines = ["LiteDRAM's memory controller, made by "
             + ", ".join(f"{package} {version}" for package, version in versions.items())]
    for package in PACKAGES:
        distribution = metadata.distribution(package)
        licence = next((path.read_text() for path in distribution.files or ()
                        if path.name == "LICENSE"), "BSD 2-clause")
        lines += ["", f"Licence of {package}:", *licence.strip().splitlines()]
    return "".join(f"// {line}".rstrip() + "\n" for line in lines)
