"""The AXI4 master of a shared sequencer: a word at a time."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import COMMANDS, LOADS, OKAY, master_ports, word_layout
from .bursts import burst_layout
from .config import CoreConfig
from .fifo import Fifo, ShortQueue
from .isa import COMMAND_BYTES
from .narrow import memory_bits

__all__ = ["WordBus"]


class WordBus(wiring.Component):
    """Reads and writes single words; those of commands have room before they are asked for, those
    of loads wait on the bus.

    Follows ARM IHI 0022 (AXI4). Behind a command's word that was read in error no other comes.

    Timing: an address leaves the cycle after it came, one every other cycle at most.

    Members
    -------
    window : ``In(addr_bits)``
        Bus address that word address 0 stands for.
    halt : ``In(1)``
        Ask for nothing more, and drop what comes.
    commands : ``In(stream of bursts)``
        Words of commands to read.
    command_words : ``Out(stream of word_layout)``
    loads : ``In(stream of word addresses)``
        Words to load.
    load_words : ``Out(stream of word_layout)``
    stores : ``In(stream)``
        Words to write.
    answer, refused : ``Out(1)``
        A write is answered; with an error.
    load_word, store_word, command_word : ``Out(1)``
        Pulse for each word that the bus delivers or takes.
    idle : ``Out(1)``
        Nothing is under way.
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        bus = config.bus
        word_bits = memory_bits(config) - exact_log2(bus.data_bytes)
        super().__init__({
            "window": In(bus.addr_bits),
            "halt": In(1),
            "commands": In(stream.Signature(burst_layout(bus.data_bytes))),
            "command_words": Out(stream.Signature(word_layout(bus))),
            "loads": In(stream.Signature(word_bits)),
            "load_words": Out(stream.Signature(word_layout(bus))),
            "stores": In(stream.Signature(data.StructLayout({
                "word": word_bits, "data": bus.data_bits, "strobe": bus.data_bytes}))),
            "answer": Out(1),
            "refused": Out(1),
            "load_word": Out(1),
            "store_word": Out(1),
            "command_word": Out(1),
            "idle": Out(1),
            **master_ports(bus),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        if config.control.prefetch == 1:
            depth = 2
            m.submodules.queue = queue = ShortQueue(shape=config.bus.data_bits, depth=depth)
        else:
            depth = config.control.prefetch * COMMAND_BYTES // config.bus.data_bytes
            m.submodules.queue = queue = Fifo(
                shape=config.bus.data_bits, depth=depth, registered=False)
        size = exact_log2(config.bus.data_bytes)

        def placed(word):
            """Bus address of a word; a window begins at a multiple of 4 KB."""
            return Cat(Const(0, size), word[:12 - size],
                       (self.window[12:] + word[12 - size:])[:len(self.window) - 12])

        # Reads.
        owed   = Signal(range(depth + 1))   # words of commands, asked for and not handed on
        under_way = Signal(range(64))
        broken = Signal()       # a command's word was in error
        halted = Signal()       # in the cycle before
        free   = Signal()
        full   = Signal()       # enough is under way
        fits   = Signal(init=1)     # another word of commands has room
        fetches, loads = Signal(), Signal()
        arrives, mine = Signal(), Signal()
        m.d.comb += [
            free.eq(~self.halt & ~self.arvalid & ~full),
            self.commands.ready.eq(free & fits),
            fetches.eq(self.commands.valid & self.commands.ready),
            self.loads.ready.eq(free & ~fetches),
            loads.eq(self.loads.valid & self.loads.ready),
        ]
        with m.If(self.arready):
            m.d.sync += self.arvalid.eq(0)
        with m.If(fetches | loads):
            m.d.sync += [
                self.arvalid.eq(1), self.arid.eq(Mux(fetches, COMMANDS, LOADS)),
                self.araddr.eq(placed(Mux(fetches, self.commands.payload.word,
                                          self.loads.payload))),
            ]
        hands = self.command_words.valid & self.command_words.ready
        m.d.comb += [
            mine.eq(self.rid == LOADS),
            self.rready.eq(~mine | self.load_words.ready | halted),
            arrives.eq(self.rvalid & self.rready),
            self.load_word.eq(arrives & mine),
            self.command_word.eq(arrives & ~mine),
            self.load_words.valid.eq(self.rvalid & mine),
            self.load_words.payload.data.eq(self.rdata),
            self.load_words.payload.error.eq(self.rresp != OKAY),
            queue.i.valid.eq(self.rvalid & ~mine & (self.rresp == OKAY) & ~broken),
            queue.i.payload.eq(self.rdata),
            self.command_words.valid.eq(queue.o.valid | (broken & queue.empty)),
            self.command_words.payload.data.eq(queue.o.payload),
            self.command_words.payload.error.eq(~queue.o.valid),
            queue.o.ready.eq(self.command_words.ready),
        ]
        with m.If(self.rvalid & ~mine & (self.rresp != OKAY)):
            m.d.sync += broken.eq(1)
        m.d.sync += [
            halted.eq(self.halt),
            full.eq(under_way[2:].all()),
            fits.eq(owed != depth),
            owed.eq(owed + fetches - hands),
            under_way.eq(under_way + (fetches | loads) - arrives),
        ]

        # Writes: the word stays until both channels have had it for a cycle.
        has_address, has_word, owes = Signal(), Signal(), Signal()
        word   = self.stores.payload
        m.d.comb += [
            self.awvalid.eq(self.stores.valid & ~has_address),
            self.wvalid.eq(self.stores.valid & ~has_word),
            self.awaddr.eq(placed(word.word)),
            self.wdata.eq(word.data),
            self.wstrb.eq(word.strobe),
            self.wlast.eq(1),
            self.store_word.eq(self.wvalid & self.wready),
            self.stores.ready.eq(has_address & has_word),
            self.bready.eq(owes),
            self.answer.eq(self.bvalid & owes),
            self.refused.eq(self.bresp != OKAY),
            self.idle.eq((under_way == 0) & ~owes & ~self.stores.valid),
        ]
        going = self.stores.valid & ~self.stores.ready
        m.d.sync += [
            has_address.eq(going & (has_address | self.awready)),
            has_word.eq(going & (has_word | self.wready)),
            owes.eq((has_address & has_word) | (owes & ~self.bvalid)),
        ]
        for prefix in ("ar", "aw"):
            m.d.comb += [
                getattr(self, f"{prefix}size").eq(size),
                getattr(self, f"{prefix}burst").eq(0b01),    # incrementing
                getattr(self, f"{prefix}cache").eq(0b0011),  # bufferable, modifiable
            ]
        return m
