"""What the address generator promises: its formula."""

from amaranth.hdl import Array, Cat, Mux, Signal
from systolith_hw.affine import AffineWalker

from .proof import RUN, Bug, Proof
from .specification import Specification

__all__ = ["PROOFS"]


class Formula(Specification):
    """``address = base + sum(index[l] * stride[l])``, every index once, in order.

    The jumps are those of the assembler: ``stride[l] - sum((count[j] - 1) * stride[j] for j < l)``.
    A naive model walks the indices; while the last element of a walk stands at the output, the
    next walk may have begun.
    """
    def __init__(self, *, loops: int, bits: int, most: int):
        self.most = most
        dut = AffineWalker(loops=loops, streams=(bits,), count_bits=most.bit_length(), levels=1)
        super().__init__(dut, drives=("walk__payload",), base=bits, level=4,
                         **{f"stride{i}": bits for i in range(loops)},
                         **{f"count{i}": range(most + 1) for i in range(loops)})

    def properties(self, m, dut):
        loops = dut.loops
        new = [self.level, self.base, *(getattr(self, f"{name}{i}") for i in range(loops)
                            for name in ("stride", "count"))]
        kept = [Signal.like(value, name=f"kept{i}", reset_less=True) for i, value in enumerate(new)]
        _, base, *rest = new
        strides, counts = rest[::2], rest[1::2]
        start = dut.walk.valid & dut.walk.ready
        for count in counts:
            self.given(m, (count != 0) & (count <= self.most))
        with m.If(start):
            m.d.sync += [before.eq(now) for now, before in zip(new, kept, strict=True)]
        walk = dut.walk.payload
        m.d.comb += [walk.base0.eq(base), walk.level[0].eq(self.level)]
        rewind = 0
        for i in range(loops):
            m.d.comb += [walk.count[i].eq(counts[i]), walk.jump0[i].eq(strides[i] - rewind)]
            rewind = rewind + (counts[i] - 1) * strides[i]
        self.given(m, self.held(m, dut.walk.valid, dut.walk.ready, walk, "walk"))

        # The walk whose elements come out, and the one that may have begun behind it.
        out   = [Signal.like(value, name=f"out{i}", reset_less=True) for i, value in enumerate(new)]
        index = [Signal(range(self.most), name=f"index{i}") for i in range(loops)]
        walking, behind = Signal(), Signal()
        first = Cat(i == 0 for i in index)
        last  = Cat(i + 1 == count for i, count in zip(index, out[3::2], strict=True))
        take  = dut.o.valid & dut.o.ready
        ends  = take & last.all()
        with m.If(take):
            for i in range(loops):
                with m.If(last[:i].all()):
                    m.d.sync += index[i].eq(Mux(last[i], 0, index[i] + 1))
        with m.If(ends | ~walking):
            m.d.sync += [walking.eq(behind | start), behind.eq(behind & start)]
            m.d.sync += [now.eq(Mux(behind, old, fresh))
                         for now, old, fresh in zip(out, kept, new, strict=True)]
        with m.Elif(start):
            m.d.sync += behind.eq(1)
        level, address = out[:2]
        for i in range(loops):
            address = address + Array(n * out[2 + 2 * i] for n in range(self.most))[index[i]]
        inside = Cat(i < level for i in range(loops))
        element = dut.o.payload
        self.require(m, ~(start & behind & ~ends), "no more than two walks are inside")
        self.require(m, ~dut.o.valid | walking, "no element without a walk")
        self.require(m, ~dut.o.valid | ((element.first == first) & (element.last == last)),
                     "every index comes once, in order")
        self.require(m, ~dut.o.valid | (
            (element.opens == first.all()) & (element.closes == last.all())
            & (element.begins == (first | ~inside).all())
            & (element.ends == (last | ~inside).all())
            & (element.final == (last | inside).all())), "and says so, at every level")
        self.require(m, ~dut.o.valid | (element.address.s0 == address[:len(walk.base0)]),
                     "its address is that of the formula")
        self.require(m, self.held(m, dut.o.valid, dut.o.ready, element, "o"),
                     "an element offered stays until it is taken")
        self.require(m, ~self.late(m, "o", walking & ~dut.o.valid, 1),
                     "an element comes each cycle, from the second after the walk was taken")
        self.require(m, dut.idle == ~walking, "idle says so")
        self.require(m, ~self.past(m, dut.begin, "began") | (dut.o.valid & first.all()),
                     "a walk's first element follows begin")
        fresh = dut.o.valid & first.all() & ~self.past(m, dut.o.valid & ~dut.o.ready, "stood")
        self.require(m, ~fresh | self.past(m, dut.begin, "begun"), "and comes with it only")


def _walker(name, method, **sizes):
    return Proof(
        name=name, block="affine.py",
        claim="AffineWalker of {loops} loops, counts up to {most}, addresses of {bits} bits, "
              "jumps as the assembler makes them from any strides: elements are those of the "
              "formula, each once and in order, with their flags of loops and of a level, one each "
              "cycle, from walk to walk and through stalls".format(**sizes),
        make=lambda: Formula(**sizes), **method,
        bugs=(
            Bug("a jump of the wrong loop", "hw/systolith_hw/affine.py",
                "chosen = Mux(last[level], chosen, jump[level])",
                "chosen = Mux(last[0], chosen, jump[level])", RUN),
        ) if sizes["loops"] > 2 else (
            Bug("an element dropped in a stall", "hw/systolith_hw/affine.py",
                "move.eq(valid & (~out_valid | self.o.ready))", "move.eq(valid)", RUN),
        ))


PROOFS = (
    _walker("walk-2", {}, loops=2, bits=2, most=3),
    _walker("walk-3", {}, loops=3, bits=2, most=2),
)
