"""The load engine: system memory to scratchpads."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import word_layout
from .bursts import BurstSplitter, burst_layout
from .cells import place
from .config import CoreConfig
from .fifo import Fifo, ShortQueue
from .isa import COMMANDS, ErrorCode, LoadMode, Opcode
from .record import INDEX_BITS, RECORD_BITS, Record, engine_ports
from .scratchpad import WritePort
from .semaphore import Raiser
from .transfer import ROW_BITS, RunWalker, lane_bits, pad_shapes, ring_row, rotate_bytes

__all__ = ["LoadEngine"]


class LoadEngine(wiring.Component):
    """Walks a command's runs, asks the bus for their words and writes them into scratchpad rows.

    The front (addresses) runs ahead of the back (data) by as many words as the bus may have under
    way, also into the next command. The back writes as many bytes per cycle as come from one bus
    word and go to one row.

    Timing: the first burst is offered five cycles after the command came.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its last run has been walked.
    window_bytes : ``In(32)``
        Size of the window.
    halt : ``In(1)``
        Stop.
    bursts : ``Out(stream)``
        To the bus.
    words : ``In(stream of word_layout)``
        From the bus.
    act, wgt, par : ``Out(WritePort)``
        To the scratchpads.
    wait, raise_ : ``Out(stream of number)``
        To the semaphores.
    raise_index : ``Out(INDEX_BITS)``
        The command that raises.
    busy, blocked, waiting, idle : ``Out(1)``
        Bytes were written this cycle; the next waits for a
        semaphore; the same and nothing else moves; nothing is
        inside.
    error : ``Out(error_layout)``
    """
    RUNS = 32  # runs between front and back

    def __init__(self, *, config: CoreConfig):
        self.config = config
        ports = {memory.name.lower(): Out(WritePort(addr_bits=exact_log2(rows),
                                                    width=8 * row_bytes))
                 for memory, (rows, row_bytes, _) in pad_shapes(config).items()}
        super().__init__({
            "command": In(stream.Signature(RECORD_BITS)),
            "window_bytes": In(32),
            "halt": In(1),
            "bursts": Out(stream.Signature(burst_layout(config.bus.data_bytes))),
            "words": In(stream.Signature(word_layout(config.bus))),
            **ports,
            **engine_ports(),
        })

    def elaborate(self, platform):
        m = Module()
        bus_bytes = self.config.bus.data_bytes
        offset_bits = exact_log2(bus_bytes)
        lane_width = lane_bits(self.config)
        record = Record(COMMANDS[Opcode.LOAD], self.command.payload)
        settings = data.StructLayout({
            "row_bytes": lane_width, "run_bytes": 16, "row_step": ROW_BITS, "memory": 2, "fill": 8,
            "filling": 1, "ring": 4, "base": ROW_BITS, "number": data.ArrayLayout(5, 2),
            "index": INDEX_BITS})
        run_layout = data.StructLayout({
            "row": ROW_BITS, "lane": lane_width, "offset": offset_bits, "event": 2, "last": 1})
        m.submodules.walker = walker = RunWalker(config=self.config, opcode=Opcode.LOAD)
        m.submodules.splitter = splitter = BurstSplitter(
            data_bytes=bus_bytes, max_burst=self.config.bus.max_burst)
        m.submodules.runs = runs = Fifo(shape=run_layout, depth=self.RUNS)
        m.submodules.settings = queue = ShortQueue(shape=settings, depth=2)
        m.submodules.raiser = raiser = Raiser()
        wiring.connect(m, walker.wait, wiring.flipped(self.wait))
        wiring.connect(m, raiser.raise_, wiring.flipped(self.raise_))
        m.d.comb += self.raise_index.eq(raiser.raise_index)
        wiring.connect(m, splitter.burst, wiring.flipped(self.bursts))

        # Front: every run goes to the splitter and, with its place in the scratchpad, to the back.
        walking = Signal()
        run = walker.run.payload
        filling = record["mode"] == LoadMode.FILL
        pitches = Array([0] * 4)
        for memory, (_, _, pitch) in pad_shapes(self.config).items():
            pitches[memory] = (record["pad_base"] >> exact_log2(pitch))[:ROW_BITS]
        m.d.comb += [
            walker.command.eq(self.command.payload),
            walker.window_bytes.eq(self.window_bytes),
            walker.start.eq(self.command.valid & ~walking & queue.i.ready & ~self.halt),
            queue.i.valid.eq(walker.start),
            queue.i.payload.row_bytes.eq(record["row_bytes"]),
            queue.i.payload.run_bytes.eq(record["run_bytes"]),
            queue.i.payload.row_step.eq(record["row_step"]),
            queue.i.payload.memory.eq(record["memory"]),
            queue.i.payload.fill.eq(record["fill"]),
            queue.i.payload.filling.eq(filling),
            queue.i.payload.ring.eq(record["ring", 0]),
            queue.i.payload.base.eq(pitches[record["memory"][:2]]),
            queue.i.payload.number.eq(record.slots("raise")[1]),
            queue.i.payload.index.eq(record.index),
            walker.run.ready.eq(runs.i.ready & (splitter.run.ready | filling) & ~self.halt),
            runs.i.valid.eq(walker.run.valid & walker.run.ready),
            runs.i.payload.row.eq(run.row),
            runs.i.payload.lane.eq(run.lane),
            runs.i.payload.offset.eq(run.address[:offset_bits]),
            runs.i.payload.event.eq(run.event),
            runs.i.payload.last.eq(run.last),
            splitter.run.valid.eq(walker.run.valid & walker.run.ready & ~filling),
            splitter.run.payload.address.eq(run.address),
            splitter.run.payload.bytes.eq(record["run_bytes"]),
            self.command.ready.eq(walker.walked),
        ]
        with m.If(walker.start):
            m.d.sync += walking.eq(1)
        with m.Elif(walker.walked):
            m.d.sync += walking.eq(0)

        # Back: through the rows of a run, at most to the end of the bus word each cycle.
        now    = queue.o.payload
        inside = Signal()
        row    = Signal(ROW_BITS, reset_less=True)
        first_lane = Signal(lane_width, reset_less=True)
        lane   = Signal(lane_width, reset_less=True)
        offset = Signal(offset_bits, reset_less=True)
        row_left = Signal(lane_width, reset_less=True)  # bytes still to come in this row
        rest   = Signal(16, reset_less=True)           # bytes of the run in later rows
        event  = Signal(2, reset_less=True)
        last   = Signal(reset_less=True)
        word_left = Signal(offset_bits + 1)
        count  = Signal(lane_width)
        row_end, word_end, run_end = Signal(), Signal(), Signal()
        step, accept = Signal(), Signal()
        next_row = Signal(lane_width)
        m.d.comb += [
            word_left.eq(bus_bytes - offset),
            count.eq(Mux(now.filling | (row_left <= word_left), row_left, word_left)),
            row_end.eq(now.filling | (row_left <= word_left)),
            run_end.eq(row_end & (rest == 0)),
            word_end.eq(~now.filling & (run_end | (word_left <= row_left))),
            self.words.ready.eq(step & word_end),
            accept.eq(runs.o.valid & queue.o.valid & (~inside | (step & run_end & ~last))),
            runs.o.ready.eq(accept),
            queue.o.ready.eq(step & run_end & last),
            next_row.eq(Mux(rest < now.row_bytes, rest, now.row_bytes)),
        ]
        with m.If(step):
            m.d.sync += [
                offset.eq(offset + count),
                lane.eq(lane + count),
                row_left.eq(row_left - count),
            ]
            with m.If(row_end):
                m.d.sync += [
                    row.eq(row + now.row_step),
                    lane.eq(first_lane),
                    row_left.eq(next_row),
                    rest.eq(rest - next_row),
                ]
            with m.If(run_end):
                m.d.sync += inside.eq(0)
        with m.If(accept):
            first_row = Mux(now.run_bytes < now.row_bytes, now.run_bytes, now.row_bytes)
            m.d.sync += [
                inside.eq(1),
                row.eq(runs.o.payload.row),
                first_lane.eq(runs.o.payload.lane),
                lane.eq(runs.o.payload.lane),
                offset.eq(runs.o.payload.offset),
                row_left.eq(first_row),
                rest.eq(now.run_bytes - first_row),
                event.eq(runs.o.payload.event),
                last.eq(runs.o.payload.last),
            ]

        # First stage: bytes turned to their lanes. Second stage: enables, and the write.
        turn_layout = data.StructLayout({
            "data": self.config.bus.data_bits, "row": ROW_BITS, "lane": lane_width,
            "end": lane_width, "memory": 2, "event": 2, "number": data.ArrayLayout(5, 2),
            "index": INDEX_BITS})
        turned = Signal(turn_layout, reset_less=True)
        turned_valid = Signal()
        turn_free = Signal()
        write_free = Signal()
        wrapped = ring_row(row, now.base, now.ring)
        source = Mux(now.filling, now.fill.replicate(bus_bytes), self.words.payload.data)
        bad_word = Signal()
        bad_row = Signal()
        m.d.comb += [
            turn_free.eq(~turned_valid | write_free),
            bad_word.eq(inside & ~now.filling & self.words.valid & self.words.payload.error),
            step.eq(inside & turn_free & ~bad_word & ~bad_row & ~self.halt
                    & (now.filling | self.words.valid)),
            self.busy.eq(step),
        ]
        for memory, (rows, _, _) in pad_shapes(self.config).items():
            with m.If(inside & (now.memory == memory) & (wrapped[exact_log2(rows):] != 0)):
                m.d.comb += bad_row.eq(1)
        with m.If(turn_free):
            m.d.sync += [
                turned_valid.eq(step),
                turned.data.eq(rotate_bytes(source, (lane - offset)[:offset_bits])),
                turned.row.eq(wrapped),
                turned.lane.eq(lane),
                turned.end.eq(lane + count),
                turned.memory.eq(now.memory),
                turned.event.eq(Mux(run_end, event, 0)),
                turned.number.eq(now.number),
                turned.index.eq(now.index),
            ]
        write_valid = Signal()
        write = Signal(turn_layout, reset_less=True)
        mask_bits = max(row_bytes for _, row_bytes, _ in pad_shapes(self.config).values())
        mask = Signal(mask_bits, reset_less=True)
        granted = Signal()
        ready = Array([1] * 4)
        for memory, (rows, row_bytes, _) in pad_shapes(self.config).items():
            port = getattr(self, memory.name.lower())
            ready[memory] = port.ready
            spread = _Spread(in_bytes=bus_bytes, out_bytes=row_bytes)
            place(m, platform, f"spread_{memory.name.lower()}", spread)
            m.d.comb += [
                spread.i.eq(write.data),
                port.valid.eq(write_valid & (write.memory == memory)
                              & (raiser.ready | ~write.event.any())),
                port.addr.eq(write.row[:exact_log2(rows)]),
                port.data.eq(spread.o),
                port.mask.eq(mask),
            ]
        m.d.comb += [
            granted.eq(write_valid & ready[write.memory] & (raiser.ready | ~write.event.any())),
            write_free.eq(~write_valid | granted),
            raiser.event.eq(Mux(granted, write.event, 0)),
            raiser.number.eq(write.number),
            raiser.index.eq(write.index),
        ]
        with m.If(write_free):
            m.d.sync += [
                write_valid.eq(turned_valid),
                write.eq(turned),
                mask.eq(Cat((turned.lane <= i) & (i < turned.end) for i in range(mask_bits))),
            ]

        m.d.comb += [
            self.blocked.eq(walker.waiting),
            self.waiting.eq(walker.waiting & runs.empty & ~inside & ~turned_valid & ~write_valid
                            & ~raiser.pending),
            self.idle.eq(~self.command.valid & ~queue.o.valid & ~turned_valid & ~write_valid
                         & ~raiser.pending),
            self.error.eq(walker.error),
        ]
        with m.If(bad_word | bad_row):
            m.d.comb += [
                self.error.valid.eq(1),
                self.error.code.eq(Mux(bad_row, ErrorCode.SCRATCHPAD_ADDRESS,
                                       ErrorCode.READ_RESPONSE)),
                self.error.index.eq(now.index),
            ]
        return m


class _Spread(wiring.Component):
    """``o`` is ``i`` over and over, as often as it fits.

    A module of its own: Amaranth would merge the copies with parts of the wires that lead to the
    scratchpads, and Verilator takes a wire that feeds another part of itself for a loop.
    """
    def __init__(self, *, in_bytes: int, out_bytes: int):
        self.in_bytes = in_bytes
        self.out_bytes = out_bytes
        super().__init__({"i": In(8 * in_bytes), "o": Out(8 * out_bytes)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(self.i.replicate(-(-self.out_bytes // self.in_bytes)))
        return m
