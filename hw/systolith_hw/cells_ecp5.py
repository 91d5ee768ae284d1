"""Cells of the Lattice ECP5, each with a twin in plain Amaranth."""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .cells import has_vendor_cells
from .checks import check_int
from .latency import ECP5_MULTIPLIER

__all__ = ["HeldMultiplier"]


class HeldMultiplier(wiring.Component):
    """``product = activation * factor`` in one MULT18X18D, which holds the factor.

    All registers of the cell are in use: input A takes the activation in every cycle, input B the
    factor with ``load``, then come the pipeline and the output register. The activation beside a
    ``load`` is the first one that meets the new factor. Both operands are in the upper bits of
    their inputs: nothing is sign-extended, the inputs below are constant, and so are the lower
    bits of the cell's product.

    Registers, clock enables and resets as in Lattice FPGA-TN-02205, "ECP5 and ECP5-5G sysDSP Usage
    Guide": each register takes its clock, enable and reset from the pins that its parameters name.

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
        operands = {"A": Cat(Const(0, 10), self.activation),
                    "B": Cat(Const(0, unused), self.factor)}
        product = Cat(Signal(10 + unused), self.product)
        enables = {"INPUTA": "CE0", "INPUTB": "CE1", "PIPELINE": "CE0", "OUTPUT": "CE0"}
        registers = {}
        for name, enable in enables.items():
            registers |= {f"p_REG_{name}_CLK": "CLK0", f"p_REG_{name}_CE": enable,
                          f"p_REG_{name}_RST": "RST0"}
        return Instance(
            "MULT18X18D", **registers,
            **{f"i_{port}{i}": bit for port, value in operands.items()
               for i, bit in enumerate(value)},
            **{f"o_P{i}": bit for i, bit in enumerate(product)},
            i_SIGNEDA=Const(1), i_SIGNEDB=Const(1), i_SOURCEA=Const(0), i_SOURCEB=Const(0),
            i_CLK0=ClockSignal(), i_CE0=Const(1), i_CE1=self.load, i_RST0=Const(0))
