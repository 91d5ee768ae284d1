"""Dispatcher and scheduler of the bit-exact model."""

import random
from collections import deque
from collections.abc import Mapping

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMAND_BYTES, ControlOp, ErrorCode, Opcode

from ..errors import CoreError
from .engines import PROGRESS, RUN, Engine
from .state import CoreState
from .validate import Fields, prepare

__all__ = ["CoreModel"]

DISPATCHER = "dispatcher"

_Fetched = tuple[ErrorCode, Opcode, Fields]


class _Queue:
    """One engine: the command it runs and those behind it."""
    def __init__(self, state: CoreState, opcode: Opcode):
        self.state = state
        self.opcode = opcode
        self.waiting: deque[tuple[int, Fields]] = deque()
        self.index = 0
        self.running: Engine | None = None
        self.semaphore = PROGRESS

    @property
    def idle(self) -> bool:
        return self.running is None and not self.waiting

    @property
    def has_space(self) -> bool:
        # The command that is about to run does not count.
        held = len(self.waiting) + (self.running is not None)
        return held <= self.state.config.control.queue_depth

    @property
    def runnable(self) -> bool:
        return not self.idle and (self.semaphore == PROGRESS
                                  or self.state.semaphores[self.semaphore] > 0)

    @property
    def head(self) -> int:
        return self.index if self.running is not None else self.waiting[0][0]

    def step(self) -> None:
        """Work until the next semaphore."""
        if self.running is None:
            self.index, fields = self.waiting.popleft()
            self.running = RUN[self.opcode](self.state, self.index, fields)
        try:
            self.semaphore = next(self.running)
        except StopIteration:
            self.running, self.semaphore = None, PROGRESS


class CoreModel:
    """Bit-exact model of one core, on a window of system memory.

    Parameters
    ----------
    config : CoreConfig
    memory : uint8 array, (window bytes,) or (copies, window bytes)
        Read and written in place. Copies run one program; commands are those of the first.
    order : int or None
        None: what comes first in the program runs first. A seed: engines run in a shuffled
        order, so that a program whose semaphores do not order everything gives other results.
    """
    def __init__(self, *, config: CoreConfig, memory: np.ndarray, order: int | None = None):
        self.config = config
        self.order = order
        self.state = CoreState(config, memory)
        self.registers = [0] * config.control.params

    @property
    def counters(self) -> dict[str, int]:
        """Counters since the last start, named as in the register map."""
        return dict(self.state.counters)

    @property
    def interrupt(self) -> bool:
        """Whether a command raised the interrupt."""
        return self.state.interrupt

    def run(self, program_address: int, commands: int, *,
            params: Mapping[int, int] | None = None) -> None:
        """Run a program to its end; registers not in ``params`` keep their value.

        Raises
        ------
        CoreError
            The core stopped.
        CopiesDiffer
            Copies load other weights, parameters or tables.
        """
        for register, value in (params or {}).items():
            self.registers[register] = value & 0xffffffff
        state = self.state
        state.reset()
        queues = {opcode: _Queue(state, opcode) for opcode in RUN}
        shuffle = None if self.order is None else random.Random(self.order)
        priority: list[Opcode | str] = [*queues, DISPATCHER]
        position, pending = 0, None
        while True:
            if pending is None and position < commands:
                pending = self._fetch(program_address, position)
            ready: list[Opcode | str] = [o for o, queue in queues.items() if queue.runnable]
            if pending is not None and self._may_dispatch(pending, queues):
                ready.append(DISPATCHER)
            if not ready:
                if pending is None and all(queue.idle for queue in queues.values()):
                    return
                heads = [queue.head for queue in queues.values() if not queue.idle]
                raise CoreError(ErrorCode.DEADLOCK, min(heads))
            if shuffle is None:
                chosen = min(ready, key=lambda name: position if isinstance(name, str)
                             else queues[name].head)
            else:
                if shuffle.random() < 0.2:
                    shuffle.shuffle(priority)
                chosen = min(ready, key=priority.index)
            if isinstance(chosen, Opcode):
                queues[chosen].step()
            elif pending is not None:
                self._dispatch(position, pending, queues)
                position, pending = position + 1, None

    def _fetch(self, program_address: int, index: int) -> _Fetched:
        address = program_address + index * COMMAND_BYTES
        if address + COMMAND_BYTES > len(self.state.memory):
            return ErrorCode.MEMORY_ADDRESS, Opcode.CONTROL, {}
        record = self.state.memory[address:address + COMMAND_BYTES].tobytes()
        self.state.counters["fetch_words"] += COMMAND_BYTES // self.config.bus.data_bytes
        return prepare(record, self.config, self.registers)

    def _may_dispatch(self, fetched: _Fetched, queues: dict[Opcode, _Queue]) -> bool:
        code, opcode, fields = fetched
        if code != ErrorCode.NONE:
            return True
        if opcode != Opcode.CONTROL:
            return queues[opcode].has_space
        return fields["operation"] != ControlOp.FENCE or all(q.idle for q in queues.values())

    def _dispatch(self, index: int, fetched: _Fetched, queues: dict[Opcode, _Queue]) -> None:
        code, opcode, fields = fetched
        if code != ErrorCode.NONE:
            raise CoreError(code, index)
        if opcode != Opcode.CONTROL:
            queues[opcode].waiting.append((index, fields))
            return
        register, value = fields["register"], fields["value"]
        match ControlOp(fields["operation"]):
            case ControlOp.PARAM_SET:
                self.registers[register] = value & 0xffffffff
            case ControlOp.PARAM_ADD:
                self.registers[register] = (self.registers[register] + value) & 0xffffffff
            case ControlOp.CREDIT:
                self.state.raise_semaphore(register, value, index)
            case ControlOp.INTERRUPT:
                self.state.interrupt = True
