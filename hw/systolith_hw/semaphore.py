"""Counting semaphores between the engines, and each engine's gate to them."""

from amaranth.hdl import Array, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .fifo import ShortQueue
from .isa import ONCE
from .record import INDEX_BITS

__all__ = ["Gate", "Raiser", "Semaphores", "at_level"]

NUMBER_BITS = 5
VALUE_BITS = 4


def at_level(flags, level, loops: int):
    """Whether all loops inside ``level`` have their flag set (``first``: an iteration of the
    level begins; ``last``: it ends); level 15 means all loops."""
    inside = [Const(1, 1)]
    for i in range(loops):
        inside.append(inside[-1] & flags[i])
    return Array([inside[min(i, loops)] for i in range(ONCE + 1)])[level]


class Semaphores(wiring.Component):
    """Counting semaphores of 4 bits; one is raised and one is taken per cycle.

    Fixed priority, lowest index first; a request holds until it is granted.

    Parameters
    ----------
    count : int
        Number of semaphores.
    waiters, raisers : int
        Numbers of ports.

    Members
    -------
    wait : ``In(stream of number)`` array
        Ready when the semaphore was above 0 and has been taken.
    raise_ : ``In(stream of number)`` array
        Ready when the semaphore has been raised.
    overflow : ``Out(raisers)``
        The raise granted to this port would have passed 15; the value stays.
    """
    def __init__(self, *, count: int, waiters: int, raisers: int):
        self.count = count
        self.waiters = waiters
        self.raisers = raisers
        super().__init__({
            "wait": In(stream.Signature(NUMBER_BITS)).array(waiters),
            "raise_": In(stream.Signature(NUMBER_BITS)).array(raisers),
            "overflow": Out(raisers),
        })

    def elaborate(self, platform):
        m = Module()
        values = [Signal(VALUE_BITS, name=f"value{i}") for i in range(self.count)]
        raising, raise_number = Signal(), Signal(NUMBER_BITS)
        taking, take_number = Signal(), Signal(NUMBER_BITS)
        for i in reversed(range(self.raisers)):
            with m.If(self.raise_[i].valid):
                m.d.comb += [
                    raising.eq(1), raise_number.eq(self.raise_[i].payload),
                    *(self.raise_[j].ready.eq(i == j) for j in range(i, self.raisers)),
                ]
        nonzero = Array([value != 0 for value in values])
        for i in reversed(range(self.waiters)):
            with m.If(self.wait[i].valid & nonzero[self.wait[i].payload]):
                m.d.comb += [
                    taking.eq(1), take_number.eq(self.wait[i].payload),
                    *(self.wait[j].ready.eq(i == j) for j in range(i, self.waiters)),
                ]
        full = Signal()
        m.d.comb += full.eq(0)
        for i, value in enumerate(values):
            up, down = Signal(name=f"up{i}"), Signal(name=f"down{i}")
            m.d.comb += [
                up.eq(raising & (raise_number == i)),
                down.eq(taking & (take_number == i)),
            ]
            with m.If(up & ~down):
                with m.If(value == (1 << VALUE_BITS) - 1):
                    m.d.comb += full.eq(1)
                with m.Else():
                    m.d.sync += value.eq(value + 1)
            with m.Elif(down & ~up):
                m.d.sync += value.eq(value - 1)
        m.d.comb += [self.overflow[i].eq(full & self.raise_[i].valid & self.raise_[i].ready)
                     for i in range(self.raisers)]
        return m


