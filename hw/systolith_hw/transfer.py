"""What load and store share: the walk over runs, and the steps through the rows of one run."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .config import CoreConfig
from .isa import COMMANDS, ErrorCode, LoadMode, Memory, Opcode
from .record import INDEX_BITS, RECORD_BITS, Record, error_layout
from .semaphore import at_level
from .walk import CommandWalker

__all__ = ["RunStepper", "RunWalker", "lane_bits", "pad_shapes", "place_layout", "ring_row",
           "rotate_bytes", "run_layout", "settings_layout"]

ROW_BITS = 16


def pad_shapes(config: CoreConfig) -> dict[Memory, tuple[int, int, int]]:
    """Rows, bytes of a row and row pitch of each scratchpad."""
    shapes = {
        Memory.ACT: (config.memory.act_rows, config.act_row_bytes, config.act_row_bytes),
        Memory.WGT: (config.memory.wgt_rows, config.wgt_row_bytes, config.wgt_row_pitch),
        Memory.PAR: (config.memory.par_rows, config.par_row_bytes, config.par_row_pitch),
    }
    if config.vector.functions:
        shapes[Memory.FUN] = (2 * config.vector.functions, config.fun_row_bytes,
                              config.fun_row_bytes)
    return shapes


def ring_row(row, base, ring):
    """``row`` kept within the aligned ring of ``2 ** ring`` rows around ``base``; 0: no ring."""
    bits = []
    for i in range(len(row)):
        outside = ring != 0 if i >= 15 else (ring != 0) & (ring <= i)
        bits.append(Mux(outside, base[i], row[i]))
    return Cat(*bits)


def lane_bits(config: CoreConfig) -> int:
    """Bits that hold any number of bytes of a scratchpad row."""
    return bits_for(max(pitch for _, _, pitch in pad_shapes(config).values()))


def rotate_bytes(value, amount):
    """``value`` rotated left by ``amount`` bytes; its size is a power of two of bytes."""
    for i in range(len(amount)):
        value = Mux(amount[i], value.rotate_left(8 << i), value)
    return value


def run_layout(config: CoreConfig) -> data.StructLayout:
    """A run: its first ``address`` in memory; ``row`` and first ``lane`` in the scratchpad;
    whether its end is the ``event`` of raising slot 0, 1; whether it is the command's ``first``."""
    return data.StructLayout({
        "address": 32, "row": ROW_BITS, "lane": lane_bits(config), "event": 2, "first": 1})


def place_layout(config: CoreConfig) -> data.StructLayout:
    """What ``RunStepper`` needs of a run: as in ``run_layout``, and instead of the address the
    ``offset`` of the first byte in its bus word."""
    return data.StructLayout({
        "row": ROW_BITS, "lane": lane_bits(config), "offset": exact_log2(config.bus.data_bytes),
        "event": 2, "first": 1})


def settings_layout(config: CoreConfig) -> data.StructLayout:
    """What all runs of a command have in common."""
    return data.StructLayout({
        "run_bytes": 16, "row_bytes": lane_bits(config), "row_step": ROW_BITS, "memory": 2,
        "fill": 8, "filling": 1, "ring": 4, "base": ROW_BITS, "number": data.ArrayLayout(5, 2),
        "index": INDEX_BITS})


