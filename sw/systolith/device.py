"""One interface to whatever runs a program: the model, the simulated core, a board."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMAND_BYTES, MAX_COMMANDS
from systolith_hw.registers import REGISTERS, counted

from .errors import CoreError
from .model import CoreModel

__all__ = ["CoreError", "Device", "ModelDevice", "RegisterDevice", "open_device"]

PAGE_BYTES = 4096
DEFAULT_MEMORY_BYTES = 1 << 26


class Device(ABC):
    """A core with system memory; addresses are relative to the core's window.

    Parameters
    ----------
    config : CoreConfig
    memory_bytes : int or None
        Size of the window, a multiple of 4096; None: 64 MiB or what the bus can address.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind or out of range.
    """
    def __init__(self, config: CoreConfig, *, memory_bytes: int | None = None):
        if not isinstance(config, CoreConfig):
            raise TypeError(f"config must be a CoreConfig, not {config!r}")
        limit = 1 << min(config.bus.addr_bits, 32)
        if memory_bytes is None:
            memory_bytes = min(DEFAULT_MEMORY_BYTES, limit)
        if isinstance(memory_bytes, bool) or not isinstance(memory_bytes, int):
            raise TypeError(f"memory_bytes must be an integer, not {memory_bytes!r}")
        if not PAGE_BYTES <= memory_bytes <= limit or memory_bytes % PAGE_BYTES:
            raise ValueError(f"memory_bytes must be a multiple of {PAGE_BYTES} up to {limit}, "
                             f"not {memory_bytes!r}")
        self.config = config
        self.memory_bytes = memory_bytes

    @abstractmethod
    def write(self, address: int, data: bytes | np.ndarray) -> None:
        """Put bytes into system memory."""

    @abstractmethod
    def read(self, address: int, count: int) -> np.ndarray:
        """``count`` bytes of system memory, uint8."""

    @abstractmethod
    def run(self, program_address: int, commands: int, *,
            params: Mapping[int, int] | None = None) -> None:
        """Run a program to its end.

        Parameters
        ----------
        program_address : int
            First command, a multiple of 64.
        commands : int
            Number of commands.
        params : mapping of int to int
            Parameter registers to set before; the others keep their value.

        Raises
        ------
        CoreError
            The core stopped; says why and at which command.
        """

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """Counters of the last run, named as in ``registers.COUNTERS``; what the device has."""

    def close(self) -> None:
        """Let go of what the device holds; it may not be used afterwards."""
        return

    def __enter__(self):
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_range(self, address: int, count: int) -> None:
        """Raise ``ValueError`` where bytes lie outside the window."""
        if address < 0 or count < 0 or address + count > self.memory_bytes:
            raise ValueError(f"address must leave {count} bytes inside the window of "
                             f"{self.memory_bytes} bytes, not {address!r}")

    def _check_program(self, program_address: int, commands: int,
                       params: Mapping[int, int] | None) -> None:
        """Raise ``ValueError`` where ``run`` was called with something out of range."""
        if program_address < 0 or program_address % COMMAND_BYTES:
            raise ValueError(f"program_address must be a multiple of {COMMAND_BYTES}, "
                             f"not {program_address!r}")
        if not 0 <= commands <= MAX_COMMANDS:
            raise ValueError(f"commands must be from 0 to {MAX_COMMANDS}, not {commands!r}")
        for register in params or {}:
            if not 1 <= register < self.config.control.params:
                raise ValueError(f"params must name registers from 1 to "
                                 f"{self.config.control.params - 1}, not {register!r}")


class ModelDevice(Device):
    """The bit-exact model behind the device interface.

    Parameters
    ----------
    config : CoreConfig
    memory_bytes : int or None
        As in ``Device``.
    order : int or None
        None: program order. A seed: engines run in a shuffled order, so that races show.
    copies : int
        Cores with memories of their own that run one program side by side, which is fast.

    Members
    -------
    memories : uint8 array, (copies, memory_bytes)
    memory : uint8 array, (memory_bytes,)
        The first copy's, which ``read`` reads; ``write`` writes to all.
    """
    def __init__(self, config: CoreConfig, *, memory_bytes: int | None = None,
                 order: int | None = None, copies: int = 1):
        super().__init__(config, memory_bytes=memory_bytes)
        self.memories = np.zeros((copies, self.memory_bytes), np.uint8)
        self.memory = self.memories[0]
        self.model = CoreModel(config=config, memory=self.memories, order=order)

    def write(self, address: int, data: bytes | np.ndarray) -> None:
        if isinstance(data, np.ndarray):
            data = data.tobytes()
        self._check_range(address, len(data))
        self.memories[:, address:address + len(data)] = np.frombuffer(data, np.uint8)

    def read(self, address: int, count: int) -> np.ndarray:
        self._check_range(address, count)
        return self.memory[address:address + count].copy()

    def run(self, program_address: int, commands: int, *,
            params: Mapping[int, int] | None = None) -> None:
        self._check_program(program_address, commands, params)
        self.model.run(program_address, commands, params=params)

    def counters(self) -> dict[str, int]:
        return self.model.counters


class RegisterDevice(Device):
    """A device whose core is driven by its registers, see ``systolith_hw.registers``.

    Parameters
    ----------
    config : CoreConfig
    memory_bytes : int or None
        As in ``Device``.
    window : int
        Bus address at which the core finds the memory.
    """
    def __init__(self, config: CoreConfig, *, memory_bytes: int | None, window: int):
        super().__init__(config, memory_bytes=memory_bytes)
        self.window = window
        self._counters = dict.fromkeys(self._counter_names(), 0)

    def start(self, program_address: int, commands: int, *,
              params: Mapping[int, int] | None = None) -> None:
        """Begin a program as ``run`` does, and return at once."""
        for number, value in (params or {}).items():
            self.write_register(f"param{number}", value)
        self.write_register("program_address", program_address)
        self.write_register("program_commands", commands)
        self.act("start")

    @abstractmethod
    def reset(self) -> None:
        """Reset the core by its register, and set it up for programs again; memory stays."""

    def prepare(self) -> None:
        """Set the window, and let the end of a program raise the interrupt."""
        events = REGISTERS["interrupt_enable"].bits
        self.write_register("window_low", self.window & 0xffffffff)
        self.write_register("window_high", self.window >> 32)
        self.write_register("window_bytes", min(self.memory_bytes, 0xffffffff))
        self.write_register("interrupt_enable",
                            1 << events.index("done") | 1 << events.index("error"))

    def read_register(self, name: str) -> int:
        """Value of the register ``name``, see ``registers.REGISTERS``."""
        return self._get(REGISTERS[name].offset)

    def write_register(self, name: str, value: int) -> None:
        """Write the register ``name``."""
        self._set(REGISTERS[name].offset, value)

    def act(self, bit: str) -> None:
        """Write 1 to one bit of the register ``control``: ``start`` or its likes."""
        self.write_register("control", 1 << REGISTERS["control"].bits.index(bit))

    def status(self) -> set[str]:
        """The bits of the register ``status`` that are 1."""
        value = self.read_register("status")
        return {bit for i, bit in enumerate(REGISTERS["status"].bits) if value >> i & 1}

    def counters(self) -> dict[str, int]:
        """The core's counters at the end of the last run."""
        return dict(self._counters)

    @abstractmethod
    def _get(self, offset: int) -> int:
        """Value of the register at ``offset``."""

    @abstractmethod
    def _set(self, offset: int, value: int) -> None:
        """Write the register at ``offset``."""

    def _counter_names(self) -> tuple[str, ...]:
        return counted(self.config)

    def _end(self, status: set[str]) -> None:
        """A program has ended with ``status``: raise ``CoreError`` where the core stopped."""
        self.act("clear_interrupt")
        if "error" in status:
            code, index = self.read_register("error_code"), self.read_register("error_index")
            self.reset()
            raise CoreError(code, index)


def open_device(spec: str, config: CoreConfig, **options: Any) -> Device:
    """The device called ``spec``: ``model``, ``rtl``, or ``board:PORT`` with a serial port's name.

    Raises
    ------
    ValueError
        There is no such device.
    ImportError
        The device needs a package that is not installed.
    LinkError
        No board answers at the port.
    """
    if spec == "model":
        return ModelDevice(config, **options)
    if spec == "rtl":
        try:
            module = import_module("systolith_sim.device")
        except ImportError as error:
            raise ImportError("device rtl must have its packages installed: "
                              "pip install systolith[sim]") from error
        return module.RtlDevice(config, **options)
    kind, _, port = spec.partition(":")
    if kind == "board" and port:
        from .board import BoardDevice

        return BoardDevice(config, port=port, **options)
    raise ValueError(f"device must be one of model, rtl, board:PORT, not {spec!r}")
