"""Requests: SLIP, checksum, and a memory in which they wait."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.frames import END, ESC, ESC_END, ESC_ESC, HEADER_WORDS
from systolith_hw.checks import check_int
from systolith_hw.ram import Ram

from .crc import Crc32

__all__ = ["Inbox"]

CHECK_WORDS = 1
SLOTS = 2  # one fills while the other is worked off


class Inbox(wiring.Component):
    """Keeps requests whose checksum and length are right; all others leave no trace.

    Two requests have room. What comes while both wait is lost, as if on the line.

    Timing: a byte may come every twelve cycles; a request waits two cycles after its END.

    Parameters
    ----------
    data_words : int
        Most words of data in a request, from 2 to 125; with header and checksum, three words, they
        are rounded up to a power of two.

    Attributes
    ----------
    rows : int
        Words that a request has room for.
    first_row : int
        Row of its header; the others follow it, row 0 after row ``rows - 1``.

    Members
    -------
    byte : ``In(8)``
        What came, also in the cycle after ``strobe``.
    strobe : ``In(1)``
        Pulse: a byte came.
    broken : ``In(1)``
        Pulse: no byte came but ought to.
    waiting : ``Out(1)``
        A request is there, until ``release``.
    row : ``In(range(rows))``
        Which of its words to read: the header's two, then data.
    word : ``Out(32)``
        That word, a cycle later, where a request waits.
    release : ``In(1)``
        Pulse: the request is done with; the other one is shown.

    Raises
    ------
    TypeError, ValueError
        ``data_words`` is no integer or out of range.
    """
    def __init__(self, *, data_words: int):
        check_int("data_words", data_words, 2, 125)
        self.data_words = data_words
        self.rows = 1 << (HEADER_WORDS + data_words + CHECK_WORDS - 1).bit_length()
        self.first_row = self.rows - HEADER_WORDS - CHECK_WORDS
        super().__init__({
            "byte": In(8), "strobe": In(1), "broken": In(1),
            "waiting": Out(1), "row": In(range(self.rows)), "word": Out(32),
            "release": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Ram(depth=SLOTS * self.rows, width=32, granularity=8)
        m.submodules.crc = crc = Crc32()
        fill, work = Signal(), Signal()  # the slot that fills, and the one that is worked off
        full    = Signal(SLOTS)
        escaped = Signal()
        bad     = Signal()
        # Bytes count from so far below 0 that a frame ends at the number of its data's bytes.
        begin   = -4 * (HEADER_WORDS + CHECK_WORDS) % (8 * self.rows)
        here    = Signal(2 + self.rows.bit_length(), init=begin)
        order   = Signal()
        words   = Signal(range(self.data_words + 1))  # of data that the header announces
        code    = Signal(8, reset_less=True)  # the byte without its escape, shifted out
        left    = Signal(range(9))            # bits of it
        store   = Signal()
        came, is_end, is_esc, wrong = Signal(), Signal(), Signal(), Signal()
        keep, commit = Signal(), Signal()
        fit     = Signal()                    # a frame that ends now is right, but for an escape
        # The second byte of an escape differs from what it stands for in these bits.
        mend = Mux(self.byte[0], ESC_ESC ^ ESC, ESC_END ^ END)
        m.d.comb += [
            keep.eq(came & ~is_end & (escaped | ~is_esc)),
            commit.eq(came & is_end & fit & ~bad & ~escaped),
            crc.bit.eq(code[0]),
            crc.shift.eq(left != 0),
            crc.clear.eq(came & is_end),
            ram.write_addr.eq(Cat(here[2:-1], fill)),
            ram.write_data.eq(code.replicate(4)),
            ram.write_en.eq((store & ~full.bit_select(fill, 1)) << here[:2]),
            ram.read_addr.eq(Cat(self.row, work)),
            ram.read_en.eq(self.waiting),
            self.word.eq(ram.read_data),
            self.waiting.eq(full.bit_select(work, 1)),
        ]
        at_op, at_low, at_high, at_end = (Signal(name=name) for name in (
            "at_op", "at_low", "at_high", "at_end"))  # where the next byte belongs
        m.d.sync += [
            at_op.eq(here == begin), at_low.eq(here == begin + 2), at_high.eq(here == begin + 3),
            at_end.eq(here == 4 * self.data_words),
            came.eq(self.strobe),
            is_end.eq(self.byte == END),
            is_esc.eq(self.byte == ESC),
            wrong.eq((self.byte != ESC_END) & (self.byte != ESC_ESC)),
            store.eq(keep),
            fit.eq(crc.right & (here[2:] == words) & (here[:2] == 0)),
        ]
        with m.If(keep):
            m.d.sync += [code.eq(self.byte ^ Mux(escaped, mend, 0)), left.eq(8)]
        with m.Elif(left != 0):
            m.d.sync += [code.eq(code >> 1), left.eq(left - 1)]
        with m.If(came):
            m.d.sync += escaped.eq(~is_end & ~keep)
        with m.If(store):
            m.d.sync += here.eq(here + 1)
            with m.If(at_op):
                m.d.sync += order.eq(code[0])
            with m.If(at_low):
                m.d.sync += words.eq(Mux(order, code, 0))
            # A request's words have a second byte; those of an order fit one.
            high = (at_high & code.any()) | (at_low & (code >> len(words)).any())
            with m.If(full.bit_select(fill, 1) | at_end | (order & high)):
                m.d.sync += bad.eq(1)
        with m.If(self.broken | (keep & escaped & wrong)):
            m.d.sync += bad.eq(1)
        with m.If(came & is_end):
            m.d.sync += [here.eq(begin), bad.eq(0), words.eq(0)]
        with m.If(commit):
            m.d.sync += [full.bit_select(fill, 1).eq(1), fill.eq(~fill)]
        with m.If(self.release):
            m.d.sync += [full.bit_select(work, 1).eq(0), work.eq(~work)]
        return m