class RunWalker(wiring.Component):
    """Walks the runs of load or store commands, waits at their semaphores, checks addresses.

    Timing: as ``CommandWalker``.

    Parameters
    ----------
    config : CoreConfig
    opcode : Opcode
        ``LOAD`` or ``STORE``.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its first run is next.
    window_bytes : ``In(32)``
        Size of the window.
    run : ``Out(stream of run_layout)``
        The runs. One whose address is not allowed is not offered.
    settings : ``Out(settings_layout)``
        Of the command of ``run``.
    wait : ``Out(stream of number)``
        To the semaphores.
    waiting : ``Out(1)``
        The next run waits for a semaphore.
    idle : ``Out(1)``
        No run is left.
    error : ``Out(error_layout)``
        An address is not allowed.
    """
    def __init__(self, *, config: CoreConfig, opcode: Opcode):
        self.config = config
        self.opcode = opcode
        super().__init__({
            "command": In(stream.Signature(RECORD_BITS)),
            "window_bytes": In(32),
            "run": Out(stream.Signature(run_layout(config))),
            "settings": Out(settings_layout(config)),
            "wait": Out(stream.Signature(5)),
            "waiting": Out(1),
            "idle": Out(1),
            "error": Out(error_layout),
        })

    def elaborate(self, platform):
        m = Module()
        loops = self.config.control.load_loops
        kept = data.StructLayout({
            "settings": settings_layout(self.config), "too_wide": 1, "raises": 2,
            "level": data.ArrayLayout(4, 2)})
        m.submodules.walker = walker = CommandWalker(loops=loops, streams=(32, 32), kept=kept)
        wiring.connect(m, walker.wait, wiring.flipped(self.wait))
        self._connect_command(m, walker, loops)

        # Where the run lies in its scratchpad, by the scratchpad's row pitch.
        element = walker.o.payload
        memory_address, pad_address = element.address.s0, element.address.s1
        now = walker.kept.settings
        run = self.run.payload
        row = Signal(32)
        fits = Signal()
        for memory, (_, row_bytes, pitch) in pad_shapes(self.config).items():
            with m.If(now.memory == memory):
                lane = pad_address[:exact_log2(pitch)]
                m.d.comb += [
                    row.eq(pad_address[exact_log2(pitch):]),
                    run.lane.eq(lane),
                    fits.eq((lane + now.row_bytes <= row_bytes) & ~walker.kept.too_wide),
                ]
        memory_end = Signal(33)
        in_window = Signal()
        in_pad  = Signal()
        allowed = Signal()
        m.d.comb += [
            memory_end.eq(memory_address + now.run_bytes),
            in_window.eq((memory_end <= self.window_bytes) | now.filling),
            in_pad.eq(fits & ((now.ring != 0) | (row[ROW_BITS:] == 0))),
            allowed.eq(in_window & in_pad),
            run.address.eq(memory_address),
            run.row.eq(row),
            run.event.eq(Cat(
                walker.kept.raises[slot] & at_level(element.last, walker.kept.level[slot], loops)
                for slot in range(2))),
            run.first.eq(element.first.all()),
            self.settings.eq(now),
            self.run.valid.eq(walker.o.valid & walker.open & allowed),
            walker.o.ready.eq(self.run.ready & walker.open & allowed),
            walker.pass_.eq(self.run.valid & self.run.ready),
            self.waiting.eq(walker.o.valid & ~walker.open),
            self.idle.eq(walker.idle),
            self.error.valid.eq(walker.o.valid & walker.open & ~allowed),
            self.error.code.eq(Mux(in_window, ErrorCode.SCRATCHPAD_ADDRESS,
                                   ErrorCode.MEMORY_ADDRESS)),
            self.error.index.eq(now.index),
        ]
        return m

    def _connect_command(self, m, walker, loops):
        """Give the walker what it takes of a command."""
        record = Record(COMMANDS[self.opcode], self.command.payload)
        command = walker.command.payload
        settings = command.kept.settings
        valid, number, level = record.slots("wait")
        raises, raise_number, _ = record.slots("raise")
        for i in range(loops):
            m.d.comb += [
                command.walk.count[i].eq(record["counts", i]),
                command.walk.jump0[i].eq(record["memory_jumps", i]),
                command.walk.jump1[i].eq(record["pad_jumps", i]),
            ]
        m.d.comb += [
            walker.command.valid.eq(self.command.valid),
            self.command.ready.eq(walker.command.ready),
            command.walk.base0.eq(record["memory_base"]),
            command.walk.base1.eq(record["pad_base"]),
            command.waits.valid.eq(valid),
            command.waits.number.eq(number),
            command.waits.level.eq(level),
            command.kept.too_wide.eq(record["row_bytes"][lane_bits(self.config):].any()),
            command.kept.raises.eq(raises),
            command.kept.level.eq(level),
            settings.run_bytes.eq(record["run_bytes"]),
            settings.row_bytes.eq(record["row_bytes"]),
            settings.row_step.eq(record["row_step"]),
            settings.memory.eq(record["memory"]),
            settings.ring.eq(record["ring", 0]),
            settings.number.eq(raise_number),
            settings.index.eq(record.index),
        ]
        if self.opcode == Opcode.LOAD:
            m.d.comb += [
                settings.fill.eq(record["fill"]),
                settings.filling.eq(record["mode"] == LoadMode.FILL),
            ]
        for memory, (_, _, pitch) in pad_shapes(self.config).items():
            with m.If(record["memory"] == memory):
                m.d.comb += settings.base.eq(record["pad_base"] >> exact_log2(pitch))


