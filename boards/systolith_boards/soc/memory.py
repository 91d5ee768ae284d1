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
    """Memory behind AXI4 and behind the link, which goes first: it is slow, and seldom there.

    Follows ARM IHI 0022 (AXI4): incrementing bursts of whole words, answers in order. In block
    RAM a read that meets a write of the same word waits a cycle, in the UP5K's single-port memory
    one that meets any write. Addresses wrap at the memory's size rounded up to
    a power of two; nobody may use those beyond its size.

    Timing: the first word of a burst comes three cycles after its address, then one a cycle, also
    from burst to burst; a write is answered the cycle after its last word.

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
        link_read = Signal()
        link_write = Signal()
        m.d.comb += link_write.eq(self.request.valid & link.write)

        # Writes: the link's word, or the next one of a burst.
        writing = Signal()
        write_row = Signal(width, reset_less=True)
        take = Signal()
        last = Signal()
        m.d.comb += [
            self.wready.eq(writing & ~link_write & (~self.bvalid | self.bready)),
            take.eq(self.wvalid & self.wready),
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

        # Reads: a word leaves the RAM, and stands at the bus or the link a cycle later.
        reading = Signal()
        left = Signal(8, reset_less=True)
        read_row = Signal(width, reset_less=True)
        ident = Signal(reset_less=True)
        advance = Signal()      # the word that left the RAM last moves on
        free  = Signal()        # of a write, at the link's row
        fetch = Signal()
        fetched = Signal(data.StructLayout({"bus": 1, "link": 1}))
        detail = Signal(data.StructLayout({"last": 1, "id": 1, "lane": lane_bits}),
                        reset_less=True)
        word = Signal(8 * word_bytes, reset_less=True)
        lane = Signal(lane_bits, reset_less=True)

        def meets(row):
            """Whether a write is in the way of a read."""
            return stands if self.single_port else stands & (written == row)

        m.d.comb += [
            advance.eq((~self.rvalid | self.rready) & (~self.answer.valid | self.answer.ready)),
            link_read.eq(self.request.valid & ~link.write & advance),
            ram.read_addr.eq(Mux(link_read, link_row, read_row)),
            free.eq(~meets(link_row)),
            fetch.eq(reading & ~link_read & advance & ~meets(read_row)),
            ram.read_en.eq((link_read & free) | fetch),
            self.request.ready.eq(link_write | (link_read & free)),
            self.arready.eq(~reading | (fetch & (left == 0))),
        ]
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
                fetched.bus.eq(fetch),
                fetched.link.eq(link_read & free),
                detail.last.eq(left == 0),
                detail.id.eq(ident),
                detail.lane.eq(link_lane),
                self.rvalid.eq(fetched.bus),
                self.rlast.eq(detail.last),
                self.rid.eq(detail.id),
                self.answer.valid.eq(fetched.link),
                lane.eq(detail.lane),
                word.eq(ram.read_data),
            ]
        m.d.comb += [
            self.rdata.eq(word),
            self.answer.payload.data.eq(word.word_select(lane, 32)),
        ]
        return m
