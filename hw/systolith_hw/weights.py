"""The weight sequencer: tiles of weights, one ahead of the activations."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .config import CoreConfig
from .fifo import ShortQueue
from .isa import COMMANDS, ErrorCode, Opcode, WeightFormat
from .narrow import index_bits, walked_bits
from .pipe import Pipe
from .record import INDEX_BITS, RECORD_BITS, Record, error_layout
from .scratchpad import ReadPort, Scratchpad
from .transfer import ring_fits, ring_row
from .unpack import Unpacker, by_format
from .walk import CommandWalker

__all__ = ["WeightSequencer", "weight_row_bits"]


def weight_row_bits(config: CoreConfig) -> int:
    """Bits of a walked weight row; where the next tile begins may be the row behind the last."""
    return walked_bits(config, 2 * config.memory.wgt_rows)


class WeightSequencer(wiring.Component):
    """Reads the weight tiles of a command, one row per cycle, as early as the array allows.

    A tile's rows go last row first; rows beyond the valid ones are zeros. The tile after the one
    in the shadow registers begins with the row that carries the swap, also where it is another
    command's. Where weights are wider than a cell, the same tile comes once for each digit.

    Two tiles may have their tokens and wait.

    Timing: the first row is read four cycles after the command came, and ``AFTER_SWAP`` cycles
    after a ``swap`` at the earliest. ``weights`` follow their read by ``Scratchpad.READ_LATENCY +
    array.unpack_latency``.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its first tile is next.
    halt : ``In(1)``
        Stop.
    swap : ``In(1)``
        A tile's first activation row is issued.
    loaded : ``Out(1)``
        All weights of the next tile are read by the next cycle.
    wgt : ``Out(ReadPort)``
        To the weight scratchpad; always granted.
    weights, weights_valid, weights_pairs : ``Out``
        To the array.
    wait : ``Out(stream of number)``
        To the semaphores.
    waiting, waiting_index : ``Out``
        The next tile waits for a semaphore; its command.
    idle : ``Out(1)``
        No tile is left.
    error : ``Out(error_layout)``
    """
    AFTER_SWAP = 2  # cycles from a swap to the read of the first row of the tile after it

    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            "command": In(stream.Signature(RECORD_BITS)),
            "halt": In(1),
            "swap": In(1),
            "loaded": Out(1),
            "wgt": Out(ReadPort(addr_bits=exact_log2(config.memory.wgt_rows),
                                width=8 * config.wgt_row_bytes)),
            "weights": Out(ArrayLayout(signed(config.array.weight_bits), config.array.cols)),
            "weights_valid": Out(1),
            "weights_pairs": Out(1),
            "wait": Out(stream.Signature(5)),
            "waiting": Out(1),
            "waiting_index": Out(INDEX_BITS),
            "idle": Out(1),
            "error": Out(error_layout),
        })

    def elaborate(self, platform):
        m = Module()
        array, memory = self.config.array, self.config.memory
        rows = array.rows
        row_bits = weight_row_bits(self.config)
        loops = self.config.control.execute_loops - 2  # the loops over tiles
        shift = {name: exact_log2(self.config.weight_parts(name)) for name in array.weights}

        def filled(code, tile_rows):
            """Weight rows that fill so many of the array's, by format."""
            return by_format(code, {name: tile_rows + (1 << shift[name]) - 1 >> shift[name]
                                    for name in array.weights})

        # A tile: first weight row, and what else its rows need.
        record = Record(COMMANDS[Opcode.EXECUTE], self.command.payload)
        kept = data.StructLayout({
            "k_last": bits_for(rows), "k_filled": bits_for(rows), "rewound": row_bits,
            "ring": 4, "format": WeightFormat, "index": index_bits(self.config)})
        m.submodules.walker = walker = CommandWalker(
            loops=loops, streams=(), kept=kept, count_bits=self.config.count_bits,
            held=self.config.control.compact)
        wiring.connect(m, walker.wait, wiring.flipped(self.wait))
        command, now, tile = walker.command.payload, walker.kept, walker.o.payload
        valid, number, level = record.slots("wait")
        k_filled = filled(record["format"], record["k_last"][:bits_for(rows)])
        m.d.comb += [
            walker.command.valid.eq(self.command.valid),
            self.command.ready.eq(walker.command.ready),
            *(command.walk.count[i].eq(record["counts", i + 2]) for i in range(loops)),
            command.waits.valid.eq(valid),
            command.waits.number.eq(number),
            # Relative to loop 2; once per command, 15, stays beyond all loops.
            *(command.walk.level[slot].eq(level[4 * slot:4 * slot + 4] - 2)
              for slot in range(2)),
            command.kept.k_last.eq(record["k_last"]),
            command.kept.k_filled.eq(k_filled),
            command.kept.rewound.eq(record["wgt_rewind"] + k_filled),
            command.kept.ring.eq(record["ring", 1]),
            command.kept.format.eq(record["format"]),
            command.kept.index.eq(record.index[:index_bits(self.config)]),
        ]

        def by(code, value):
            """``value`` of the name of the format."""
            return by_format(code, {name: value(name) for name in array.weights})

        # Loop 2 are the digits of weights that have several, and the loop after it K.
        last_digit = by(now.format,
                        lambda name: tile.last[0] if array.digits(name) > 1 else Const(1, 1))
        last_k = by(now.format, lambda name: tile.last[array.digits(name) > 1])
        digit = Signal(range(array.most_digits))
        base  = Signal(row_bits, reset_less=True)
        m.submodules.tiles = tiles = ShortQueue(depth=2, shape=data.StructLayout({
            "base": row_bits, "rows": bits_for(rows), "ring": 4, "format": WeightFormat,
            "digit": len(digit), "index": index_bits(self.config)}))
        new, head = tiles.i.payload, tiles.o.payload
        enter = Signal()
        m.d.comb += [
            enter.eq(tiles.i.valid & tiles.i.ready),
            tiles.i.valid.eq(walker.o.valid & walker.open),
            walker.o.ready.eq(walker.open & tiles.i.ready),
            walker.pass_.eq(enter),
            new.base.eq(base),
            new.rows.eq(Mux(last_k, now.k_last, rows)),
            new.ring.eq(now.ring),
            new.format.eq(now.format),
            new.digit.eq(digit),
            new.index.eq(now.index),
            self.waiting.eq(walker.o.valid & ~walker.open & ~tiles.o.valid),
            self.waiting_index.eq(now.index),
            self.idle.eq(walker.idle & ~tiles.o.valid),
        ]
        ahead = Mux(tile.last[:loops - 1].all(), now.rewound,
                    Mux(last_k, now.k_filled, filled(now.format, rows)))
        with m.If(walker.begin):
            m.d.sync += base.eq(record["wgt_base"])
        with m.Elif(enter):
            m.d.sync += base.eq(ring_row((base + Mux(last_digit, ahead, 0))[:row_bits], base,
                                         now.ring))
        with m.If(enter):
            m.d.sync += digit.eq(Mux(last_digit, 0, digit + 1))

        # Its rows, the last one first.
        inside = Signal()  # a tile has begun
        down   = Signal(range(rows), init=rows - 1)  # array row this cycle's weights are for
        final  = Signal(init=rows == 1)              # it is row 0
        loaded = Signal()
        swapped = Signal()
        step   = Signal()
        end    = Signal()
        row    = Signal(row_bits)
        m.d.comb += [
            step.eq((inside | (tiles.o.valid & (~loaded | swapped))) & ~self.halt),
            end.eq(step & final),
            tiles.o.ready.eq(end),
            self.loaded.eq(end | (loaded & ~swapped)),
            row.eq(head.base + by(head.format, lambda name: down >> shift[name])),
        ]
        m.d.sync += swapped.eq(self.swap)
        with m.If(step):
            m.d.sync += [
                inside.eq(~final),
                final.eq(down == 1 if rows > 1 else 1),
                down.eq(Mux(final, rows - 1, down - 1)),
            ]
        with m.If(end):
            m.d.sync += loaded.eq(1)
        with m.Elif(swapped):
            m.d.sync += loaded.eq(0)

        # The read, and beside it what becomes of the row.
        real    = Signal()      # it is read, not zero
        wrapped = Signal(row_bits, reset_less=True)
        misfit  = Signal(reset_less=True)   # its ring is larger than the memory
        index   = Signal(index_bits(self.config), reset_less=True)
        m.d.sync += [
            misfit.eq(~ring_fits(self.config, head.ring, memory.wgt_rows)),
            real.eq(step & (down < head.rows)),
            wrapped.eq(ring_row(row, head.base, head.ring)),
            index.eq(head.index),
        ]
        m.d.comb += [
            self.wgt.valid.eq(real),
            self.wgt.addr.eq(wrapped),
            self.error.valid.eq(real & ((wrapped[exact_log2(memory.wgt_rows):] != 0) | misfit)),
            self.error.code.eq(ErrorCode.SCRATCHPAD_ADDRESS),
            self.error.index.eq(index),
        ]
        pipe, arrived = Pipe(m), 1 + Scratchpad.READ_LATENCY
        pipe.start("valid", step, reset_less=False)
        pipe.start("zero", down >= head.rows)
        pipe.start("format", head.format)
        pipe.start("part", by(head.format, lambda name: down[:shift[name]]))
        pipe.start("digit", head.digit)
        m.submodules.unpacker = unpacker = Unpacker(config=self.config)
        m.d.comb += [
            unpacker.row.eq(self.wgt.data),
            *(getattr(unpacker, name).eq(pipe.at(name, arrived))
              for name in ("format", "part", "digit")),
        ]
        domain = m.d.sync if array.unpack_latency else m.d.comb
        domain += [
            self.weights.eq(Mux(pipe.at("zero", arrived), 0, unpacker.weights.as_value())),
            self.weights_valid.eq(pipe.at("valid", arrived)),
            self.weights_pairs.eq(unpacker.pairs),
        ]
        return m
