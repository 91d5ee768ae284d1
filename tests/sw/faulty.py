"""Devices that do one command of a program wrong."""

from systolith.device import ModelDevice
from systolith.model.core import CoreModel
from systolith.model.engines import RUN


class _FaultyModel(CoreModel):
    """Does ``harm(state)`` after each command of a record ``record``, or runs ``other`` for it."""
    record = other = b""
    harm = None

    def _fetch(self, program_address, index):
        address = program_address + 64 * index
        if self.state.memory[address:address + 64].tobytes() != self.record:
            return super()._fetch(program_address, index)
        if self.other:
            self.state.memory[address:address + 64] = list(self.other)
        found = super()._fetch(program_address, index)
        if self.other:
            self.state.memory[address:address + 64] = list(self.record)
        return (found[0], found[1], {**found[2], "harmed": self.harm})


class FaultyDevice(ModelDevice):
    """The model, with one command that it does wrong.

    Parameters
    ----------
    record : bytes
        The command.
    other : bytes
        What is done in its place; empty: the command itself.
    harm : callable or None
        Called with the state when the command has ended.
    """
    def __init__(self, config, *, memory_bytes, record, other=b"", harm=None):
        super().__init__(config, memory_bytes=memory_bytes)
        self.model = _FaultyModel(config=config, memory=self.memory)
        self.model.record, self.model.other, self.model.harm = record, other, harm

    def run(self, program_address, commands, *, params=None):
        originals = dict(RUN)

        def faulty(engine):
            def run(state, index, fields):
                yield from engine(state, index, fields)
                if fields.get("harmed"):
                    fields["harmed"](state)
            return run
        RUN.update({opcode: faulty(engine) for opcode, engine in originals.items()})
        try:
            super().run(program_address, commands, params=params)
        finally:
            RUN.update(originals)
