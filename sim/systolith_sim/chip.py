"""A whole chip in Verilator, behind its serial line: a port like pyserial's for the host's link."""

import ctypes
import shutil
from pathlib import Path

from .build import (
    CHECKED_FLAGS,
    CHECKED_MAKE_VARIABLES,
    FAST_FLAGS,
    FAST_MAKE_VARIABLES,
    WAIVERS,
    cached,
    digest,
    run_verilator,
)
from .tools import verilator_version

__all__ = ["ChipPort"]

HARNESS = Path(__file__).parent / "chip.cpp"

_pointer, _u64, _unsigned = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint
_FUNCTIONS = {
    "chip_new": (_pointer, [_unsigned, _unsigned]),
    "chip_free": (None, [_pointer]),
    "chip_send": (None, [_pointer, ctypes.c_char_p, _u64]),
    "chip_receive": (_u64, [_pointer, ctypes.c_char_p, _u64, _u64]),
    "chip_run": (None, [_pointer, _u64]),
    "chip_cycle": (_u64, [_pointer]),
    "chip_leds": (_unsigned, [_pointer]),
}


class ChipPort:
    """The serial line of a simulated chip, a ``systolith.link.Port``.

    Time is the chip's: a timeout of a second is ``clock_hz`` cycles. Registers are 0 when it
    begins, as those of an FPGA are, or random where they have no initial value. The top module has
    the ports ``clk``, ``uart_rx``, ``uart_tx`` and ``led``.

    Parameters
    ----------
    verilog : str
        Text with the chip.
    name : str
        Name of its top module.
    divisor : int
        Cycles of a bit.
    clock_hz : float
        Cycles of a second.
    timeout : float or None
        Seconds that a read waits; None: until all bytes have come.
    seed : int or None
        Of what begins at random, 1 or more; such a chip is built faster and runs slower. None:
        all is 0.

    Raises
    ------
    ToolError
        Verilator is missing or refuses the text.
    """
    def __init__(self, verilog: str, *, name: str = "top", divisor: int, clock_hz: float,
                 timeout: float | None = 1.0, seed: int | None = None):
        self.clock_hz = clock_hz
        self.timeout = timeout
        self._library = ctypes.CDLL(str(_build(verilog, name, random=seed is not None)))
        for function, (result, arguments) in _FUNCTIONS.items():
            getattr(self._library, function).restype = result
            getattr(self._library, function).argtypes = arguments
        self._chip = self._library.chip_new(divisor, seed or 0)

    def write(self, data: bytes) -> int:
        """Send bytes; time does not pass."""
        self._library.chip_send(self._chip, bytes(data), len(data))
        return len(data)

    def read(self, size: int = 1) -> bytes:
        """Run until so many bytes have come, or the time is over; what has come."""
        buffer = ctypes.create_string_buffer(max(size, 1))
        cycles = 1 << 62 if self.timeout is None else int(self.timeout * self.clock_hz)
        found = self._library.chip_receive(self._chip, buffer, size, cycles)
        return buffer.raw[:found]

    def run(self, cycles: int) -> None:
        """Let cycles pass."""
        self._library.chip_run(self._chip, cycles)

    @property
    def cycle(self) -> int:
        """Cycles since the beginning."""
        return self._library.chip_cycle(self._chip)

    @property
    def leds(self) -> int:
        """What the pins of the LEDs show, a bit each."""
        return self._library.chip_leds(self._chip)

    def close(self) -> None:
        """Free the chip."""
        if self._chip:
            self._library.chip_free(self._chip)
            self._chip = None


def _build(verilog: str, name: str, *, random: bool) -> Path:
    """The shared library of a chip, in the cache."""
    flags, make = (*FAST_FLAGS, "--x-initial", "0"), FAST_MAKE_VARIABLES
    if random:
        flags, make = CHECKED_FLAGS, CHECKED_MAKE_VARIABLES
    key = digest(verilog, name, HARNESS.read_bytes(), WAIVERS.read_bytes(), verilator_version(),
                 " ".join(flags), make)
    with cached("chips", key) as (folder, building):
        if building is not None:
            (building / "chip.v").write_text(verilog)
            run_verilator([
                "--cc", "--exe", "--build", "-j", "2", *flags, "-CFLAGS", "-fPIC",
                "--prefix", "Vchip", "--top-module", name, "--Mdir", "obj",
                "-o", "../libchip.so", "-LDFLAGS", "-shared -Wl,-z,defs",
                "-MAKEFLAGS", make, str(WAIVERS), "chip.v", str(HARNESS)], building)
            shutil.rmtree(building / "obj")
        return folder / "libchip.so"
