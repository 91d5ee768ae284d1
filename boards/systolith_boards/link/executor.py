"""Requests carried out: words between a request, memory, registers and an answer."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.frames import MAX_WORDS, Op, Record
from systolith_hw.control import PAGE_BITS, slave_ports

from .outbox import item

__all__ = ["Executor", "answer_layout", "master_ports", "request_layout"]

answer_layout = data.StructLayout({"data": 32})


def request_layout(memory_words: int) -> data.StructLayout:
    """A word to read from memory, or to write: its address in words."""
    return data.StructLayout({"address": range(memory_words), "write": 1, "data": 32})


def master_ports() -> dict[str, wiring.Member]:
    """AXI4-Lite as ``control.slave_ports`` has it, seen from the master."""
    return {name: member.flip() for name, member in slave_ports().items()}


class Section(enum.Enum, shape=2):
    """Which word of an answer is sent."""
    OP      = 0
    ADDRESS = 1
    DATA    = 2


class Executor(wiring.Component):
    """Carries out the request that waits in the inbox, and answers through the outbox.

    An order is done if it is the next in turn, and answered in any case with the number of the
    next: a repeated order is not done again. Before the first hello, nothing else has an effect.

    Timing: a word of an order takes three cycles where memory takes it at once; a byte of an answer
    is there four cycles after the one before it was taken.

    Parameters
    ----------
    rows, first_row : int
        Of the inbox.
    memory_words : int
        Size of the memory.
    record : Record
        What the board says of itself.

    Members
    -------
    waiting, row, word, release
        As in ``Inbox``, seen from its other side.
    body : ``Out(stream of item)``
        Bytes of answers.
    request : ``Out(stream of request_layout)``
        Words to and from memory.
    answer : ``In(stream of answer_layout)``
        Words read, in order.
    busy : ``Out(1)``
        A request is carried out.
    """
    def __init__(self, *, rows: int, first_row: int, memory_words: int, record: Record):
        self.rows = rows
        self.first_row = first_row
        self.memory_words = memory_words
        self.record = record
        super().__init__({
            "waiting": In(1), "row": Out(range(rows)), "word": In(32),
            "release": Out(1),
            "body": Out(stream.Signature(item)),
            "request": Out(stream.Signature(request_layout(memory_words))),
            "answer": In(stream.Signature(answer_layout)),
            "busy": Out(1),
            **master_ports(),
        })

    def elaborate(self, platform):
        m = Module()
        order, memory, hello = Signal(), Signal(), Signal()
        due     = Signal()    # it is an order, and its turn
        turn    = Signal(8)   # the number of the order that is done next
        same    = Signal(2)   # halves of this request's number and of that
        greeted = Signal()
        failed  = Signal()    # the bus answered the last order with an error
        unfit   = Signal()    # this request is refused
        beyond  = Signal(3)   # its address is longer than any, or within a word
        # Words to go, complemented: a counter up takes a cell less per bit.
        count   = Signal(range(MAX_WORDS + 1), reset_less=True)
        address = Signal(max((self.memory_words - 1).bit_length(), PAGE_BITS - 2),
                         reset_less=True)
        row     = Signal(range(self.rows), init=self.first_row)
        section = Signal(Section)
        part    = Signal(2)   # byte of a word
        writing, wording = Signal(), Signal()  # an address, or data, is owed to the bus
        none, last, found = Signal(), Signal(), Signal()
        rewind  = Signal()    # back to the first word of the request
        step    = Signal()    # one word less to go, and the next address
        byte    = Signal(8, reset_less=True)
        settled = Signal(2)   # cycles since a word's part was chosen; 3: the byte is it
        answered = order | hello

        m.d.comb += [
            self.row.eq(row),
            self.request.payload.address.eq(address),
            self.request.payload.data.eq(self.word),
            self.request.payload.write.eq(order),
            self.awaddr.eq(Cat(Const(0, 2), address[:PAGE_BITS - 2])),
            self.araddr.eq(Cat(Const(0, 2), address[:PAGE_BITS - 2])),
            self.wdata.eq(self.word),
            self.wstrb.eq(0b1111),
            self.awvalid.eq(writing),
            self.wvalid.eq(wording),
            self.bready.eq(1),
            self.body.payload.byte.eq(byte),
            self.body.payload.last.eq(last),
            self.body.payload.refused.eq(unfit | (order & failed)),
            last.eq((part == 3) & none & (section != Section.OP)),
        ]
        def part_of(word):
            chosen = Signal(8, reset_less=True)
            m.d.sync += chosen.eq(Array(word.word_select(i, 8) for i in range(4))[part])
            return chosen

        echo, read, got = map(part_of, (self.word, self.answer.payload.data, self.rdata))
        said = Signal(8, reset_less=True)
        m.d.sync += said.eq(0)
        with m.Switch(Cat(part, row[:3])):
            for i, value in enumerate(self.record.pack()):
                with m.Case(i):
                    m.d.sync += said.eq(value)
        with m.If(section != Section.DATA):
            m.d.comb += found.eq(1)
            m.d.sync += byte.eq(echo)
            with m.If(section == Section.OP):
                with m.If(part == 0):
                    m.d.sync += byte[7].eq(1)
                with m.If((part == 1) & answered):
                    m.d.sync += byte.eq(turn)
        with m.Elif(memory):
            m.d.comb += found.eq(self.answer.valid)
            m.d.sync += byte.eq(read)
        with m.Elif(hello):
            m.d.comb += found.eq(1)
            m.d.sync += byte.eq(said)
        with m.Else():
            m.d.comb += found.eq(self.rvalid)
            m.d.sync += byte.eq(got)
        m.d.sync += none.eq(count.all())
        begin, place, skip, advance = Signal(), Signal(), Signal(), Signal()

        def up(value):
            """One more, if it is a step: in this form, a cell of iCE40 loads and counts."""
            return value - step.replicate(len(value))

        with m.If(rewind):
            m.d.sync += row.eq(self.first_row)
        with m.Elif(advance):
            m.d.sync += row.eq(row + 1)
        with m.If(begin | step):
            m.d.sync += count.eq(Mux(step, up(count), ~self.word[16:]))
        with m.If(skip):
            m.d.sync += count.eq(~0)
        with m.If(place | step):
            m.d.sync += address.eq(Mux(step, up(address), self.word[2:]))
        with m.If(self.awready):
            m.d.sync += writing.eq(0)
        with m.If(self.wready):
            m.d.sync += wording.eq(0)

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += unfit.eq(0)
                with m.If(self.waiting):
                    m.d.comb += advance.eq(1)
                    m.next = "OP"
            # A word comes late from its block RAM: what is asked of it is known in two steps.
            with m.State("OP"):
                op = self.word[:8]
                m.d.sync += [
                    order.eq(op[0]), memory.eq(op[1]), hello.eq(op == Op.HELLO),
                    unfit.eq(~((op == Op.HELLO) | (op[2:] == Op.GET >> 2))),
                    *(same[i].eq(self.word.word_select(2 + i, 4) == turn.word_select(i, 4))
                      for i in range(2)),
                ]
                m.d.comb += [begin.eq(1), advance.eq(1)]
                m.next = "ADDRESS"
            with m.State("ADDRESS"):
                high = self.word[2 + len(address):]
                m.d.comb += place.eq(1)
                m.d.sync += [
                    due.eq(order & same.all()),
                    beyond.eq(Cat(part.any() for part in (
                        self.word[:2], high[:len(high) // 2], high[len(high) // 2:]))),
                ]
                m.next = "DECIDE"
            with m.State("DECIDE"):
                outside = Mux(memory, address >= self.memory_words, address[PAGE_BITS - 2:].any())
                bad = unfit | ((beyond.any() | outside) & ~hello)
                m.d.sync += unfit.eq(bad)
                m.d.comb += [rewind.eq(~due), skip.eq(bad | (order & ~due))]
                m.next = "TURN"
                with m.If(hello):
                    m.d.sync += greeted.eq(1)
                with m.Elif(~greeted):
                    m.d.comb += self.release.eq(1)
                    m.next = "IDLE"
                with m.Elif(due):
                    m.d.sync += [turn.eq(turn + 1), failed.eq(0)]
                    m.next = "SETTLE"
            with m.State("NEXT"):
                m.d.comb += [step.eq(1), advance.eq(1)]
                m.next = "SETTLE"
            with m.State("SETTLE"):
                m.next = "DO"
            with m.State("DO"):
                with m.If(none):
                    m.d.comb += rewind.eq(1)
                    m.next = "TURN"
                with m.Elif(memory):
                    m.d.comb += self.request.valid.eq(1)
                    with m.If(self.request.ready):
                        m.next = "NEXT"
                with m.Else():
                    m.d.sync += [writing.eq(1), wording.eq(1)]
                    m.next = "SET"
            with m.State("SET"):
                with m.If(self.bvalid):
                    m.d.sync += failed.eq(failed | self.bresp.any())
                    m.next = "NEXT"
            with m.State("TURN"):
                m.d.sync += section.eq(Section.OP)
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.body.valid.eq(settled.all())
                with m.If(found & ~settled.all()):
                    m.d.sync += settled.eq(settled + 1)
                with m.If(settled.all() & self.body.ready):
                    m.d.sync += [part.eq(part + 1), settled.eq(0)]
                    with m.If(part == 3):
                        m.next = "SENT"
                with m.If((section == Section.DATA) & self.rvalid & self.rresp.any()):
                    m.d.sync += unfit.eq(1)
            with m.State("SENT"):
                with m.If(section == Section.OP):
                    m.d.comb += advance.eq(1)
                    m.d.sync += section.eq(Section.ADDRESS)
                    m.next = "SEND"
                with m.Else():
                    m.d.comb += [
                        advance.eq(section == Section.ADDRESS),
                        self.answer.ready.eq((section == Section.DATA) & memory),
                        self.rready.eq((section == Section.DATA) & ~memory),
                    ]
                    m.next = "ASK"
                    with m.If(none):
                        m.d.comb += [self.release.eq(1), rewind.eq(1)]
                        m.next = "IDLE"
            with m.State("ASK"):
                m.d.sync += section.eq(Section.DATA)
                m.d.comb += [
                    self.request.valid.eq(memory),
                    self.arvalid.eq(~memory & ~hello),
                ]
                with m.If(hello | Mux(memory, self.request.ready, self.arready)):
                    m.next = "ASKED"
            with m.State("ASKED"):
                m.d.comb += [step.eq(1), advance.eq(1)]
                m.next = "SEND"
        return m
