"""The address generator that every engine walks memory with."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["AffineWalker"]

LEVEL_BITS = 4


class AffineWalker(wiring.Component):
    """Nested loops over several affine address streams that share their counters.

    ``address[s] = base[s] + sum(index[l] * stride[s][l])``, walked by adding ``jump[s][l]`` where
    ``l`` is the loop that advances (the innermost one that is not at its last iteration). The
    jumps, ``stride[l] - sum((count[j] - 1) * stride[j] for j < l)``, come ready from the
    assembler (``isa.jumps_of``), so that hardware needs one adder a stream.

    Timing: one element per cycle, also from one walk to the next; the first leaves two cycles
    after its walk was taken. A walk is taken when the last element of the one before moves to the
    output.

    Parameters
    ----------
    loops : int
        Depth of nesting.
    streams : sequence of int
        Address width of each stream.
    count_bits : int
        Width of a loop count.
    held : bool
        Whether ``walk`` stays as it is after it was taken, until the walker is idle: then it is
        not kept here.
    levels : int
        How many levels of its loops a walk names.

    Members
    -------
    walk : ``In(stream.Signature(...))``
        ``count`` of each loop (at least 1); ``base0`` and ``jump0``, first address and jumps of
        stream 0, and so on; each ``level``: that many loops are inside it, all from their number
        on.
    o : ``Out(stream.Signature(...))``
        ``address`` of each stream; for each loop, whether it is at its ``first`` and its ``last``
        iteration; for each level, whether an iteration of all loops inside it ``begins`` and
        ``ends``, and whether that is the walk's ``final`` one; whether it ``opens`` and ``closes``
        the walk.
    begin : ``Out(1)``
        A walk's first element is at ``o`` from the next cycle on; the next walk is not taken
        before.
    idle : ``Out(1)``
        No element is inside.
    """
    def __init__(self, *, loops: int, streams: Sequence[int], count_bits: int = 16,
                 held: bool = False, levels: int = 0):
        self.loops = loops
        self.streams = tuple(streams)
        self.count_bits = count_bits
        self.held = held
        self.levels = levels
        self.walk_layout = data.StructLayout({
            "count": data.ArrayLayout(count_bits, loops),
            "level": data.ArrayLayout(LEVEL_BITS, levels),
            **{f"base{i}": bits for i, bits in enumerate(self.streams)},
            **{f"jump{i}": data.ArrayLayout(bits, loops) for i, bits in enumerate(self.streams)},
        })
        self.element = data.StructLayout({
            "address": data.StructLayout({f"s{i}": bits for i, bits in enumerate(self.streams)}),
            "first": loops, "last": loops,
            "begins": levels, "ends": levels, "final": levels,
            "opens": 1, "closes": 1,
        })
        super().__init__({
            "walk": In(stream.Signature(self.walk_layout)),
            "o": Out(stream.Signature(self.element)),
            "begin": Out(1),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        walk = self.walk.payload
        # Counters run from count - 2 down to -1, so that the sign bit says "last iteration"; of a
        # walk that is held from count down to 1, which a cell of iCE40 a bit loads and counts.
        counters = [Signal(self.count_bits if self.held else signed(self.count_bits + 1),
                           name=f"left{i}", reset_less=True) for i in range(self.loops)]
        starts = [walk.count[i] - (0 if self.held else 2) for i in range(self.loops)]
        first  = Signal(self.loops, reset_less=True)
        valid  = Signal()
        last   = Signal(self.loops)
        inner_last = [Signal(name=f"inner_last{i}") for i in range(self.loops + 1)]
        fresh  = Signal(reset_less=True)  # the element at the counters is its walk's first
        enter  = Signal()  # the next element there will be
        move   = Signal()  # the element at the counters goes to the output
        step   = Signal()  # another may come to the counters
        out    = Signal(self.element, reset_less=True)
        out_valid = Signal()
        m.d.comb += [
            inner_last[0].eq(1),
            *(last[i].eq(counter == 1 if self.held else counter[-1])
              for i, counter in enumerate(counters)),
            *(inner_last[i + 1].eq(inner_last[i] & last[i]) for i in range(self.loops)),
            enter.eq(~valid | inner_last[self.loops]),
            move.eq(valid & (~out_valid | self.o.ready)),
            step.eq(move | ~valid),
            self.walk.ready.eq(step & enter),
            self.begin.eq(move & fresh),
            self.idle.eq(~valid & ~out_valid),
            self.o.valid.eq(out_valid),
            self.o.payload.eq(out),
        ]
        m.d.sync += out_valid.eq(move | (out_valid & ~self.o.ready))
        with m.If(move):
            m.d.sync += [out.first.eq(first), out.last.eq(last),
                         out.opens.eq(fresh), out.closes.eq(inner_last[self.loops])]
        with m.If(step):
            m.d.sync += [fresh.eq(enter), valid.eq(self.walk.valid | ~enter)]
        for i, counter in enumerate(counters):
            reload = enter | inner_last[i + 1]
            if self.held:
                ones = (~reload).replicate(self.count_bits)
                with m.If(step & (enter | inner_last[i])):
                    m.d.sync += [counter.eq(Mux(reload, starts[i], counter + ones)),
                                 first[i].eq(reload)]
                continue
            again = Signal.like(counter, name=f"again{i}", reset_less=True)
            with m.If(enter):   # what is kept of a walk is not needed beside its last element
                m.d.sync += again.eq(starts[i])
            with m.If(step & reload):
                m.d.sync += [counter.eq(Mux(enter, starts[i], again)), first[i].eq(1)]
            with m.Elif(step & inner_last[i]):
                m.d.sync += [counter.eq(counter - 1), first[i].eq(0)]
        for i in range(self.levels):
            # Loops inside the level; as no carry chain.
            inside = Cat(~Cat(walk.level[i] == n for n in range(loop + 1)).any()
                         for loop in range(self.loops))
            if not self.held:
                kept = Signal(self.loops, name=f"inside{i}", reset_less=True)
                with m.If(step & enter):
                    m.d.sync += kept.eq(inside)
                inside = kept
            with m.If(move):
                m.d.sync += [out.begins[i].eq((first | ~inside).all()),
                             out.ends[i].eq((last | ~inside).all()),
                             out.final[i].eq((last | inside).all())]
        for s, bits in enumerate(self.streams):
            jump    = walk[f"jump{s}"]
            if not self.held:
                jump = Signal(jump.shape(), name=f"jump{s}", reset_less=True)
                with m.If(enter):
                    m.d.sync += jump.eq(walk[f"jump{s}"])
            delta   = Signal(bits, name=f"delta{s}", reset_less=True)
            address = out.address[f"s{s}"]
            chosen = jump[self.loops - 1]
            for level in reversed(range(self.loops - 1)):
                chosen = Mux(last[level], chosen, jump[level])
            with m.If(step):
                m.d.sync += delta.eq(Mux(enter, walk[f"base{s}"], chosen))
            with m.If(move):
                m.d.sync += address.eq(
                    Mux(fresh, delta, address + delta) if self.held
                    else Mux(fresh, 0, address) + delta)
        return m
