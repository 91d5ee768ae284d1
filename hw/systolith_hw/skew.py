"""Delay lines that slant a row into a wavefront, and straighten it again."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Cat, Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from .checks import check_int

__all__ = ["Skew"]


class Skew(wiring.Component):
    """Delays every lane by its own number of cycles.

    Timing: ``delayed[i]`` is ``lanes[i]`` of ``delays[i]`` cycles before. No register for 0.

    Parameters
    ----------
    shape : ShapeLike
        One lane: ``signed(8)``, 1, ...
    delays : iterable of int
        Cycles for each lane: ``range(rows)`` slants a row.

    Members
    -------
    lanes : ``In(ArrayLayout(shape, len(delays)))``
        A row each cycle.
    delayed : ``Out(ArrayLayout(shape, len(delays)))``
        The lanes, each later by its delay.
    """
    def __init__(self, *, shape: Any, delays: Iterable[int]):
        self.shape = Shape.cast(shape)
        self.delays = tuple(delays)
        for delay in self.delays:
            check_int("delays", delay, 0, 1 << 16)
        layout = ArrayLayout(self.shape, len(self.delays))
        super().__init__({"lanes": In(layout), "delayed": Out(layout)})

    def elaborate(self, platform):
        m = Module()
        bits = self.shape.width
        for i, delay in enumerate(self.delays):
            if delay == 0:
                m.d.comb += self.delayed[i].eq(self.lanes[i])
            else:
                # One wide shift register, newest value in the low bits: far less Verilog than one
                # register per step.
                line = Signal(bits * delay, name=f"line_{i}", reset_less=True)
                m.d.comb += self.delayed[i].eq(line[-bits:])
                m.d.sync += line.eq(Cat(self.lanes[i], line))
        return m
