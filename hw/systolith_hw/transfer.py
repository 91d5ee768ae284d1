"""What load and store share: the walk over runs, and the steps through the rows of one run."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .choose import at_most
from .config import CoreConfig
from .isa import COMMANDS, ErrorCode, LoadMode, Memory, Opcode
from .narrow import index_bits, memory_bits, pad_bits, walked_bits
from .record import INDEX_BITS, RECORD_BITS, Record, error_layout
from .walk import CommandWalker

__all__ = ["RunStepper", "RunWalker", "lane_bits", "pad_shapes", "place_layout", "ring_fits",
           "ring_row",
           "rotate_bytes", "row_bits", "run_layout", "settings_layout", "walk_widths"]


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
        outside = ring != 0 if i >= 15 else (ring != 0) & at_most(ring, i)
        bits.append(Mux(outside, base[i], row[i]))
    return Cat(*bits)


def ring_fits(config: CoreConfig, ring, rows: int):
    """Whether a ring is no larger than its memory, in a compact core, which walks no wider."""
    return at_most(ring, exact_log2(rows)) if config.control.compact else Const(1)


def lane_bits(config: CoreConfig) -> int:
    """Bits that hold any number of bytes of a scratchpad row."""
    return bits_for(max(pitch for _, _, pitch in pad_shapes(config).values()))


def row_bits(config: CoreConfig) -> int:
    """Bits of a row's number in any scratchpad."""
    return exact_log2(max(rows for rows, _, _ in pad_shapes(config).values()))


def walk_widths(config: CoreConfig) -> dict[str, int]:
    """Bits of the addresses that loads and stores walk: ``memory`` and ``pad`` in bytes, and the
    ``row`` in a scratchpad."""
    shapes = pad_shapes(config).values()
    return {"memory": memory_bits(config),
            "pad": pad_bits(config, max(rows * pitch for rows, _, pitch in shapes)),
            "row": walked_bits(config, max(rows for rows, _, _ in shapes))}


def rotate_bytes(value, amount):
    """``value`` rotated left by ``amount`` bytes; its size is a power of two of bytes."""
    for i in range(len(amount)):
        value = Mux(amount[i], value.rotate_left(8 << i), value)
    return value


def run_layout(config: CoreConfig) -> data.StructLayout:
    """A run: its first ``address`` in memory; ``row`` and first ``lane`` in the scratchpad;
    whether its end is the ``event`` of raising slot 0, 1; whether it is the command's ``first``."""
    return data.StructLayout({
        "address": 32, "row": walk_widths(config)["row"], "lane": lane_bits(config), "event": 2,
        "first": 1})


def place_layout(config: CoreConfig) -> data.StructLayout:
    """What ``RunStepper`` needs of a run: as in ``run_layout``, and instead of the address the
    ``offset`` of the first byte in its bus word."""
    return data.StructLayout({
        "row": walk_widths(config)["row"], "lane": lane_bits(config),
        "offset": exact_log2(config.bus.data_bytes), "event": 2, "first": 1})


def settings_layout(config: CoreConfig) -> data.StructLayout:
    """What all runs of a command have in common.

    ``row``, ``first`` and ``rest`` are the bytes of a row, of the first row, and of all others,
    each less one; ``beyond`` those after the first two, less one. A ``single`` row has no others.
    """
    lanes, row = lane_bits(config), walk_widths(config)["row"]
    return data.StructLayout({
        "run_bytes": 16, "row": lanes, "first": lanes, "rest": lanes, "beyond": signed(17),
        "single": 1, "row_step": row, "ring": 4, "base": row, **_PIECE_SETTINGS})


_PIECE_SETTINGS = {"memory": 2, "fill": 8, "filling": 1, "number": data.ArrayLayout(5, 2),
                   "index": INDEX_BITS}


