"""Multiplier strategies: how one element of the array multiplies."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["STRATEGIES", "GenericMultiplier", "Strategy", "strategy_named"]


class GenericMultiplier(wiring.Component):
    """``product = activation * weight``, inferred by the synthesiser.

    The weight is held in the multiplier's input register and replaced when ``swap`` arrives, so the
    activation beside a ``swap`` is the first one that meets the new weight.

    Timing: ``product`` is that of the activation two cycles before.

    Members
    -------
    activation : ``In(signed(8))``
        Operand, one each cycle.
    weight : ``In(signed(8))``
        Weight to take with ``swap``.
    swap : ``In(1)``
        Take ``weight``, for this cycle's activation and those after it.
    product : ``Out(signed(16))``
        -16256 to 16384.
    """
    LATENCY = 2  # cycles

    def __init__(self):
        super().__init__({
            "activation": In(signed(8)),
            "weight": In(signed(8)),
            "swap": In(1),
            "product": Out(signed(16)),
        })

    def elaborate(self, platform):
        m = Module()
        activation = Signal(signed(8), reset_less=True)
        weight     = Signal(signed(8), reset_less=True)
        product    = Signal(signed(16), reset_less=True)
        m.d.comb += self.product.eq(product)
        with m.If(self.swap):
            m.d.sync += weight.eq(self.weight)
        m.d.sync += [
            activation.eq(self.activation),
            product.eq(activation * weight),
        ]
        return m


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """What the array needs to know of a multiplier.

    Parameters
    ----------
    multiplier : callable
        Makes the component, which has the members of :class:`GenericMultiplier`.
    latency : int
        Cycles from ``activation`` to ``product``, the input register with the weight included.
    product_bits : int
        Width of ``product``.
    """
    multiplier: Callable[[], wiring.Component]
    latency: int
    product_bits: int


STRATEGIES = MappingProxyType({
    "generic": Strategy(multiplier=GenericMultiplier, latency=GenericMultiplier.LATENCY,
                        product_bits=16),
})


def strategy_named(name: str) -> Strategy:
    """The strategy that ``ArrayConfig.strategy`` calls ``name``.

    Raises
    ------
    ValueError
        There is no such strategy.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {name!r}")
    return STRATEGIES[name]
