"""A command's fields as seen by hardware."""

from amaranth.hdl import Cat, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Out

from .isa import COMMAND_BYTES, MAX_COMMANDS, Command

__all__ = ["INDEX_BITS", "RECORD_BITS", "Record", "engine_ports", "error_layout"]

RECORD_BITS = 8 * COMMAND_BYTES
INDEX_BITS = MAX_COMMANDS.bit_length()

error_layout = data.StructLayout({"valid": 1, "code": 4, "index": INDEX_BITS})


def engine_ports() -> dict[str, wiring.Member]:
    """Members of every engine: its way to the semaphores, what it is doing, and its error."""
    return {
        "wait": Out(stream.Signature(5)),
        "raise_": Out(stream.Signature(5)),
        "raise_index": Out(INDEX_BITS),
        "busy": Out(1),
        "blocked": Out(1),
        "waiting": Out(1),
        "waiting_index": Out(INDEX_BITS),
        "idle": Out(1),
        "error": Out(error_layout),
    }


class Record:
    """Named slices of a command of 512 bits: ``record["run_bytes"]``, ``record["counts", 1]``."""
    def __init__(self, command: Command, bits):
        self.command = command
        self.bits = bits

    def __getitem__(self, key: str | tuple[str, int]) -> Value:
        name, entry = key if isinstance(key, tuple) else (key, 0)
        field = self.command.field(name)
        start = field.bit + entry * field.bits
        value = self.bits[start:start + field.bits]
        return value.as_signed() if field.signed else value

    def slots(self, what: str):
        """``valid``, ``number`` and ``level`` of both slots of ``what`` (wait or raise)."""
        return (Cat(self[f"{what}0_valid"], self[f"{what}1_valid"]),
                Cat(self[f"{what}0"], self[f"{what}1"]),
                Cat(self["level0"], self["level1"]))

    @property
    def index(self):
        """Position in the program, as far as the hardware keeps it."""
        return self["index"][:INDEX_BITS]
