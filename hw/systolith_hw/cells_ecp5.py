"""Cells of the Lattice ECP5, each with a twin in plain Amaranth."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .cells import has_vendor_cells
from .checks import check_bool, check_int
from .latency import ECP5_MULTIPLIER

__all__ = ["HeldMultiplier", "Multiplier18", "carry_chain"]


def carry_chain(m: Module, halves: Sequence[tuple[int, Sequence[Any], Any]], *,
                carry: Value | None = None) -> None:
    """Add a chain of CCU2Cs: of each half its INIT, inputs A, B, C and D, and the sum's bit.

    Digits of INIT are functions of A and B, with D, C = 11, 10, 01 and 00; 00 is also what is
    carried where the sum does not propagate.

    Source: Lattice FPGA-TN-02200 (ECP5 family), "Ripple Mode"; Yosys' model of the cell.

    Parameters
    ----------
    carry : Value or None
        What is carried into the chain, for a half more.
    """
    one = Const(1)
    if carry is not None:
        halves = [(0x000A, (carry, one, one, one), Signal()), *halves]
    if len(halves) % 2:
        halves = [*halves, (0, (one,) * 4, Signal())]
    carried = None
    for number in range(0, len(halves), 2):
        ports: dict[str, Any] = {}
        for i, (init, inputs, bit) in enumerate(halves[number:number + 2]):
            ports |= {f"p_INIT{i}": Const(init, 16), f"p_INJECT1_{i}": "NO", f"o_S{i}": bit,
                      **{f"i_{name}{i}": value
                         for name, value in zip("ABCD", inputs, strict=True)}}
        if carried is not None:
            ports["i_CIN"] = carried
        if number + 2 < len(halves):
            carried = Signal(name=f"carry_{number + 2}")
            ports["o_COUT"] = carried
        m.submodules[f"cell_{number // 2}"] = Instance("CCU2C", **ports)


def multiplier_cell(a, b, product, *, load=1) -> Instance:
    """A MULT18X18D with all of its registers in use.

    Registers, clock enables and resets as in Lattice FPGA-TN-02205, "ECP5 and ECP5-5G sysDSP Usage
    Guide": each register takes its clock, enable and reset from the pins that its parameters name.

    Parameters
    ----------
    a, b : Value
        Signed operands, 18 bits.
    product : Value
        Takes the 36 bits of the product of ``ECP5_MULTIPLIER`` cycles before.
    load : Value
        Enables the register of ``b``.
    """
    enables = {"INPUTA": "CE0", "INPUTB": "CE1", "PIPELINE": "CE0", "OUTPUT": "CE0"}
    registers = {}
    for name, enable in enables.items():
        registers |= {f"p_REG_{name}_CLK": "CLK0", f"p_REG_{name}_CE": enable,
                      f"p_REG_{name}_RST": "RST0"}
    return Instance(
        "MULT18X18D", **registers,
        **{f"i_{port}{i}": bit for port, value in (("A", a), ("B", b))
           for i, bit in enumerate(value)},
        **{f"o_P{i}": bit for i, bit in enumerate(product)},
        i_SIGNEDA=Const(1), i_SIGNEDB=Const(1), i_SOURCEA=Const(0), i_SOURCEB=Const(0),
        i_CLK0=ClockSignal(), i_CE0=Const(1), i_CE1=load, i_RST0=Const(0))


class HeldMultiplier(wiring.Component):
    """``product = activation * factor`` in one MULT18X18D, which holds the factor.

    All registers of the cell are in use: input A takes the activation in every cycle, input B the
    factor with ``load``, then come the pipeline and the output register. The activation beside a
    ``load`` is the first one that meets the new factor. Both operands are in the upper bits of
    their inputs: nothing is sign-extended, the inputs below are constant, and so are the lower
    bits of the cell's product.

    Timing: ``product`` is that of the activation ``LATENCY`` cycles before.

    Parameters
    ----------
    factor_bits : int
        Width of the factor. 2 to 18.

    Members
    -------
    activation : ``In(signed(8))``
        Operand, one each cycle.
    factor : ``In(signed(factor_bits))``
        Factor to take with ``load``.
    load : ``In(1)``
        Take ``factor``, for this cycle's activation and those after it.
    product : ``Out(signed(8 + factor_bits))``
        The exact product.
    """
    LATENCY = ECP5_MULTIPLIER

    def __init__(self, *, factor_bits: int):
        check_int("factor_bits", factor_bits, 2, 18)
        self.factor_bits = factor_bits
        super().__init__({
            "activation": In(signed(8)),
            "factor": In(signed(factor_bits)),
            "load": In(1),
            "product": Out(signed(8 + factor_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        if has_vendor_cells(platform):
            m.submodules.cell = self._cell()
            return m
        activation = Signal.like(self.activation, reset_less=True)
        factor     = Signal.like(self.factor, reset_less=True)
        pipeline   = Signal.like(self.product, reset_less=True)
        output     = Signal.like(self.product, reset_less=True)
        m.d.comb += self.product.eq(output)
        with m.If(self.load):
            m.d.sync += factor.eq(self.factor)
        m.d.sync += [
            activation.eq(self.activation),
            pipeline.eq(activation * factor),
            output.eq(pipeline),
        ]
        return m

    def _cell(self):
        unused = 18 - self.factor_bits
        return multiplier_cell(
            Cat(Const(0, 10), self.activation), Cat(Const(0, unused), self.factor),
            Cat(Signal(10 + unused), self.product), load=self.load)


class Multiplier18(wiring.Component):
    """``product = first * second`` of two signed numbers of 18 bits.

    Timing: one product per cycle, ``LATENCY`` cycles after its factors.

    Parameters
    ----------
    cell : bool
        Whether it is a MULT18X18D, all registers of which are in use; otherwise inferred by the
        synthesiser.

    Members
    -------
    first, second : ``In(signed(18))``
        Factors.
    product : ``Out(signed(36))``
    """
    LATENCY = ECP5_MULTIPLIER

    def __init__(self, *, cell: bool):
        check_bool("cell", cell)
        self.cell = cell
        super().__init__({"first": In(signed(18)), "second": In(signed(18)),
                          "product": Out(signed(36))})

    def elaborate(self, platform):
        m = Module()
        if self.cell and has_vendor_cells(platform):
            m.submodules.cell = multiplier_cell(self.first, self.second, self.product)
            return m
        first    = Signal.like(self.first, reset_less=True)
        second   = Signal.like(self.second, reset_less=True)
        pipeline = Signal.like(self.product, reset_less=True)
        output   = Signal.like(self.product, reset_less=True)
        m.d.comb += self.product.eq(output)
        m.d.sync += [
            first.eq(self.first), second.eq(self.second),
            pipeline.eq(first * second),
            output.eq(pipeline),
        ]
        return m