class Gate(wiring.Component):
    """Takes an engine's semaphores ahead of time, so that an open gate costs no cycle.

    Each of a command's two slots waits at the start of every iteration of its loop level. The
    gate asks for the next iteration's semaphore as soon as the present one has begun.

    Members
    -------
    start : ``In(1)``
        A command begins; ``valid``, ``number`` and ``level`` are its two slots' and stay.
    valid, number, level : ``In``
        The command's waits.
    first, last : ``In(loops)``
        Where the element about to be issued stands in the loops.
    pass_ : ``In(1)``
        The element is issued (only while ``open``).
    open : ``Out(1)``
        The element may be issued.
    wait : ``Out(stream of number)``
        To a port of ``Semaphores``.
    """
    def __init__(self, *, loops: int):
        self.loops = loops
        super().__init__({
            "start": In(1),
            "valid": In(2),
            "number": In(data.ArrayLayout(NUMBER_BITS, 2)),
            "level": In(data.ArrayLayout(4, 2)),
            "first": In(loops),
            "last": In(loops),
            "pass_": In(1),
            "open": Out(1),
            "wait": Out(stream.Signature(NUMBER_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        have = Signal(2)
        want = Signal(2)
        turn = Signal()
        needs = Signal(2)
        outer_last = [Const(1, 1)]
        for i in reversed(range(self.loops)):
            outer_last.insert(0, outer_last[0] & self.last[i])
        for slot in range(2):
            level = self.level[slot]
            final = Array([outer_last[min(i, self.loops)] for i in range(ONCE + 1)])[level]
            m.d.comb += needs[slot].eq(self.valid[slot] & at_level(self.first, level, self.loops))
            with m.If(self.start):
                m.d.sync += [have[slot].eq(0), want[slot].eq(self.valid[slot])]
            with m.Elif(self.pass_ & needs[slot]):
                m.d.sync += [have[slot].eq(0), want[slot].eq(~final)]
            with m.Elif(self.wait.valid & self.wait.ready & (turn == slot)):
                m.d.sync += [have[slot].eq(1), want[slot].eq(0)]
        m.d.comb += [
            self.open.eq((~needs | have).all()),
            self.wait.valid.eq(want.bit_select(turn, 1)),
            self.wait.payload.eq(self.number[turn]),
        ]
        # Take turns: the wait of an outer loop's next iteration must not hold up the inner one.
        with m.If(~self.wait.valid | ~self.wait.ready):
            m.d.sync += turn.eq(~turn)
        return m


class Raiser(wiring.Component):
    """Collects an engine's raises until the semaphores take them.

    Members
    -------
    event : ``In(2)``
        Raise slot 0, slot 1.
    number, index : ``In``
        Their semaphores and the command's position, given with the event.
    ready : ``Out(1)``
        An event is accepted this cycle.
    pending : ``Out(1)``
        A raise has yet to reach its semaphore.
    leave : ``Out(1)``
        An event's last raise reaches its semaphore.
    raise_ : ``Out(stream of number)``
        To a port of ``Semaphores``.
    raise_index : ``Out(INDEX_BITS)``
        Position of the command that raises.

    Parameters
    ----------
    depth : int
        Event pairs that can wait.
    """
    def __init__(self, *, depth: int = 4):
        self.depth = depth
        super().__init__({
            "event": In(2),
            "number": In(data.ArrayLayout(NUMBER_BITS, 2)),
            "index": In(INDEX_BITS),
            "ready": Out(1),
            "pending": Out(1),
            "leave": Out(1),
            "raise_": Out(stream.Signature(NUMBER_BITS)),
            "raise_index": Out(INDEX_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        pair = data.StructLayout({"event": 2, "number": data.ArrayLayout(NUMBER_BITS, 2),
                                  "index": INDEX_BITS})
        m.submodules.pairs = pairs = ShortQueue(shape=pair, depth=self.depth)
        head = pairs.o.payload
        slot = Signal()  # which of the head's raises goes next
        second = Signal()  # the head's slot 0 is done
        taken = Signal()
        m.d.comb += [
            pairs.i.valid.eq(self.event.any()),
            pairs.i.payload.event.eq(self.event),
            pairs.i.payload.number.eq(self.number),
            pairs.i.payload.index.eq(self.index),
            self.raise_index.eq(head.index),
            self.ready.eq(pairs.i.ready),
            self.pending.eq(pairs.o.valid),
            slot.eq(second | ~head.event[0]),
            self.raise_.valid.eq(pairs.o.valid),
            self.raise_.payload.eq(head.number[slot]),
            taken.eq(self.raise_.valid & self.raise_.ready),
            pairs.o.ready.eq(taken & (slot | ~head.event[1])),
            self.leave.eq(pairs.o.ready),
        ]
        with m.If(taken):
            m.d.sync += second.eq(~pairs.o.ready)
        return m
