"""System memory on the chip: an AXI4 slave for the core, single words for the host's link."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Member, Out
from amaranth.utils import exact_log2
from systolith_hw.axi import master_ports
from systolith_hw.config import BusConfig
from systolith_hw.ram import Ram

from ..link.executor import answer_layout, request_layout
from .spram import Spram

__all__ = ["ChipMemory", "link_ports", "slave_ports"]

LINK_BYTES = 4


def slave_ports(config: BusConfig) -> dict[str, Member]:
    """All five AXI4 channels, flat, seen from the slave."""
    return {name: member.flip() for name, member in master_ports(config).items()}


def link_ports(size: int) -> dict[str, Member]:
    """What the host's link asks for, a word of four bytes at a time, and the words it reads."""
    return {
        "request": In(stream.Signature(request_layout(size // LINK_BYTES))),
        "answer": Out(stream.Signature(answer_layout)),
    }


class ChipMemory(wiring.Component):
    """Memory behind AXI4 and behind the link, whose reads go first: it is slow, and seldom there.

    Follows ARM IHI 0022 (AXI4): incrementing bursts of whole words, answers in order. In block
    RAM a read that meets a write of the same word waits a cycle, in the UP5K's single-port memory
    one that meets any write. Addresses wrap at the memory's size rounded up to
    a power of two; nobody may use those beyond its size.

    Timing: the first word of a burst comes four cycles after its address, then one a cycle, also
    from burst to burst; a write is answered the cycle after its last word, and no last word taken
    before the answer to the one before is.

    Parameters
    ----------
    config : BusConfig
    size : int
        Bytes, a multiple of a bus word; 65536 or 131072 of single-port memory.
    single_port : bool
        Whether it is the UP5K's, which needs a bus of 32 bits.

    Members
    -------
    aw*, w*, b*, ar*, r* : AXI4 slave
        See ``systolith_hw.axi``.
    request : ``In(stream)``
        ``address`` of a word of four bytes, and its ``data`` where it is to ``write``.
    answer : ``Out(stream)``
        Words read, in order.
    """
    def __init__(self, *, config: BusConfig, size: int, single_port: bool = False):
        if size < config.data_bytes or size % config.data_bytes:
            raise ValueError(f"size must be a multiple of the {config.data_bytes} bytes of a bus "
                             f"word, not {size!r}")
        if single_port and config.data_bits != 32:
            raise ValueError(f"bus.data_bits must be 32 for single-port memory, not "
                             f"{config.data_bits!r}")
        self.config = config
        self.size = size
        self.single_port = single_port
        super().__init__({**slave_ports(config), **link_ports(size)})

    def elaborate(self, platform):
        m = Module()
        word_bytes = self.config.data_bytes
        lanes = word_bytes // LINK_BYTES
        depth = self.size // word_bytes
        ram = Spram(depth=depth) if self.single_port else Ram(
            depth=depth, width=8 * word_bytes, granularity=8)
        m.submodules.ram = ram
        shift, width = exact_log2(word_bytes), len(ram.read_addr)
        lane_bits = exact_log2(lanes)
        link = self.request.payload
        link_row = link.address[lane_bits:][:width]
        link_lane = link.address[:lane_bits]
        link_write = Signal()

        # Writes: the next word of a burst, or the link's.
        writing = Signal()
        write_row = Signal(width, reset_less=True)
        take = Signal()
        last = Signal()
        m.d.comb += [
            self.wready.eq(writing & ~(self.bvalid & self.wlast)),
            take.eq(self.wvalid & self.wready),
            link_write.eq(self.request.valid & link.write & ~take),
            last.eq(take & self.wlast),
            self.awready.eq(~writing | last),
        ]
        with m.If(self.bready):
            m.d.sync += self.bvalid.eq(0)
        with m.If(last):
            m.d.sync += [self.bvalid.eq(1), writing.eq(0)]
        with m.If(take):
            m.d.sync += write_row.eq(write_row + 1)
        with m.If(self.awvalid & self.awready):
            m.d.sync += [writing.eq(1), write_row.eq(self.awaddr[shift:][:width])]
        # It stands at the RAM in the cycle after.
        written = Signal(width, reset_less=True)
        stands  = Signal()
        enables = Signal(word_bytes, reset_less=True)
        words   = Signal(8 * word_bytes, reset_less=True)
        m.d.sync += [
            written.eq(Mux(link_write, link_row, write_row)),
            stands.eq(link_write | take),
            enables.eq(Mux(link_write, Cat((link_lane == lane).replicate(LINK_BYTES)
                                           for lane in range(lanes)), self.wstrb)),
            words.eq(Mux(link_write, link.data.replicate(lanes), self.wdata)),
        ]
        m.d.comb += [
            ram.write_addr.eq(written),
            ram.write_data.eq(words),
            ram.write_en.eq(Mux(stands, enables, 0)),
        ]

        # Reads: what is asked for stands at the RAM in the cycle after, and its word at the bus or
        # the link two later. The bus waits while the link has not taken its word.
        whose = data.StructLayout({"bus": 1, "link": 1})
        detail = data.StructLayout({"last": 1, "id": 1, "lane": lane_bits})
        reading = Signal()
        left = Signal(8, reset_less=True)
        read_row = Signal(width, reset_less=True)
        ident = Signal(reset_less=True)
        advance = Signal()      # the word that left the RAM last moves on
        go = Signal()           # so does what stands at the RAM
        link_read = Signal()    # the link's turn, a cycle after it came
        fetch = Signal()
        answering = Signal()    # the link waits for a word
        asked = Signal(whose)
        asked_detail = Signal(detail, reset_less=True)
        row = Signal(width, reset_less=True)
        fetched = Signal(whose)
        fetched_detail = Signal(detail, reset_less=True)
        word = Signal(8 * word_bytes, reset_less=True)
        lane = Signal(lane_bits, reset_less=True)
        met = stands if self.single_port else stands & (written == row)     # by a write
        m.d.comb += [
            advance.eq(~self.rvalid | self.rready),
            go.eq(advance & ~met),
            fetch.eq(reading & ~link_read & ~answering),
            ram.read_addr.eq(row),
            ram.read_en.eq(asked.as_value().any() & go),
            self.request.ready.eq(link_write | (link_read & go)),
            self.arready.eq(~reading | (fetch & go & (left == 0))),
        ]
        m.d.sync += link_read.eq(self.request.valid & ~link.write & ~answering
                                 & ~(link_read & go))
        with m.If(self.answer.valid & self.answer.ready):
            m.d.sync += [self.answer.valid.eq(0), answering.eq(0)]
        with m.If(go):
            m.d.sync += [
                asked.bus.eq(fetch),
                asked.link.eq(link_read),
                asked_detail.last.eq(left == 0),
                asked_detail.id.eq(ident),
                asked_detail.lane.eq(link_lane),
                row.eq(Mux(link_read, link_row, read_row)),
            ]
            with m.If(link_read):
                m.d.sync += answering.eq(1)
            with m.If(fetch):
                m.d.sync += [
                    read_row.eq(read_row + 1),
                    left.eq(left - 1),
                    reading.eq(left != 0),
                ]
        with m.If(self.arvalid & self.arready):
            m.d.sync += [
                reading.eq(1),
                read_row.eq(self.araddr[shift:][:width]),
                left.eq(self.arlen),
                ident.eq(self.arid),
            ]
        with m.If(advance):
            m.d.sync += [
                fetched.eq(Mux(go, asked, 0)),
                fetched_detail.eq(asked_detail),
                self.rvalid.eq(fetched.bus),
                self.rlast.eq(fetched_detail.last),
                self.rid.eq(fetched_detail.id),
            ]
            with m.If(fetched.link):
                m.d.sync += self.answer.valid.eq(1)
            with m.If(~self.answer.valid):
                m.d.sync += [lane.eq(fetched_detail.lane), word.eq(ram.read_data)]
        m.d.comb += [
            self.rdata.eq(word),
            self.answer.payload.data.eq(word.word_select(lane, 32)),
        ]
        return m
