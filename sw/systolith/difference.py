"""The first command of a compiled network whose effect differs between two devices.

Programs are first run whole. Where system memory then differs, the same program is run again in
windows: stretches of commands in which no row is written by two of them. After a window, all rows
that its commands wrote are read on both devices (``observe.Probe``), so that each difference
belongs to one command, and the first of those had equal operands: memories outlast the end of a
program, and semaphores get the values that they would have. Engines overlap inside a window only.
The commands that load what stays in the core come before the program's own.
What differs only when they overlap further is found by running longer and longer beginnings.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMAND_BYTES, COMMANDS, ONCE, ControlOp, Opcode

from .assembly import disassemble
from .compiler.hazards import LINE, sizes, touched
from .compiler.network import HostStep, Network
from .device import Device
from .errors import CoreError
from .image import Image
from .layout import aligned
from .models.evaluate import evaluate
from .observe import Probe
from .program import decode_program
from .written import Place, Places

__all__ = ["AROUND", "Difference", "first_difference", "memory_for"]

AROUND = 3                              # commands before and behind that are shown
SHOWN = ("act", "acc", "memory")        # memories that can be read on any device
UNSTEADY = ("devices must differ again where they differed, not agree: one of them is not "
            "repeatable")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where two devices differ first.

    Parameters
    ----------
    run, step, command : int
        Which of the inputs, which program of the network and which of its commands, from 0; those
        that load what stays in the core come before it: the last of them is -1.
    memory : str
        What it wrote: ``act``, ``acc`` or ``memory``; ``""`` where only one device stopped.
    place : Place or None
        Tile and element, the first of the command's that differ.
    values : tuple
        What the element is on each device; or why it stopped.
    differing, written : int
        Rows that the command wrote and that differ, and all of them.
    loaded : dict of str to list of int
        Commands that wrote what it reads of memories that cannot be read back.
    around : dict of int to str
        This command and those beside it, as text.
    overlapping : bool
        Whether it shows only when engines overlap across windows.
    """
    run: int
    step: int
    command: int
    memory: str
    place: Place | None
    values: tuple[Any, Any]
    differing: int
    written: int
    loaded: dict[str, list[int]]
    around: dict[int, str]
    overlapping: bool = False


def memory_for(network: Network) -> int:
    """System memory that ``first_difference`` needs of a device, in bytes; whole pages."""
    return max((_probe_at(image) + Probe.memory_bytes(0) for image in network.images),
               default=Probe.memory_bytes(0))


def first_difference(network: Network, devices: Sequence[Device], inputs: Sequence[np.ndarray], *,
                     progress: Callable[[str, int], Callable[[], None]] | None = None
                     ) -> Difference | None:
    """Run a network on two devices and find the first command that makes a difference.

    Parameters
    ----------
    network : Network
    devices : two Devices
        Of the network's configuration, with ``memory_for(network)`` bytes.
    inputs : arrays
        One or more runs, as ``Network.run`` takes them.
    progress : callable or None
        Called with what is done next and in how many parts; returns what is called after each.

    Returns
    -------
    Difference or None
        None: all bytes of system memory agree after each program of each run.

    Raises
    ------
    CoreError
        Both devices stop for the same reason.
    TypeError, ValueError
        Wrong inputs or devices.
    """
    begin = progress or _silent
    values, count = network.taken(inputs)
    advance = begin("running on both", count * len(network.images))
    for run in range(count):
        here = {port.name: values[port.name].reshape(count, *port.shape)[run]
                for port in network.inputs}
        for number, step in enumerate(network.steps):
            if isinstance(step, HostStep):
                here |= evaluate(step.graph, {name: here[name] for name in step.graph.inputs})
                continue
            pair = _Pair(step.image, devices, [
                here[name].reshape(tensor.shape)
                for name, tensor in zip(step.inputs, step.image.inputs, strict=True)])
            if pair.whole_differs():
                found = pair.search(begin)
                return Difference(run=run, step=number, **_numbered(
                    step.image.setup_commands, **found))
            here |= dict(zip(step.outputs, pair.outputs(), strict=True))
            advance()
    return None


def _numbered(setup: int, *, command: int, loaded: dict[str, list[int]], around: dict[int, str],
              **others: Any) -> dict[str, Any]:
    """Fields of ``Difference`` of commands that were counted from the first of ``setup`` on."""
    return {**others, "command": command - setup,
            "loaded": {name: [number - setup for number in numbers]
                       for name, numbers in loaded.items()},
            "around": {number - setup: text for number, text in around.items()}}


def _silent(text: str, parts: int) -> Callable[[], None]:
    return lambda: None


def _probe_at(image: Image) -> int:
    """First byte behind an image and a copy of its program with a credit of each semaphore."""
    commands = image.setup_commands + image.commands
    return aligned(image.memory_bytes + (commands + 64) * COMMAND_BYTES, 4096)