class RunWalker(wiring.Component):
    """Walks the runs of load or store commands, waits at their semaphores, checks addresses.

    Timing: as ``CommandWalker``; an address that is not allowed is an error in the cycle after its
    run was taken.

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
        The runs. After one whose address is not allowed, no other is offered.
    settings : ``Out(settings_layout)``
        Of the command of ``run``.
    wait : ``Out(stream of number)``
        To the semaphores.
    waiting : ``Out(1)``
        The next run waits for a semaphore.
    idle : ``Out(1)``
        No run is left.
    error : ``Out(error_layout)``
        An address was not allowed.
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
        widths = walk_widths(self.config)
        kept = data.StructLayout({
            "settings": settings_layout(self.config), "too_wide": 1, "raises": 2,
            # The highest addresses of a run that ends in the window, and in a scratchpad row.
            "last_address": signed(widths["memory"] + 1),
            "last_lane": signed(lane_bits(self.config) + 1)})
        m.submodules.walker = walker = CommandWalker(
            loops=loops, streams=(widths["memory"], widths["pad"]), kept=kept,
            count_bits=self.config.count_bits, queued=not self.config.control.compact,
            held=self.config.control.compact, levels=4)
        wiring.connect(m, walker.wait, wiring.flipped(self.wait))
        self._connect_command(m, walker, loops)

        # Where the run lies in its scratchpad, by the scratchpad's row pitch.
        element = walker.o.payload
        memory_address, pad_address = element.address.s0, element.address.s1
        now = walker.kept.settings
        run = self.run.payload
        row = Signal(widths["pad"])
        fits = Signal()
        for memory, (rows, _, pitch) in pad_shapes(self.config).items():
            with m.If(now.memory == memory):
                lane = pad_address[:exact_log2(pitch)]
                m.d.comb += [
                    row.eq(pad_address[exact_log2(pitch):]),
                    run.lane.eq(lane),
                    fits.eq(ring_fits(self.config, now.ring, rows)),
                ]
        in_window = Signal()
        in_pad  = Signal()
        wrong   = Signal()
        code    = Signal(ErrorCode, reset_less=True)
        index   = Signal(index_bits(self.config), reset_less=True)
        m.d.comb += [
            in_window.eq((memory_address <= walker.kept.last_address) | now.filling),
            in_pad.eq(fits & (run.lane <= walker.kept.last_lane) & ~walker.kept.too_wide
                      & ((now.ring != 0) | (row[len(run.row):] == 0))),
            run.address.eq(memory_address),
            run.row.eq(row),
            run.event.eq(walker.kept.raises & element.ends[2:]),
            run.first.eq(element.opens),
            self.settings.eq(now),
            self.run.valid.eq(walker.o.valid & walker.open & ~wrong),
            walker.o.ready.eq(self.run.ready & walker.open & ~wrong),
            walker.pass_.eq(self.run.valid & self.run.ready),
            self.waiting.eq(walker.o.valid & ~walker.open),
            self.idle.eq(walker.idle),
            self.error.valid.eq(wrong),
            self.error.code.eq(code),
            self.error.index.eq(now.index if walker.held else index),
        ]
        with m.If(walker.pass_):
            m.d.sync += [
                wrong.eq(~(in_window & in_pad)),
                code.eq(Mux(in_window, ErrorCode.SCRATCHPAD_ADDRESS, ErrorCode.MEMORY_ADDRESS)),
                index.eq(now.index),
            ]
        return m

    def _connect_command(self, m, walker, loops):
        """Give the walker what it takes of a command."""
        record = Record(COMMANDS[self.opcode], self.command.payload)
        command = walker.command.payload
        settings = command.kept.settings
        valid, number, level = record.slots("wait")
        raises, raise_number, raise_level = record.slots("raise")
        run_bytes, row_bytes = record["run_bytes"], record["row_bytes"]
        single = Signal()
        memory = (record["memory"][:len(settings.memory)] if self.opcode == Opcode.LOAD
                  else Const(Memory.ACT, len(settings.memory)))
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
            command.walk.level.as_value().eq(Cat(level, raise_level)),
            command.kept.too_wide.eq(row_bytes[lane_bits(self.config):].any()),
            single.eq(run_bytes <= row_bytes),
            command.kept.raises.eq(raises),
            settings.run_bytes.eq(run_bytes),
            settings.row_step.eq(record["row_step"]),
            settings.memory.eq(memory),
            settings.ring.eq(record["ring", 0]),
            settings.number.eq(raise_number),
            settings.index.eq(record.index[:index_bits(self.config)]),
        ]
        for target, value in (
                (command.kept.last_address, self.window_bytes - run_bytes),
                (settings.row, row_bytes - 1),
                (settings.first, Mux(single, run_bytes - 1, row_bytes - 1)),
                (settings.rest, run_bytes + ~row_bytes),
                (settings.beyond, run_bytes + ~(row_bytes << 1)),
                (settings.single, single)):
            if walker.held:     # long enough to put down what is computed
                found = Signal(target.shape(), reset_less=True)
                m.d.sync += found.eq(value)
                value = found
            m.d.comb += target.eq(value)
        if self.opcode == Opcode.LOAD:
            m.d.comb += [
                settings.fill.eq(record["fill"]),
                settings.filling.eq(record["mode"] == LoadMode.FILL),
            ]
        for value, (_, width, pitch) in pad_shapes(self.config).items():
            with m.If(memory == value):
                m.d.comb += [
                    settings.base.eq(record["pad_base"] >> exact_log2(pitch)),
                    command.kept.last_lane.eq(width - row_bytes[:lane_bits(self.config)]),
                ]


class RunStepper(wiring.Component):
    """Steps through the rows of runs, at most to the end of the bus word each time.

    Two stages: the first steps through a run's rows, the second through the words of each row.
    Lengths are kept less one, and next to each what it has beyond the end of its word: a sign is
    all that a step decides by.

    Timing: one piece per cycle, also from one run and from one command to the next; a run's first
    piece is there two cycles after the run was taken.

    Parameters
    ----------
    config : CoreConfig
    chunk_bytes : int or None
        Pieces end at multiples of so many bytes of a row, too; a power of two.

    Members
    -------
    run : ``In(stream of place_layout)``
        The runs.
    settings : ``In(settings_layout)``
        Of the command that begins with ``run``; looked at with a command's first run only, and in
        a compact core as long as a run is inside.
    piece : ``Out(stream of structures)``
        What comes from or goes to one ``row`` and one bus word: from byte ``lane`` of the row and
        from byte ``offset`` of the word as many bytes as ``more`` and one; whether the row lies
        ``outside`` the scratchpad; whether it is the last of its word (``word_end``) and run
        (``run_end``), and the run's ``event`` if so. A fill takes whole rows, and no words.
    now : ``Out(structure)``
        Settings of the command of ``piece``: ``memory``, ``fill``, ``filling``, ``number`` of what
        it raises, ``index``.
    idle : ``Out(1)``
        No run is inside.
    """
    def __init__(self, *, config: CoreConfig, chunk_bytes: int | None = None):
        self.config = config
        self.chunk_bytes = chunk_bytes
        super().__init__({
            "run": In(stream.Signature(place_layout(config))),
            "settings": In(settings_layout(config)),
            "piece": Out(stream.Signature(data.StructLayout({
                "row": row_bits(config), "outside": 1, "lane": lane_bits(config),
                "offset": exact_log2(config.bus.data_bytes), "more": lane_bits(config),
                "event": 2, "word_end": 1, "run_end": 1}))),
            "now": Out(data.StructLayout(_PIECE_SETTINGS)),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        offset_bits = exact_log2(self.config.bus.data_bytes)
        lane_width = lane_bits(self.config)
        run, piece = self.run.payload, self.piece.payload

        # First stage: rows, and their chunks.
        use    = self.settings
        held   = self.config.control.compact
        settings = use if held else Signal(settings_layout(self.config), reset_less=True)
        inside = Signal()
        begins = Signal(reset_less=True)    # the first piece of its run
        offset = Signal(offset_bits, reset_less=True)
        event  = Signal(2, reset_less=True)
        row    = Signal(run.row.shape(), reset_less=True)
        first_lane = Signal(lane_width, reset_less=True)
        lane   = Signal(lane_width, reset_less=True)
        left   = Signal(lane_width, reset_less=True)
        rest   = Signal(lane_width, reset_less=True)    # bytes after this row
        beyond = Signal(signed(17), reset_less=True)    # those after the next one
        last_row = Signal(reset_less=True)
        more   = Signal(lane_width)
        cut    = Signal()   # the row goes on behind this piece
        take   = Signal()   # the piece moves to the second stage
        next_row = Mux(beyond[-1], rest, settings.row)
        first  = Mux(run.first, use.first, settings.first)
        m.d.comb += [
            more.eq(left),
            self.run.ready.eq(~inside | (take & ~cut & last_row)),
        ]
        with m.If(take):
            m.d.sync += begins.eq(0)
            with m.If(~cut):
                m.d.sync += [
                    row.eq(row + settings.row_step),
                    lane.eq(first_lane),
                    left.eq(next_row),
                    rest.eq(rest + ~settings.row),
                    beyond.eq(beyond + (~Cat(settings.row, Const(0, 1))).as_signed()),
                    last_row.eq(beyond[-1]),
                ]
                with m.If(last_row):
                    m.d.sync += inside.eq(0)
        with m.If(self.run.valid & self.run.ready):
            m.d.sync += [
                inside.eq(1),
                begins.eq(1),
                offset.eq(run.offset),
                event.eq(run.event),
                row.eq(run.row),
                first_lane.eq(run.lane),
                lane.eq(run.lane),
                left.eq(first),
                rest.eq(Mux(run.first, use.rest, settings.rest)),
                beyond.eq(Mux(run.first, use.beyond, settings.beyond)),
                last_row.eq(Mux(run.first, use.single, settings.single)),
            ]
            if not held:
                with m.If(run.first):
                    m.d.sync += settings.eq(use)
        if self.chunk_bytes is not None:
            chunk_bits = exact_log2(self.chunk_bytes)
            over = Signal(signed(max(lane_width, chunk_bits) + 2), reset_less=True)
            m.d.comb += cut.eq(~over[-1])
            with m.If(cut):
                m.d.comb += more.eq(~lane[:chunk_bits])
            with m.If(take):
                with m.If(cut):
                    m.d.sync += [
                        lane.eq(Cat(Const(0, chunk_bits), lane[chunk_bits:] + 1)),
                        left.eq(over),
                        over.eq(over - self.chunk_bytes),
                    ]
                with m.Else():
                    m.d.sync += over.eq(_beyond(next_row, first_lane[:chunk_bits]))
            with m.If(self.run.valid & self.run.ready):
                m.d.sync += over.eq(_beyond(first, run.lane[:chunk_bits]))

        # Second stage: words.
        valid  = Signal()
        now    = Signal(piece.shape(), reset_less=True)   # with what is left of its row
        now_over = Signal(signed(max(lane_width, offset_bits) + 2), init=-1)
        step   = Signal()
        goes_on = Signal()  # with the next word
        next_offset = Mux(begins, offset, (now_over + 1)[:offset_bits])
        ringed = ring_row(row, settings.base, settings.ring)
        outside = Cat((settings.memory == memory) & ringed[exact_log2(rows):].any()
                      for memory, (rows, _, _) in pad_shapes(self.config).items()).any()
        m.d.comb += [
            step.eq(valid & self.piece.ready),
            goes_on.eq(~now_over[-1] & ~self.now.filling),
            take.eq(inside & (~valid | (step & ~goes_on))),
            self.piece.valid.eq(valid),
            self.idle.eq(~inside & ~valid),
            piece.eq(now),
            piece.word_end.eq(~self.now.filling
                              & (goes_on | now.run_end | now_over[:offset_bits].all())),
        ]
        with m.If(goes_on):
            m.d.comb += [piece.more.eq(~now.offset), piece.run_end.eq(0), piece.event.eq(0)]
        with m.If(step):
            m.d.sync += valid.eq(goes_on)
            with m.If(goes_on):
                m.d.sync += [
                    now.lane.eq(now.lane + ~now.offset + 1),
                    now.offset.eq(0),
                    now.more.eq(now_over),
                    now_over.eq(_beyond(now_over, Const(0, offset_bits))),
                ]
        of_piece = [self.now[name].eq(settings[name]) for name in _PIECE_SETTINGS]
        if held:
            m.d.comb += of_piece
        with m.If(take):
            run_end = ~cut & last_row
            if not held:
                m.d.sync += of_piece
            m.d.sync += [
                valid.eq(1),
                now.row.eq(ringed),
                now.outside.eq(outside),
                now.lane.eq(lane),
                now.offset.eq(next_offset),
                now.more.eq(more),
                now.run_end.eq(run_end),
                now.event.eq(Mux(run_end, event, 0)),
                now_over.eq(_beyond(more, next_offset)),
            ]
        return m


def _beyond(more, place):
    """Less one, what ``more`` and one bytes from ``place`` on have beyond a word or chunk of
    ``2 ** len(place)`` bytes."""
    return more + Cat(place, Const(1, 1)).as_signed()
