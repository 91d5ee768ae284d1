"""What a unit of a shared sequencer is given, by field."""

from amaranth.hdl import Module, Signal

from .microcode import Field

__all__ = ["Given"]


class Given:
    """Registers of a unit: a field was said in the cycle before, and its value is there.

    Parameters
    ----------
    m : Module
        Of the unit.
    emit, field : Signal
        As of ``sequencer.unit_ports``.
    """
    def __init__(self, m: Module, emit: Signal, field: Signal):
        self.m = m
        self.emit = emit
        self.field = field
        self.fields: dict[int, Signal] = {}

    def __call__(self, field: Field) -> Signal:
        """Whether ``field`` was said."""
        if field not in self.fields:
            said = Signal(name=f"given_{int(field)}")
            self.m.d.sync += said.eq(self.emit & (self.field == field))
            self.fields[field] = said
        return self.fields[field]