@dataclass
class _Window:
    """Commands from ``first`` to before ``end``; semaphores as they are then; of each memory, for
    each row, the command in the window that wrote it, or -1."""
    first: int
    end: int
    credits: dict[int, int]
    writers: dict[str, np.ndarray] = field(default_factory=dict)


class _Program:
    """The commands of an image, and what each reads and writes."""
    def __init__(self, image: Image, config: CoreConfig):
        self.image, self.config = image, config
        program = image.setup + image.program
        self.records = [program[start:start + COMMAND_BYTES]
                        for start in range(0, len(program), COMMAND_BYTES)]
        self.commands = decode_program(program)
        self.sizes = sizes(config, image.memory_bytes)
        self.touched = [touched(opcode, fields, config) for opcode, fields in self.commands]

    def windows(self) -> Iterator[_Window]:
        """Stretches in which no row that can be read is written by two commands."""
        values: dict[int, int] = {}
        window = self._window(0, values)
        for number, (_, writes) in enumerate(self.touched):
            again = any((window.writers[name][rows] >= 0).any() for name, rows in writes
                        if name in SHOWN)
            if again or number == self.image.setup_commands > 0:
                yield window
                window = self._window(number, values)
            self._mark(window, number)
            self._count(number, values)
        yield window

    def beginning(self, end: int) -> _Window:
        """Commands before ``end``, but for those that load what stays in the core; writers are the
        last ones."""
        return self.part(self._window(self.image.setup_commands, {}), end)

    def part(self, window: _Window, end: int) -> _Window:
        """A window up to another end."""
        part = self._window(window.first, window.credits)
        for number in range(window.first, end):
            self._mark(part, number)
        return part

    def _window(self, first: int, values: dict[int, int]) -> _Window:
        return _Window(first, first, {name: value for name, value in values.items() if value}, {
            name: np.full(self.sizes[name], -1) for name in SHOWN})

    def _mark(self, window: _Window, number: int) -> None:
        for name, rows in self.touched[number][1]:
            if name in SHOWN:
                window.writers[name][rows] = number
        window.end = number + 1

    def _count(self, number: int, values: dict[int, int]) -> None:
        """Change the values of semaphores by what a command raises and waits for."""
        _, fields = self.commands[number]
        for slot in (0, 1):
            level = fields[f"level{slot}"]
            times = 1 if level == ONCE else prod(fields["counts"][level:])
            for name, change in (("wait", -times), ("raise", times)):
                if fields[f"{name}{slot}_valid"]:
                    semaphore = fields[f"{name}{slot}"]
                    values[semaphore] = values.get(semaphore, 0) + change

    def loaded(self, command: int) -> dict[str, list[int]]:
        """Who wrote what ``command`` reads of memories that cannot be read back."""
        found = {}
        for name, rows in self.touched[command][0]:
            if name in SHOWN:
                continue
            last = np.full(self.sizes[name], -1)
            for number in range(command):
                for written, where in self.touched[number][1]:
                    if written == name:
                        last[where] = number
            found[name] = [number for number in np.unique(last[rows]).tolist() if number >= 0]
        return found


