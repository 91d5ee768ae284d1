"""The weight sequencer: tiles of weights, one ahead of the activations."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .config import CoreConfig
from .isa import COMMANDS, ErrorCode, Opcode, WeightFormat
from .record import INDEX_BITS, RECORD_BITS, Record, error_layout
from .scratchpad import ReadPort, Scratchpad
from .transfer import ring_row
from .unpack import Unpacker, by_format
from .walk import CommandWalker

__all__ = ["ROW_BITS", "WeightSequencer"]

ROW_BITS = 16   # of a scratchpad row's number


class WeightSequencer(wiring.Component):
    """Reads the weight tiles of a command, one row per cycle, as early as the array allows.

    A tile's rows go last row first; rows beyond the valid ones are zeros. The tile after the one
    in the shadow registers begins in the very cycle of the swap, also where it is another
    command's. Where weights are wider than a cell, the same tile comes once for each digit.

    Timing: the first row is read two cycles after the command came; ``weights`` follow their read
    by ``Scratchpad.READ_LATENCY + array.unpack_latency``.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its first tile is next.
    halt : ``In(1)``
        Stop.
    swap : ``In(1)``
        A tile's first activation row is issued.
    loaded : ``Out(1)``
        All weights of the next tile have been issued.
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
        array = self.config.array
        rows = array.rows
        loops = self.config.control.execute_loops - 2  # the loops over tiles
        record = Record(COMMANDS[Opcode.EXECUTE], self.command.payload)
        kept = data.StructLayout({
            "k_last": bits_for(rows), "wgt_base": ROW_BITS, "wgt_rewind": ROW_BITS, "ring": 4,
            "format": WeightFormat, "index": INDEX_BITS})
        m.submodules.walker = walker = CommandWalker(loops=loops, streams=(), kept=kept)
        wiring.connect(m, walker.wait, wiring.flipped(self.wait))
        command, now, tile = walker.command.payload, walker.kept, walker.o.payload
        valid, number, level = record.slots("wait")
        m.d.comb += [
            walker.command.valid.eq(self.command.valid),
            self.command.ready.eq(walker.command.ready),
            *(command.walk.count[i].eq(record["counts", i + 2]) for i in range(loops)),
            command.waits.valid.eq(valid),
            command.waits.number.eq(number),
            # Relative to loop 2; once per command, 15, stays beyond all loops.
            *(command.waits.level[slot].eq(level[4 * slot:4 * slot + 4] - 2)
              for slot in range(2)),
            command.kept.k_last.eq(record["k_last"]),
            command.kept.wgt_base.eq(record["wgt_base"]),
            command.kept.wgt_rewind.eq(record["wgt_rewind"]),
            command.kept.ring.eq(record["ring", 1]),
            command.kept.format.eq(record["format"]),
            command.kept.index.eq(record.index),
        ]

        def by(value):
            """``value`` of the name of the command's format."""
            return by_format(now.format, {name: value(name) for name in array.weights})

        # Loop 2 are the digits of weights that have several, and the loop after it K.
        digit = Signal(range(array.most_digits))
        last_digit = by(lambda name: tile.last[0] if array.digits(name) > 1 else Const(1, 1))
        last_k = by(lambda name: tile.last[array.digits(name) > 1])
        shift = {name: exact_log2(self.config.weight_parts(name)) for name in array.weights}
        parts = max(shift.values())     # of the bits of ``down``, those that choose a part

        inside = Signal()  # a tile has begun
        down   = Signal(range(rows), init=rows - 1)  # array row this cycle's weights are for
        base   = Signal(ROW_BITS, reset_less=True)   # weight row 0 of the tile
        tile_rows = Signal(range(rows + 1))
        wgt_rows = Signal(range(rows + 1))  # that these fill
        wgt_row = Signal(ROW_BITS)
        wrapped = Signal(ROW_BITS)
        begin  = Signal()
        step   = Signal()
        real   = Signal()  # the row is read, not zero
        end    = Signal()
        bad    = Signal()
        m.d.comb += [
            tile_rows.eq(Mux(last_k, now.k_last, rows)),
            wgt_rows.eq(by(lambda name: tile_rows + (1 << shift[name]) - 1 >> shift[name])),
            real.eq(down < tile_rows),
            wgt_row.eq(base + by(lambda name: down >> shift[name])),
            wrapped.eq(ring_row(wgt_row, now.wgt_base, now.ring)),
            bad.eq(real & (wrapped[exact_log2(self.config.memory.wgt_rows):] != 0)),
            begin.eq(walker.o.valid & ~inside & walker.open & (~self.loaded | self.swap)),
            step.eq((begin | inside) & ~bad & ~self.halt),
            end.eq(step & (down == 0)),
            walker.pass_.eq(step & ~inside),
            walker.o.ready.eq(end),
            self.wgt.valid.eq(step & real),
            self.wgt.addr.eq(wrapped),
            self.waiting.eq(walker.o.valid & ~inside & ~walker.open),
            self.waiting_index.eq(now.index),
            self.idle.eq(walker.idle),
            self.error.valid.eq((begin | inside) & bad),
            self.error.code.eq(ErrorCode.SCRATCHPAD_ADDRESS),
            self.error.index.eq(now.index),
        ]
        with m.If(walker.begin):
            m.d.sync += base.eq(record["wgt_base"])
        with m.Elif(end):
            rewind = Mux(tile.last[:loops - 1].all(), now.wgt_rewind, 0)
            m.d.sync += base.eq(base + Mux(last_digit, wgt_rows + rewind, 0))
        with m.If(step):
            m.d.sync += [
                inside.eq(down != 0),
                down.eq(Mux(down == 0, rows - 1, down - 1)),
            ]
        with m.If(end):
            m.d.sync += [self.loaded.eq(1), digit.eq(Mux(last_digit, 0, digit + 1))]
        with m.Elif(self.swap):
            m.d.sync += self.loaded.eq(0)

        # Beside the read, and the weights that come of it.
        read = data.StructLayout({"valid": 1, "zero": 1, "format": WeightFormat, "part": parts,
                                  "digit": len(digit)})
        beside = Signal(read)
        m.d.comb += [
            beside.valid.eq(step),
            beside.zero.eq(~real),
            beside.format.eq(now.format),
            beside.part.eq(by(lambda name: down[:shift[name]])),
            beside.digit.eq(digit),
        ]
        for stage in range(Scratchpad.READ_LATENCY):
            delayed = Signal(read, name=f"beside{stage}")
            m.d.sync += delayed.eq(beside)
            beside = delayed
        m.submodules.unpacker = unpacker = Unpacker(config=self.config)
        m.d.comb += [
            unpacker.row.eq(self.wgt.data),
            unpacker.format.eq(beside.format),
            unpacker.part.eq(beside.part),
            unpacker.digit.eq(beside.digit),
        ]
        domain = m.d.sync if array.unpack_latency else m.d.comb
        domain += [
            self.weights.eq(Mux(beside.zero, 0, unpacker.weights.as_value())),
            self.weights_valid.eq(beside.valid),
            self.weights_pairs.eq(unpacker.pairs),
        ]
        return m
