"""The parameter memory of a chip with little block RAM: a word of 16 bits after the other."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from .choose import choose
from .parameters import PARTS, RECORD_BYTES
from .ram import Ram
from .scratchpad import ReadPort, WritePort

__all__ = ["NarrowParameters"]

WORD = 2    # bytes
WORDS = RECORD_BYTES // WORD


class NarrowParameters(wiring.Component):
    """Records of one lane, as ``Parameters`` has them, in a memory of 16-bit words.

    Timing: a bias is there three cycles after its request, a scale four, and stays; the next
    request comes then. A write takes a cycle for each of the record's six words.

    Parameters
    ----------
    rows : int
        Records, a power of two.

    Members
    -------
    write : ``In(WritePort)``
        A record, in parts.
    bias, scale : ``In(ReadPort)``
        As of ``Parameters``; every request is granted.
    """
    def __init__(self, *, rows: int):
        self.rows = rows
        bits = exact_log2(rows)
        super().__init__({
            "write": In(WritePort(addr_bits=bits, width=8 * RECORD_BYTES)),
            **{name: In(ReadPort(addr_bits=bits, width=8 * len(part)))
               for name, part in PARTS.items()},
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Ram(depth=8 * self.rows, width=8 * WORD, granularity=8)
        first = {name: part.start // WORD for name, part in PARTS.items()}
        last  = {name: (part.stop - 1) // WORD for name, part in PARTS.items()}

        step = Signal(range(WORDS))
        write = self.write
        m.d.comb += [
            ram.write_addr.eq(Cat(step, write.addr)),
            ram.write_data.eq(choose([write.data.word_select(i, 8 * WORD) for i in range(WORDS)],
                                     step)),
            ram.write_en.eq(Mux(write.valid, choose(
                [write.mask.word_select(i, WORD) for i in range(WORDS)], step), 0)),
            write.ready.eq(step == WORDS - 1),
        ]
        with m.If(write.valid):
            m.d.sync += step.eq(Mux(write.ready, 0, step + 1))

        asked  = self.bias.valid | self.scale.valid
        asks   = {name: getattr(self, name) for name in PARTS}
        row    = Signal.like(self.bias.addr, reset_less=True)
        number = Signal(range(WORDS), reset_less=True)  # of the next word
        reads  = Signal()
        start  = Signal.like(number)
        m.d.comb += [
            start.eq(Mux(self.bias.valid, first["bias"], first["scale"])),
            ram.read_en.eq(asked | reads),
            ram.read_addr.eq(Mux(reads, Cat(number, row), Cat(
                start, Mux(self.bias.valid, self.bias.addr, self.scale.addr)))),
        ]
        with m.If(asked):
            m.d.sync += [row.eq(Mux(self.bias.valid, self.bias.addr, self.scale.addr)),
                         number.eq(start + 1), reads.eq(1)]
        with m.Elif(reads):
            m.d.sync += number.eq(number + 1)
            with m.If((number == last["bias"]) | (number == last["scale"])):
                m.d.sync += reads.eq(0)
        came = Signal(WORDS)    # the word that the memory shows
        m.d.sync += came.eq(Mux(asked, 1 << start, Mux(reads, 1 << number, 0)))
        for name, part in PARTS.items():
            found = Signal(8 * len(part), name=name, reset_less=True)
            m.d.comb += [asks[name].ready.eq(Const(1)), asks[name].data.eq(found)]
            for i in range(first[name], last[name] + 1):
                place = found.word_select(i - first[name], 8 * WORD) if (
                    WORD * (i + 1) <= part.stop) else found[8 * WORD * (i - first[name]):]
                with m.If(came[i]):
                    m.d.sync += place.eq(ram.read_data)
        return m
