"""Building programs: commands from strides and named semaphores."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from systolith_hw.config import CoreConfig
from systolith_hw.isa import (
    COMMAND_BYTES,
    COMMANDS,
    ONCE,
    ControlOp,
    ElementType,
    LoadMode,
    Memory,
    Opcode,
    ResultType,
    jumps_of,
)

__all__ = ["GROUP_UNITS", "Program", "Slot", "decode_program"]

GROUP_UNITS = {int(kind): size for kind, size in (
    (ElementType.INT8, 1), (ElementType.INT16, 2), (ElementType.INT32, 4))}   # of a lane group


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What one of a command's two semaphore slots does at each iteration of a loop level.

    Parameters
    ----------
    wait : str or None
        Semaphore waited for when the iteration starts.
    post : str or None
        Semaphore raised when it ends.
    level : int
        Loop level; 15 = once per command.
    """
    wait: str | None = None
    post: str | None = None
    level: int = ONCE


class Program:
    """A sequence of commands for one core.

    Counts and strides are given innermost loop first and may be left short. Every method appends
    one command and takes further header or body fields by their names in ``isa`` as keywords.

    Parameters
    ----------
    config : CoreConfig
    draft : bool
        Keep the commands' fields and encode none of them: enough for predictions.

    Members
    -------
    records : list of bytes
        The commands so far; none in a draft.
    commands : list of (Opcode, dict)
        Their fields that are not default.
    semaphores : dict of str to int
        Number of each name used so far.
    balance : dict of str to int
        Raises minus waits of each semaphore so far: its value when everything has run.
    """
    def __init__(self, *, config: CoreConfig, draft: bool = False):
        if not isinstance(config, CoreConfig):
            raise TypeError(f"config must be a CoreConfig, not {config!r}")
        self.config = config
        self.draft = draft
        self.records: list[bytes] = []
        self.commands: list[tuple[Opcode, dict[str, Any]]] = []
        self.semaphores: dict[str, int] = {}
        self.balance: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.commands if self.draft else self.records)

    def encode(self) -> bytes:
        """All commands, 64 bytes each."""
        return b"".join(self.records)

    def semaphore(self, name: str) -> int:
        """Number of the semaphore called ``name``, allocated at its first use.

        Raises
        ------
        ValueError
            The core has no more semaphores.
        """
        if name not in self.semaphores:
            if len(self.semaphores) == self.config.control.semaphores:
                raise ValueError(f"control.semaphores must be at least "
                                 f"{len(self.semaphores) + 1} for this program, "
                                 f"not {self.config.control.semaphores!r}")
            self.semaphores[name] = len(self.semaphores)
            self.balance[name] = 0
        return self.semaphores[name]

    def load(self, *, memory: Memory, address: int, run_bytes: int, row: int, byte: int = 0,
             row_bytes: int | None = None, row_step: int = 1, counts: Sequence[int] = (),
             strides: Sequence[int] = (), row_strides: Sequence[int] = (), ring: int = 0,
             slots: Sequence[Slot] = (), byte_strides: Sequence[int] = (), **fields: Any) -> None:
        """Append a load of runs of bytes from system memory.

        Parameters
        ----------
        memory : Memory
        address : int
            First byte, relative to the window.
        run_bytes, row_bytes, row_step : int
            Bytes of a run, bytes of it in each row (all of them where left out), rows between.
        row, byte : int
            First place in the scratchpad.
        strides, row_strides : sequence of int
            Bytes of memory and rows of scratchpad from one iteration of each loop to the next.
        ring : int
            Log2 of the rows of the ring; 0 for none.
        byte_strides : sequence of int
            Bytes of scratchpad in place of rows.
        """
        self._transfer(Opcode.LOAD, memory=memory, address=address, run_bytes=run_bytes, row=row,
                       byte=byte, row_bytes=row_bytes, row_step=row_step, counts=counts,
                       strides=strides, row_strides=row_strides, ring=ring, slots=slots,
                       byte_strides=byte_strides, fields=fields)

    def fill(self, *, memory: Memory, value: int, run_bytes: int, row: int, byte: int = 0,
             row_bytes: int | None = None, row_step: int = 1, counts: Sequence[int] = (),
             row_strides: Sequence[int] = (), ring: int = 0, slots: Sequence[Slot] = (),
             **fields: Any) -> None:
        """Append a load that writes the int8 ``value`` and reads nothing."""
        self._transfer(Opcode.LOAD, memory=memory, address=0, run_bytes=run_bytes, row=row,
                       byte=byte, row_bytes=row_bytes, row_step=row_step, counts=counts,
                       strides=(), row_strides=row_strides, ring=ring, slots=slots,
                       byte_strides=(), fields={"mode": LoadMode.FILL, "fill": value, **fields})

    def store(self, *, address: int, run_bytes: int, row: int, byte: int = 0,
              row_bytes: int | None = None, row_step: int = 1, counts: Sequence[int] = (),
              strides: Sequence[int] = (), row_strides: Sequence[int] = (), ring: int = 0,
              slots: Sequence[Slot] = (), byte_strides: Sequence[int] = (),
              **fields: Any) -> None:
        """Append a store of runs of bytes of the activation scratchpad; parameters as ``load``."""
        self._transfer(Opcode.STORE, memory=Memory.ACT, address=address, run_bytes=run_bytes,
                       row=row, byte=byte, row_bytes=row_bytes, row_step=row_step, counts=counts,
                       strides=strides, row_strides=row_strides, ring=ring, slots=slots,
                       byte_strides=byte_strides, fields=fields)

    def execute(self, *, counts: Sequence[int], act_row: int, act_strides: Sequence[int],
                acc_row: int, acc_strides: Sequence[int], wgt_row: int, k_last: int,
                accumulate: bool = False, wgt_rewind: int = 0,
                rings: tuple[int, int, int] = (0, 0, 0), slots: Sequence[Slot] = (),
                **fields: Any) -> None:
        """Append an execute.

        Parameters
        ----------
        counts, act_strides, acc_strides : sequence of int
            For all of the core's ``execute_loops`` loops (the last walks column tiles).
        act_row, acc_row, wgt_row : int
            First rows.
        k_last : int
            Weight rows of the last tile of loop 2.
        rings : tuple of int
            Log2 of the rings of activation, weight and accumulator rows.
        """
        wrap = self.config.memory.acc_rows if rings[2] else 0
        self.append(Opcode.EXECUTE, slots, {
            "counts": list(counts), "act_base": act_row, "act_jumps": jumps_of(counts, act_strides),
            "acc_base": acc_row, "acc_jumps": _centred(jumps_of(counts, acc_strides), wrap),
            "wgt_base": wgt_row, "wgt_rewind": wgt_rewind, "k_last": k_last,
            "accumulate": int(accumulate), "ring": list(rings), **fields})

    def vector(self, *, counts: Sequence[int], source: int = 0,
               source_strides: Sequence[int] = (), stream: int = 0,
               stream_strides: Sequence[int] = (), result: int = 0,
               result_strides: Sequence[int] = (), rings: tuple[int, int, int] = (0, 0, 0),
               clamp: tuple[int, int] = (-128, 127), slots: Sequence[Slot] = (),
               **fields: Any) -> None:
        """Append a vector command; what is left out of ``fields`` is a requantising ``ADD`` of
        the channel's bias to the accumulator.

        Parameters
        ----------
        counts : sequence of int
            Loop 0 counts lane groups of a row.
        source, stream, result : int
            First lane groups.
        source_strides, stream_strides, result_strides : sequence of int
            Lane groups from one iteration of loops 1, 2, 3 to the next.
        rings : tuple of int
            Log2 of the rings of source, stream and result groups.
        """
        stream_size = GROUP_UNITS[fields.get("stream_type", ElementType.INT8)]
        result_size = GROUP_UNITS.get(fields.get("result_type", ResultType.INT8), 1)
        walks = {}
        for name, base, step, strides, ring in (
                ("source", source, fields.get("source_step", 1), source_strides, rings[0]),
                ("stream", stream, stream_size * fields.get("stream_step", 1), stream_strides,
                 rings[1]),
                ("result", result, result_size * fields.get("result_step", 1), result_strides,
                 rings[2])):
            jumps = jumps_of(counts, [step, *_padded(strides, counts[1:])])[1:]
            walks[f"{name}_base"] = base
            walks[f"{name}_jumps"] = _centred(jumps, 1 << ring if ring else 1 << 16)
        self.append(Opcode.VECTOR, slots, {
            "counts": list(counts), **walks, "clamp_low": clamp[0], "clamp_high": clamp[1],
            "ring": list(rings), **fields})

    def control(self, operation: ControlOp, *, register: int = 0, value: int = 0) -> None:
        """Append a command for the dispatcher."""
        self.append(Opcode.CONTROL, (), {"operation": operation, "register": register,
                                              "value": value})

    def credit(self, name: str, value: int) -> None:
        """Append raises of the semaphore called ``name``."""
        self.control(ControlOp.CREDIT, register=self.semaphore(name), value=value)
        self.balance[name] += value

    def drain(self) -> None:
        """Append a fence and what brings every semaphore back to 0.

        Waits are done by fills of the activation scratchpad's first byte, so nothing may be kept
        there.
        """
        self.control(ControlOp.FENCE)
        for name, value in list(self.balance.items()):
            if value > 0:
                self.fill(memory=Memory.ACT, value=0, run_bytes=1, row=0, counts=[value],
                          slots=[Slot(wait=name, level=0)])

    def _transfer(self, opcode: Opcode, *, memory: Memory, address: int, run_bytes: int, row: int,
                  byte: int, row_bytes: int | None, row_step: int, counts: Sequence[int],
                  strides: Sequence[int], row_strides: Sequence[int], ring: int,
                  slots: Sequence[Slot], byte_strides: Sequence[int],
                  fields: dict[str, Any]) -> None:
        pitch = {Memory.ACT: self.config.act_row_bytes, Memory.WGT: self.config.wgt_row_pitch,
                 Memory.PAR: self.config.par_row_pitch,
                 Memory.FUN: self.config.fun_row_bytes}[memory]
        pad_strides = byte_strides or [pitch * stride for stride in row_strides]
        self.append(opcode, slots, {
            "memory": memory, "memory_base": address, "counts": list(counts),
            "memory_jumps": jumps_of(counts, _padded(strides, counts)),
            "pad_base": row * pitch + byte,
            "pad_jumps": jumps_of(counts, _padded(pad_strides, counts)),
            "run_bytes": run_bytes, "row_bytes": run_bytes if row_bytes is None else row_bytes,
            "row_step": row_step, "ring": [ring], **fields})

    def append(self, opcode: Opcode, slots: Sequence[Slot], values: dict[str, Any]) -> None:
        """Append a command whose fields, but for its slots, are ``values``; they are kept."""
        if len(slots) > 2:
            raise ValueError(f"slots must be at most 2, not {slots!r}")
        if len(slots) == 2 and slots[0].wait and slots[0].wait == slots[1].wait and (
                slots[0].level != slots[1].level):
            raise ValueError(f"slots must wait for one semaphore at one level only, not {slots!r}")
        for number, slot in enumerate(slots):
            values[f"level{number}"] = slot.level
            times = 1 if slot.level == ONCE else prod(values["counts"][slot.level:])
            for field, name, change in (("wait", slot.wait, -times), ("raise", slot.post, times)):
                if name is not None:
                    values[f"{field}{number}"] = self.semaphore(name)
                    values[f"{field}{number}_valid"] = 1
                    self.balance[name] += change
        self.commands.append((opcode, values))
        if not self.draft:
            self.records.append(COMMANDS[opcode].encode(values))


def _padded(strides: Sequence[int], counts: Sequence[int]) -> list[int]:
    return [*strides, *[0] * (len(counts) - len(strides))]


def _centred(jumps: list[int], ring: int) -> list[int]:
    """Jumps modulo a ring's size, brought nearest to 0; unchanged without one."""
    if not ring:
        return jumps
    return [(jump + ring // 2) % ring - ring // 2 for jump in jumps]


def decode_program(program: bytes) -> list[tuple[Opcode, dict]]:
    """The commands of an encoded program."""
    records = [program[start:start + COMMAND_BYTES]
               for start in range(0, len(program), COMMAND_BYTES)]
    return [(opcode := Opcode(record[0]), COMMANDS[opcode].decode(record))
            for record in records]