class RunStepper(wiring.Component):
    """Steps through the rows of runs, at most to the end of the bus word each time.

    Timing: one piece per cycle, also from one run and from one command to the next; a run's first
    piece is there the cycle after the run was taken.

    Parameters
    ----------
    config : CoreConfig
    chunk_bytes : int or None
        Pieces end at multiples of so many bytes of a row, too.

    Members
    -------
    run : ``In(stream of place_layout)``
        The runs.
    settings : ``In(settings_layout)``
        Of the command that begins with ``run``; looked at with a command's first run only.
    piece : ``Out(stream of structures)``
        What comes from or goes to one ``row`` and one bus word: ``count`` bytes from byte
        ``lane`` of the row and from byte ``offset`` of the word; whether it is the last of its
        word (``word_end``) and run (``run_end``), and the run's ``event`` if so. A fill takes whole
        rows, and no words.
    now : ``Out(settings_layout)``
        Of the command of ``piece``.
    """
    def __init__(self, *, config: CoreConfig, chunk_bytes: int | None = None):
        self.config = config
        self.chunk_bytes = chunk_bytes
        super().__init__({
            "run": In(stream.Signature(place_layout(config))),
            "settings": In(settings_layout(config)),
            "piece": Out(stream.Signature(data.StructLayout({
                "row": ROW_BITS, "lane": lane_bits(config),
                "offset": exact_log2(config.bus.data_bytes), "count": lane_bits(config),
                "event": 2, "word_end": 1, "run_end": 1}))),
            "now": Out(settings_layout(config)),
        })

    def elaborate(self, platform):
        m = Module()
        bus_bytes = self.config.bus.data_bytes
        lane_width = lane_bits(self.config)
        run, piece = self.run.payload, self.piece.payload
        now    = Signal(settings_layout(self.config), reset_less=True)
        inside = Signal()
        row    = Signal(ROW_BITS, reset_less=True)
        first_lane = Signal(lane_width, reset_less=True)
        row_left = Signal(lane_width, reset_less=True)  # bytes still to come in this row
        rest   = Signal(16, reset_less=True)            # bytes of the run in later rows
        event  = Signal(2, reset_less=True)
        lane   = Signal(lane_width, reset_less=True)
        offset = Signal(piece.offset.shape(), reset_less=True)
        space  = Signal(lane_width)  # bytes to the end of the word, or of the chunk
        row_end = Signal()
        next_row = Signal(lane_width)
        step   = Signal()
        to_end = bus_bytes - offset
        if self.chunk_bytes is not None:
            to_chunk_end = self.chunk_bytes - lane[:exact_log2(self.chunk_bytes)]
            to_end = Mux(to_chunk_end < to_end, to_chunk_end, to_end)
        m.d.comb += [
            step.eq(self.piece.valid & self.piece.ready),
            self.run.ready.eq(~inside | (step & piece.run_end)),
            self.piece.valid.eq(inside),
            self.now.eq(now),
            space.eq(to_end),
            row_end.eq(now.filling | (row_left <= space)),
            next_row.eq(Mux(rest < now.row_bytes, rest, now.row_bytes)),
            piece.row.eq(ring_row(row, now.base, now.ring)),
            piece.lane.eq(lane),
            piece.offset.eq(offset),
            piece.count.eq(Mux(row_end, row_left, space)),
            piece.run_end.eq(row_end & (rest == 0)),
            piece.word_end.eq(~now.filling & (piece.run_end | (offset + piece.count == bus_bytes))),
            piece.event.eq(Mux(piece.run_end, event, 0)),
        ]
        with m.If(step):
            m.d.sync += [
                offset.eq(offset + piece.count),
                lane.eq(lane + piece.count),
                row_left.eq(row_left - piece.count),
            ]
            with m.If(row_end):
                m.d.sync += [
                    row.eq(row + now.row_step),
                    lane.eq(first_lane),
                    row_left.eq(next_row),
                    rest.eq(rest - next_row),
                ]
            with m.If(piece.run_end):
                m.d.sync += inside.eq(0)
        with m.If(self.run.valid & self.run.ready):
            run_bytes = Mux(run.first, self.settings.run_bytes, now.run_bytes)
            row_bytes = Mux(run.first, self.settings.row_bytes, now.row_bytes)
            first_row = Mux(run_bytes < row_bytes, run_bytes, row_bytes)
            m.d.sync += [
                inside.eq(1),
                row.eq(run.row),
                first_lane.eq(run.lane),
                lane.eq(run.lane),
                offset.eq(run.offset),
                row_left.eq(first_row),
                rest.eq(run_bytes - first_row),
                event.eq(run.event),
            ]
            with m.If(run.first):
                m.d.sync += now.eq(self.settings)
        return m
