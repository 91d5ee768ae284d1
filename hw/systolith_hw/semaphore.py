"""Counting semaphores between the engines, and each engine's gate to them."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from .choose import choose
from .fifo import Fifo, ShortQueue
from .record import INDEX_BITS

__all__ = ["Gate", "Raiser", "Semaphores", "SerialSemaphores", "gate_layout"]

NUMBER_BITS = 5
VALUE_BITS = 4

# A command's waits: which slots, and their semaphores.
gate_layout = data.StructLayout({"valid": 2, "number": data.ArrayLayout(NUMBER_BITS, 2)})


class Semaphores(wiring.Component):
    """Counting semaphores of 4 bits; one is raised per cycle, and one taken by every port.

    Lowest index first, of those that raise and of those that wait for the same semaphore; a
    request holds until it is granted.

    Timing: a semaphore can be taken in the cycle after it was raised, and not in the one after it
    was taken, unless it was raised, too.

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
        The raise granted to this port in the cycle before would have passed 15; the value stays.
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
        up, down = Signal(self.count), Signal(self.count)  # granted in the cycle before
        raised = Signal(self.raisers)
        some   = Signal(self.count)    # the value is above 0
        above  = Signal(self.count)    # there is one to take
        asked  = Signal(self.count)
        raising, raise_number = Signal(), Signal(NUMBER_BITS)
        for i in reversed(range(self.raisers)):
            with m.If(self.raise_[i].valid):
                m.d.comb += [
                    raising.eq(1), raise_number.eq(self.raise_[i].payload),
                    *(self.raise_[j].ready.eq(i == j) for j in range(i, self.raisers)),
                ]
        for i, port in enumerate(self.wait):
            before = Cat(other.valid & (other.payload == port.payload)
                         for other in list(self.wait)[:i]).any()
            m.d.comb += port.ready.eq(port.valid & ~before & choose(list(above), port.payload))
        full = Signal(self.count)
        for i, value in enumerate(values):
            m.d.comb += [
                above[i].eq(up[i] | (some[i] & ~down[i])),
                asked[i].eq(Cat(port.valid & (port.payload == i) for port in self.wait).any()),
                full[i].eq(up[i] & ~down[i] & value.all()),
            ]
            with m.If(up[i] & ~down[i] & ~value.all()):
                m.d.sync += [value.eq(value + 1), some[i].eq(1)]
            with m.Elif(down[i] & ~up[i]):
                m.d.sync += [value.eq(value - 1), some[i].eq(value[1:].any())]
        m.d.sync += [
            up.eq(Cat(raising & (raise_number == i) for i in range(self.count))),
            down.eq(asked & above),
            raised.eq(Cat(port.valid & port.ready for port in self.raise_)),
        ]
        m.d.comb += self.overflow.eq(Mux(full.any(), raised, 0))
        return m


class SerialSemaphores(Semaphores):
    """``Semaphores`` of which one is raised, or taken, per cycle: raises first, lowest index first.

    Timing: a semaphore can be taken in the cycle after it was raised.

    Parameters
    ----------
    count : int
        Number of semaphores, a power of two.
    waiters, raisers : int
        Numbers of ports.

    Members
    -------
    wait, raise_, overflow : arrays of streams, and ``Out(raisers)``
        As in ``Semaphores``.
    """
    def elaborate(self, platform):
        m = Module()
        values = [Signal(VALUE_BITS, name=f"value{i}") for i in range(self.count)]
        above  = [value.any() for value in values]
        number = Signal(range(self.count))
        value  = Signal(VALUE_BITS)
        raising, taking = Signal(), Signal()
        can    = Signal(self.waiters)   # be served
        changed = Signal(VALUE_BITS)
        m.d.comb += [
            can.eq(Cat(port.valid & choose(above, port.payload) for port in self.wait)),
            taking.eq(can.any() & ~raising),
            value.eq(choose(values, number)),
            changed.eq(value + Mux(raising, 1, ~0)),
        ]
        for i in reversed(range(self.waiters)):
            with m.If(can[i]):
                m.d.comb += number.eq(self.wait[i].payload)
            m.d.comb += self.wait[i].ready.eq(can[i] & ~can[:i].any() & ~raising)
        for i in reversed(range(self.raisers)):
            with m.If(self.raise_[i].valid):
                m.d.comb += [
                    raising.eq(1), number.eq(self.raise_[i].payload),
                    *(self.raise_[j].ready.eq(i == j) for j in range(i, self.raisers)),
                ]
        for i, own in enumerate(values):
            with m.If((taking | (raising & ~value.all())) & (number == i)):
                m.d.sync += own.eq(changed)
        m.d.sync += self.overflow.eq(Mux(raising & value.all(),
                                         Cat(port.valid & port.ready for port in self.raise_), 0))
        return m


