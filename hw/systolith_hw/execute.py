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
from .record import INDEX_BITS, RECORD_BITS, Record, engine_ports, error_layout
from .scratchpad import ReadPort, Scratchpad
from .semaphore import Raiser, at_level
from .transfer import ring_row
from .unpack import by_format
from .walk import CommandWalker
from .weights import ROW_BITS, WeightSequencer

__all__ = ["ActivationSequencer", "ExecuteEngine"]


class ActivationSequencer(wiring.Component):
    """Reads the activation rows of a command and says where their sums go.

    Timing: one row per cycle, also from one command to the next; the first is read two cycles
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
    act : ``Out(ReadPort)``
        To the activation scratchpad; always granted.
    issue : ``Out(1)``
        A row is read; it comes ``Scratchpad.READ_LATENCY`` cycles later.
    swap : ``Out(1)``
        It is the first of its tile.
    lanes : ``Out(range(rows + 1))``
        How many of its activations meet a weight; the others are fed as zeros.
    pairs, digit : ``Out``
        Whether the weights are pairs; which digit of them, the lowest first.
    acc_row, overwrite, event : ``Out``
        Where its sums go, whether they overwrite, and which raises follow.
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
            "act": Out(ReadPort(addr_bits=exact_log2(config.memory.act_rows),
                                width=8 * config.act_row_bytes)),
            "issue": Out(1),
            "swap": Out(1),
            "lanes": Out(range(config.array.rows + 1)),
            "pairs": Out(1),
            "digit": Out(range(config.array.most_digits)),
            "acc_row": Out(range(config.memory.acc_rows)),
            "overwrite": Out(1),
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
        kept = data.StructLayout({
            "act_base": ROW_BITS, "act_ring": 4, "acc_base": ROW_BITS, "acc_ring": 4,
            "outside": 1, "k_last": self.lanes.shape(), "accumulate": 1,
            "format": WeightFormat, "raises": 2,
            "level": data.ArrayLayout(4, 2), "number": data.ArrayLayout(5, 2),
            "index": INDEX_BITS})
        m.submodules.walker = walker = CommandWalker(
            loops=loops, streams=(ROW_BITS, ROW_BITS), kept=kept, waits=False)
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
            command.kept.outside.eq(record["act_base"][ROW_BITS:].any()),
            command.kept.k_last.eq(record["k_last"]),
            command.kept.accumulate.eq(record["accumulate"]),
            command.kept.format.eq(record["format"]),
            command.kept.raises.eq(raises),
            command.kept.level.eq(level),
            command.kept.number.eq(number),
            command.kept.index.eq(record.index),
        ]

        digit  = Signal(range(array.most_digits))   # iteration of loop 2
        last_k = by_format(now.format, {name: row.last[2 + (array.digits(name) > 1)]
                                        for name in array.weights})
        several = by_format(now.format, {name: Const(array.digits(name) > 1, 1)
                                         for name in array.weights})
        with m.If(self.issue & row.last[0] & row.last[1]):
            m.d.sync += digit.eq(Mux(several & ~row.last[2], digit + 1, 0))

        act_row = Signal(ROW_BITS)
        acc_row = Signal(ROW_BITS)
        tile_start = Signal()
        allowed = Signal()
        m.d.comb += [
            act_row.eq(ring_row(row.address.s0, now.act_base, now.act_ring)),
            acc_row.eq(ring_row(row.address.s1, now.acc_base, now.acc_ring)),
            allowed.eq(((act_row >> exact_log2(memory.act_rows)) == 0)
                       & ((acc_row >> exact_log2(memory.acc_rows)) == 0) & ~now.outside),
            tile_start.eq(row.first[0] & row.first[1]),
            self.event.eq(Cat(now.raises[slot] & at_level(row.last, now.level[slot], loops)
                              for slot in range(2))),
            self.number.eq(now.number),
            self.index.eq(now.index),
            self.issue.eq(walker.o.valid & (~tile_start | self.loaded) & allowed & ~self.halt
                          & (self.event_ready | ~self.event.any())),
            walker.o.ready.eq(self.issue),
            self.swap.eq(self.issue & tile_start),
            self.lanes.eq(Mux(last_k, now.k_last, array.rows)),
            self.pairs.eq(by_format(now.format, {
                name: Const(array.paired(name), 1) for name in array.weights})),
            self.digit.eq(by_format(now.format, {
                name: digit[:exact_log2(array.digits(name))] for name in array.weights})),
            self.act.valid.eq(self.issue),
            self.act.addr.eq(act_row),
            self.acc_row.eq(acc_row),
            self.overwrite.eq(row.first[2:loops - 1].all() & ~now.accumulate),
            self.starved.eq(walker.o.valid & tile_start & ~self.loaded),
            self.idle.eq(walker.idle),
            self.error.valid.eq(walker.o.valid & ~allowed),
            self.error.code.eq(ErrorCode.SCRATCHPAD_ADDRESS),
            self.error.index.eq(now.index),
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
        # From issue to the accumulator's address, and on until the row is written.
        unpack, digits = self.config.array.unpack_latency, self.config.array.most_digits
        to_sums = Scratchpad.READ_LATENCY + unpack + array.latency
        to_acc = to_sums + (digits > 1) - Accumulator.AHEAD
        to_written = to_acc + 3
        m.submodules.raiser = raiser = Raiser(depth=to_written // self.config.array.rows + 4)
        wiring.connect(m, weights.wait, wiring.flipped(self.wait))
        wiring.connect(m, raiser.raise_, wiring.flipped(self.raise_))
        m.d.comb += self.raise_index.eq(raiser.raise_index)
        wiring.connect(m, weights.wgt, wiring.flipped(self.wgt))
        wiring.connect(m, rows.act, wiring.flipped(self.act))

        # One command waits before the rows, so that the weights can be those of the next but one.
        m.submodules.fork = fork = Fork(shape=RECORD_BITS, ways=2)
        m.submodules.held = held = ShortQueue(shape=RECORD_BITS, depth=1)
        wiring.connect(m, wiring.flipped(self.command), fork.i)
        wiring.connect(m, fork.o[0], weights.command)
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

        # Into the array, and beside it to the accumulator.
        read = data.StructLayout({"valid": 1, "swap": 1, "lanes": rows.lanes.shape(), "pairs": 1})
        entering = Signal(read)
        m.d.comb += [
            entering.valid.eq(rows.issue),
            entering.swap.eq(rows.swap),
            entering.lanes.eq(rows.lanes),
            entering.pairs.eq(rows.pairs),
        ]
        for stage in range(Scratchpad.READ_LATENCY):
            delayed = Signal(read, name=f"entering{stage}")
            m.d.sync += delayed.eq(entering)
            entering = delayed
        # Lanes beyond the last weight hold anything; times zero, that is no number in a
        # simulator of four values, and toggles for nothing in silicon.
        row = Cat(Mux(i < entering.lanes, self.act.data[8 * i:8 * i + 8], 0)
                  for i in range(self.config.array.rows))
        domain = m.d.sync if unpack else m.d.comb
        domain += [
            array.row.eq(row),
            array.row_valid.eq(entering.valid),
            array.swap.eq(entering.swap),
        ]
        m.d.comb += [
            array.weights.eq(weights.weights),
            array.weights_valid.eq(weights.weights_valid),
        ]
        if self.config.array.pairs:
            domain += array.row_pairs.eq(entering.pairs)
            m.d.comb += array.weights_pairs.eq(weights.weights_pairs)
        if digits == 1:
            m.d.comb += self.acc_sums.eq(array.sums)
        else:
            bits = len(rows.digit)
            line = Signal(bits * to_sums, reset_less=True)
            m.d.sync += line.eq(Cat(rows.digit, line))
            for c, total in enumerate(array.sums):
                m.d.sync += self.acc_sums[c].eq(choose(
                    [total << self._shift_of(digit) for digit in range(digits)], line[-bits:]))
        tag = data.StructLayout({"row": exact_log2(self.config.memory.acc_rows), "overwrite": 1})
        place = Signal(tag)
        valid, event = rows.issue, raiser.event.any()
        m.d.comb += [place.row.eq(rows.acc_row), place.overwrite.eq(rows.overwrite)]
        for stage in range(to_written):
            next_event = Signal(name=f"event{stage}")
            m.d.sync += next_event.eq(event)
            event = next_event
            if stage < to_acc:
                next_place = Signal(tag, name=f"place{stage}", reset_less=True)
                next_valid = Signal(name=f"place_valid{stage}")
                m.d.sync += [next_place.eq(place), next_valid.eq(valid)]
                place, valid = next_place, next_valid
        m.d.comb += [
            self.acc_valid.eq(valid),
            self.acc_row.eq(place.row),
            self.acc_first.eq(place.overwrite),
            raiser.due.eq(event),
        ]

        under_way = Signal(bits_for(to_written + 2))
        m.d.sync += under_way.eq(under_way + rows.issue - self.acc_written)
        still = (under_way == 0) & ~raiser.pending
        no_rows = rows.idle & ~held.o.valid
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
