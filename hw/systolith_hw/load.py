"""The load engine: system memory to scratchpads."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import word_layout
from .bursts import BurstSplitter, burst_layout
from .cells import place
from .choose import at_most
from .config import CoreConfig
from .fifo import ShortQueue
from .isa import ErrorCode, Opcode
from .narrow import memory_bits
from .record import RECORD_BITS, engine_ports
from .runqueue import RunQueue
from .scratchpad import WritePort
from .semaphore import Raiser
from .transfer import (
    RunStepper,
    RunWalker,
    lane_bits,
    pad_shapes,
    place_layout,
    rotate_bytes,
    row_bits,
)

__all__ = ["LoadEngine"]


class LoadEngine(wiring.Component):
    """Walks a command's runs, asks the bus for their words and writes them into scratchpad rows.

    The front (addresses) runs ahead of the back (data) by as many words as the bus may have under
    way, also into the next commands. The back writes as many bytes per cycle as come from one bus
    word and go to one row, without a gap between runs and commands.

    Timing: the first burst is offered four cycles after the command came; bytes stand in the
    scratchpad three cycles after their word was taken.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its first run is next.
    window_bytes : ``In(32)``
        Size of the window.
    halt : ``In(1)``
        Stop.
    bursts : ``Out(stream)``
        To the bus.
    words : ``In(stream of word_layout)``
        From the bus.
    act, wgt, par, fun : ``Out(WritePort)``
        To the scratchpads; the last where there are function tables.
    wait, raise_ : ``Out(stream of number)``
        To the semaphores.
    raise_index : ``Out(INDEX_BITS)``
        The command that raises.
    busy, blocked, waiting, idle : ``Out(1)``
        Bytes were written this cycle; the next wait for a semaphore; the same and nothing else
        moves; nothing is inside.
    waiting_index : ``Out(INDEX_BITS)``
        The command that waits.
    error : ``Out(error_layout)``
    """
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
        compact = self.config.control.compact
        m.submodules.walker = walker = RunWalker(config=self.config, opcode=Opcode.LOAD)
        m.submodules.splitter = splitter = BurstSplitter(
            data_bytes=bus_bytes, max_burst=self.config.bus.max_burst,
            address_bits=memory_bits(self.config))
        m.submodules.runs = runs = (
            ShortQueue(shape=place_layout(self.config), depth=1) if compact
            else RunQueue(config=self.config, depth=self.config.bus.read_words))
        m.submodules.stepper = stepper = RunStepper(config=self.config)
        m.submodules.raiser = raiser = Raiser(held=compact)
        wiring.connect(m, wiring.flipped(self.command), walker.command)
        wiring.connect(m, walker.wait, wiring.flipped(self.wait))
        wiring.connect(m, raiser.raise_, wiring.flipped(self.raise_))
        m.d.comb += self.raise_index.eq(raiser.raise_index)

        # Front: every run goes to the splitter and, with its place in the scratchpad, to the back.
        run = walker.run.payload
        filling = walker.settings.filling
        go = walker.run.valid & walker.run.ready
        if compact:     # no other command comes before this one is done
            m.d.comb += stepper.settings.eq(walker.settings)
        else:
            m.d.comb += [runs.settings.eq(walker.settings), stepper.settings.eq(runs.now)]
        m.d.comb += [
            walker.window_bytes.eq(self.window_bytes),
            walker.run.ready.eq(runs.i.ready & (splitter.run.ready | filling) & ~self.halt),
            runs.i.valid.eq(go),
            runs.i.payload.row.eq(run.row),
            runs.i.payload.lane.eq(run.lane),
            runs.i.payload.offset.eq(run.address[:offset_bits]),
            runs.i.payload.event.eq(run.event),
            runs.i.payload.first.eq(run.first),
            splitter.run.valid.eq(go & ~filling),
            splitter.run.payload.address.eq(run.address),
            splitter.run.payload.bytes.eq(walker.settings.run_bytes),
        ]
        taken = self.bursts
        if not compact:
            m.submodules.bursts = bursts = ShortQueue(shape=burst_layout(bus_bytes), depth=2)
            wiring.connect(m, bursts.o, wiring.flipped(self.bursts))
            taken = bursts.i
        m.d.comb += [
            # Nothing of a run whose address is not allowed.
            taken.valid.eq(splitter.burst.valid & ~walker.error.valid),
            taken.payload.eq(splitter.burst.payload),
            splitter.burst.ready.eq(taken.ready),
        ]

        # Back: through the rows of a run.
        piece, now = stepper.piece.payload, stepper.now
        step = Signal()
        m.d.comb += [
            stepper.run.valid.eq(runs.o.valid & ~walker.error.valid),
            stepper.run.payload.eq(runs.o.payload),
            runs.o.ready.eq(stepper.run.ready),
            stepper.piece.ready.eq(step),
            self.words.ready.eq(step & piece.word_end),
        ]

        # First stage: bytes turned to their lanes; two have room where clocks are fast, so that
        # what a scratchpad grants ends there. Second stage, in a compact core the same: enables,
        # and the write.
        turn_layout = data.StructLayout({
            "data": self.config.bus.data_bits, "row": row_bits(self.config), "lane": lane_width,
            "last": lane_width, "memory": 2, "event": 1})
        turns = Signal(turn_layout)
        turn_free = Signal()
        write_free = Signal()
        source = Signal(self.config.bus.data_bits)     # slices of an expression repeat its text
        fill = (now.fill & now.filling.replicate(8)).replicate(bus_bytes)
        bad_word = Signal()
        bad_row = Signal()
        broken = Signal()   # there was one
        # It is not put down, but only what follows waits for that to be known.
        good = ~bad_word & ~bad_row
        m.d.sync += broken.eq(broken | ~good)
        m.d.comb += [
            bad_row.eq(stepper.piece.valid & piece.outside),
            bad_word.eq(stepper.piece.valid & ~now.filling & self.words.valid
                        & self.words.payload.error),
            step.eq(stepper.piece.valid & turn_free & ~broken & ~self.halt
                    & (now.filling | self.words.valid) & raiser.ready),
            self.busy.eq(step),
            source.eq(self.words.payload.data & ~now.filling.replicate(len(source))),
            raiser.event.eq(Mux(step & good, piece.event, 0)),
            raiser.number.eq(now.number),
            raiser.index.eq(now.index),
            turns.data.eq(fill | rotate_bytes(source, (piece.lane - piece.offset)[:offset_bits])),
            turns.row.eq(piece.row),
            turns.lane.eq(piece.lane),
            turns.last.eq(piece.lane + piece.more),
            turns.memory.eq(now.memory),
            turns.event.eq(piece.event.any()),
        ]
        if compact:
            turned, turned_valid = Signal(turn_layout, reset_less=True), Signal()
            m.d.comb += turn_free.eq(write_free)
            with m.If(turn_free):
                m.d.sync += [turned_valid.eq(step & good), turned.eq(turns)]
        else:
            m.submodules.turns = queue = ShortQueue(shape=turn_layout, depth=2)
            turned, turned_valid = queue.o.payload, queue.o.valid
            m.d.comb += [
                turn_free.eq(queue.i.ready),
                queue.i.valid.eq(step & good),
                queue.i.payload.eq(turns),
                queue.o.ready.eq(write_free),
            ]
        mask_bits = max(row_bytes for _, row_bytes, _ in pad_shapes(self.config).values())
        mask = Signal(mask_bits, reset_less=True)
        lanes = Cat(at_most(turned.lane, i) & (~at_most(turned.last, i - 1) if i else 1)
                    for i in range(mask_bits))
        if compact:
            write_valid, write = turned_valid, turned
            m.d.comb += mask.eq(lanes)
        else:
            write_valid, write = Signal(), Signal(turn_layout, reset_less=True)
            with m.If(write_free):
                m.d.sync += [write_valid.eq(turned_valid), write.eq(turned), mask.eq(lanes)]
        granted = Signal()
        ready = Array([1] * 4)
        for memory, (rows, row_bytes, _) in pad_shapes(self.config).items():
            port = getattr(self, memory.name.lower())
            ready[memory] = port.ready
            spread = _Spread(in_bytes=bus_bytes, out_bytes=row_bytes)
            place(m, platform, f"spread_{memory.name.lower()}", spread)
            m.d.comb += [
                spread.i.eq(write.data),
                port.valid.eq(write_valid & (write.memory == memory)),
                port.addr.eq(write.row[:exact_log2(rows)]),
                port.data.eq(spread.o),
                port.mask.eq(mask),
            ]
        m.d.comb += [
            granted.eq(write_valid & ready[write.memory]),
            write_free.eq(~write_valid | granted),
            raiser.due.eq(granted & write.event),
        ]
        still = (runs.empty & stepper.idle & ~turned_valid & ~write_valid
                 & ~raiser.pending)
        m.d.comb += [
            self.blocked.eq(walker.waiting),
            self.waiting.eq(walker.waiting & still),
            self.waiting_index.eq(walker.settings.index),
            self.idle.eq(~self.command.valid & walker.idle & still),
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