class Gate(wiring.Component):
    """Takes an engine's semaphores ahead of time, so that an open gate costs no cycle.

    Each of a command's two slots waits at the start of every iteration of its loop level. The
    gate asks for the next iteration's semaphore as soon as the present one has begun; behind the
    last iterations of a command, for those of the next command, never before: tokens must be
    taken in the order of the program.

    Timing: a token that is there opens the gate two cycles after it was asked for, which is when
    the waits came or the element before that needed a token of this slot was issued; a cycle later
    where both slots wait and the other one was next.

    Members
    -------
    waits : ``In(stream of gate_layout)``
        The waits of each command, in order; those without any, too.
    begins, final : ``In(2)``
        The element about to be issued begins an iteration of slot 0, slot 1; its iteration is the
        command's last.
    opens : ``In(1)``
        It is the command's first.
    pass_ : ``In(1)``
        The element is issued (only while ``open``).
    open : ``Out(1)``
        The element may be issued.
    wait : ``Out(stream of number)``
        To a port of ``Semaphores``.

    Parameters
    ----------
    held : bool
        Whether ``waits`` stay as they are until the command's last element is issued: they are not
        kept here.
    """
    def __init__(self, *, held: bool = False):
        self.held = held
        super().__init__({
            "waits": In(stream.Signature(gate_layout)),
            "begins": In(2),
            "final": In(2),
            "opens": In(1),
            "pass_": In(1),
            "open": Out(1),
            "wait": Out(stream.Signature(NUMBER_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        new  = self.waits.payload
        waits = Signal(2)  # slots in use
        numbers = new.number if self.held else Signal(new.number.shape(), reset_less=True)
        ahead = Signal()  # these are for a command that has not begun
        have = Signal(2)
        want = Signal(2)
        slot_asked = Signal()
        number = Signal(NUMBER_BITS, reset_less=True)  # of its semaphore
        next_slot = Signal()
        needs = Signal(2)
        take = self.waits.valid & self.waits.ready
        m.d.comb += needs.eq(waits & self.begins & (self.opens | ~ahead).replicate(2))
        for slot in range(2):
            with m.If(take):
                m.d.sync += want[slot].eq(new.valid[slot])
            with m.Elif(self.pass_ & needs[slot]):
                m.d.sync += [have[slot].eq(0), want[slot].eq(~self.final[slot])]
            with m.Elif(self.wait.valid & self.wait.ready & (slot_asked == slot)):
                m.d.sync += [have[slot].eq(1), want[slot].eq(0)]
        with m.If(take):
            m.d.sync += [waits.eq(new.valid), ahead.eq(1)]
            if not self.held:
                m.d.sync += numbers.eq(new.number)
        with m.Elif(self.pass_ & self.opens):
            m.d.sync += ahead.eq(0)
        m.d.comb += [
            self.waits.ready.eq(~ahead & ~have.any() & ~want.any()),
            self.open.eq((~needs | have).all() & (ahead | ~self.opens)),
            # Take turns: the wait of an outer loop's next iteration must not hold up the inner one.
            next_slot.eq(Mux(waits.all(),
                             Mux(want[0] == want[1], ~slot_asked, want[1]), waits[1])),
            self.wait.valid.eq(want.bit_select(slot_asked, 1)),
            self.wait.payload.eq(number),
        ]
        first_slot = ~new.valid[0]
        m.d.sync += [
            slot_asked.eq(Mux(take, first_slot, next_slot)),
            number.eq(Mux(take, new.number[first_slot], numbers[next_slot])),
        ]
        return m


class Raiser(wiring.Component):
    """Keeps an engine's raises until what they announce has happened and the semaphores take them.

    Timing: a raise reaches its semaphore the cycle after it was due and at the earliest four after
    it was announced, or later; ``held``, the cycle after both.

    Members
    -------
    event : ``In(2)``
        Raise slot 0, slot 1, is announced.
    number, index : ``In``
        Their semaphores and the command's position, given with the event.
    ready : ``Out(1)``
        An event is accepted this cycle.
    due : ``In(1)``
        The first event that was not due has happened; not before it is announced.
    pending : ``Out(1)``
        A raise has yet to reach its semaphore.
    raise_ : ``Out(stream of number)``
        To a port of ``Semaphores``.
    raise_index : ``Out(INDEX_BITS)``
        Position of the command that raises.

    Parameters
    ----------
    depth : int
        Event pairs that can wait.
    held : bool
        Whether ``number`` and ``index`` stay as they are while a raise is pending: they are not
        kept here.
    """
    def __init__(self, *, depth: int = 4, held: bool = False):
        self.depth = depth
        self.held = held
        super().__init__({
            "event": In(2),
            "number": In(data.ArrayLayout(NUMBER_BITS, 2)),
            "index": In(INDEX_BITS),
            "ready": Out(1),
            "due": In(1),
            "pending": Out(1),
            "raise_": Out(stream.Signature(NUMBER_BITS)),
            "raise_index": Out(INDEX_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        beside = {} if self.held else {"number": self.number.shape(), "index": INDEX_BITS}
        pair = data.StructLayout({"event": 2, **beside})
        m.submodules.pairs = pairs = (
            ShortQueue(shape=pair, depth=self.depth) if self.held
            else Fifo(shape=pair, depth=1 << bits_for(self.depth - 1)))
        head = pairs.o.payload
        said = self if self.held else head
        owed = Signal(range(pairs.depth + 3))   # pairs that are due
        slot = Signal()  # which of the head's raises goes next
        second = Signal()  # the head's slot 0 is done
        taken = Signal()
        m.d.comb += [
            pairs.i.valid.eq(self.event.any()),
            pairs.i.payload.event.eq(self.event),
            *(pairs.i.payload[name].eq(getattr(self, name)) for name in beside),
            self.raise_index.eq(said.index),
            self.ready.eq(pairs.i.ready),
            self.pending.eq(~pairs.empty),
            slot.eq(second | ~head.event[0]),
            self.raise_.valid.eq((owed != 0) & (1 if self.held else pairs.o.valid)),
            self.raise_.payload.eq(said.number[slot]),
            taken.eq(self.raise_.valid & self.raise_.ready),
            pairs.o.ready.eq(taken & (slot | ~head.event[1])),
        ]
        m.d.sync += owed.eq(owed + self.due - pairs.o.ready)
        with m.If(taken):
            m.d.sync += second.eq(~pairs.o.ready)
        return m
