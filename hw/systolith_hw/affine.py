"""The address generator that every engine walks memory with."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["AffineWalker"]


class AffineWalker(wiring.Component):
    """Nested loops over several affine address streams that share their counters.

    ``address[s] = base[s] + sum(index[l] * stride[s][l])``, walked by adding ``jump[s][l]`` where
    ``l`` is the loop that advances (the innermost one that is not at its last iteration). The
    jumps, ``stride[l] - sum((count[j] - 1) * stride[j] for j < l)``, come ready from the
    assembler (``isa.jumps_of``), so that hardware needs one adder a stream.

    Timing: one element per cycle; the first leaves two cycles after ``start``. ``count``,
    ``base`` and ``jump`` are looked at from ``start`` until ``idle`` returns; the last element
    may still be at the output then.

    Parameters
    ----------
    loops : int
        Depth of nesting.
    streams : sequence of int
        Address width of each stream.
    count_bits : int
        Width of a loop count.

    Members
    -------
    start : ``In(1)``
        Begin, when ``idle``.
    idle : ``Out(1)``
        The configuration is no longer needed.
    count, base, jump : ``In``
        Configuration: counts (at least 1), first addresses, jumps.
    o : ``Out(stream.Signature(...))``
        ``address`` of each stream and, for each loop, whether it is at its ``first`` and its
        ``last`` iteration.
    """
    def __init__(self, *, loops: int, streams: Sequence[int], count_bits: int = 16):
        self.loops = loops
        self.streams = tuple(streams)
        self.count_bits = count_bits
        self.element = data.StructLayout({
            "address": data.StructLayout({f"s{i}": bits for i, bits in enumerate(self.streams)}),
            "first": loops,
            "last": loops,
        })
        super().__init__({
            "start": In(1),
            "idle": Out(1),
            "count": In(count_bits).array(loops),
            "o": Out(stream.Signature(self.element)),
            **{f"base{i}": In(bits) for i, bits in enumerate(self.streams)},
            **{f"jump{i}": In(bits).array(loops) for i, bits in enumerate(self.streams)},
        })

    def elaborate(self, platform):
        m = Module()
        # Counters run from count - 2 down to -1, so that the sign bit says "last iteration".
        counters = [Signal(signed(self.count_bits + 1), name=f"left{i}", reset_less=True)
                    for i in range(self.loops)]
        first  = Signal(self.loops, reset_less=True)
        valid  = Signal()
        last   = Signal(self.loops)
        inner_last = [Signal(name=f"inner_last{i}") for i in range(self.loops + 1)]
        move   = Signal()  # the element at the counters goes to the output
        out_first = Signal(self.loops, reset_less=True)
        out_last = Signal(self.loops, reset_less=True)
        out_valid = Signal()
        m.d.comb += [
            inner_last[0].eq(1),
            *(last[i].eq(counters[i][-1]) for i in range(self.loops)),
            *(inner_last[i + 1].eq(inner_last[i] & last[i]) for i in range(self.loops)),
            self.idle.eq(~valid),
            move.eq(valid & (~out_valid | self.o.ready)),
            self.o.valid.eq(out_valid),
            self.o.payload.first.eq(out_first),
            self.o.payload.last.eq(out_last),
        ]
        m.d.sync += out_valid.eq(move | (out_valid & ~self.o.ready))
        with m.If(move):
            m.d.sync += [out_first.eq(first), out_last.eq(last)]
            with m.If(inner_last[self.loops]):
                m.d.sync += valid.eq(0)
        for i, counter in enumerate(counters):
            with m.If(self.start | (move & inner_last[i + 1])):
                m.d.sync += [counter.eq(self.count[i] - 2), first[i].eq(1)]
            with m.Elif(move & inner_last[i]):
                m.d.sync += [counter.eq(counter - 1), first[i].eq(0)]
        with m.If(self.start):
            m.d.sync += valid.eq(1)
        fresh = Signal(reset_less=True)  # the element at the counters is a command's first
        with m.If(self.start):
            m.d.sync += fresh.eq(1)
        with m.Elif(move):
            m.d.sync += fresh.eq(0)
        for s, bits in enumerate(self.streams):
            base, jump = getattr(self, f"base{s}"), getattr(self, f"jump{s}")
            delta   = Signal(bits, name=f"delta{s}", reset_less=True)
            address = Signal(bits, name=f"address{s}", reset_less=True)
            chosen = jump[self.loops - 1]
            for level in reversed(range(self.loops - 1)):
                chosen = Mux(last[level], chosen, jump[level])
            with m.If(self.start):
                m.d.sync += delta.eq(base)
            with m.Elif(move):
                m.d.sync += delta.eq(chosen)
            with m.If(move):
                m.d.sync += address.eq(Mux(fresh, 0, address) + delta)
            m.d.comb += self.o.payload.address[f"s{s}"].eq(address)
        return m
