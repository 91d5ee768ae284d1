"""System memory on the chip for a core whose bus carries single words."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from systolith_hw.config import BusConfig
from systolith_hw.ram import Ram

from .memory import link_ports, slave_ports
from .spram import Spram

__all__ = ["WordMemory"]


class WordMemory(wiring.Component):
    """``ChipMemory`` for bursts of one word of four bytes: no part of it waits for another in the
    same cycle.

    Follows ARM IHI 0022 (AXI4): answers in order; the address and the data of a write are taken
    together. The link goes first, then writes. Until a word that the link reads has been taken, the
    bus reads none.

    Timing: a word that is read shows three cycles after its address was taken, two every three
    cycles; a write is answered in the cycle after it was taken.

    Parameters
    ----------
    config : BusConfig
    size : int
        Bytes, a multiple of 4; 65536 or 131072 of single-port memory.
    single_port : bool
        Whether it is the UP5K's.

    Members
    -------
    aw*, w*, b*, ar*, r*, request, answer
        As of ``ChipMemory``.

    Raises
    ------
    ValueError
        The bus has other words, or ``size`` is no multiple of one.
    """
    def __init__(self, *, config: BusConfig, size: int, single_port: bool = False):
        if config.data_bits != 32 or config.max_burst != 1:
            raise ValueError(f"bus must have single words of 32 bits, not "
                             f"{config.max_burst!r} of {config.data_bits!r}")
        if size < 4 or size % 4:
            raise ValueError(f"size must be a multiple of 4, not {size!r}")
        self.size = size
        self.single_port = single_port
        super().__init__({**slave_ports(config), **link_ports(size)})

    def elaborate(self, platform):
        m = Module()
        depth = self.size // 4
        ram = Spram(depth=depth, keeps=False) if self.single_port else Ram(
            depth=depth, width=32, granularity=8)
        m.submodules.ram = ram
        width = len(ram.read_addr)
        link = self.request.payload

        # What is taken stands at the memory in the next cycle, comes a cycle later, and shows.
        writes, reads, links = Signal(), Signal(), Signal()
        row     = Signal(width, reset_less=True)
        enables = Signal(4, reset_less=True)
        written = Signal(32, reset_less=True)
        ident   = Signal(reset_less=True)
        to_bus, to_link = Signal(), Signal()    # it comes
        came_ident = Signal(reset_less=True)
        word    = Signal(32, reset_less=True)
        both, write, read = Signal(), Signal(), Signal()
        turn, asks = Signal(), Signal()     # the link's, a cycle after it came; it is taken
        shows   = (~self.rvalid | self.rready) & ~self.answer.valid
        # Two reads have room, one where it comes; a write would destroy that.
        comes   = to_bus | to_link
        shown   = self.rvalid | self.answer.valid
        still   = ~reads & ~comes
        m.d.comb += [
            both.eq(self.awvalid & self.wvalid & (~self.bvalid | self.bready)),
            write.eq(both & ~turn & still),
            read.eq(self.arvalid & ~both & ~turn
                    & ~((reads & comes) | (reads & shown) | (comes & shown))),
            asks.eq(turn & still),
            self.request.ready.eq(asks),
            self.awready.eq(write),
            self.wready.eq(write),
            self.arready.eq(read),
        ]
        with m.If(self.bready):
            m.d.sync += self.bvalid.eq(0)
        with m.If(write):
            m.d.sync += self.bvalid.eq(1)
        m.d.sync += [
            writes.eq(write | (asks & link.write)),
            reads.eq(read | (asks & ~link.write)),
            turn.eq(self.request.valid & ~asks),
            links.eq(turn),
            to_bus.eq((reads & ~links) | (to_bus & ~shows)),
            to_link.eq((reads & links) | (to_link & ~shows)),
            row.eq(Mux(turn, link.address[:width],
                       Mux(both, self.awaddr[2:], self.araddr[2:])[:width])),
            enables.eq(Mux(turn, ~0, self.wstrb)),
            written.eq(Mux(turn, link.data, self.wdata)),
            ident.eq(self.arid),
        ]
        with m.If(reads):
            m.d.sync += came_ident.eq(ident)
        m.d.comb += [
            ram.write_addr.eq(row),
            ram.write_data.eq(written),
            ram.write_en.eq(Mux(writes, enables, 0)),
            ram.read_addr.eq(row),
            ram.read_en.eq(reads),
        ]
        with m.If(self.answer.ready):
            m.d.sync += self.answer.valid.eq(0)
        with m.If(self.rready):
            m.d.sync += self.rvalid.eq(0)
        with m.If(shows):
            m.d.sync += [self.rvalid.eq(to_bus), self.answer.valid.eq(to_link), word.eq(
                ram.read_data), self.rid.eq(came_ident)]
        m.d.comb += [self.rlast.eq(1), self.rdata.eq(word), self.answer.payload.data.eq(word)]
        return m
