"""What semaphores promise: no token is lost, invented, or taken without need."""

from amaranth.hdl import Array, Cat, Const, Mux, Signal
from amaranth.lib import data
from systolith_hw.isa import ONCE
from systolith_hw.semaphore import Gate, Raiser, Semaphores

from .proof import RUN, Bug, Proof
from .specification import Specification

__all__ = ["PROOFS"]

MOST = 15


class Tokens(Specification):
    """A semaphore's value is the raises granted minus the waits granted, and stays in 0 to 15."""
    def __init__(self, *, count: int, ports: int):
        super().__init__(Semaphores(count=count, waiters=ports, raisers=ports), which=range(count))

    def properties(self, m, dut):
        which = self.constant(m, self.which)  # any semaphore
        value = Signal(range(MOST + 2))
        waits = [port.valid & (port.payload == which) for port in dut.wait]
        for port in (*dut.wait, *dut.raise_):
            self.given(m, port.payload < dut.count)
        taken  = Cat(wait & port.ready for wait, port in zip(waits, dut.wait, strict=True)).any()
        raised = Cat(port.valid & port.ready & (port.payload == which)
                     for port in dut.raise_).any()
        full   = raised & ~taken & (value == MOST)
        rested = Signal(init=1)     # not taken in the cycle before, or raised, too
        was_full, was_raised = Signal(), Signal(len(dut.raise_))
        m.d.sync += [
            rested.eq(raised | ~taken), was_full.eq(full),
            was_raised.eq(Cat(port.valid & port.ready for port in dut.raise_)),
        ]
        m.d.sync += value.eq(value + (raised & ~full) - taken)
        self.require(m, value <= MOST, "never above 15")
        self.require(m, ~taken | (value != 0), "never below 0")
        others = Signal()   # perhaps a raise of another semaphore was beyond 15
        m.d.sync += others.eq(~raised)
        self.require(m, others | (dut.overflow.any() == was_full),
                     "a raise beyond 15 is flagged, and no other")
        for i, port in enumerate(dut.raise_):
            offered = Cat(other.valid for other in dut.raise_[:i]).any()
            self.require(m, ~port.valid | (port.ready == ~offered),
                         "the first port that raises is granted")
            self.require(m, ~dut.overflow[i] | was_raised[i],
                         "the port that raised too often is flagged")
        for i, wait in enumerate(waits):
            granted = Cat(waits[:i]).any()
            self.require(m, ~wait | (dut.wait[i].ready == ((value != 0) & rested & ~granted)),
                         "a wait is granted when there is a token and no port before asks for it")


class Loops:
    """A walk through nested loops, as an engine makes it, with any counts up to ``most``."""
    def __init__(self, m, *, loops: int, most: int, start, step, counts):
        self.index = [Signal(range(most), name=f"index{i}") for i in range(loops)]
        self.count = [Signal(range(most + 1), name=f"count{i}") for i in range(loops)]
        self.running = Signal()
        self.first = Cat(index == 0 for index in self.index)
        self.last = Cat(index + 1 == count
                        for index, count in zip(self.index, self.count, strict=True))
        with m.If(start):
            m.d.sync += [self.running.eq(1), *(index.eq(0) for index in self.index),
                         *(count.eq(new) for count, new in zip(self.count, counts, strict=True))]
        with m.Elif(step):
            for i, index in enumerate(self.index):
                with m.If(self.last[:i].all()):
                    m.d.sync += index.eq(Mux(self.last[i], 0, index + 1))
            with m.If(self.last.all()):
                m.d.sync += self.running.eq(0)


