"""What the array promises: a row meets the weights of its own tile and no others."""

from amaranth.hdl import Cat, Mux, Signal, Value
from systolith_hw.array import Array

from .proof import RUN, Bug, Proof
from .specification import Specification

__all__ = ["PROOFS"]


class OwnTile(Specification):
    """``sums = row @ weights``, with the weights that the last swap made active.

    The sequencer keeps to the rules of the array's docstring and is free otherwise: weights come
    with gaps, as early as in the cycle of the swap before them; a swap comes as early as in the
    cycle after the last weights of its tile. Weights and activations are 0 or 1, so that any one
    of them, or several, can be looked at.
    """
    def __init__(self, *, rows: int, cols: int, fanout: int):
        super().__init__(Array(rows=rows, cols=cols, fanout=fanout), drives=("row", "weights"),
                         activations=rows, arriving=cols)

    def properties(self, m, dut):
        rows, cols = dut.rows, dut.cols
        m.d.comb += [
            *(dut.row[r].eq(self.activations[r]) for r in range(rows)),
            *(dut.weights[c].eq(self.arriving[c]) for c in range(cols)),
        ]
        swap   = dut.swap & dut.row_valid
        loaded = Signal(range(rows + 1))  # rows of the next tile that came
        begun  = Signal()                 # there is a tile to work with
        coming = [Signal(cols, name=f"coming{r}", reset_less=True) for r in range(rows)]
        active = [Signal(cols, name=f"active{r}", reset_less=True) for r in range(rows)]
        place  = Signal.like(loaded)
        m.d.comb += place.eq(Mux(swap, 0, loaded))
        self.given(m, ~swap | (loaded == rows))
        self.given(m, ~dut.weights_valid | (place != rows))
        m.d.sync += loaded.eq(place + dut.weights_valid)
        for r in range(rows):
            with m.If(dut.weights_valid & (place == rows - 1 - r)):
                m.d.sync += coming[r].eq(self.arriving)
        with m.If(swap):
            m.d.sync += [begun.eq(1), *(now.eq(new) for now, new in zip(active, coming,
                                                                       strict=True))]
        weights  = [Mux(swap, new, now) for new, now in zip(coming, active, strict=True)]
        expected = Cat(*(
            Value.cast(sum(self.activations[r] & weights[r][c] for r in range(rows)))
            for c in range(cols)))
        valid, sure = dut.row_valid, swap | begun
        for cycle in range(dut.latency):
            later = Signal(len(expected), name=f"expected{cycle}", reset_less=True)
            m.d.sync += later.eq(expected)
            expected = later
            valid = self.past(m, valid, f"valid{cycle}")
            sure = self.past(m, sure, f"sure{cycle}")
        bits = len(expected) // cols
        self.require(m, dut.sums_valid == valid, "sums come for each row, after the latency")
        for c in range(cols):
            self.require(m, ~(valid & sure)
                         | (dut.sums[c] == expected[c * bits:(c + 1) * bits].as_unsigned()),
                         "a row meets the weights of its own tile")


def _tiles(rows, cols, fanout, bug, **method):
    return Proof(
        name=f"tiles-{rows}x{cols}", block="array.py",
        claim=f"Array of {rows} x {cols} with groups of {fanout}, weights and activations 0 or 1, "
              "a sequencer that keeps to the array's rules: every row's sums are those with the "
              "weights of its own tile, whatever the gaps, also where tiles follow each other at "
              "once; the array's own check of the order holds",
        make=lambda: OwnTile(rows=rows, cols=cols, fanout=fanout), bugs=(bug,), **method)


PROOFS = (
    _tiles(2, 2, 1, Bug(
        "all rows swap at once", "hw/systolith_hw/array.py",
        "return Cat(swap, line)[:self.rows]", "return swap.replicate(self.rows)", RUN)),
    _tiles(3, 2, 2, Bug(
        "all rows shift on every weight row", "hw/systolith_hw/array.py",
        "shifts = reach & self.weights_valid.replicate(self.rows)",
        "shifts = self.weights_valid.replicate(self.rows)", RUN)),
)
