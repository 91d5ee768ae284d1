"""Execute of a shared sequencer: tiles of weights, and loop 0 of the rows behind them."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .accumulator import Accumulator
from .arrays import array_of
from .config import CoreConfig
from .given import Given
from .isa import WeightFormat
from .microcode import Field
from .pipe import Pipe
from .scratchpad import ReadPort
from .sequencer import unit_ports
from .transfer import ring_fits, ring_row
from .unpack import Unpacker

__all__ = ["Streamer"]


class Streamer(wiring.Component):
    """Streams the rows of loop 0 through the array, and reads the weights of the next tile.

    A tile's rows of weights go last row first, those beyond the valid ones as zeros. Rows begin
    when they are known and their tile's weights have been read; the last of them waits for what is
    raised behind it.

    Timing: one row of weights, and one of activations, a cycle.

    Members
    -------
    stores, emit, field, value, go, event : ``In``
        See ``sequencer.unit_ports``: ``Field``.
    halt : ``In(1)``
        Stop.
    act, wgt : ``Out(ReadPort)``
        To the scratchpads; always granted, and a row comes in the cycle after.
    acc_valid, acc_row, acc_first, acc_sums : ``Out``
        To the accumulator.
    acc_written : ``In(1)``
        The accumulator has written a row.
    tile_free, rows_free : ``Out(1)``
        Another tile, and its rows, can be taken.
    tile_rows : ``Out``
        Weight rows of the tile that was taken last.
    active : ``Out(1)``
        Rows of activations are read, as soon as they can.
    busy : ``Out(1)``
        One was read in the cycle before.
    done : ``Out(2)``
        What can be raised.
    quiet : ``Out(1)``
        Nothing is inside.
    wrong : ``Out(1)``
        An address leads out of a scratchpad.
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        self.array = array_of(config.array)
        self.sum_bits = self.array.sum_bits
        super().__init__({
            **unit_ports(),
            "halt": In(1),
            "act": Out(ReadPort(addr_bits=exact_log2(config.memory.act_rows),
                                width=8 * config.act_row_bytes)),
            "wgt": Out(ReadPort(addr_bits=exact_log2(config.memory.wgt_rows),
                                width=8 * config.wgt_row_bytes)),
            "acc_valid": Out(1),
            "acc_row": Out(range(config.memory.acc_rows)),
            "acc_first": Out(1),
            "acc_sums": Out(ArrayLayout(signed(self.sum_bits), config.array.sum_cols)),
            "acc_written": In(1),
            "tile_free": Out(1),
            "rows_free": Out(1),
            "tile_rows": Out(range(config.array.rows + 1)),
            "active": Out(1),
            "busy": Out(1),
            "done": Out(2),
            "quiet": Out(1),
            "wrong": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, memory, rows = self.config, self.config.memory, self.config.array.rows
        loops = config.control.execute_loops
        value = self.value
        m.submodules.array = array = self.array

        given  = Given(m, self.emit, self.field)
        said, beyond = value[:16], value[16:].any()
        rings = [Signal(4, name=f"ring{i}", reset_less=True) for i in range(3)]
        k_last = Signal(range(rows + 1), reset_less=True)
        accumulate = Signal(reset_less=True)
        with m.If(given(Field.RING)):
            m.d.sync += [ring.eq(said[4 * i:4 * i + 4]) for i, ring in enumerate(rings)]
        with m.If(given(Field.LAST)):
            m.d.sync += [k_last.eq(value[16:24]), accumulate.eq(value[24])]

        def address(size, ring, base, place, step=None, moves=None):
            """Register of a row's number, within its ring, and whether it lies outside: given as
            it is, or where there are steps and jumps, moved by them."""
            bits, name = exact_log2(size), place.name.lower()
            at   = Signal(16, name=f"{name}_row", reset_less=True)
            out  = Signal(name=f"{name}_outside", reset_less=True)
            load = given(place)
            wide = said
            if step is not None:
                kept = Signal(16, name=f"{name}_step", reset_less=True)
                with m.If(given(step)):
                    m.d.sync += kept.eq(said)
                wide, load = (at + Mux(load, said, kept))[:16], load | moves
            whole = Signal(16, name=f"{name}_whole")
            m.d.comb += whole.eq(wide)
            with m.If(given(base)):
                m.d.sync += [at.eq(said), out.eq(
                    (beyond if base == Field.ACT_BASE else 0)
                    | ~ring_fits(config, ring, size))]
            with m.If(load):
                m.d.sync += at.eq(ring_row(whole, at, ring))
            return at, out | at[bits:].any()

        # Weights of a tile.
        known  = Signal()       # a tile's first row is
        down   = Signal(range(rows), init=rows - 1)
        valid_rows = self.tile_rows
        loaded = Signal()       # all have been, and no row of activations has come
        swap   = Signal()
        reads  = Signal()
        real   = Signal()
        last   = down == 0
        base, base_outside = address(memory.wgt_rows, rings[1], Field.WGT_BASE, Field.WGT)
        ahead, at_row = Signal(16), Signal(16)
        zero, weights_valid = Signal(reset_less=True), Signal()
        m.d.comb += [
            ahead.eq(base + down),
            at_row.eq(ring_row(ahead, base, rings[1])),
            reads.eq(known & ~loaded & ~self.halt & ~self.wrong),
            real.eq(reads & (down < valid_rows)),
            self.wgt.valid.eq(real),
            self.wgt.addr.eq(at_row),
            self.tile_free.eq(~known),
        ]
        bad_weights = Signal()
        m.d.sync += bad_weights.eq(
            real & (base_outside | at_row[exact_log2(memory.wgt_rows):].any()))
        with m.If(given(Field.LEFT)):
            m.d.sync += valid_rows.eq(Mux(said[:config.count_bits] == 1, k_last, rows))
        with m.If(given(Field.WGT)):
            m.d.sync += known.eq(1)
        with m.If(reads):
            m.d.sync += down.eq(Mux(last, rows - 1, down - 1))
            with m.If(last):
                m.d.sync += [known.eq(0), loaded.eq(1)]
        with m.If(swap):
            m.d.sync += loaded.eq(0)
        m.d.sync += [zero.eq(down >= valid_rows), weights_valid.eq(reads)]
        m.submodules.unpacker = unpacker = Unpacker(config=config)
        m.d.comb += [
            unpacker.row.eq(self.wgt.data),
            unpacker.format.eq(WeightFormat[config.array.weights[0].upper()]),
            array.weights.eq(Mux(zero, 0, unpacker.weights.as_value())),
            array.weights_valid.eq(weights_valid),
        ]

        # Rows of activations.
        active = Signal()
        fresh  = Signal()       # the next run of rows is its tile's first
        starts = Signal(reset_less=True)    # the next row is
        sure   = Signal()       # what is raised is known
        event  = Signal(2)
        first_k, overwrite = Signal(), Signal(reset_less=True)  # of the next run, and of this one
        count, left = (Signal(config.count_bits, name=name, reset_less=True)
                       for name in ("count", "left"))
        lanes  = Signal(range(rows + 1), reset_less=True)
        issue  = Signal()
        moves  = Signal()
        act_row, act_outside = address(
            memory.act_rows, rings[0], Field.ACT_BASE, Field.ACT, Field.ACT_STEP, moves)
        acc_row, acc_outside = address(
            memory.acc_rows, rings[2], Field.ACC_BASE, Field.ACC, Field.ACC_STEP, moves)
        final  = Signal(reset_less=True)    # the next row is the last
        ready  = Signal()       # a row is there, and its weights are
        issued = Signal()
        outside = Signal()      # and it lies outside: known a cycle later, it goes no further
        right  = issued & ~outside & ~self.wrong
        goes   = self.go
        m.d.sync += [
            issued.eq(issue), outside.eq(issue & (act_outside | acc_outside)),
            ready.eq(active & (~starts | loaded) & ~self.wrong & ~self.halt & ~(issue & final)),
        ]
        m.d.comb += [
            issue.eq(ready & (~final | sure)),
            moves.eq(ready & ~final),
            swap.eq(issue & starts),
            self.rows_free.eq(~active & (event == 0)),
        ]
        with m.If(given(Field.COUNT)):
            m.d.sync += [count.eq(said), first_k.eq(1)]
        with m.If(given(Field.WGT)):
            m.d.sync += fresh.eq(1)
        with m.If(given(Field.START)):
            m.d.sync += [active.eq(1), sure.eq(0), left.eq(count), starts.eq(fresh),
                         final.eq(count == 1),
                         fresh.eq(0), overwrite.eq(first_k & ~accumulate)]
        with m.If(issue):
            m.d.sync += [left.eq(left - 1), final.eq(left == 2), starts.eq(0)]
            with m.If(final):
                m.d.sync += active.eq(0)
        with m.If(swap):
            m.d.sync += lanes.eq(valid_rows)

        # Into the array, and beside it to the accumulator.
        to_sums = 1 + array.latency
        to_acc = to_sums - Accumulator.AHEAD
        pipe = Pipe(m)
        pipe.start("valid", right, reset_less=False)     # a cycle later
        pipe.start("swap", swap, reset_less=False)
        pipe.start("acc_row", acc_row)
        pipe.start("overwrite", overwrite)
        m.d.comb += [
            self.busy.eq(right),
            self.active.eq(active),
            self.act.valid.eq(issue),
            self.act.addr.eq(act_row),
            array.row.eq(Cat(Mux(i < lanes, self.act.data[8 * i:8 * i + 8], 0)
                             for i in range(rows))),
            array.row_valid.eq(right),
            array.swap.eq(pipe.at("swap", 1)),
            self.acc_valid.eq(pipe.at("valid", to_acc - 1)),
            self.acc_row.eq(pipe.at("acc_row", to_acc)),
            self.acc_first.eq(pipe.at("overwrite", to_acc)),
            self.acc_sums.eq(array.sums),
        ]
        under_way = Signal(bits_for(to_acc + Accumulator.WRITE + 2))
        still = ~active & (under_way == 0)
        m.d.sync += under_way.eq(under_way + issue - self.acc_written)
        m.d.comb += [
            self.done.eq(event & still.replicate(2)),
            self.quiet.eq(still & (event == 0) & ~known & ~loaded),
        ]
        with m.If(goes):
            m.d.sync += [sure.eq(1), event.eq(self.event)]
            with m.If(self.field > 1):
                m.d.sync += first_k.eq(self.field == loops - 1)
        with m.Elif(still):
            m.d.sync += event.eq(0)
        with m.If(bad_weights | outside):
            m.d.sync += self.wrong.eq(1)
        return m