class _Pair:
    """Two devices, and an image with its inputs."""
    def __init__(self, image: Image, devices: Sequence[Device], inputs: Sequence[np.ndarray]):
        self.image, self.devices, self.inputs = image, devices, inputs
        self.probes = [Probe(device, _probe_at(image)) for device in devices]

    def _prepare(self) -> None:
        for device, probe in zip(self.devices, self.probes, strict=True):
            device.write(0, bytes(self.image.memory_bytes))
            self.image.write(device)
            for tensor, array in zip(self.image.inputs, self.inputs, strict=True):
                device.write(tensor.address, tensor.to_bytes(array))
            probe.clear()

    def _run(self, address: int, commands: int, skipped: int, first: int) -> tuple[Any, Any]:
        """Run on both; for each None, or the error with the command's place in the program.

        Raises
        ------
        CoreError
            Both stop for the same reason at the same command.
        """
        errors = []
        shown = first - self.image.setup_commands   # as it is numbered
        for device in self.devices:
            try:
                device.run(address, commands)
                errors.append(None)
            except CoreError as error:
                errors.append(CoreError(error.code, max(0, error.index - skipped) + shown))
        if errors[0] is not None and str(errors[0]) == str(errors[1]):
            raise errors[0]
        return errors[0], errors[1]

    def _set_up(self) -> tuple[Any, Any]:
        """Load what stays in the core, as ``_run``."""
        if not self.image.setup_commands:
            return None, None
        return self._run(self.image.setup_address, self.image.setup_commands, 0, 0)

    def whole_differs(self) -> bool:
        """Whether the program leaves other bytes, or stops on one of the devices."""
        self._prepare()
        image = self.image
        if any(self._set_up()) or any(self._run(image.program_address, image.commands, 0,
                                                image.setup_commands)):
            return True
        first, second = (device.read(0, self.image.memory_bytes) for device in self.devices)
        return not np.array_equal(first, second)

    def outputs(self) -> list[np.ndarray]:
        """What the program has made."""
        return [tensor.from_bytes(self.devices[0].read(tensor.address, tensor.byte_count))
                for tensor in self.image.outputs]

    def search(self, begin: Callable[[str, int], Callable[[], None]]) -> dict[str, Any]:
        """The fields of ``Difference`` but for run and step."""
        program = _Program(self.image, self.devices[0].config)
        windows = list(program.windows())
        advance = begin("looking for the first command that differs", len(windows))
        self._prepare()
        for number, window in enumerate(windows):
            found = self._observe(program, window)
            if found:
                return self._confirmed(program, windows[:number], window, found)
            advance()
        # The same at low, different at high.
        low, high = self.image.setup_commands, len(program.records)
        advance = begin("looking for what differs only when engines overlap", high.bit_length())
        last: dict[str, Any] = {}
        while high - low > 1 or not last:
            middle = high if high - low == 1 else (low + high) // 2
            self._prepare()
            self._set_up()
            found = self._observe(program, program.beginning(middle))
            if found:
                high, last = middle, found
            elif middle == high:
                raise RuntimeError(UNSTEADY)
            else:
                low = middle
            advance()
        return {**last, "overlapping": True}

    def _confirmed(self, program: _Program, before: Sequence[_Window], window: _Window,
                   found: dict[str, Any]) -> dict[str, Any]:
        """What differs in the least part of a stretch that differs.

        That ends with the command that was found, or with one that wrote beside its own rows.
        """
        for end in range(found["command"] + 1, window.end + 1):
            self._prepare()
            if any(self._observe(program, earlier) for earlier in before):
                break
            last = end - 1
            again = self._observe(program, program.part(window, end))
            if again and again["command"] == last:
                return again
            if again:
                return {**again, **_around(program, last), "command": last,
                        "place": again["place"] and again["place"].beside}
        raise RuntimeError(UNSTEADY)

    def _observe(self, program: _Program, window: _Window) -> dict[str, Any] | None:
        """Run a window on both devices; what the first command is that wrote what differs."""
        credit = COMMANDS[Opcode.CONTROL]
        head = [credit.encode({"operation": ControlOp.CREDIT, "register": number, "value": value})
                for number, value in window.credits.items()]
        records = [*head, *program.records[window.first:window.end]]
        address = aligned(self.image.memory_bytes, COMMAND_BYTES)
        for device in self.devices:
            device.write(address, b"".join(records))
        errors = self._run(address, len(records), len(head), window.first)
        if any(errors):
            command = min(error.index for error in errors if error is not None)
            command += self.image.setup_commands
            return {"command": command, "memory": "", "place": None, "differing": 0,
                    "written": 0, **_around(program, command), "values": tuple(
                        "ran on" if error is None else str(error) for error in errors)}
        different = {}      # of each memory: rows that differ, and their bytes or sums on both
        for name in SHOWN:
            rows = np.flatnonzero(window.writers[name] >= 0)
            both = [probe.memory(rows, LINE) if name == "memory" else getattr(probe, name)(rows)
                    for probe in self.probes]
            unequal = np.flatnonzero((both[0] != both[1]).any(1))
            if len(unequal):
                different[name] = rows[unequal], both[0][unequal], both[1][unequal]
        if not different:
            return None
        command = min(int(window.writers[name][rows].min())
                      for name, (rows, _, _) in different.items())
        name = next(name for name, (rows, _, _) in different.items()
                    if command in window.writers[name][rows])
        rows, *both = (array[window.writers[name][different[name][0]] == command]
                       for array in different[name])
        places = Places(*program.commands[command], program.config)
        row, column = min(((index, column) for index in range(len(rows))
                           for column in np.flatnonzero(both[0][index] != both[1][index])),
                          key=lambda at: places.find(int(rows[at[0]]), int(at[1])).order)
        place = places.find(int(rows[row]), int(column))
        return {"command": command, "memory": name, "place": place, "differing": len(rows),
                "written": int((window.writers[name] == command).sum()),
                "values": tuple(place.value(array[row], int(column)) for array in both),
                **_around(program, command)}


def _around(program: _Program, command: int) -> dict[str, Any]:
    """What there is to say of a command besides what it did."""
    around = range(max(0, command - AROUND), min(len(program.records), command + AROUND + 1))
    return {"loaded": program.loaded(command),
            "around": {number: disassemble(program.records[number]).strip()
                       for number in around}}
