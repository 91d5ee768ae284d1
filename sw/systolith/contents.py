"""What is in an image: its commands by engine, and its bytes by what they are for."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from systolith_hw.isa import COMMAND_BYTES, LoadMode, Memory, Opcode

from .image import Image
from .program import decode_program

__all__ = ["bytes_by_kind", "commands_by_engine", "moved_bytes"]

KINDS = {Memory.ACT: "constants", Memory.WGT: "weights", Memory.PAR: "parameters",
         Memory.FUN: "tables"}


def commands_by_engine(images: Iterable[Image]) -> dict[str, int]:
    """How many commands each engine gets; names as ``Opcode`` has them."""
    found = Counter(Opcode(record).name.lower() for image in images
                    for record in (image.setup + image.program)[::COMMAND_BYTES])
    return {opcode.name.lower(): found[opcode.name.lower()] for opcode in Opcode
            if found[opcode.name.lower()]}


def moved_bytes(command: tuple[Opcode, Mapping[str, Any]]) -> int:
    """Bytes that a command moves between system memory and the core."""
    opcode, values = command
    if opcode not in (Opcode.LOAD, Opcode.STORE) or values.get("mode") == LoadMode.FILL:
        return 0
    return prod(values.get("counts", ())) * values["run_bytes"]


def bytes_by_kind(image: Image) -> dict[str, int]:
    """Bytes of system memory by what they are for; together ``memory_bytes``.

    ``commands``; ``weights``, ``parameters``, ``tables`` and ``constants`` by the memory that they
    are loaded into first (``constants``: activation scratchpad); ``inputs`` and ``outputs``, with
    what lies between their rows; ``other``: results that are put aside, and gaps.
    """
    loaded: dict[int, str] = {}
    for opcode, fields in decode_program(image.setup + image.program):
        if opcode == Opcode.LOAD and fields["mode"] == LoadMode.READ:
            loaded.setdefault(fields["memory_base"], KINDS[Memory(fields["memory"])])
    ports = {tensor.address: (name, tensor.byte_count) for name, tensors in (
        ("inputs", image.inputs), ("outputs", image.outputs)) for tensor in tensors}
    programs = [image.program_address, *[image.setup_address] * bool(image.setup_commands)]
    sizes: Counter[str] = Counter()
    for segment in image.segments:
        inside = range(segment.address, segment.address + len(segment.data))
        kinds = ["commands"] if segment.address in programs else []
        # An input whose gaps are in the file.
        kinds += [ports.pop(start)[0] for start in list(ports) if start in inside]
        kinds += [loaded[start] for start in sorted(loaded) if start in inside]
        sizes[kinds[0] if kinds else KINDS[Memory.ACT]] += len(segment.data)
    for name, size in ports.values():
        sizes[name] += size
    sizes["other"] = image.memory_bytes - sizes.total()
    return {name: size for name, size in sorted(sizes.items()) if size}
