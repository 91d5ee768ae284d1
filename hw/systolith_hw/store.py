"""The store engine: activation scratchpad to system memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import write_tag
from .bursts import BurstSplitter, burst_layout
from .choose import choose
from .config import CoreConfig
from .fifo import Fifo
from .isa import COMMANDS, ErrorCode, Opcode
from .record import RECORD_BITS, Record, engine_ports
from .scratchpad import ReadPort, Scratchpad
from .semaphore import Raiser
from .transfer import ROW_BITS, RunWalker, lane_bits, ring_row, rotate_bytes

__all__ = ["StoreEngine"]


class StoreEngine(wiring.Component):
    """Walks a command's runs, reads their rows and packs them into bus words.

    As many bytes per cycle as come from one row and go to one bus word. A raise happens when
    memory has answered the last burst of the iteration.

    Timing: the first word leaves about ten cycles after the command came.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its last run has been read.
    window_bytes : ``In(32)``
        Size of the window.
    halt : ``In(1)``
        Stop.
    act : ``Out(ReadPort)``
        To the scratchpad.
    bursts, words : ``Out(stream)``
        To ``AxiWriter``.
    done : ``In(stream)``
        From ``AxiWriter``.
    wait, raise_ : ``Out(stream of number)``
        To the semaphores.
    raise_index : ``Out(INDEX_BITS)``
        The command that raises.
    busy, blocked, waiting, idle : ``Out(1)``
        Bytes were read this cycle; the next waits for a
        semaphore; the same and nothing else moves; nothing is inside.
    error : ``Out(error_layout)``
    """
    WORDS = 32  # bus words between scratchpad and bus

    def __init__(self, *, config: CoreConfig):
        self.config = config
        bus = config.bus
        super().__init__({
            "command": In(stream.Signature(RECORD_BITS)),
            "window_bytes": In(32),
            "halt": In(1),
            "act": Out(ReadPort(addr_bits=exact_log2(config.memory.act_rows),
                                width=8 * config.act_row_bytes)),
            "bursts": Out(stream.Signature(data.StructLayout({
                "burst": burst_layout(bus.data_bytes), "tag": write_tag}))),
            "words": Out(stream.Signature(data.StructLayout({
                "data": bus.data_bits, "strobe": bus.data_bytes}))),
            "done": In(stream.Signature(data.StructLayout({"tag": write_tag, "error": 1}))),
            **engine_ports(),
        })

    def elaborate(self, platform):
        m = Module()
        bus_bytes = self.config.bus.data_bytes
        pad_bytes = self.config.act_row_bytes
        offset_bits = exact_log2(bus_bytes)
        lane_width = lane_bits(self.config)
        word_layout = self.words.payload.shape()
        record = Record(COMMANDS[Opcode.STORE], self.command.payload)
        m.submodules.walker = walker = RunWalker(config=self.config, opcode=Opcode.STORE)
        m.submodules.splitter = splitter = BurstSplitter(
            data_bytes=bus_bytes, max_burst=self.config.bus.max_burst)
        m.submodules.words = words = Fifo(shape=word_layout, depth=self.WORDS)
        m.submodules.raiser = raiser = Raiser()
        wiring.connect(m, walker.wait, wiring.flipped(self.wait))
        wiring.connect(m, raiser.raise_, wiring.flipped(self.raise_))
        m.d.comb += self.raise_index.eq(raiser.raise_index)
        wiring.connect(m, words.o, wiring.flipped(self.words))

        # Every run goes to the splitter, for its addresses, and to the reader of rows.
        walking = Signal()
        walked = Signal()
        tag    = Signal(write_tag, reset_less=True)
        run    = walker.run.payload
        accept = Signal()  # the reader can begin a run
        m.d.comb += [
            walker.command.eq(self.command.payload),
            walker.window_bytes.eq(self.window_bytes),
            walker.start.eq(self.command.valid & ~walking & ~walked & ~self.halt),
            walker.run.ready.eq(accept & splitter.run.ready & ~self.halt),
            splitter.run.valid.eq(walker.run.valid & walker.run.ready),
            splitter.run.payload.address.eq(run.address),
            splitter.run.payload.bytes.eq(record["run_bytes"]),
            self.bursts.valid.eq(splitter.burst.valid),
            splitter.burst.ready.eq(self.bursts.ready),
            self.bursts.payload.burst.eq(splitter.burst.payload),
            self.bursts.payload.tag.eq(tag),
            self.bursts.payload.tag.event.eq(Mux(splitter.burst.payload.last, tag.event, 0)),
        ]
        begin = walker.run.valid & walker.run.ready
        with m.If(walker.start):
            m.d.sync += walking.eq(1)
        with m.Elif(walker.walked):
            m.d.sync += [walking.eq(0), walked.eq(1)]
        with m.If(begin):
            m.d.sync += [
                tag.event.eq(run.event),
                tag.number.eq(record.slots("raise")[1]),
                tag.index.eq(record.index),
            ]

        # Through the rows of the run, at most to the end of the bus word each cycle.
        inside = Signal()
        row    = Signal(ROW_BITS, reset_less=True)
        first_lane = Signal(lane_width, reset_less=True)
        lane   = Signal(lane_width, reset_less=True)
        offset = Signal(offset_bits, reset_less=True)
        row_left = Signal(lane_width, reset_less=True)
        rest   = Signal(16, reset_less=True)
        word_left = Signal(lane_width)
        count  = Signal(lane_width)
        row_end, word_end, run_end = Signal(), Signal(), Signal()
        step   = Signal()
        next_row = Signal(lane_width)
        to_word_end = bus_bytes - offset
        if pad_bytes > bus_bytes:  # one bus word's worth of a row at a time
            to_chunk_end = bus_bytes - lane[:offset_bits]
            to_word_end = Mux(to_chunk_end < to_word_end, to_chunk_end, to_word_end)
        m.d.comb += [
            word_left.eq(to_word_end),
            row_end.eq(row_left <= word_left),
            count.eq(Mux(row_end, row_left, word_left)),
            run_end.eq(row_end & (rest == 0)),
            word_end.eq(run_end | (offset + count == bus_bytes)),
            next_row.eq(Mux(rest < record["row_bytes"], rest, record["row_bytes"])),
            accept.eq(~inside | (step & run_end)),
            self.command.ready.eq(walked & (~inside | (step & run_end))),
        ]
        with m.If(self.command.ready):
            m.d.sync += walked.eq(0)
        with m.If(step):
            m.d.sync += [
                offset.eq(offset + count),
                lane.eq(lane + count),
                row_left.eq(row_left - count),
            ]
            with m.If(row_end):
                m.d.sync += [
                    row.eq(row + record["row_step"]),
                    lane.eq(first_lane),
                    row_left.eq(next_row),
                    rest.eq(rest - next_row),
                ]
            with m.If(run_end):
                m.d.sync += inside.eq(0)
        with m.If(begin):
            first_row = Mux(record["run_bytes"] < record["row_bytes"],
                            record["run_bytes"], record["row_bytes"])
            m.d.sync += [
                inside.eq(1),
                row.eq(run.row),
                first_lane.eq(run.lane),
                lane.eq(run.lane),
                offset.eq(run.address[:offset_bits]),
                row_left.eq(first_row),
                rest.eq(record["run_bytes"] - first_row),
            ]

        # The read, with room for its word reserved.
        space = Signal(range(self.WORDS + 1), init=self.WORDS)
        base_row = (record["pad_base"] >> exact_log2(pad_bytes))[:ROW_BITS]
        wrapped = ring_row(row, base_row, record["ring", 0])
        bad_row = Signal()
        m.d.comb += [
            bad_row.eq(inside & (wrapped[exact_log2(self.config.memory.act_rows):] != 0)),
            self.act.valid.eq(inside & ~bad_row & (space != 0) & ~self.halt),
            self.act.addr.eq(wrapped),
            step.eq(self.act.valid & self.act.ready),
            self.busy.eq(step),
        ]
        m.d.sync += space.eq(space - (step & word_end) + (words.o.valid & words.o.ready))

        # The row comes: turn its bytes to their places in the word, and collect the word.
        place = data.StructLayout({
            "lane": lane_width, "offset": offset_bits, "end": offset_bits + 1, "word_end": 1})
        moving = Signal(place)
        valid = Signal()
        m.d.comb += [
            moving.lane.eq(lane), moving.offset.eq(offset), moving.end.eq(offset + count),
            moving.word_end.eq(word_end), valid.eq(step),
        ]
        under_way = valid
        for stage in range(Scratchpad.READ_LATENCY):
            delayed = Signal(place, name=f"place{stage}", reset_less=True)
            delayed_valid = Signal(name=f"place_valid{stage}")
            m.d.sync += [delayed.eq(moving), delayed_valid.eq(valid)]
            moving, valid = delayed, delayed_valid
            under_way = under_way | valid
        chunk = self.act.data
        if pad_bytes > bus_bytes:
            chunks = [chunk[8 * i:8 * (i + bus_bytes)] for i in range(0, pad_bytes, bus_bytes)]
            chunk = choose(chunks, moving.lane[offset_bits:exact_log2(pad_bytes)])
        elif pad_bytes < bus_bytes:
            chunk = Cat(chunk, Const(0, 8 * (bus_bytes - pad_bytes)))
        word = Signal(word_layout, reset_less=True)
        collected = Signal(bus_bytes)
        word_valid = Signal()
        turned = Signal(8 * bus_bytes)
        m.d.comb += turned.eq(rotate_bytes(chunk, (moving.offset - moving.lane)[:offset_bits]))
        mask = Cat((moving.offset < i + 1 if i + 1 < bus_bytes else 1) & (i < moving.end)
                   for i in range(bus_bytes))
        with m.If(valid):
            for i in range(bus_bytes):
                with m.If(mask[i]):
                    m.d.sync += word.data[8 * i:8 * i + 8].eq(turned[8 * i:8 * i + 8])
            m.d.sync += [
                word.strobe.eq(collected | mask),
                collected.eq(Mux(moving.word_end, 0, collected | mask)),
            ]
        m.d.sync += word_valid.eq(valid & moving.word_end)
        m.d.comb += [words.i.valid.eq(word_valid), words.i.payload.eq(word)]

        # Memory's answers.
        tag_done = self.done.payload.tag
        bursts_out = Signal(range(self.config.bus.write_bursts + 1))
        m.d.sync += bursts_out.eq(bursts_out + (self.bursts.valid & self.bursts.ready)
                                  - (self.done.valid & self.done.ready))
        m.d.comb += [
            self.done.ready.eq(raiser.ready | ~tag_done.event.any() | self.halt),
            raiser.event.eq(Mux(self.done.valid & ~self.halt, tag_done.event, 0)),
            raiser.number.eq(tag_done.number),
            raiser.index.eq(tag_done.index),
        ]
        still = (~inside & ~under_way & ~word_valid & words.empty & splitter.idle
                 & (bursts_out == 0) & ~raiser.pending)
        m.d.comb += [
            self.blocked.eq(walker.waiting),
            self.waiting.eq(walker.waiting & still),
            self.idle.eq(~self.command.valid & still),
            self.error.eq(walker.error),
        ]
        with m.If(bad_row):
            m.d.comb += [
                self.error.valid.eq(1),
                self.error.code.eq(ErrorCode.SCRATCHPAD_ADDRESS),
                self.error.index.eq(record.index),
            ]
        with m.If(self.done.valid & self.done.payload.error):
            m.d.comb += [
                self.error.valid.eq(1),
                self.error.code.eq(ErrorCode.WRITE_RESPONSE),
                self.error.index.eq(tag_done.index),
            ]
        return m
