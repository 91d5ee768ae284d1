"""What every proof has in common: a component, free inputs, a reset, and properties."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import (
    Assert,
    Assume,
    ClockDomain,
    ClockSignal,
    Instance,
    Module,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from systolith_hw.cells import flat_ports

__all__ = ["POWER_ON_RESET", "Specification"]

# The emitted Verilog has no initial values: proofs begin with one cycle of reset, and registers
# without a reset hold anything.
POWER_ON_RESET = """
module power_on_reset(input clk, output rst);
  reg began = 0;
  always @(posedge clk) began <= 1;
  assign rst = !began;
endmodule
"""


class Specification(wiring.Component):
    """A component, whose inputs are free, and what must hold of it.

    The reset is active in the first cycle and never again; nothing is assumed or asserted in it.

    Parameters
    ----------
    dut : wiring.Component
        The component.
    drives : sequence of str
        Inputs of the component that the properties drive; the others are free.
    free : shapes by name
        Further inputs that may be anything in every cycle.
    """
    def __init__(self, dut: wiring.Component, *, drives: Sequence[str] = (), **free: Any):
        self.dut = dut
        self.inputs = {name: value for name, (value, is_input) in flat_ports(dut).items()
                       if is_input and name not in drives}
        super().__init__({
            "clk": In(1),
            **{name: In(shape) for name, shape in free.items()},
            **{name: In(len(value)) for name, value in self.inputs.items()},
        })

    def properties(self, m: Module, dut: Any) -> None:
        """Add assumptions about the inputs of ``dut`` and assertions about its outputs."""
        raise NotImplementedError

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.reset = Instance("power_on_reset", i_clk=self.clk, o_rst=ResetSignal())
        m.submodules.dut = self.dut
        m.d.comb += ClockSignal().eq(self.clk)
        m.d.comb += [value.eq(getattr(self, name)) for name, value in self.inputs.items()]
        self.properties(m, self.dut)
        return m

    def given(self, m: Module, condition: Any) -> None:
        """Assume ``condition`` in every cycle."""
        m.d.comb += Assume(ResetSignal() | Value.cast(condition).any())

    def require(self, m: Module, condition: Any, message: str) -> None:
        """Assert ``condition`` in every cycle."""
        m.d.comb += Assert(ResetSignal() | Value.cast(condition).any(), message)

    def constant(self, m: Module, free: Signal) -> Signal:
        """Any value of the free input ``free``, the same in all cycles."""
        chosen = Signal.like(free, name=f"{free.name}_chosen", reset_less=True)
        with m.If(ResetSignal()):
            m.d.sync += chosen.eq(free)
        return chosen

    def past(self, m: Module, value: Any, name: str) -> Signal:
        """``value`` of the cycle before; 0 after the reset."""
        value = Value.cast(value)
        register = Signal(value.shape(), name=name)
        m.d.sync += register.eq(value)
        return register

    def held(self, m: Module, valid: Any, ready: Any, payload: Any, name: str) -> Value:
        """An offer that was not taken still stands, unchanged."""
        waits = self.past(m, valid & ~ready, f"{name}_waits")
        offer = self.past(m, payload, f"{name}_offer")
        return ~waits | (valid & (Value.cast(payload) == offer))

    def follow(self, m: Module, name: str, *, enter: Any, entry: Any, leave: Any, most: int,
               pick: Any) -> tuple[Signal, Value, Signal]:
        """A naive model of a queue: how many entries are inside, and where one of them is.

        Parameters
        ----------
        enter, leave : value
            An entry comes; goes.
        entry : value
            The one that comes.
        most : int
            How many it must be able to count.
        pick : value
            A free input: the first entry that comes with it is followed, so any.

        Returns
        -------
        inside, turn, value
            Entries inside; whether the one followed is the next to leave; what it was.
        """
        entry  = Value.cast(entry)
        inside = Signal(range(most + 1), name=f"{name}_inside")
        before = Signal(range(most + 1), name=f"{name}_before")
        picked = Signal(name=f"{name}_picked")
        value  = Signal(len(entry), name=f"{name}_value", reset_less=True)
        m.d.sync += inside.eq(inside + enter - leave)
        with m.If(~picked & pick & enter):
            m.d.sync += [picked.eq(1), before.eq(inside - leave), value.eq(entry)]
        with m.Elif(picked & leave):
            m.d.sync += [before.eq(before - 1), picked.eq(before != 0)]
        return inside, picked & (before == 0), value

    def late(self, m: Module, name: str, waits: Any, cycles: int) -> Value:
        """Whether ``waits`` has held for more than so many ``cycles`` in a row."""
        waiting = Signal(range(cycles + 2), name=f"{name}_waiting")
        with m.If(~waits):
            m.d.sync += waiting.eq(0)
        with m.Elif(waiting <= cycles):
            m.d.sync += waiting.eq(waiting + 1)
        return waiting > cycles
