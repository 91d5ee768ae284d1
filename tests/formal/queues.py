"""What queues promise."""

from systolith_hw.fifo import Fifo, ShortQueue

from .proof import RUN, Bug, Proof
from .specification import Specification

__all__ = ["PROOFS", "Ordered"]


class Ordered(Specification):
    """An entry picked at any moment leaves at its turn, unchanged, and nothing else does.

    A naive model counts the entries inside; of one entry, any, it knows the value and how many
    are before it.
    """
    def __init__(self, dut: Fifo | ShortQueue, *, room: int, latency: int):
        self.room = room        # entries it must take at least, and may hold at most 2 more
        self.latency = latency  # cycles after which an entry must be offered
        super().__init__(dut, pick=1)

    def properties(self, m, dut):
        write, read = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
        inside, turn, value = self.follow(m, "entries", enter=write, entry=dut.i.payload,
                                          leave=read, most=self.room + 3, pick=self.pick)
        self.require(m, self.held(m, dut.o.valid, dut.o.ready, dut.o.payload, "o"),
                     "an entry offered stays until it is taken")
        self.require(m, ~dut.o.valid | (inside != 0), "what leaves has come")
        self.require(m, ~(turn & dut.o.valid) | (dut.o.payload == value),
                     "entries leave unchanged and in order")
        self.require(m, dut.i.ready | (inside >= self.room), "there is room")
        self.require(m, ~self.late(m, "entries", (inside != 0) & ~dut.o.valid, self.latency),
                     "entries leave in time")
        if isinstance(dut, Fifo):
            self.require(m, dut.empty == (inside == 0), "empty says so")


PROOFS = (
    Proof(
        name="fifo", block="fifo.py",
        claim="Fifo of 4 entries of 2 bits: no entry lost, doubled, changed or out of order; "
              "offers stand; room for 4; an entry leaves within 3 cycles; empty is right; the RAM "
              "never reads the row it writes",
        make=lambda: Ordered(Fifo(shape=2, depth=4), room=4, latency=2),
        bugs=(
            Bug("a queue that overflows", "hw/systolith_hw/fifo.py",
                "self.i.ready.eq(level != self.depth),\n            ram.write_en",
                "self.i.ready.eq(1),\n            ram.write_en", RUN),
            Bug("an output register overwritten", "hw/systolith_hw/fifo.py",
                "advance.eq(fetched & (~out_valid | self.o.ready))", "advance.eq(fetched)", RUN),
        )),
    Proof(
        name="short-queue", block="fifo.py",
        claim="ShortQueue of 3 entries of 2 bits: the same; an entry leaves at once",
        make=lambda: Ordered(ShortQueue(shape=2, depth=3), room=3, latency=0),
        bugs=(
            Bug("an entry that does not move up", "hw/systolith_hw/fifo.py",
                "level == Mux(read, i + 1, i)", "level == i", RUN),
        )),
)
