"""The store engine: activation scratchpad to system memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .axi import write_tag
from .bursts import BurstSplitter, burst_layout
from .choose import at_most, choose
from .config import CoreConfig
from .fifo import Fifo, ShortQueue
from .isa import ErrorCode, Opcode
from .narrow import memory_bits
from .record import RECORD_BITS, engine_ports
from .runqueue import RunQueue
from .scratchpad import ReadPort, Scratchpad
from .semaphore import Raiser
from .transfer import RunStepper, RunWalker, lane_bits, rotate_bytes

__all__ = ["StoreEngine"]


class StoreEngine(wiring.Component):
    """Walks a command's runs, reads their rows and packs them into bus words.

    As many bytes per cycle as come from one row and go to one bus word, without a gap between runs,
    and with a cycle between commands whose runs take one each. A raise happens when memory has
    answered the last burst of the iteration.

    Timing: the first row is read six cycles after the command came; a word is offered seven
    cycles after its last row was read.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its first run is next.
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
        Bytes were read this cycle; the next wait for a semaphore; the same and nothing else moves;
        nothing is inside.
    waiting_index : ``Out(INDEX_BITS)``
        The command that waits.
    error : ``Out(error_layout)``
    """
    WORDS = 32  # bus words between scratchpad and bus; in a compact core one

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
        compact = self.config.control.compact
        word_layout = self.words.payload.shape()
        m.submodules.walker = walker = RunWalker(config=self.config, opcode=Opcode.STORE)
        m.submodules.splitter = splitter = BurstSplitter(
            data_bytes=bus_bytes, max_burst=self.config.bus.max_burst,
            address_bits=memory_bits(self.config))
        # A row that is wider than a bus word is read one word's worth at a time.
        m.submodules.stepper = stepper = RunStepper(
            config=self.config, chunk_bytes=bus_bytes if pad_bytes > bus_bytes else None)
        m.submodules.raiser = raiser = Raiser(held=compact)
        wiring.connect(m, wiring.flipped(self.command), walker.command)
        wiring.connect(m, walker.wait, wiring.flipped(self.wait))
        wiring.connect(m, raiser.raise_, wiring.flipped(self.raise_))
        m.d.comb += self.raise_index.eq(raiser.raise_index)

        # Every run goes to the splitter, for its addresses, and to the stepper, for its rows.
        runs, settings, waits = stepper.run, walker.settings, Const(0)
        if compact:
            m.d.comb += stepper.settings.eq(settings)
        else:
            m.submodules.runs = queue = RunQueue(config=self.config, depth=2)
            wiring.connect(m, queue.o, stepper.run)
            runs, waits = queue.i, ~queue.empty
            m.d.comb += [queue.settings.eq(settings), stepper.settings.eq(queue.now)]
        taken, none_taken = self.bursts, Const(1)
        if not compact:
            m.submodules.bursts = bursts = ShortQueue(shape=taken.payload.shape(), depth=2)
            wiring.connect(m, bursts.o, wiring.flipped(taken))
            taken, none_taken = bursts.i, bursts.empty
        tag = Signal(write_tag, reset_less=True)
        run = walker.run.payload
        go = walker.run.valid & walker.run.ready
        m.d.comb += [
            walker.window_bytes.eq(self.window_bytes),
            walker.run.ready.eq(runs.ready & splitter.run.ready & ~self.halt),
            runs.valid.eq(go),
            runs.payload.row.eq(run.row),
            runs.payload.lane.eq(run.lane),
            runs.payload.offset.eq(run.address[:offset_bits]),
            runs.payload.first.eq(run.first),
            splitter.run.valid.eq(go),
            splitter.run.payload.address.eq(run.address),
            splitter.run.payload.bytes.eq(settings.run_bytes),
            # Nothing of a run whose address is not allowed.
            taken.valid.eq(splitter.burst.valid & ~walker.error.valid),
            splitter.burst.ready.eq(taken.ready),
            taken.payload.burst.eq(splitter.burst.payload),
            taken.payload.tag.eq(tag),
            taken.payload.tag.event.eq(Mux(splitter.burst.payload.last, tag.event, 0)),
        ]
        with m.If(go):
            m.d.sync += tag.event.eq(run.event)
            if not compact:
                m.d.sync += [tag.number.eq(settings.number), tag.index.eq(settings.index)]

        # The read, with room for its word reserved.
        piece = stepper.piece.payload
        place = data.StructLayout({
            "lane": lane_width, "offset": offset_bits, "last": offset_bits, "word_end": 1})
        read_layout = data.StructLayout({"row": len(self.act.addr), "place": place})
        wanted = stream.Signature(read_layout).create()
        reads = wanted
        if not compact:
            m.submodules.reads = queue = ShortQueue(shape=read_layout, depth=2)
            wiring.connect(m, wanted, queue.i)
            reads = queue.o
        read  = reads.payload
        step  = Signal()
        leaves = Signal()   # a word has gone to the bus
        room  = 1 if compact else self.WORDS
        space = Signal(signed(bits_for(room) + 1), init=room - 1)   # words, less one
        bad_row = Signal()
        m.d.comb += [
            bad_row.eq(stepper.piece.valid & piece.outside),
            wanted.valid.eq(stepper.piece.valid & ~piece.outside),
            stepper.piece.ready.eq(wanted.ready & ~piece.outside),
            wanted.payload.row.eq(piece.row),
            wanted.payload.place.lane.eq(piece.lane),
            wanted.payload.place.offset.eq(piece.offset),
            wanted.payload.place.last.eq(piece.offset + piece.more),
            wanted.payload.place.word_end.eq(piece.word_end),
            self.act.valid.eq(reads.valid & ~space[-1] & ~self.halt),
            self.act.addr.eq(read.row),
            step.eq(self.act.valid & self.act.ready),
            reads.ready.eq(step),
            self.busy.eq(step),
        ]
        m.d.sync += space.eq(space - (step & read.place.word_end) + leaves)

        # The row comes: turn its bytes to their places in the word, and collect the word.
        moving, valid = read.place, step
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
        mask = Cat(at_most(moving.offset, i) & (~at_most(moving.last, i - 1) if i else 1)
                   for i in range(bus_bytes))
        with m.If(valid):
            for i in range(bus_bytes):
                with m.If(mask[i]):
                    m.d.sync += word.data[8 * i:8 * i + 8].eq(turned[8 * i:8 * i + 8])
            m.d.sync += [
                word.strobe.eq(collected | mask),
                collected.eq(Mux(moving.word_end, 0, collected | mask)),
            ]
        complete = valid & moving.word_end
        if compact:
            none = Const(1)
            m.d.comb += [self.words.valid.eq(word_valid), self.words.payload.eq(word)]
            m.d.sync += word_valid.eq(complete | (word_valid & ~self.words.ready))
        else:
            m.submodules.words = words = Fifo(shape=word_layout, depth=self.WORDS)
            none = words.empty
            wiring.connect(m, words.o, wiring.flipped(self.words))
            m.d.comb += [words.i.valid.eq(word_valid), words.i.payload.eq(word)]
            m.d.sync += word_valid.eq(complete)
        m.d["comb" if compact else "sync"] += leaves.eq(self.words.valid & self.words.ready)

        # Memory's answers.
        tag_done = self.done.payload.tag
        done_of = settings if compact else tag_done     # what says the number and the index
        bursts_out = Signal(range(self.config.bus.write_bursts + 1))
        m.d.sync += bursts_out.eq(bursts_out + (self.bursts.valid & self.bursts.ready)
                                  - (self.done.valid & self.done.ready))
        m.d.comb += [
            self.done.ready.eq(raiser.ready | ~tag_done.event.any() | self.halt),
            raiser.event.eq(Mux(self.done.valid & ~self.halt, tag_done.event, 0)),
            raiser.due.eq(self.done.valid & self.done.ready & tag_done.event.any() & ~self.halt),
            raiser.number.eq(done_of.number),
            raiser.index.eq(done_of.index),
        ]
        still = (stepper.idle & ~waits & ~reads.valid & ~under_way & ~word_valid & none
                 & splitter.idle & none_taken & (bursts_out == 0) & ~raiser.pending)
        m.d.comb += [
            self.blocked.eq(walker.waiting),
            self.waiting.eq(walker.waiting & still),
            self.waiting_index.eq(settings.index),
            self.idle.eq(~self.command.valid & walker.idle & still),
            self.error.eq(walker.error),
        ]
        with m.If(bad_row):
            m.d.comb += [
                self.error.valid.eq(1),
                self.error.code.eq(ErrorCode.SCRATCHPAD_ADDRESS),
                self.error.index.eq(stepper.now.index),
            ]
        with m.If(self.done.valid & self.done.payload.error):
            m.d.comb += [
                self.error.valid.eq(1),
                self.error.code.eq(ErrorCode.WRITE_RESPONSE),
                self.error.index.eq(done_of.index),
            ]
        return m
