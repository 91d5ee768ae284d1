"""The vector engine's part of a program on its own: what its cycles are measured with."""

from dataclasses import replace
from math import prod

from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, ControlOp, ElementType, Opcode, ResultType

from ..groups import group_cycles
from ..image import Image, Segment
from ..layout import aligned
from ..program import Program, decode_program

__all__ = ["data_cycles", "repeat_alone"]

REGION_BYTES = 64


def repeat_alone(image: Image, times: int, *, config: CoreConfig) -> Image:
    """``image`` with all loads first, then its vector commands ``times`` times, then all stores.

    Fences part the three, and only semaphores that vector commands both raise and wait for stay.
    Of an image whose loads do not overwrite each other, and whose vector commands leave their
    sources as they are, results are the same from one time on.
    """
    commands = decode_program(image.program)
    own = set.intersection(*({values[f"{kind}{slot}"] for opcode, values in commands
                              if opcode == Opcode.VECTOR for slot in (0, 1)
                              if values[f"{kind}{slot}_valid"]} for kind in ("wait", "raise")))
    program = Program(config=config)

    def append(kind: Opcode) -> None:
        for opcode, values in commands:
            if opcode == kind:
                program.records.append(COMMANDS[kind].encode(_without_others(values, own)))

    append(Opcode.LOAD)
    program.control(ControlOp.FENCE)
    for _ in range(times):
        append(Opcode.VECTOR)
    program.control(ControlOp.FENCE)
    append(Opcode.STORE)
    address = aligned(image.memory_bytes, REGION_BYTES)
    segments = [s for s in image.segments if s.address != image.program_address]
    data = program.encode()
    return replace(image, program_address=address, commands=len(program),
                   memory_bytes=address + len(data),
                   segments=(*segments, Segment(address=address, data=data)))


def _without_others(values: dict, own: set[int]) -> dict:
    """Fields without the semaphores that are not ``own``."""
    kept = dict(values)
    for name in ("wait0", "wait1", "raise0", "raise1"):
        if values["opcode"] != Opcode.VECTOR or values[name] not in own:
            kept |= {name: 0, f"{name}_valid": 0}
    return kept


def data_cycles(image: Image, *, config: CoreConfig) -> int:
    """Fewest cycles in which the vector commands can walk their data: for each lane group one, or
    one for each scratchpad row of its widest operand. Scalar passes, over records, do not count."""
    total = 0
    for opcode, values in decode_program(image.program):
        if opcode == Opcode.VECTOR and values["source_type"] <= ElementType.ACC and (
                values["result_type"] != ResultType.NONE or values["reduce"]
                or values["sum_results"]):
            total += prod(values["counts"]) * group_cycles(values, config=config)
    return total