class OneEach(Specification):
    """An engine's element passes with the token of its iteration, and each iteration takes one.

    A slot of level l waits once for each iteration of the loops from l on, so ``product of
    count[l:]`` times in a command.
    """
    LOOPS, MOST = 2, 3

    def __init__(self):
        super().__init__(Gate(), slot=1, begin=1, move=1,
                         level=data.ArrayLayout(4, 2),
                         **{f"count{i}": range(self.MOST + 1) for i in range(self.LOOPS)})

    def properties(self, m, dut):
        counts = [getattr(self, f"count{i}") for i in range(self.LOOPS)]
        start  = Signal()
        walk = Loops(m, loops=self.LOOPS, most=self.MOST, start=start, step=dut.pass_,
                     counts=counts)
        m.d.comb += start.eq(self.begin & ~walk.running)
        waits = dut.waits.payload
        take  = dut.waits.valid & dut.waits.ready
        for count in counts:
            self.given(m, (count != 0) & (count <= self.MOST))
        self.given(m, dut.pass_ == (self.move & walk.running & dut.open))
        self.given(m, self.held(m, dut.waits.valid, dut.waits.ready, waits, "waits"))
        # Two waits for one semaphore would be two waits at one level, and both alike.
        self.given(m, waits.number[0] != waits.number[1])
        for level in self.level:
            self.given(m, (level <= self.LOOPS) | (level == ONCE))

        # The waits that came last, which tokens are taken for; and those of the command whose
        # elements pass, from its second element on.
        slot  = self.constant(m, self.slot)  # either
        waits_layout = data.StructLayout({"waits": waits.shape(), "level": self.level.shape()})
        newest, passing = Signal(waits_layout), Signal(waits_layout)
        ahead = Signal()  # the newest are for a command that has not begun
        begins = walk.first.all()
        with m.If(take):
            m.d.sync += [newest.waits.eq(waits), newest.level.eq(self.level), ahead.eq(1)]
        with m.Elif(dut.pass_ & begins):
            m.d.sync += [passing.eq(newest), ahead.eq(0)]

        def at(flags, level):
            """Whether the flags of all loops inside ``level`` are set."""
            return Array([flags[:min(i, self.LOOPS)].all() for i in range(ONCE + 1)])[level]

        def beyond(flags, level):
            """Whether those of all other loops are."""
            return Array([flags[i:].all() if i < self.LOOPS else Const(1)
                          for i in range(ONCE + 1)])[level]

        levels = [Mux(begins, newest.level[i], passing.level[i]) for i in range(2)]
        self.given(m, ~walk.running | (
            (dut.begins == Cat(at(walk.first, level) for level in levels))
            & (dut.final == Cat(beyond(walk.last, level) for level in levels))
            & (dut.opens == begins)))
        valid  = Mux(begins, newest.waits.valid, passing.waits.valid).bit_select(slot, 1)
        level  = Mux(slot, *reversed(levels))
        uses   = dut.pass_ & valid & at(walk.first, level)  # an iteration of its level begins
        token  = (dut.wait.valid & dut.wait.ready & newest.waits.valid.bit_select(slot, 1)
                  & (dut.wait.payload == newest.waits.number[slot]))
        have   = Signal(range(3))       # tokens taken and not used
        ended  = Signal(init=1)         # the command's last iteration has begun
        m.d.sync += have.eq(have + token - uses)
        with m.If(dut.pass_ & begins & ~uses):
            m.d.sync += ended.eq(1)
        with m.Elif(uses):
            m.d.sync += ended.eq(beyond(walk.last, level))
        self.require(m, ~(dut.pass_ & begins) | ahead, "no command begins before its waits came")
        self.require(m, ~uses | (have != 0), "no iteration begins without its token")
        self.require(m, have <= 1, "no token is taken before the one in hand is used")
        self.require(m, ~(token & ended & ~ahead), "no iteration follows the last one")
        self.require(m, ~(take & (have != 0)), "a command leaves no token behind")
        number = newest.waits.number
        known = Cat(newest.waits.valid[i] & (dut.wait.payload == number[i]) for i in range(2))
        self.require(m, ~dut.wait.valid | known.any(), "what is asked for is waited for")
        blocked = (ahead & newest.waits.valid.bit_select(slot, 1) & (have == 0))
        self.require(m, ~self.late(m, "ask", blocked & ~(
            dut.wait.valid & ((dut.wait.payload == number[slot]) | ~dut.wait.ready)), 3),
            "the token needed next is asked for")


