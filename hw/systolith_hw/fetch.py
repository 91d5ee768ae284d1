"""From a program in memory to its commands' bursts."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .bursts import burst_layout
from .config import CoreConfig
from .isa import COMMAND_BYTES
from .legal import words_of
from .narrow import length_bits, memory_bits
from .record import INDEX_BITS

__all__ = ["Fetch"]


class Fetch(wiring.Component):
    """Asks for a program's commands, one burst or more each, as far ahead as there is room.

    Timing: a burst every other cycle; each is checked in the cycle before it is offered.

    Members
    -------
    start : ``In(1)``
        Begin at ``address`` and fetch ``commands`` of them.
    window_bytes : ``In(32)``
        Size of the window.
    bursts : ``Out(stream)``
        To ``AxiReader``.
    blocked : ``Out(1)``
        The next command lies outside the window.
    left : ``Out(INDEX_BITS)``
        Commands not asked for yet.
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            "start": In(1),
            "address": In(32),
            "commands": In(INDEX_BITS),
            "window_bytes": In(32),
            "bursts": Out(stream.Signature(burst_layout(config.bus.data_bytes))),
            "blocked": Out(1),
            "left": Out(INDEX_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        words = words_of(self.config)
        burst_words = min(words, self.config.bus.max_burst)
        offset_bits = exact_log2(self.config.bus.data_bytes)
        word = Signal(memory_bits(self.config) - offset_bits, reset_less=True)
        left = Signal(length_bits(self.config))
        part = Signal(range(words // burst_words))
        checked = Signal()
        if self.config.control.shared:  # it asks for words one by one
            outside = word >= self.window_bytes[offset_bits:][:len(word)]
        else:
            outside = (part == 0) & (Cat(Const(0, offset_bits), word) + COMMAND_BYTES
                                     > self.window_bytes)
        m.d.sync += [checked.eq(left != 0), self.blocked.eq((left != 0) & outside)]
        m.d.comb += [
            self.bursts.valid.eq(checked & ~self.blocked),
            self.bursts.payload.word.eq(word),
            self.bursts.payload.words.eq(burst_words - 1),
            self.bursts.payload.last.eq(1),
            self.left.eq(left),
        ]
        with m.If(self.start):
            m.d.sync += [
                word.eq(self.address[offset_bits:]),
                left.eq(self.commands),
                part.eq(0),
                checked.eq(0),
            ]
        with m.Elif(self.bursts.valid & self.bursts.ready):
            m.d.sync += [checked.eq(0), word.eq(word + burst_words), part.eq(part + 1)]
            with m.If(part == words // burst_words - 1):
                m.d.sync += [left.eq(left - 1), part.eq(0)]
        return m
