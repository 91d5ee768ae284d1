"""What the bus master promises: the rules of AXI4, and that everything asked for has a place."""

from amaranth.hdl import Array, Cat, Mux, Signal
from amaranth.utils import exact_log2
from systolith_hw.axi import AxiReader, AxiWriter
from systolith_hw.bursts import BurstSplitter
from systolith_hw.config import BusConfig
from systolith_hw.isa import COMMAND_BYTES

from .proof import RUN, Bug, Proof
from .specification import Specification

__all__ = ["PROOFS"]

PAGE = 4096
PATIENCE = 2    # cycles that an address may stand at the bus, in proofs by induction
LATENCY = 2  # cycles that a word may be inside the reader and not be offered


class WholeRun(Specification):
    """The bursts of a run cover its words, each once, in order, and stop at boundaries.

    A naive model knows the first word that is not asked for yet and the run's last word.
    """
    def __init__(self, *, data_bytes: int, max_burst: int, address_bits: int, byte_bits: int):
        self.address_bits = address_bits
        self.byte_bits = byte_bits
        super().__init__(BurstSplitter(data_bytes=data_bytes, max_burst=max_burst))

    def properties(self, m, dut):
        run, burst = dut.run.payload, dut.burst.payload
        offset_bits = exact_log2(dut.data_bytes)
        at, end = Signal.like(burst.word), Signal.like(burst.word)
        inside = Signal()
        first, after = Signal.like(burst.word), Signal.like(burst.word)
        m.d.comb += [
            first.eq(run.address >> offset_bits),
            after.eq(burst.word + burst.words),
        ]
        with m.If(dut.burst.valid & dut.burst.ready):
            m.d.sync += [at.eq(after + 1), inside.eq(~burst.last)]
        with m.If(dut.run.valid & dut.run.ready):
            m.d.sync += [
                inside.eq(1), at.eq(first),
                end.eq((run.address + run.bytes - 1) >> offset_bits),
            ]
        self.given(m, run.bytes != 0)
        self.given(m, run.address[self.address_bits:] == 0)
        self.given(m, run.bytes[self.byte_bits:] == 0)
        self.require(m, self.held(m, dut.burst.valid, dut.burst.ready, burst, "burst"),
                     "a burst offered stays until it is taken")
        self.require(m, dut.burst.valid == inside, "a run is in bursts at once, and nothing else")
        self.require(m, dut.idle == ~inside, "idle says so")
        self.require(m, ~inside | (burst.word == at), "bursts follow each other")
        self.require(m, ~inside | (burst.last == (after == end)), "the last burst ends the run")
        crossed = after[exact_log2(dut.max_burst):] != burst.word[exact_log2(dut.max_burst):]
        self.require(m, ~inside | ~crossed, "bursts stop at multiples of the longest one")
        boundary = (after + 1)[:exact_log2(dut.max_burst)] == 0
        self.require(m, ~inside | burst.last | boundary, "bursts are as long as they may be")
        self.require(m, dut.run.ready | inside, "there is room for a run")


