"""Memory beyond the chip: an AXI4 slave for the core, single words for the host's link."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2
from systolith_hw.config import BusConfig
from systolith_hw.fifo import Fifo, ShortQueue

from .memory import LINK_BYTES, link_ports, slave_ports
from .sdram import beat_layout

__all__ = ["ExternalMemory"]


class ExternalMemory(wiring.Component):
    """AXI4 and the link on one memory of bus words, whose answers come when they come.

    The link goes first: it is slow, and seldom there. Bursts of reads and writes take turns while
    there are both, since a memory's bus turns slowly; one whose words do not come, or find no room,
    lets the other pass.

    Follows ARM IHI 0022 (AXI4): incrementing bursts of whole words, answers in order. A write is
    answered when the memory has accepted its last word; what is asked for after that comes after
    it. Addresses wrap at the memory's size.

    Timing: a word to read is offered to the memory two cycles after its burst came, one to write
    two cycles after it came and its burst; one that the memory gave is on the bus in that cycle.

    Parameters
    ----------
    config : BusConfig
    size : int
        Bytes, a power of two of at least a bus word.

    Members
    -------
    aw*, w*, b*, ar*, r* : AXI4 slave
        See ``systolith_hw.axi``.
    request : ``In(stream)``
        ``address`` of a word of four bytes, and its ``data`` where it is to ``write``.
    answer : ``Out(stream)``
        Words read, in order.
    beats : ``Out(stream of beat_layout)``
        Bus words for the memory to read and write.
    words : ``In(stream of data_bits)``
        Those read, in order.
    """
    READS = 32  # words that may be asked for and not be there

    def __init__(self, *, config: BusConfig, size: int):
        if size < config.data_bytes or size & (size - 1):
            raise ValueError(f"size must be a power of two of at least the {config.data_bytes} "
                             f"bytes of a bus word, not {size!r}")
        self.config = config
        self.size = size
        self.beat = beat_layout(config.data_bits, exact_log2(size // config.data_bytes))
        super().__init__({
            **slave_ports(config), **link_ports(size),
            "beats": Out(stream.Signature(self.beat)),
            "words": In(stream.Signature(config.data_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        word_bytes = self.config.data_bytes
        lanes = word_bytes // LINK_BYTES
        lane_bits = exact_log2(lanes)
        shift, width = exact_log2(word_bytes), exact_log2(self.size // word_bytes)
        m.submodules.beats = beats = ShortQueue(shape=self.beat, depth=2)
        # Whose each word is that will come.
        owner = data.StructLayout({"link": 1, "last": 1, "id": 1, "lane": lane_bits})
        m.submodules.owners = owners = Fifo(shape=owner, depth=self.READS)
        # Neither bus nor link hangs on who is next.
        m.submodules.asked = asked = ShortQueue(depth=1, shape=self.request.payload.shape())
        m.submodules.written = written = ShortQueue(depth=2, shape=data.StructLayout({
            "data": self.config.data_bits, "strobe": word_bytes, "last": 1}))
        offers = {name: Signal(name=f"{name}_offers") for name in ("link", "write", "read")}
        takes = {name: Signal(name=f"{name}_takes") for name in offers}
        link = asked.o.payload
        link_lane = link.address[:lane_bits]
        word = written.o.payload
        writing, reading = Signal(), Signal()       # a burst has begun
        write_row = Signal(width, reset_less=True)
        read_row = Signal(width, reset_less=True)
        left = Signal(8, reset_less=True)
        write_id, read_id = Signal(reset_less=True), Signal(reset_less=True)
        turn = Signal()                             # writes go before reads

        # Who is next.
        wiring.connect(m, wiring.flipped(self.request), asked.i)
        m.d.comb += [
            offers["link"].eq(asked.o.valid & (link.write | owners.i.ready)),
            written.i.valid.eq(self.wvalid),
            written.i.payload.data.eq(self.wdata),
            written.i.payload.strobe.eq(self.wstrb),
            written.i.payload.last.eq(self.wlast),
            self.wready.eq(written.i.ready),
            offers["write"].eq(writing & written.o.valid & ~(self.bvalid & word.last)),
            offers["read"].eq(reading & owners.i.ready),
        ]
        with m.If(beats.i.ready):
            with m.If(offers["link"]):
                m.d.comb += takes["link"].eq(1)
            with m.Elif(offers["write"] & (turn | ~offers["read"])):
                m.d.comb += takes["write"].eq(1)
            with m.Elif(offers["read"]):
                m.d.comb += takes["read"].eq(1)
        chosen = beats.i.payload
        read_takes = takes["read"] | (takes["link"] & ~link.write)
        m.d.comb += [
            beats.i.valid.eq(Cat(*takes.values()).any()),
            chosen.write.eq(~read_takes),
            chosen.address.eq(Mux(takes["link"], link.address[lane_bits:],
                                  Mux(takes["write"], write_row, read_row))),
            chosen.data.eq(Mux(takes["link"], link.data.replicate(lanes), word.data)),
            chosen.strobe.eq(Mux(
                takes["link"],
                Cat((link_lane == lane).replicate(LINK_BYTES) for lane in range(lanes)),
                word.strobe)),
            owners.i.valid.eq(read_takes),
            owners.i.payload.link.eq(takes["link"]),
            owners.i.payload.lane.eq(link_lane),
            owners.i.payload.last.eq(left == 0),
            owners.i.payload.id.eq(read_id),
            asked.o.ready.eq(takes["link"]),
            written.o.ready.eq(takes["write"]),
            self.beats.valid.eq(beats.o.valid),
            self.beats.payload.eq(beats.o.payload),
            beats.o.ready.eq(self.beats.ready),
        ]

        # Writes.
        last_write = takes["write"] & word.last
        m.d.comb += self.awready.eq(~writing | last_write)
        with m.If(self.bready):
            m.d.sync += self.bvalid.eq(0)
        with m.If(takes["write"]):
            m.d.sync += [write_row.eq(write_row + 1), turn.eq(~word.last)]
        with m.If(last_write):
            m.d.sync += [self.bvalid.eq(1), self.bid.eq(write_id), writing.eq(0)]
        with m.If(self.awvalid & self.awready):
            m.d.sync += [writing.eq(1), write_row.eq(self.awaddr[shift:][:width]),
                         write_id.eq(self.awid)]

        # Reads.
        last_read = takes["read"] & (left == 0)
        m.d.comb += self.arready.eq(~reading | last_read)
        with m.If(takes["read"]):
            m.d.sync += [read_row.eq(read_row + 1), left.eq(left - 1), turn.eq(left == 0)]
        with m.If(last_read):
            m.d.sync += reading.eq(0)
        with m.If(self.arvalid & self.arready):
            m.d.sync += [reading.eq(1), read_row.eq(self.araddr[shift:][:width]),
                         left.eq(self.arlen), read_id.eq(self.arid)]

        # Words that were read.
        whose = owners.o.payload
        there = owners.o.valid & self.words.valid
        m.d.comb += [
            self.rvalid.eq(there & ~whose.link),
            self.rdata.eq(self.words.payload),
            self.rlast.eq(whose.last),
            self.rid.eq(whose.id),
            self.answer.valid.eq(there & whose.link),
            self.answer.payload.data.eq(self.words.payload.word_select(whose.lane, 32)),
            self.words.ready.eq(owners.o.valid & Mux(whose.link, self.answer.ready, self.rready)),
            owners.o.ready.eq(self.words.valid & self.words.ready),
        ]
        return m
