"""Loads and stores of a shared sequencer: one run of bytes at a time, either way."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import word_layout
from .choose import at_most, choose
from .config import CoreConfig
from .given import Given
from .isa import ErrorCode, LoadMode, Memory
from .microcode import Field
from .narrow import memory_bits, narrowed
from .scratchpad import ReadPort, WritePort
from .sequencer import unit_ports
from .transfer import pad_shapes, ring_fits, ring_row, rotate_bytes, walk_widths

__all__ = ["Mover"]

BUS_BYTES = 4
OFFSET_BITS = 2


class Mover(wiring.Component):
    """Moves a run of bytes between memory and the rows of a scratchpad.

    As many bytes at a time as are in one bus word and one row: one such piece every other cycle,
    and a store's words one after the other, each when memory has answered the one before.

    Timing: of a load, the first word is asked for the cycle after its number of words came, and
    bytes stand at a scratchpad in the cycle after they move. The last piece waits for what is
    raised behind it.

    Members
    -------
    stores, emit, field, value, go, event : ``In``
        See ``sequencer.unit_ports``: ``Field``.
    window_bytes : ``In(32)``
        Size of the window.
    halt : ``In(1)``
        Stop.
    asked : ``Out(stream of word addresses)``
        Words to read.
    words : ``In(stream of word_layout)``
        They come.
    stored : ``Out(stream)``
        Words to write.
    answer : ``In(1)``
        A write is answered; ``refused``, with an error.
    act, wgt, par : ``Out(WritePort)``
        To the scratchpads.
    read : ``Out(ReadPort)``
        Of the activations; a row comes in the cycle after.
    offset : ``Out(2)``
        Of the run in its first word.
    free : ``Out(1)``
        Nothing is under way.
    done : ``Out(2)``
        What can be raised.
    store : ``Out(1)``
        The run is one of a store.
    wrong : ``Out(1)``
        Something is, and stays so; ``code`` says what.
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        self.shapes = pad_shapes(config)
        word_bits = memory_bits(config) - OFFSET_BITS
        super().__init__({
            **unit_ports(),
            "window_bytes": In(32),
            "halt": In(1),
            "asked": Out(stream.Signature(word_bits)),
            "words": In(stream.Signature(word_layout(config.bus))),
            "stored": Out(stream.Signature(data.StructLayout({
                "word": word_bits, "data": config.bus.data_bits, "strobe": BUS_BYTES}))),
            "answer": In(1),
            "refused": In(1),
            **{memory.name.lower(): Out(WritePort(addr_bits=exact_log2(rows), width=8 * row_bytes))
               for memory, (rows, row_bytes, _) in self.shapes.items()},
            "read": Out(ReadPort(addr_bits=exact_log2(config.memory.act_rows),
                                 width=8 * config.act_row_bytes)),
            "offset": Out(OFFSET_BITS),
            "free": Out(1),
            "done": Out(2),
            "store": Out(1),
            "wrong": Out(1),
            "code": Out(ErrorCode),
        })

    def elaborate(self, platform):
        m = Module()
        widths = walk_widths(self.config)
        lane_bits = exact_log2(max(pitch for _, _, pitch in self.shapes.values()))
        chunked = self.config.act_row_bytes > BUS_BYTES
        value, window = self.value, self.window_bytes[:widths["memory"]]

        given  = Given(m, self.emit, self.field)
        # What the sequencer says of a run.
        store, memory = self.store, Signal(Memory, reset_less=True)
        filling, fill = Signal(reset_less=True), Signal(8, reset_less=True)
        ring   = Signal(4, reset_less=True)
        width  = Signal(lane_bits + 1, reset_less=True)     # bytes of a row
        step   = Signal(widths["row"], reset_less=True)
        row    = Signal(widths["row"], reset_less=True)
        first  = Signal(lane_bits, reset_less=True)         # lane of a row's first byte
        lane   = Signal(lane_bits, reset_less=True)
        row_left = Signal(lane_bits + 1, reset_less=True)   # bytes
        left   = Signal(16, reset_less=True)                # bytes of the run
        offset = self.offset
        word   = Signal(self.asked.payload.shape(), reset_less=True)
        word_left = Signal(15, reset_less=True)             # words to ask for
        more_words = Signal(reset_less=True)                # there are some
        active = Signal()
        due    = Signal()       # all bytes have been moved, and the last may be under way
        known  = Signal()       # what is raised
        event  = Signal(2, reset_less=True)
        wide   = Signal(reset_less=True)
        misfit = Signal(reset_less=True)
        based  = Signal(reset_less=True)    # the first row lies far outside
        far    = Signal(reset_less=True)

        def by_memory(of):
            """A value by the scratchpad."""
            values = {name: of(*shape) for name, shape in self.shapes.items()}
            return choose([values.get(Memory(i), values[Memory.ACT]) for i in range(4)],
                          Cat(memory))

        def lane_of(pitch):
            bits = exact_log2(pitch)
            return Cat(value[:bits], Const(0, lane_bits - bits))

        place_row = by_memory(lambda rows, row_bytes, pitch: value[exact_log2(pitch):])
        place_lane = by_memory(lambda rows, row_bytes, pitch: lane_of(pitch))
        with m.If(given(Field.KIND)):
            m.d.sync += [store.eq(self.stores), memory.eq(value[:2]),
                         fill.eq(value[8:16]), filling.eq(value[16:24] == LoadMode.FILL)]
        with m.If(given(Field.RING)):
            m.d.sync += ring.eq(value[:4])
        with m.If(given(Field.ROWS)):
            m.d.sync += [width.eq(value), wide.eq(value[len(width):16].any()),
                         step.eq(narrowed(value[16:], len(step), ring != 0))]
        # Known before the number of words is said: the row's bytes lie behind its end, the first
        # row lies outside.
        over_end, outside_pad = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            over_end.eq(by_memory(lambda rows, row_bytes, pitch: first + width > row_bytes)),
            misfit.eq(wide | over_end | outside_pad | ~by_memory(
                lambda rows, row_bytes, pitch: ring_fits(self.config, ring, rows))),
        ]
        moved = Signal.like(row)
        m.d.comb += moved.eq(ring_row(Mux(active, row + step, place_row)[:len(row)], row, ring))
        with m.If(given(Field.BASE)):
            m.d.sync += [row.eq(place_row), based.eq(place_row[len(row):].any())]
        with m.If(given(Field.PAD)):
            m.d.sync += [
                first.eq(place_lane), lane.eq(place_lane), row.eq(moved), row_left.eq(width),
                outside_pad.eq(Mux(ring == 0, place_row[len(row):].any(), based)),
            ]
        with m.If(given(Field.RUN)):
            m.d.sync += left.eq(value)
        with m.If(given(Field.ADDRESS)):
            m.d.sync += [word.eq(value[OFFSET_BITS:]), offset.eq(value),
                         far.eq(value[widths["memory"]:].any())]
        beyond, outside, limited = Signal(reset_less=True), Signal(reset_less=True), Signal()
        m.d.sync += [beyond.eq(value[:len(window)] > window),
                     outside.eq(value[widths["memory"]:].any()), limited.eq(given(Field.LIMIT))]
        bad_window = far & ~filling
        unfit = bad_window | misfit
        with m.If(given(Field.LIMIT)):
            m.d.sync += known.eq(0)
        with m.If(limited):
            m.d.sync += far.eq(far | outside | beyond)
        with m.If(given(Field.WORDS)):
            m.d.sync += [word_left.eq(value[OFFSET_BITS:]), more_words.eq(1), active.eq(1)]
            with m.If(unfit):
                m.d.sync += [self.wrong.eq(1), self.code.eq(
                    Mux(bad_window, ErrorCode.MEMORY_ADDRESS, ErrorCode.SCRATCHPAD_ADDRESS))]
        with m.If(self.go):
            m.d.sync += [known.eq(1), event.eq(self.event)]

        # A piece: bytes less one up to the end of the word, of the row, of the run, of a chunk.
        to_word = ~offset
        row_end, run_end, word_end = (Signal(name=name, reset_less=True)
                                      for name in ("row_end", "run_end", "word_end"))
        row_ends, to_row = Signal(reset_less=True), Signal(OFFSET_BITS, reset_less=True)
        run_ends, to_run = Signal(reset_less=True), Signal(OFFSET_BITS, reset_less=True)
        near   = Signal(reset_less=True)    # fewer than 16 bytes are left
        moves  = Signal()       # the piece moves
        more   = Signal(OFFSET_BITS, reset_less=True)
        others = _least(to_word, to_run)
        if chunked:
            others = _least(others, ~lane[:OFFSET_BITS])
        nearest = _least(others, to_row)
        planned = Signal()      # a piece is known
        bad_row = Signal(reset_less=True)   # it lies outside the scratchpad
        turn   = Signal(OFFSET_BITS, reset_less=True)
        may    = Signal()       # it is known, its row is there, and nothing stops it
        go_on  = may & (~run_end | known)
        no_row = by_memory(lambda rows, row_bytes, pitch: row[exact_log2(rows):].any())
        # Of the next piece: behind the one that is known, or of the first.
        rest   = _behind(left[:4], more)
        of_run = Mux(planned, rest, _short(left[:4])) & near.replicate(3)
        of_row = Mux(planned, Mux(row_end, _short(width), _behind(row_left, more)),
                     _short(row_left))
        m.d.sync += [
            planned.eq(active & ~moves),
            may.eq(active & ~moves & ~Mux(planned, bad_row, no_row) & ~self.wrong & ~self.halt),
            near.eq(~left[4:].any()),
            run_ends.eq(of_run[0]), to_run.eq(of_run[1:] | (~of_run[0]).replicate(2)),
            row_ends.eq(of_row[0]), to_row.eq(of_row[1:] | (~of_row[0]).replicate(2)),
        ]
        with m.If(~planned):
            m.d.sync += [
                bad_row.eq(no_row),
                more.eq(nearest), turn.eq(Mux(store, offset - lane, lane - offset)),
                row_end.eq(row_ends & _at_most(to_row, others)),
                run_end.eq(run_ends & _at_most(to_run, others) & _at_most(to_run, to_row)),
                word_end.eq((_at_most(to_word, others) & _at_most(to_word, to_row))
                            | (run_ends & _at_most(to_run, others) & _at_most(to_run, to_row))),
            ]
        with m.If(moves):
            m.d.sync += [
                offset.eq(offset + more + 1), left.eq(left - more - 1),
                row_left.eq(Mux(row_end, width, row_left - more - 1)),
                lane.eq(Mux(row_end, first, lane + more + 1)),
            ]
            with m.If(row_end):
                m.d.sync += row.eq(moved)
            with m.If(run_end):
                m.d.sync += [active.eq(0), due.eq(1)]

        # The bytes, turned to their places.
        collects = Signal()     # a store's piece comes
        mask   = Signal(BUS_BYTES, reset_less=True)
        ends   = Signal(reset_less=True)
        full   = Signal()       # a word is complete
        owed   = Signal()       # the one before is not answered
        chunk  = self.read.data
        if chunked:
            chunk_at = Signal(exact_log2(self.config.act_row_bytes) - OFFSET_BITS, reset_less=True)
            with m.If(moves):
                m.d.sync += chunk_at.eq(lane[OFFSET_BITS:])
            chunk = choose([chunk.word_select(i, 8 * BUS_BYTES)
                            for i in range(self.config.act_row_bytes // BUS_BYTES)], chunk_at)
        source, turned = Signal(8 * BUS_BYTES), Signal(8 * BUS_BYTES)
        m.d.comb += [
            source.eq(Mux(store, chunk, self.words.payload.data)
                      & ~filling.replicate(len(source))),
            turned.eq(rotate_bytes(source, turn)
                      | (fill & filling.replicate(8)).replicate(BUS_BYTES)),
        ]

        # Loads: at the scratchpad in the next cycle, until it takes them.
        ready = {name: getattr(self, name.name.lower()).ready for name in self.shapes}
        stands = Signal()
        stand_row = Signal(max(exact_log2(rows) for rows, _, _ in self.shapes.values()),
                           reset_less=True)
        stand_data = Signal(8 * BUS_BYTES, reset_less=True)
        stand_lanes = Signal(max(row_bytes for _, row_bytes, _ in self.shapes.values()),
                             reset_less=True)
        loads = go_on & ~store & (filling | (self.words.valid & ~self.words.payload.error))
        granted = ~stands | choose(
            [ready.get(Memory(i), Const(0, 1)) for i in range(4)], Cat(memory))
        with m.If(granted):
            m.d.sync += stands.eq(loads)
        reach = lane + more
        lanes = Cat(at_most(lane, i) & ~(at_most(reach, i - 1) if i else Const(0, 1))
                    for i in range(len(stand_lanes)))
        with m.If(granted):
            m.d.sync += [stand_row.eq(row), stand_data.eq(turned), stand_lanes.eq(lanes)]
        for name, (_, row_bytes, _) in self.shapes.items():
            port = getattr(self, name.name.lower())
            m.d.comb += [
                port.valid.eq(stands & (memory == name)),
                port.addr.eq(stand_row),
                port.data.eq(stand_data.replicate(-(-row_bytes // BUS_BYTES))),
                port.mask.eq(stand_lanes[:row_bytes]),
            ]
        may_ask = Signal()      # for words of a load
        m.d.sync += may_ask.eq((active | (given(Field.WORDS) & ~unfit)) & ~store & ~filling
                               & ~self.halt & ~self.wrong)
        taken  = Signal()       # the word that moved last is done with
        m.d.sync += taken.eq(loads & granted & word_end & ~filling)
        m.d.comb += [
            self.words.ready.eq(taken),
            self.asked.valid.eq(may_ask & more_words),
            self.asked.payload.eq(word),
        ]
        asks = self.asked.valid & self.asked.ready

        # Stores: a row is read, its bytes are collected, and the word goes.
        writes = self.stored.valid & self.stored.ready
        m.d.comb += [
            self.read.valid.eq(go_on & store & ~collects & ~full),
            self.read.addr.eq(row),
            moves.eq((loads & granted) | (self.read.valid & self.read.ready)),
            self.stored.valid.eq(full & ~owed),
            self.stored.payload.word.eq(word),
        ]
        m.d.sync += [collects.eq(self.read.valid & self.read.ready),
                     owed.eq(writes | (owed & ~self.answer))]
        with m.If(moves):
            m.d.sync += [ends.eq(word_end), mask.eq(
                Cat(at_most(offset, i) & ~(at_most(offset + more, i - 1) if i else Const(0, 1))
                    for i in range(BUS_BYTES)))]
        strobe = self.stored.payload.strobe
        held, strobes = Signal(8 * BUS_BYTES, reset_less=True), Signal(BUS_BYTES)
        m.d.comb += [strobe.eq(strobes), self.stored.payload.data.eq(held)]
        with m.If(writes):
            m.d.sync += [full.eq(0), strobes.eq(0)]
        with m.If(collects):
            m.d.sync += [strobes.eq(strobes | mask), full.eq(ends)]
            for i in range(BUS_BYTES):
                with m.If(mask[i]):
                    m.d.sync += held[8 * i:8 * i + 8].eq(turned[8 * i:8 * i + 8])
        with m.If(asks | writes):
            m.d.sync += word.eq(word + 1)
        with m.If(asks):
            m.d.sync += [word_left.eq(word_left - 1), more_words.eq(word_left != 1)]

        # The end, and what may be wrong.
        still = due & ~collects & ~full & ~owed & ~stands
        m.d.comb += [self.free.eq(~active & ~due & ~self.wrong),
                     self.done.eq(event & still.replicate(2))]
        with m.If(still):
            m.d.sync += due.eq(0)
        for bad, code in (
                (active & planned & bad_row & ~self.wrong, ErrorCode.SCRATCHPAD_ADDRESS),
                (active & planned & ~store & ~filling & self.words.valid
                 & self.words.payload.error,
                 ErrorCode.READ_RESPONSE),
                (self.answer & self.refused, ErrorCode.WRITE_RESPONSE)):
            with m.If(bad):
                m.d.sync += [self.wrong.eq(1), self.code.eq(code)]
        return m


def _short(count):
    """Whether so many bytes are four or less; and one less of them, if so."""
    return Cat(at_most(count, 4), (count[:2] - 1)[:2])


def _behind(count, more):
    """The same of what is left behind ``more`` and one."""
    few = choose([at_most(count, 5 + i) for i in range(4)], more)
    return Cat(few, (count[:2] - more - 2)[:2])


def _at_most(a, b):
    """``a <= b`` of two bits each, without a carry."""
    return (~a[1] & b[1]) | ((~a[1] | b[1]) & (~a[0] | b[0]))


def _least(a, b):
    return Mux(_at_most(a, b), a, b)[:OFFSET_BITS]
