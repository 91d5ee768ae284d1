"""How one element of the array multiplies."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .checks import check_bool, check_int

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
        Whether activations without effect leave the operand as it is, so that nothing toggles
        between it and the product, which is 0.

    Members
    -------
    activation : ``In(signed(8))``
        Operand, one each cycle.
    weight : ``In(signed(weight_bits))``
        Weight to take with ``swap``.
    swap : ``In(1)``
        Take ``weight``, for this cycle's activation and those after it.
    product : ``Out(signed(8 + weight_bits))``

    Where gated also ``live : In(1)``: take the activation; otherwise its product is 0.
    """
    LATENCY = 2  # cycles

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
            **({"live": In(1)} if gated else {}),
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
            live = Signal()
            with m.If(self.live):
                m.d.sync += activation.eq(self.activation)
            # Clearing the register is free, where to hold it and to mask it costs a LUT a bit.
            m.d.sync += [live.eq(self.live), product.eq(Mux(live, activation * weight, 0))]
        else:
            m.d.sync += [
                activation.eq(self.activation),
                product.eq(activation * weight),
            ]
        return m