class EveryRaise(Specification):
    """Each event raises its semaphores once, in order, with the position of its command."""
    def __init__(self, *, depth: int):
        super().__init__(Raiser(depth=depth), pick=1, second=1)

    def properties(self, m, dut):
        raised = dut.raise_.valid & dut.raise_.ready
        accept = dut.event.any() & dut.ready
        room   = dut.depth + 2  # with those that have left the memory
        most   = room * 2
        announced = Signal(range(room + 1))  # events that have not happened
        sizes = Array(Signal(2, name=f"size{i}") for i in range(room + 1))
        size  = dut.event[0] + dut.event[1]
        self.given(m, ~dut.due | (announced != 0))
        m.d.sync += announced.eq(announced + accept - dut.due)
        with m.If(dut.due):
            m.d.sync += [sizes[i].eq(sizes[i + 1]) for i in range(room)]
        with m.If(accept):
            m.d.sync += sizes[announced - dut.due].eq(size)
        happened = Signal(range(most + 3))  # raises that are due
        m.d.sync += happened.eq(happened + Mux(dut.due, sizes[0], 0) - raised)
        # Raises that are owed, and one of them, any: slot 1 of an event comes after slot 0.
        owed   = Signal(range(most + 3))
        before = Signal(range(most + 3))
        picked = Signal()
        number = Signal(len(dut.number[0]), reset_less=True)
        index  = Signal(2, reset_less=True)
        slot   = self.second
        m.d.sync += owed.eq(owed + Mux(accept, dut.event[0] + dut.event[1], 0) - raised)
        with m.If(~picked & self.pick & accept & dut.event.bit_select(slot, 1)):
            m.d.sync += [
                picked.eq(1), before.eq(owed - raised + (slot & dut.event[0])),
                number.eq(dut.number[slot]), index.eq(dut.index),
            ]
        with m.Elif(picked & raised):
            m.d.sync += [before.eq(before - 1), picked.eq(before != 0)]
        turn = picked & (before == 0) & dut.raise_.valid
        self.require(m, ~dut.raise_.valid | (happened != 0), "a raise is offered when one is due")
        self.require(m, ~self.late(m, "raises", (happened != 0) & ~dut.raise_.valid, 2),
                     "soon, and while one is due")
        self.require(m, dut.pending == (owed != 0), "pending says so")
        self.require(m, ~turn | (dut.raise_.payload == number), "it is for the event's semaphore")
        self.require(m, ~turn | (dut.raise_index[:2] == index), "and its command")
        self.require(m, self.held(m, dut.raise_.valid, dut.raise_.ready,
                                  Cat(dut.raise_.payload, dut.raise_index[:2]), "raise"),
                     "a raise offered stays until it is taken")
        self.require(m, dut.ready | (owed >= dut.depth), "there is room")


PROOFS = (
    Proof(
        name="tokens", block="semaphore.py",
        claim="Semaphores, 4 of them with 2 ports each side: the value of any is the raises "
              "granted minus the waits granted, never below 0 or above 15; a raise beyond 15 is "
              "flagged and no other; the first port of those that raise, and of those that wait "
              "for the same semaphore, is granted",
        make=lambda: Tokens(count=4, ports=2),
        bugs=(
            Bug("a lost semaphore", "hw/systolith_hw/semaphore.py",
                "with m.If(up[i] & ~down[i] & ~value.all()):",
                "with m.If(up[i] & ~down.any() & ~value.all()):", RUN),
            Bug("an overflow kept quiet", "hw/systolith_hw/semaphore.py",
                "Mux(full.any(), raised, 0)", "Mux(full.any(), raised[1:], 0)", RUN),
        )),
    Proof(
        name="gate", block="semaphore.py",
        claim="Gate of 2 loops of up to 3 iterations, both slots at any level: no element passes "
              "without its iteration's token, each iteration takes one, none is taken before the "
              "one in hand is used, none is left behind",
        make=OneEach,
        bugs=(
            Bug("a gate that waits once too often", "hw/systolith_hw/semaphore.py",
                "want[slot].eq(~self.final[slot])", "want[slot].eq(1)", RUN),
            Bug("a gate that stays open", "hw/systolith_hw/semaphore.py",
                "self.open.eq((~needs | have).all() & (ahead | ~self.opens))",
                "self.open.eq((~needs | have).all())", RUN),
        )),
    Proof(
        name="raiser", block="semaphore.py",
        claim="Raiser of 2 events: every event's raises leave once, in order, for its semaphores "
              "and with its command's position; pending, ready and leave are right",
        make=lambda: EveryRaise(depth=2),
        bugs=(
            Bug("a second raise dropped", "hw/systolith_hw/semaphore.py",
                "pairs.o.ready.eq(taken & (slot | ~head.event[1]))", "pairs.o.ready.eq(taken)",
                RUN),
        )),
)
