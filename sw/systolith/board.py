"""A board on a serial port as a device that programs run on."""

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.registers import COUNTERS, constants

from .device import PAGE_BYTES, RegisterDevice
from .link import Link, LinkError, Port

__all__ = ["DEFAULT_BAUD", "BoardDevice", "SerialPort"]

DEFAULT_BAUD = 1_000_000
READ_SECONDS = 0.02   # that a read of the port waits at most
WRITE_SECONDS = 10.0
RESET_SECONDS = 2.0


class SerialPort:
    """A serial port of this computer, for one program alone.

    Parameters
    ----------
    name : str
        Such as ``/dev/ttyUSB0`` or ``COM3``.
    baud : int
        Bits a second.

    Raises
    ------
    LinkError
        There is no such port, it may not be opened, or another program has it.
    ImportError
        pyserial is not installed.
    """
    def __init__(self, name: str, *, baud: int):
        try:
            serial: Any = import_module("serial")
        except ImportError as error:
            raise ImportError("device board must have its packages installed: "
                              "pip install systolith[link]") from error
        self.name = name
        try:
            self._serial = serial.Serial(name, baud, timeout=READ_SECONDS,
                                         write_timeout=WRITE_SECONDS, exclusive=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise LinkError(f"port {name} must be there and free, not fail with {reason!r}; check "
                            f"cable, name and rights") from error

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, at once where some are there."""
        return self._guarded(lambda: self._serial.read(
            min(size, max(1, self._serial.in_waiting))))

    def write(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._guarded(lambda: self._serial.write(data))

    def close(self) -> None:
        """Let go of the port."""
        self._serial.close()

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (OSError, TypeError, AttributeError) as error:
            # pyserial lets these through when a port vanishes while it looks at it.
            raise LinkError(f"port {self.name} must stay connected, not fail with "
                            f"{str(error)!r}; check the cable") from error


class BoardDevice(RegisterDevice):
    """A core on a board, behind a serial port.

    After a ``LinkError`` the device must ``reconnect``; what was in memory may be gone then.

    Parameters
    ----------
    config : CoreConfig
        What the bitstream was made of.
    port : str
        The port's name.
    baud : int
        Bits a second, as the bitstream has it.
    memory_bytes : int or None
        As in ``Device``; None: all that the board has.
    window : int
        Bus address at which the core finds the memory; a multiple of 4096.
    timeout : float
        Seconds of the longest run.
    progress : callable or None
        As in ``Link``.
    open_port : callable
        Opens a port by its name and ``baud``.
    clock : callable
        Seconds that pass.

    Raises
    ------
    LinkError
        Nobody answers, or nobody who is a board.
    ValueError
        The board's bitstream is that of another configuration, or its memory is smaller.
    """
    def __init__(self, config: CoreConfig, *, port: str, baud: int = DEFAULT_BAUD,
                 memory_bytes: int | None = None, window: int = 0, timeout: float = 60.0,
                 progress: Callable[[int, int], None] | None = None,
                 open_port: Callable[..., Port] = SerialPort,
                 clock: Callable[[], float] = time.monotonic):
        super().__init__(config, memory_bytes=memory_bytes, window=window)
        if isinstance(baud, bool) or not isinstance(baud, int):
            raise TypeError(f"baud must be an integer, not {baud!r}")
        if baud < 1:
            raise ValueError(f"baud must be at least 1, not {baud!r}")
        if window < 0 or window % PAGE_BYTES or window >= 1 << config.bus.addr_bits:
            raise ValueError(f"window must be a multiple of {PAGE_BYTES} within "
                             f"{config.bus.addr_bits} address bits, not {window!r}")
        self.port = port
        self.baud = baud
        self.timeout = timeout
        self.progress = progress
        self._clock = clock
        self._open_port = open_port
        self._wanted = memory_bytes
        self.link: Link | None = None
        self.reconnect()

    def reconnect(self) -> None:
        """Open the port anew, see that the board is the right one, and reset its core.

        Raises
        ------
        LinkError, ValueError
            As for the constructor.
        """
        self.close()
        port = self._open_port(self.port, baud=self.baud)
        self.link = Link(port, baud=self.baud, name=self.port, progress=self.progress,
                         clock=self._clock)
        try:
            self._identify()
            self.reset()
        except BaseException:
            self.close()
            raise

    def write(self, address: int, data: bytes | np.ndarray) -> None:
        raw = data.tobytes() if isinstance(data, np.ndarray) else bytes(data)
        self._check_range(address, len(raw))
        if not raw:
            return
        link = self._connected()
        start, end = address // 4 * 4, -(-(address + len(raw)) // 4) * 4
        # Words that are written in part keep the rest.
        before = link.read(start, 4)[:address - start] if address > start else b""
        after = b""
        if end > address + len(raw):
            after = link.read(end - 4, 4)[address + len(raw) - end:]
        link.write(start, before + raw + after)

    def read(self, address: int, count: int) -> np.ndarray:
        self._check_range(address, count)
        start, end = address // 4 * 4, -(-(address + count) // 4) * 4
        raw = self._connected().read(start, end - start)
        return np.frombuffer(raw, np.uint8)[address - start:][:count].copy()

    def run(self, program_address: int, commands: int, *,
            params: Mapping[int, int] | None = None) -> None:
        """Run a program to its end, as in ``Device``.

        Raises
        ------
        CoreError
            The core stopped at a command.
        TimeoutError
            It did not end within ``timeout`` seconds; the core was reset.
        LinkError
            The link does not work.
        """
        self._check_program(program_address, commands, params)
        self.start(program_address, commands, params=params)
        until = self._clock() + self.timeout
        while not {"done", "error"} & (status := self.status()):
            if self._clock() > until:
                self.reset()
                raise TimeoutError(f"program must end within timeout={self.timeout} seconds, "
                                   f"not still run")
        names = self._counter_names()
        values = self._connected().get(COUNTERS[names[0]].offset, len(names))
        self._counters = dict(zip(names, values, strict=True))
        self._end(status)

    def reset(self) -> None:
        """Reset the core by its register, and set it up for programs again; memory stays.

        Raises
        ------
        TimeoutError
            The reset does not end.
        """
        self.act("reset")
        until = self._clock() + RESET_SECONDS
        while {"resetting", "busy", "interrupt"} & self.status():
            if self._clock() > until:
                raise TimeoutError(f"soft reset must end within {RESET_SECONDS} seconds, "
                                   f"not still be under way")
        self.prepare()

    def close(self) -> None:
        """Let go of the port."""
        if self.link is not None:
            self.link.close()
            self.link = None

    def _connected(self) -> Link:
        if self.link is None:
            raise LinkError(f"{self.port} must be connected again, not used after it was closed")
        return self.link

    def _get(self, offset: int) -> int:
        return self._connected().get(offset)[0]

    def _set(self, offset: int, value: int) -> None:
        self._connected().set(offset, value)

    def _identify(self) -> None:
        link = self._connected()
        record = link.connect()
        if record.fingerprint != self.config.fingerprint:
            raise ValueError(f"bitstream on {self.port} must be of fingerprint "
                             f"{self.config.fingerprint:#018x}, that of {self.config.name}, "
                             f"not {record.fingerprint:#018x}")
        available = record.memory_bytes // PAGE_BYTES * PAGE_BYTES
        if self._wanted is None:
            self.memory_bytes = min(self.memory_bytes, available)
        elif self._wanted > available:
            raise ValueError(f"memory_bytes must be at most {available}, what {self.port} has, "
                             f"not {self._wanted!r}")
        for name, value in constants(self.config).items():
            found = self.read_register(name)
            if found != value:
                raise LinkError(f"register {name} of {self.port} must be {value:#x}, "
                                f"not {found:#x}")
