"""Runs on their way to the rows that they touch, with what their commands say of them."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import CoreConfig
from .fifo import Fifo, ShortQueue
from .transfer import place_layout, settings_layout

__all__ = ["RunQueue"]


class RunQueue(wiring.Component):
    """Buffer of runs, between a ``RunWalker`` and a ``RunStepper``.

    Settings come with a command's first run and leave with it.

    Timing: as ``Fifo`` or, of two runs, ``ShortQueue``.

    Parameters
    ----------
    config : CoreConfig
    depth : int
        Runs that it holds, at least: 2 in registers, or a power of two above.

    Members
    -------
    i : ``In(stream of place_layout)``
        Runs come in.
    settings : ``In(settings_layout)``
        Of the command of the run that comes in.
    o : ``Out(stream of place_layout)``
        Runs go out, in order.
    now : ``Out(settings_layout)``
        With a command's first run, its settings.
    empty : ``Out(1)``
        No run is inside.
    """
    def __init__(self, *, config: CoreConfig, depth: int):
        self.config = config
        self.depth = depth
        runs = stream.Signature(place_layout(config))
        super().__init__({
            "i": In(runs),
            "settings": In(settings_layout(config)),
            "o": Out(runs),
            "now": Out(settings_layout(config)),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        shape = place_layout(self.config)
        m.submodules.runs = runs = (Fifo(shape=shape, depth=self.depth) if self.depth > 2
                                    else ShortQueue(shape=shape, depth=2))
        shape = settings_layout(self.config)
        m.submodules.settings = settings = (
            Fifo(shape=shape, depth=max(self.config.control.queue_depth, 2)) if self.depth > 2
            else ShortQueue(shape=shape, depth=2))
        first = self.i.payload.first
        m.d.comb += [
            runs.i.valid.eq(self.i.valid & (settings.i.ready | ~first)),
            runs.i.payload.eq(self.i.payload),
            self.i.ready.eq(runs.i.ready & (settings.i.ready | ~first)),
            settings.i.valid.eq(self.i.valid & runs.i.ready & first),
            settings.i.payload.eq(self.settings),
            self.o.valid.eq(runs.o.valid),
            self.o.payload.eq(runs.o.payload),
            runs.o.ready.eq(self.o.ready),
            self.now.eq(settings.o.payload),    # there as soon as its run
            settings.o.ready.eq(runs.o.valid & self.o.ready & runs.o.payload.first),
            self.empty.eq(runs.empty),
        ]
        return m
