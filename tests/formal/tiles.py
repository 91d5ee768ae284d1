"""What the array promises: a row meets the weights of its own tile and no others."""

from dataclasses import replace

from amaranth.hdl import Cat, Mux, Signal, Value
from systolith_hw.array import Array
from systolith_hw.config import CoreConfig
from systolith_hw.execute import ExecuteEngine
from systolith_hw.isa import COMMANDS, ONCE, Opcode
from systolith_hw.record import Record

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


class Sequenced(Specification):
    """The execute engine keeps to the array's rules, which the array's own checks say.

    Commands walk any loops with counts up to 2, wait at any level or not at all, and follow each
    other at once or not. Their addresses are 0, since the checks do not look at them.
    """
    def __init__(self, *, rows: int):
        config = CoreConfig.preset("tiny")
        config = replace(config, array=replace(config.array, rows=rows, cols=1),
                         control=replace(config.control, compact=False))
        super().__init__(ExecuteEngine(config=config))

    def properties(self, m, dut):
        command = dut.command
        record = Record(COMMANDS[Opcode.EXECUTE], command.payload)
        loops = dut.config.control.execute_loops
        for i in range(6):
            count = record["counts", i]
            self.given(m, (count == 1) | ((count == 2) if i < loops else 0))
        for name, entries in (("act_base", 1), ("act_jumps", 6), ("acc_base", 1),
                              ("acc_jumps", 6), ("wgt_base", 1), ("wgt_rewind", 1), ("ring", 3),
                              ("raise0_valid", 1), ("raise1_valid", 1), ("wait1_valid", 1)):
            for i in range(entries):
                self.given(m, record[name, i] == 0)
        self.given(m, (record["k_last"] != 0) & (record["k_last"] <= dut.config.array.rows))
        level = record["level0"]
        self.given(m, ((level >= 2) & (level < loops)) | (level == ONCE))
        self.given(m, self.held(m, command.valid, command.ready, command.payload, "command"))
        self.given(m, ~dut.halt)
        self.require(m, ~dut.error.valid, "a legal command is no error")


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
    Proof(
        name="sequencers", block="execute.py",
        claim="ExecuteEngine of 2 x 1, commands of 4 loops with counts up to 2, one wait at any "
              "level: weights and swaps take turns as the array's checks say, however long rows, "
              "weights and semaphores keep each other waiting; no error",
        make=lambda: Sequenced(rows=2), cycles=24,
        bugs=(
            Bug("a swap that does not wait for its weights", "hw/systolith_hw/execute.py",
                "self.issue.eq(rows.o.valid & (~head.starts | self.loaded) & head.inside",
                "self.issue.eq(rows.o.valid & head.inside", RUN),
            Bug("weights that do not wait for the swap", "hw/systolith_hw/weights.py",
                "(tiles.o.valid & (~loaded | swapped))", "tiles.o.valid", RUN),
        )),
)
