"""The execute engine: weights one tile ahead, activation rows behind them, sums into rows."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .accumulator import Accumulator
from .arrays import array_of
from .choose import choose
from .config import CoreConfig
from .fifo import Fork, ShortQueue
from .formats import DIGIT_BITS
from .isa import COMMANDS, ErrorCode, Opcode, WeightFormat
from .narrow import index_bits, walked_bits
from .pipe import Pipe
from .record import INDEX_BITS, RECORD_BITS, Record, engine_ports, error_layout
from .scratchpad import ReadPort, Scratchpad
from .semaphore import Raiser
from .transfer import ring_fits, ring_row
from .unpack import by_format
from .walk import CommandWalker
from .weights import WeightSequencer

__all__ = ["ActivationSequencer", "ExecuteEngine"]


def row_layout(config: CoreConfig) -> data.StructLayout:
    """An activation row: where it lies, where its sums go and whether they ``overwrite``; how many
    of its ``lanes`` meet a weight, the others are fed as zeros; whether the weights are ``pairs``,
    and which ``digit`` of them, the lowest first."""
    return data.StructLayout({
        "act_row": exact_log2(config.memory.act_rows),
        "acc_row": exact_log2(config.memory.acc_rows), "overwrite": 1,
        "lanes": bits_for(config.array.rows), "pairs": 1,
        "digit": range(config.array.most_digits)})


class ActivationSequencer(wiring.Component):
    """Says which activation rows of a command are read when, and where their sums go.

    Timing: one row per cycle, also from one command to the next; the first is issued three cycles
    after the command came. A tile's first row waits until its weights are ``loaded``, and carries
    the swap.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its first row is next.
    halt : ``In(1)``
        Stop.
    loaded : ``In(1)``
        The next tile's weights have been issued.
    issue : ``Out(1)``
        A row is to be read.
    swap : ``Out(1)``
        It is the first of its tile.
    at : ``Out(row_layout)``
        Which row, and where its sums go.
    event : ``Out(2)``
        Which raises follow.
    number, index : ``Out``
        The raises' semaphores, and the command.
    event_ready : ``In(1)``
        There is room for another raise.
    starved : ``Out(1)``
        The next row waits for weights.
    idle : ``Out(1)``
        No row is left.
    error : ``Out(error_layout)``
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            "command": In(stream.Signature(RECORD_BITS)),
            "halt": In(1),
            "loaded": In(1),
            "issue": Out(1),
            "swap": Out(1),
            "at": Out(row_layout(config)),
            "event": Out(2),
            "number": Out(data.ArrayLayout(5, 2)),
            "index": Out(INDEX_BITS),
            "event_ready": In(1),
            "starved": Out(1),
            "idle": Out(1),
            "error": Out(error_layout),
        })

    def elaborate(self, platform):
        m = Module()
        memory, array = self.config.memory, self.config.array
        loops = self.config.control.execute_loops
        record = Record(COMMANDS[Opcode.EXECUTE], self.command.payload)
        act_bits, acc_bits = (walked_bits(self.config, rows)
                              for rows in (memory.act_rows, memory.acc_rows))
        act_row, acc_row = Signal(act_bits), Signal(acc_bits)
        kept = data.StructLayout({
            "act_base": act_bits, "act_ring": 4, "acc_base": acc_bits, "acc_ring": 4,
            "outside": 1, "k_last": bits_for(array.rows), "accumulate": 1,
            "format": WeightFormat, "raises": 2, "number": data.ArrayLayout(5, 2),
            "index": INDEX_BITS})
        m.submodules.walker = walker = CommandWalker(
            loops=loops, streams=(act_bits, acc_bits), kept=kept, waits=False,
            count_bits=self.config.count_bits, held=self.config.control.compact)
        command, now, row = walker.command.payload, walker.kept, walker.o.payload
        raises, number, level = record.slots("raise")
        for i in range(loops):
            m.d.comb += [
                command.walk.count[i].eq(record["counts", i]),
                command.walk.jump0[i].eq(record["act_jumps", i]),
                command.walk.jump1[i].eq(record["acc_jumps", i]),
            ]
        m.d.comb += [
            walker.command.valid.eq(self.command.valid),
            self.command.ready.eq(walker.command.ready),
            command.walk.base0.eq(record["act_base"]),
            command.walk.base1.eq(record["acc_base"]),
            command.kept.act_base.eq(record["act_base"]),
            command.kept.act_ring.eq(record["ring", 0]),
            command.kept.acc_base.eq(record["acc_base"]),
            command.kept.acc_ring.eq(record["ring", 2]),
            command.kept.outside.eq(record["act_base"][len(act_row):].any()
                                     if not walker.held else 0),
            command.kept.k_last.eq(record["k_last"]),
            command.kept.accumulate.eq(record["accumulate"]),
            command.kept.format.eq(record["format"]),
            command.kept.raises.eq(raises),
            command.walk.level.as_value().eq(level),
            command.kept.number.eq(number),
            command.kept.index.eq(record.index[:index_bits(self.config)]),
        ]

        digit  = Signal(range(array.most_digits))   # iteration of loop 2
        last_k = by_format(now.format, {name: row.last[2 + (array.digits(name) > 1)]
                                        for name in array.weights})
        several = by_format(now.format, {name: Const(array.digits(name) > 1, 1)
                                         for name in array.weights})
        m.submodules.rows = rows = ShortQueue(depth=2, shape=data.StructLayout({
            "at": self.at.shape(), "event": 2, "number": self.number.shape(),
            "index": INDEX_BITS, "starts": 1, "inside": 1}))
        new, head = rows.i.payload, rows.o.payload
        m.d.comb += [
            act_row.eq(ring_row(row.address.s0, now.act_base, now.act_ring)),
            acc_row.eq(ring_row(row.address.s1, now.acc_base, now.acc_ring)),
            rows.i.valid.eq(walker.o.valid),
            walker.o.ready.eq(rows.i.ready),
            new.at.act_row.eq(act_row),
            new.at.acc_row.eq(acc_row),
            new.at.overwrite.eq(row.first[2:loops - 1].all() & ~now.accumulate),
            new.at.lanes.eq(Mux(last_k, now.k_last, array.rows)),
            new.at.pairs.eq(by_format(now.format, {
                name: Const(array.paired(name), 1) for name in array.weights})),
            new.at.digit.eq(by_format(now.format, {
                name: digit[:exact_log2(array.digits(name))] for name in array.weights})),
            new.event.eq(now.raises & row.ends),
            new.number.eq(now.number),
            new.index.eq(now.index),
            new.starts.eq(row.first[0] & row.first[1]),
            new.inside.eq(((act_row >> exact_log2(memory.act_rows)) == 0)
                          & ((acc_row >> exact_log2(memory.acc_rows)) == 0) & ~now.outside
                          & ring_fits(self.config, now.act_ring, memory.act_rows)
                          & ring_fits(self.config, now.acc_ring, memory.acc_rows)),
        ]
        with m.If(rows.i.valid & rows.i.ready & row.last[0] & row.last[1]):
            m.d.sync += digit.eq(Mux(several & ~row.last[2], digit + 1, 0))

        m.d.comb += [
            self.issue.eq(rows.o.valid & (~head.starts | self.loaded) & head.inside & ~self.halt
                          & (self.event_ready | ~head.event.any())),
            rows.o.ready.eq(self.issue),
            self.swap.eq(self.issue & head.starts),
            self.at.eq(head.at),
            self.event.eq(head.event),
            self.number.eq(head.number),
            self.index.eq(head.index),
            self.starved.eq(rows.o.valid & head.starts & ~self.loaded),
            self.idle.eq(walker.idle & ~rows.o.valid),
            self.error.valid.eq(rows.o.valid & ~head.inside),
            self.error.code.eq(ErrorCode.SCRATCHPAD_ADDRESS),
            self.error.index.eq(head.index),
        ]
        return m


