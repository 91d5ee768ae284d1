"""What queues promise."""

from dataclasses import replace

from amaranth.hdl import Cat, Mux, Signal
from systolith_hw.config import BusConfig, CoreConfig
from systolith_hw.dispatch import CommandQueues
from systolith_hw.fifo import Fifo, Fork, ShortQueue
from systolith_hw.isa import COMMAND_BYTES

from .proof import RUN, Bug, Proof
from .specification import Specification

__all__ = ["PROOFS"]

TINY = CoreConfig.preset("tiny")
TWO_WORDS = replace(TINY, bus=BusConfig(data_bits=256, read_words=16),
                    control=replace(TINY.control, compact=False))


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


class Commands(Specification):
    """A command committed to a queue reaches its engine, whole, in order, and no other engine.

    The dispatcher writes a command's words in order, into a queue with space, and may leave the
    command uncommitted; then the next one takes its place.
    """
    def __init__(self, *, config: CoreConfig, which: int, contents: bool):
        self.config = config
        self.which = which
        self.contents = contents
        self.words = 8 * COMMAND_BYTES // config.bus.data_bits
        super().__init__(CommandQueues(config=config), pick=1)

    def properties(self, m, dut):
        which  = self.which
        depth  = self.config.control.queue_depth
        number = Signal(range(self.words))     # word that is next
        engine = Signal(2)
        kept   = Signal(self.words, reset_less=True)  # a bit of each word of the command
        last   = number == self.words - 1
        ended  = Signal()   # the last word came in the cycle before
        with m.If(dut.write):
            m.d.sync += [number.eq(Mux(last, 0, number + 1)), engine.eq(dut.engine)]
            m.d.sync += kept.eq(Cat(dut.data[0], kept)[:self.words])
        m.d.sync += ended.eq(dut.write & last)
        self.given(m, (number == 0) | (dut.engine == engine))
        self.given(m, dut.word == number)
        self.given(m, ~dut.write | dut.space.bit_select(dut.engine, 1))
        self.given(m, ~dut.commit | ended)
        self.given(m, ~ended | ~dut.write | (dut.engine != engine))

        enters = [dut.commit & (engine == e) for e in range(4)]
        leaves = [port.valid & port.ready for port in dut.command]
        inside = [Signal(range(depth + 3), name=f"inside{e}") for e in range(4)]
        m.d.sync += [count.eq(count + enter - leave)
                     for count, enter, leave in zip(inside, enters, leaves, strict=True)]
        port = dut.command[which]
        width = self.config.bus.data_bits
        front = Cat(port.payload[(self.words - 1 - i) * width] for i in range(self.words))
        mine, turn, entry = self.follow(
            m, "commands", enter=enters[which], leave=leaves[which], entry=kept,
            most=depth + 2, pick=self.pick)
        if self.contents:
            self.require(m, ~(turn & port.valid) | (front == entry),
                         "commands reach their engine whole and in order")
            self.require(m, self.held(m, port.valid, port.ready, front, "command"),
                         "a command offered stays until it is taken")
            return
        others = Cat(count != 0 for e, count in enumerate(inside) if e != which).any()
        self.require(m, ~port.valid | (mine != 0), "what leaves has come, for this engine")
        self.require(m, dut.space[which] | (mine + (ended & (engine == which)) >= depth),
                     "there is room for the depth")
        self.require(m, mine <= depth + 1, "and for one command before the engine")
        self.require(m, dut.empty == ~Cat(inside).any(), "empty says so")
        self.require(m, ~self.late(m, "commands", (mine != 0) & ~port.valid & ~others,
                                   self.words + 3),
                     "a command reaches an idle engine in time when no other engine has one")


class EachOnce(Specification):
    """Every item of a forked stream reaches each taker once, unchanged, before the next one."""
    def __init__(self, *, ways: int, prompt: bool = False):
        super().__init__(Fork(shape=2, ways=ways, prompt=prompt))

    def properties(self, m, dut):
        self.given(m, self.held(m, dut.i.valid, dut.i.ready, dut.i.payload, "i"))
        has = []
        for i, port in enumerate(dut.o):
            had = Signal(name=f"had{i}")
            take = port.valid & port.ready
            m.d.sync += had.eq((had | take) & ~(dut.i.valid & dut.i.ready))
            has.append(had | take if dut.prompt else had)
            self.require(m, port.valid == (dut.i.valid & ~had), "each taker has an item once")
            self.require(m, ~port.valid | (port.payload == dut.i.payload), "unchanged")
            self.require(m, self.held(m, port.valid, port.ready, port.payload, f"o{i}"),
                         "an item offered stays until it is taken")
        self.require(m, ~dut.i.valid | (dut.i.ready == Cat(has).all()),
                     "an item leaves when the last taker has it")


PROOFS = (
    Proof(
        name="fifo", block="fifo.py",
        claim="Fifo of 4 entries of 2 bits: no entry lost, doubled, changed or out of order; "
              "offers stand; room for 4; an entry leaves within 3 cycles; empty is right; the RAM "
              "never reads the row it writes",
        make=lambda: Ordered(Fifo(shape=2, depth=4), room=4, latency=2),
        bugs=(
            Bug("a queue that overflows", "hw/systolith_hw/fifo.py",
                "self.i.ready.eq(~level[-1]),\n            ram.write_en",
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
                "Mux(valid[i + 1], entries[i + 1], item)",
                "Mux(valid[i + 1], entries[i], item)", RUN),
        )),
    Proof(
        name="commands-room", block="dispatch.py",
        claim="CommandQueues of 2 commands of 2 words for each engine, engine 2 (the others do "
              "what they like): no command leaves that did not come; room for 2; empty is right; "
              "in time when no other engine has one; the RAM never reads the row it writes",
        make=lambda: Commands(config=TWO_WORDS, which=2, contents=False),
        bugs=(
            Bug("a record taken while it loads", "hw/systolith_hw/dispatch.py",
                "(counts[engine] != 0) & ~full[engine] & ~arriving & free",
                "(counts[engine] != 0) & ~arriving & free", RUN),
        )),
    Proof(
        name="commands-order", block="dispatch.py",
        claim="The same, one bit of each word followed: every command committed for engine 2 "
              "reaches it whole and in order, and stands until taken",
        make=lambda: Commands(config=TWO_WORDS, which=2, contents=True),
        bugs=(
            Bug("a queue's place in that of another", "hw/systolith_hw/dispatch.py",
                "return ((engine * depth) + slot) * words + word",
                "return (engine + slot) * words + word", RUN),
        )),
    Proof(
        name="fork", block="fifo.py",
        claim="Fork to 3 takers: every item reaches each of them once, unchanged, and leaves "
              "when the last has it; offers stand",
        make=lambda: EachOnce(ways=3),
        bugs=(
            Bug("an item taken twice", "hw/systolith_hw/fifo.py",
                "port.valid.eq(self.i.valid & ~flag)", "port.valid.eq(self.i.valid)", RUN),
        )),
    Proof(
        name="fork-prompt", block="fifo.py",
        claim="The same of a prompt one, from which an item leaves with the last",
        make=lambda: EachOnce(ways=3, prompt=True),
        bugs=(
            Bug("an item that stays", "hw/systolith_hw/fifo.py",
                "(has if self.prompt else had).all()", "had.all()", RUN),
        )),
)
