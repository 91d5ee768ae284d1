"""How one element of the array multiplies."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .checks import check_bool, check_int
from .latency import MULTIPLIER

__all__ = ["Multiplier"]


class Multiplier(wiring.Component):
    """``product = activation * weight``, inferred by the synthesiser.

    The weight is held in the multiplier's input register and replaced when ``swap`` arrives, so the
    activation beside a ``swap`` is the first one that meets the new weight.

    Timing: ``product`` is that of the activation two cycles before.

    Parameters
    ----------
    weight_bits : int
        2 to 8.
    gated : bool
        Whether activations that are zero or not valid leave the operand as it is, so that nothing
        between it and the product toggles.

    Members
    -------
    activation : ``In(signed(8))``
        Operand, one each cycle.
    weight : ``In(signed(weight_bits))``
        Weight to take with ``swap``.
    swap : ``In(1)``
        Take ``weight``, for this cycle's activation and those after it.
    product : ``Out(signed(8 + weight_bits))``

    Where gated also ``valid : In(1)``, the activation is one, and ``live : In(1)``, it is also not
    0. The product of one that is not valid is that of the one before.
    """
    LATENCY = MULTIPLIER

    def __init__(self, *, weight_bits: int = 8, gated: bool = False):
        check_int("weight_bits", weight_bits, 2, 8)
        check_bool("gated", gated)
        self.weight_bits = weight_bits
        self.gated = gated
        super().__init__({
            "activation": In(signed(8)),
            "weight": In(signed(weight_bits)),
            "swap": In(1),
            "product": Out(signed(8 + weight_bits)),
            **({"valid": In(1), "live": In(1)} if gated else {}),
        })

    def elaborate(self, platform):
        m = Module()
        activation = Signal(signed(8), reset_less=True)
        weight     = Signal(signed(self.weight_bits), reset_less=True)
        product    = Signal(signed(8 + self.weight_bits), reset_less=True)
        m.d.comb += self.product.eq(product)
        with m.If(self.swap):
            m.d.sync += weight.eq(self.weight)
        if self.gated:
            valid = Signal()
            live  = Signal()
            m.d.sync += [valid.eq(self.valid), live.eq(self.live)]
            with m.If(self.live):
                m.d.sync += activation.eq(self.activation)
            # A register clears for nothing; one that is held and masked costs a LUT for each bit.
            with m.If(valid):
                m.d.sync += product.eq(Mux(live, activation * weight, 0))
        else:
            m.d.sync += [
                activation.eq(self.activation),
                product.eq(activation * weight),
            ]
        return m