class OnePage(Specification):
    """No burst crosses a 4 KB boundary, whatever the run."""
    def properties(self, m, dut):
        burst = dut.burst.payload
        self.given(m, dut.run.payload.bytes != 0)
        bits = exact_log2(PAGE // dut.data_bytes)
        words = burst.word[:bits] + burst.words
        self.require(m, ~dut.burst.valid | (words >> bits == 0), "a burst stays in its 4 KB")


class Addresses(Specification):
    """An address channel: what is accepted is asked for, in its page, and stands until taken."""
    def __init__(self, dut: AxiReader | AxiWriter):
        super().__init__(dut)

    def properties(self, m, dut):
        if isinstance(dut, AxiReader):
            check_channel(self, m, dut, "ar", [(dut.loads, dut.loads.payload, 0),
                                               (dut.commands, dut.commands.payload, 1)])
        else:
            check_channel(self, m, dut, "aw", [(dut.bursts, dut.bursts.payload.burst, 0)])


def check_channel(spec: Specification, m, dut, name: str, sources: list) -> None:
    """The properties of ``Addresses``, of channel ``name``; bursts with their id in ``sources``."""
    valid, ready, number, address, length, size, kind = (getattr(dut, f"{name}{part}") for part in (
        "valid", "ready", "id", "addr", "len", "size", "burst"))
    word_bits, page = exact_log2(dut.config.data_bytes), exact_log2(PAGE)
    page_words = page - word_bits
    window = spec.past(m, dut.window, "window_before")
    spec.given(m, ~spec.past(m, 1, "running") | (dut.window == window))
    spec.given(m, dut.window[:page] == 0)
    spec.given(m, ~spec.late(m, f"{name}_bus", valid & ~ready, PATIENCE))
    accepts = [bursts.valid & bursts.ready for bursts, _, _ in sources]
    room = 1 if dut.compact else 2
    standing = Signal(range(room + 1))  # accepted bursts that have not been asked for
    wanted = Array(Signal.like(Cat(sources[0][1].word, sources[0][1].words, number),
                               name=f"wanted{i}") for i in range(room))
    leave = valid & ready
    m.d.sync += standing.eq(standing + Cat(accepts).any() - leave)
    with m.If(leave):
        m.d.sync += [wanted[i].eq(wanted[i + 1]) for i in range(room - 1)]
    for accept, (_, burst, client) in zip(accepts, sources, strict=True):
        spec.given(m, (burst.word[:page_words] + burst.words) >> page_words == 0)
        with m.If(accept):
            m.d.sync += wanted[(standing - leave)[:exact_log2(room)]].eq(
                Cat(burst.word, burst.words, client))
    word, more, client = wanted[0][:-9], wanted[0][-9:-1], wanted[0][-1]
    spec.require(m, valid == (standing != 0),
                 "what is accepted is asked for in the next cycle or behind another, once")
    spec.require(m, ~valid | ((number == client) & (length == more)
                              & (address == (window + (word << word_bits))[:len(address)])),
                 "it is asked for with its length and id, in the window, until it is taken")
    spec.require(m, ~Cat(accepts).any() | ~dut.halt, "nothing is accepted in a halt")
    spec.require(m, (standing <= room)
                 & (~Cat(accepts).any() | (standing != room) | (ready & dut.compact)),
                 "no more addresses than have room")
    spec.require(m, len(accepts) == 1 or ~Cat(accepts).all(), "one burst at a time")
    spec.require(m, spec.held(m, valid, ready, Cat(number, address, length), name),
                 "an address offered stays until it is taken")
    for i, entry in enumerate(wanted):
        spec.require(m, (standing <= i) | ((entry[:page_words] + entry[-9:-1]) >> page_words == 0),
                     "the model is in one page")
    spec.require(m, ~valid | ((address[word_bits:page] + length) >> page_words == 0),
                 "no burst crosses 4 KB")
    spec.require(m, (size == word_bits) & (kind == 1), "whole words, incrementing")


class ReadPlaces(Specification):
    """Each word that is asked for has a place, and reaches its client in order.

    The bus may answer late and in any order of ids, but only what it was asked for.
    """
    def __init__(self, *, config: BusConfig, prefetch: int):
        self.config = config
        super().__init__(AxiReader(config=config, prefetch=prefetch), pick=1)

    def properties(self, m, dut):
        rooms = (self.config.read_words,
                 max(dut.prefetch * COMMAND_BYTES // self.config.data_bytes, 2))
        clients = ((dut.loads, dut.load_words, dut.load_word),
                   (dut.commands, dut.command_words, dut.command_word))
        owed = []  # words the bus still has to deliver
        for i, ((bursts, words, pulse), room) in enumerate(zip(clients, rooms, strict=True)):
            burst = bursts.payload
            leave  = words.valid & words.ready
            arrive = dut.rvalid & (dut.rid == i)
            self.given(m, self.held(m, bursts.valid, bursts.ready, burst.words, f"bursts{i}"))
            self.given(m, burst.words < self.config.max_burst)
            entry = Cat(dut.rresp != 0, dut.rdata[0])
            front = Cat(words.payload.error, words.payload.data[0])
            inside, turn, value = self.follow(m, f"words{i}", enter=arrive, entry=entry,
                                              leave=leave, most=room, pick=self.pick)
            owes = Signal(range(room + 1), name=f"owed{i}")
            m.d.sync += owes.eq(owes + Mux(dut.arvalid & dut.arready & (dut.arid == i),
                                           dut.arlen + 1, 0) - arrive)
            owed.append(owes)
            self.given(m, ~arrive | (owes != 0))
            to_ask = Mux(dut.arvalid & (dut.arid == i), dut.arlen + 1, 0)
            self.require(m, inside + owes + to_ask <= room, "each word has a place")
            self.require(m, pulse == arrive, "each word is counted")
            self.require(m, ~words.valid | (inside != 0), "a word that leaves has come")
            self.require(m, self.held(m, words.valid, words.ready, front, f"words{i}"),
                         "a word offered stays until it is taken")
            self.require(m, ~(turn & words.valid) | (front == value),
                         "words reach their client unchanged and in order")
            self.require(m, ~self.late(m, f"words{i}", (inside != 0) & ~words.valid, LATENCY),
                         "no word is lost or late")
        self.require(m, dut.rready, "read data is never held up")
        self.require(m, dut.idle == ~(Cat(owed).any() | dut.arvalid), "idle says so")


class WriteWords(Specification):
    """As many words as were asked for, the last one marked, none before its burst.

    A naive model has the lengths of the bursts whose words have not all gone.
    """
    def __init__(self, *, config: BusConfig):
        self.config = config
        super().__init__(AxiWriter(config=config))

    def properties(self, m, dut):
        most = self.config.write_bursts
        burst  = dut.bursts.payload.burst
        accept = dut.bursts.valid & dut.bursts.ready
        take   = dut.words.valid & dut.words.ready
        beat   = dut.wvalid & dut.wready
        finish = beat & dut.wlast
        answers(self, m, dut, finish)
        self.given(m, burst.words < self.config.max_burst)

        lengths = Array(Signal(exact_log2(self.config.max_burst), name=f"length{i}")
                        for i in range(most + 1))
        unsent  = Signal(range(most + 2))
        gone    = Signal(exact_log2(self.config.max_burst))  # words of the oldest burst
        m.d.sync += unsent.eq(unsent + accept - finish)
        with m.If(finish):
            m.d.sync += [lengths[i].eq(lengths[i + 1]) for i in range(most)]
        with m.If(accept):
            m.d.sync += lengths[unsent - finish].eq(burst.words)
        with m.If(beat):
            m.d.sync += gone.eq(Mux(dut.wlast, 0, gone + 1))
        self.require(m, ~dut.wvalid | (unsent != 0), "no word before its burst")
        self.require(m, ~dut.wvalid | (dut.wlast == (gone == lengths[0])),
                     "wlast is on the last word of its burst and only there")
        payload = Cat(dut.wdata[0], dut.wstrb[0], dut.wlast)
        self.require(m, self.held(m, dut.wvalid, dut.wready, payload, "w"),
                     "a word offered stays until it is taken")
        stood = self.past(m, dut.wvalid & ~dut.wready, "w_stood")
        taken = self.past(m, take, "w_taken")
        word  = self.past(m, dut.words.payload.data[0], "w_data")
        strobe = self.past(m, Mux(dut.halt, 0, dut.words.payload.strobe[0]), "w_strobe")
        self.require(m, ~taken | (dut.wvalid & (dut.wdata[0] == word)),
                     "a word taken is offered in the next cycle")
        self.require(m, ~dut.wvalid | stood | taken | self.past(m, dut.halt, "w_halted"),
                     "words are made up in a halt only")
        self.require(m, ~dut.wvalid | stood | (dut.wstrb[0] == strobe),
                     "with its strobe, and none in a halt")
        self.require(m, ~self.late(m, "w", dut.halt & (unsent != 0) & ~dut.wvalid, 2),
                     "words owed to the bus go out in a halt")
        self.require(m, dut.word == beat, "each word is counted")


class WriteAnswers(Specification):
    """No more bursts are without an answer than allowed; tags come back in order."""
    def __init__(self, *, config: BusConfig):
        self.config = config
        super().__init__(AxiWriter(config=config), pick=1)

    def properties(self, m, dut):
        most = self.config.write_bursts
        done = dut.done
        answer = dut.bvalid & dut.bready
        answers(self, m, dut, dut.wvalid & dut.wready & dut.wlast)
        self.given(m, dut.bursts.payload.burst.words < self.config.max_burst)
        out, turn, tag = self.follow(
            m, "tags", enter=dut.bursts.valid & dut.bursts.ready, leave=answer, pick=self.pick,
            entry=dut.bursts.payload.tag.event[0], most=most + 1)
        self.require(m, out <= most, "no more bursts are out than allowed")
        self.require(m, answer == (done.valid & done.ready), "each answer is passed on")
        self.require(m, ~done.valid | (done.payload.error == (dut.bresp != 0)),
                     "with what the bus said")
        self.require(m, ~(turn & done.valid) | (done.payload.tag.event[0] == tag),
                     "tags come back in order")
        self.require(m, ~self.late(m, "b", dut.bvalid & done.ready & ~dut.bready, 3),
                     "answers are not held up")
        self.require(m, dut.idle == (out == 0), "idle says so")


def answers(spec: Specification, m, dut, finish) -> None:
    """A bus that answers a burst at some time after its address and its last word."""
    answer = dut.bvalid & dut.bready
    for name, event in (("addressed", dut.awvalid & dut.awready), ("sent", finish)):
        count = Signal(range(dut.config.write_bursts + 2), name=name)
        m.d.sync += count.eq(count + event - answer)
        spec.given(m, ~dut.bvalid | (count != 0))


PROOFS = (
    Proof(
        name="run-in-bursts", block="bursts.py",
        claim="BurstSplitter of 4-byte words in bursts of up to 4: bursts of a run of up to 63 "
              "bytes at addresses below 256 cover its words once and in order, stop at multiples "
              "of the longest and are as long as they may be; one each cycle; offers stand",
        make=lambda: WholeRun(data_bytes=4, max_burst=4, address_bits=8, byte_bits=6),
        bugs=(
            Bug("a run one word short", "hw/systolith_hw/bursts.py",
                "(more + address[:self.offset_bits]) >> self.offset_bits",
                "more >> self.offset_bits", RUN),
            Bug("a boundary passed", "hw/systolith_hw/bursts.py",
                "Mux(last, left, ~place)", "Mux(last, left, self.max_burst - 1)", RUN),
        )),
    Proof(
        name="one-page", block="bursts.py",
        claim="BurstSplitter of 64-byte words in bursts of up to 256, any run: no burst crosses "
              "4 KB",
        make=lambda: OnePage(BurstSplitter(data_bytes=64, max_burst=256)),
        bugs=(
            Bug("a longest burst of more than 4 KB", "hw/systolith_hw/bursts.py",
                "min(max_burst, 4096 // data_bytes)", "max_burst", RUN),
        )),
    Proof(
        name="axi-ar", block="axi.py", cycles=8, induction=True, checks=False,
        claim="AxiReader of 64-bit words and 32-bit addresses, on a bus that takes an address "
              "within 3 cycles: AR stays and is stable until ready, is the bursts accepted, at "
              "most 2 ahead, in order, in the window, of their clients' ids; given bursts within "
              "4 KB, no burst crosses 4 KB",
        make=lambda: Addresses(AxiReader(config=BusConfig(read_words=16), prefetch=1)),
        bugs=(
            Bug("an address withdrawn", "hw/systolith_hw/axi.py",
                "asked.o.ready.eq(ready)", "asked.o.ready.eq(ready | master.halt)", RUN),
            Bug("an address that is lost", "hw/systolith_hw/axi.py",
                "free.eq(~self.halt & room)", "free.eq(~self.halt)", RUN),
        )),
    Proof(
        name="axi-aw", block="axi.py", cycles=8, induction=True, checks=False,
        claim="AxiWriter, the same: AW",
        make=lambda: Addresses(AxiWriter(config=BusConfig(read_words=16, write_bursts=2))),
        bugs=(
            Bug("a window forgotten", "hw/systolith_hw/axi.py",
                'ask["valid"].eq(1),\n                ask["addr"].eq(self.window + Cat(',
                'ask["valid"].eq(1),\n                ask["addr"].eq(Cat(', RUN),
        )),
    Proof(
        name="axi-reads", block="axi.py",
        claim="AxiReader with room for 2 words each, bursts of up to 2 (512-bit bus, one bit of "
              "each word followed): every word has a place before it is asked for, rready is "
              "never withheld; words reach their client in order, none lost; idle is right",
        make=lambda: ReadPlaces(config=BusConfig(data_bits=512, read_words=2, max_burst=2),
                                prefetch=2),
        bugs=(
            Bug("a word without a place", "hw/systolith_hw/axi.py",
                "fits.eq(space > burst.words)", "fits.eq(space >= burst.words)", RUN),
            Bug("data of the other client", "hw/systolith_hw/axi.py",
                "arrive.eq(self.rvalid & (self.rid == number))",
                "arrive.eq(self.rvalid & (self.rid != number))", RUN),
        )),
    Proof(
        name="axi-w", block="axi.py",
        claim="AxiWriter of 2 bursts of up to 4 words (one bit of each word followed): W stays "
              "and is stable until ready, wlast on the last word and only there, as many words "
              "as asked for, none before its burst; a halt sends what is owed without strobes",
        make=lambda: WriteWords(config=BusConfig(data_bits=32, max_burst=4, read_words=4,
                                                 write_bursts=2)),
        bugs=(
            Bug("wlast a word early", "hw/systolith_hw/axi.py",
                "last.eq(Mux(inside, left, lengths.o.payload) == 0)",
                "last.eq(Mux(inside, left, lengths.o.payload) <= 1)", RUN),
            Bug("a word withdrawn", "hw/systolith_hw/axi.py",
                "with m.If(self.wready):", "with m.If(self.wready | self.halt):", RUN),
        )),
    Proof(
        name="axi-b", block="axi.py",
        claim="AxiWriter of 2 bursts: never more than 2 without an answer; each answer passed on "
              "once, with the tag of its burst and its error; idle is right",
        make=lambda: WriteAnswers(config=BusConfig(data_bits=32, max_burst=2, read_words=4,
                                                   write_bursts=2)),
        bugs=(
            Bug("a burst too many", "hw/systolith_hw/axi.py",
                "under_way != self.config.write_bursts", "under_way <= self.config.write_bursts",
                RUN),
        )),
)
