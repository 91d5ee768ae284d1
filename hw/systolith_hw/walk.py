"""The walk through one command after the other: addresses, waits, and what else a command says."""

from collections.abc import Sequence

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .affine import AffineWalker
from .fifo import Fork, ShortQueue
from .semaphore import Gate, gate_layout

__all__ = ["CommandWalker"]


class CommandWalker(wiring.Component):
    """Walks an engine's commands without a gap between them.

    Three parts come to a command one after the other, and each when it is done with the one
    before: the address generator when its last element has moved on, the gate when it has all
    tokens, and the output when the first element comes there. Until then a command stays at
    ``command``; the next one has to be there within the last cycles of a walk to follow without
    a gap.

    Timing: one element per cycle; the first leaves two cycles after its command came, also with
    tokens that are there.

    Parameters
    ----------
    loops : int
        Depth of nesting.
    streams : sequence of int
        Address width of each stream.
    kept : data.StructLayout
        What stays beside a command's elements.
    waits : bool
        Whether the walk waits for semaphores, at the first two of its levels.
    count_bits : int
        Width of a loop count.
    queued : bool
        Whether elements go through a queue, so that neither the walk nor what stays beside the
        elements hangs on what becomes of them in the same cycle: the first leaves three cycles
        after its command came, and there is a cycle between commands; more before those of fewer
        than three elements.
    levels : int
        Levels of its loops that a command names.
    held : bool
        Whether ``command`` stays as it is after it was accepted, until the walk is idle, and comes
        only then: it is not kept here. Not together with ``queued``.

    Members
    -------
    command : ``In(stream.Signature(...))``
        ``walk`` as ``AffineWalker`` takes it, ``waits`` of ``gate_layout``, and ``kept``.
    o : ``Out(stream of AffineWalker.element)``
        The elements, also those that have to wait.
    kept : ``Out(kept)``
        Of the command of the element at ``o``.
    begin : ``Out(1)``
        The element at ``o`` from the next cycle on is of another command; ``command`` is that
        command.
    open : ``Out(1)``
        The element at ``o`` has its tokens. Not after ``pass_``, if it needed any.
    pass_ : ``In(1)``
        It is issued.
    wait : ``Out(stream of number)``
        To the semaphores.
    idle : ``Out(1)``
        No element is inside.
    """
    def __init__(self, *, loops: int, streams: Sequence[int], kept: data.StructLayout,
                 waits: bool = True, count_bits: int = 16, queued: bool = False,
                 held: bool = False, levels: int = 2):
        self.loops = loops
        self.streams = tuple(streams)
        self.waits = waits
        self.count_bits = count_bits
        self.queued = queued
        self.held = held
        self.levels = levels
        self.walker = AffineWalker(loops=loops, streams=self.streams, count_bits=count_bits,
                                   held=held, levels=levels)
        super().__init__({
            "command": In(stream.Signature(data.StructLayout({
                "walk": self.walker.walk_layout, "waits": gate_layout, "kept": kept}))),
            "o": Out(stream.Signature(self.walker.element)),
            "kept": Out(kept),
            "begin": Out(1),
            "open": Out(1),
            "pass_": In(1),
            "wait": Out(stream.Signature(gate_layout["number"].shape.elem_shape)),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        command = self.command.payload
        m.submodules.walker = walker = self.walker
        m.submodules.fork = fork = Fork(shape=command.shape(), ways=2 + self.waits)
        wiring.connect(m, wiring.flipped(self.command), fork.i)
        idle, begin = walker.idle, walker.begin
        if self.queued:
            m.submodules.queue = queue = ShortQueue(shape=walker.element, depth=2)
            wiring.connect(m, walker.o, queue.i)
            idle = walker.idle & ~queue.o.valid
            # What stays beside elements comes after the command before it, and before its own.
            over = Signal(init=1)
            begin = fork.o[1].valid & over
            with m.If(begin):
                m.d.sync += over.eq(0)
            with m.Elif(self.o.valid & self.o.ready & self.o.payload.closes):
                m.d.sync += over.eq(1)
            m.d.comb += [
                self.o.valid.eq(queue.o.valid & ~over),
                self.o.payload.eq(queue.o.payload),
                queue.o.ready.eq(self.o.ready & ~over),
            ]
        else:
            wiring.connect(m, walker.o, wiring.flipped(self.o))
        m.d.comb += [
            walker.walk.valid.eq(fork.o[0].valid),
            walker.walk.payload.eq(command.walk),
            fork.o[0].ready.eq(walker.walk.ready),
            fork.o[1].ready.eq(begin),
            self.begin.eq(begin),
            self.idle.eq(idle),
        ]
        if self.held:
            m.d.comb += self.kept.eq(command.kept)
        else:
            kept = Signal(self.kept.shape(), reset_less=True)
            m.d.comb += self.kept.eq(kept)
            with m.If(begin):
                m.d.sync += kept.eq(command.kept)
        if self.waits:
            m.submodules.gate = gate = Gate(held=self.held)
            wiring.connect(m, gate.wait, wiring.flipped(self.wait))
            m.d.comb += [
                gate.waits.valid.eq(fork.o[2].valid),
                gate.waits.payload.eq(command.waits),
                fork.o[2].ready.eq(gate.waits.ready),
                gate.begins.eq(self.o.payload.begins),
                gate.final.eq(self.o.payload.final),
                gate.opens.eq(self.o.payload.opens),
                gate.pass_.eq(self.pass_),
                self.open.eq(gate.open),
            ]
        else:
            m.d.comb += self.open.eq(1)
        return m