class ExecuteEngine(wiring.Component):
    """Runs execute commands: two sequencers, the array, and the way to the accumulator.

    Each sequencer goes from one command to the next as soon as it comes to its end, so that weights
    of the next command load while the rows of this one stream.

    Timing: commands follow each other as the tiles of one do: max(m, R) cycles from one tile's
    first row to the next tile's.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when the weights have come to it, and the rows to the one before.
    halt : ``In(1)``
        Stop.
    act, wgt : ``Out(ReadPort)``
        To the scratchpads; always granted.
    acc_valid, acc_row, acc_first, acc_sums : ``Out``
        To the accumulator.
    acc_written : ``In(1)``
        The accumulator has written a row.
    starved : ``Out(1)``
        The next row waits for weights.
    wait, raise_ : ``Out(stream of number)``
        To the semaphores.
    raise_index : ``Out(INDEX_BITS)``
        The command that raises.
    busy, blocked, waiting, idle : ``Out(1)``
        A row was read this cycle; the next tile waits for a semaphore; the same and nothing else
        moves; nothing is inside.
    waiting_index : ``Out(INDEX_BITS)``
        The command that waits.
    error : ``Out(error_layout)``
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        self.array = array_of(config.array)
        self.sum_bits = self.array.sum_bits + self._shift_of(config.array.most_digits - 1)
        super().__init__({
            "command": In(stream.Signature(RECORD_BITS)),
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
            "starved": Out(1),
            **engine_ports(),
        })

    def _shift_of(self, digit: int) -> int:
        """Places that the sums with a digit of the weights count more than those with the
        lowest."""
        return DIGIT_BITS[self.config.array.cell] * digit

    def elaborate(self, platform):
        m = Module()
        m.submodules.array = array = self.array
        m.submodules.weights = weights = WeightSequencer(config=self.config)
        m.submodules.rows = rows = ActivationSequencer(config=self.config)
        # From issue to the row's read, its arrival, its sums, the accumulator's address, its write.
        unpack, digits = self.config.array.unpack_latency, self.config.array.most_digits
        to_row = WeightSequencer.AFTER_SWAP
        arrived = to_row + Scratchpad.READ_LATENCY
        to_sums = arrived + unpack + array.latency
        to_acc = to_sums + (digits > 1) - Accumulator.AHEAD
        to_written = to_acc + Accumulator.WRITE
        m.submodules.raiser = raiser = Raiser(
            depth=to_written // self.config.array.rows + 4, held=self.config.control.compact)
        wiring.connect(m, weights.wait, wiring.flipped(self.wait))
        wiring.connect(m, raiser.raise_, wiring.flipped(self.raise_))
        m.d.comb += self.raise_index.eq(raiser.raise_index)
        wiring.connect(m, weights.wgt, wiring.flipped(self.wgt))

        m.submodules.fork = fork = Fork(shape=RECORD_BITS, ways=2, prompt=True)
        wiring.connect(m, wiring.flipped(self.command), fork.i)
        wiring.connect(m, fork.o[0], weights.command)
        if self.config.control.compact:
            waits = Const(0)
            wiring.connect(m, fork.o[1], rows.command)
        else:
            # One command waits before the rows, so that the weights can be those of the next but
            # one.
            m.submodules.held = held = ShortQueue(shape=RECORD_BITS, depth=1)
            waits = held.o.valid
            wiring.connect(m, fork.o[1], held.i)
            wiring.connect(m, held.o, rows.command)
        m.d.comb += [
            weights.halt.eq(self.halt),
            rows.halt.eq(self.halt),
            weights.swap.eq(rows.swap),
            rows.loaded.eq(weights.loaded),
            rows.event_ready.eq(raiser.ready),
            raiser.event.eq(Mux(rows.issue, rows.event, 0)),
            raiser.number.eq(rows.number),
            raiser.index.eq(rows.index),
        ]

        # To the scratchpad, into the array, and beside it to the accumulator.
        pipe = Pipe(m)
        pipe.start("valid", rows.issue, reset_less=False)
        pipe.start("swap", rows.swap, reset_less=False)
        pipe.start("event", raiser.event.any(), reset_less=False)
        for name in rows.at.shape().members:
            pipe.start(name, rows.at[name])
        m.d.comb += [
            self.act.valid.eq(pipe.at("valid", to_row)),
            self.act.addr.eq(pipe.at("act_row", to_row)),
        ]
        # Lanes beyond the last weight hold anything; times zero, that is no number in a
        # simulator of four values, and toggles for nothing in silicon.
        lanes = pipe.at("lanes", arrived)
        row = Cat(Mux(i < lanes, self.act.data[8 * i:8 * i + 8], 0)
                  for i in range(self.config.array.rows))
        domain = m.d.sync if unpack else m.d.comb
        domain += [
            array.row.eq(row),
            array.row_valid.eq(pipe.at("valid", arrived)),
            array.swap.eq(pipe.at("swap", arrived)),
        ]
        m.d.comb += [
            array.weights.eq(weights.weights),
            array.weights_valid.eq(weights.weights_valid),
        ]
        if self.config.array.pairs:
            domain += array.row_pairs.eq(pipe.at("pairs", arrived))
            m.d.comb += array.weights_pairs.eq(weights.weights_pairs)
        if digits == 1:
            m.d.comb += self.acc_sums.eq(array.sums)
        else:
            for c, total in enumerate(array.sums):
                m.d.sync += self.acc_sums[c].eq(choose(
                    [total << self._shift_of(digit) for digit in range(digits)],
                    pipe.at("digit", to_sums)))
        m.d.comb += [
            self.acc_valid.eq(pipe.at("valid", to_acc)),
            self.acc_row.eq(pipe.at("acc_row", to_acc)),
            self.acc_first.eq(pipe.at("overwrite", to_acc)),
            raiser.due.eq(pipe.at("event", to_written)),
        ]

        under_way = Signal(bits_for(to_written + 2))
        m.d.sync += under_way.eq(under_way + rows.issue - self.acc_written)
        still = (under_way == 0) & ~raiser.pending
        no_rows = rows.idle & ~waits
        m.d.comb += [
            self.busy.eq(rows.issue),
            self.blocked.eq(weights.waiting),
            self.starved.eq(rows.starved),
            self.waiting.eq(weights.waiting & (no_rows | rows.starved) & still),
            self.waiting_index.eq(weights.waiting_index),
            self.idle.eq(~self.command.valid & weights.idle & no_rows & still),
            self.error.eq(Mux(weights.error.valid, weights.error, rows.error)),
        ]
        return m
