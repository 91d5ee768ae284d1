"""Answers: checksum and SLIP."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.frames import END, ESC, ESC_END, ESC_ESC

from .crc import Crc32

__all__ = ["Outbox", "item"]

item = data.StructLayout({"byte": 8, "last": 1, "refused": 1})
CHECK_BYTES = 4


class Phase(enum.Enum, shape=2):
    """What is sent: the END before a frame, what it says, its checksum, the END behind it."""
    BEGIN  = 0
    BODY   = 1
    CHECK  = 2
    FINISH = 3


class Outbox(wiring.Component):
    """Makes frames of bytes.

    Timing: a byte is taken every ten cycles at most, and goes nine cycles later.

    Members
    -------
    body : ``In(stream of item)``
        Bytes of frames, and which is the last of a frame; with the last, whether the checksum is
        complemented, which says that a request is refused.
    bytes : ``Out(stream of 8)``
        What to send.
    busy : ``Out(1)``
        A frame is under way.
    """
    def __init__(self):
        super().__init__({
            "body": In(stream.Signature(item)),
            "bytes": Out(stream.Signature(8)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = Crc32()
        phase   = Signal(Phase)
        byte    = Signal(8, reset_less=True)
        last    = Signal(reset_less=True)
        refused = Signal(reset_less=True)
        loaded  = Signal()              # the byte has to be sent
        escaped = Signal()              # the first half of its escape is
        turn    = Signal(4)             # 8 + i: bit i of the byte goes into the checksum
        checked = Signal(range(CHECK_BYTES), reset_less=True)  # bytes of the checksum sent
        summing, free, sent, special = Signal(), Signal(), Signal(), Signal()
        reserved = Signal(reset_less=True)  # the byte needs an escape
        shift, bit = Signal(), Signal(reset_less=True)
        begin, body, check, finish = (phase == each for each in Phase)
        m.d.comb += [
            summing.eq(turn[-1]),
            free.eq(~loaded & ~summing),
            special.eq(~escaped & reserved),
            sent.eq(self.bytes.valid & self.bytes.ready),
            self.busy.eq(~begin),
            self.body.ready.eq(body & free),
            self.bytes.valid.eq((begin & self.body.valid) | finish | (loaded & ~summing)),
            self.bytes.payload.eq(byte),
            crc.clear.eq(begin),
            crc.shift.eq(shift),
            crc.bit.eq(bit),
            crc.drain.eq(check),
        ]
        m.d.sync += [
            reserved.eq((byte == END) | (byte == ESC)),
            shift.eq(summing), bit.eq(byte.bit_select(turn[:3], 1)),
        ]
        with m.If(begin | finish):
            m.d.comb += self.bytes.payload.eq(END)
        with m.Elif(escaped):
            m.d.comb += self.bytes.payload.eq(Mux(byte[0], ESC_ESC, ESC_END))
        with m.Elif(special):
            m.d.comb += self.bytes.payload.eq(ESC)

        with m.If(summing):
            m.d.sync += turn.eq(turn + 1)
        with m.If(body & free & self.body.valid):
            m.d.sync += [
                byte.eq(self.body.payload.byte), last.eq(self.body.payload.last),
                refused.eq(self.body.payload.refused), loaded.eq(1), turn.eq(8), checked.eq(0),
            ]
        with m.If(check & free):
            m.d.sync += [byte.eq(crc.check ^ refused.replicate(8)), loaded.eq(1), turn.eq(8)]
        with m.If(sent):
            m.d.sync += [escaped.eq(special), loaded.eq(special)]
            with m.Switch(phase):
                with m.Case(Phase.BEGIN):
                    m.d.sync += [phase.eq(Phase.BODY), loaded.eq(0), escaped.eq(0)]
                with m.Case(Phase.BODY):
                    with m.If(last & ~special):
                        m.d.sync += phase.eq(Phase.CHECK)
                with m.Case(Phase.CHECK):
                    with m.If(~special):
                        m.d.sync += checked.eq(checked + 1)
                        with m.If(checked == CHECK_BYTES - 1):
                            m.d.sync += phase.eq(Phase.FINISH)
                with m.Case(Phase.FINISH):
                    m.d.sync += [phase.eq(Phase.BEGIN), loaded.eq(0), escaped.eq(0)]
        return m
