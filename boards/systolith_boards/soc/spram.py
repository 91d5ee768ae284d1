"""The UP5K's single-port memory, with the ports of a block RAM."""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_hw.cells import check, has_vendor_cells
from systolith_hw.ram import Ram

__all__ = ["Spram"]

ROWS = 1 << 14  # of an SB_SPRAM256KA, 16 bits each
BITS = 16


class Spram(wiring.Component):
    """Rows of 32 bits in SB_SPRAM256KAs; one of them is written or read in a cycle.

    Contents are undefined until written. A write and a read in the same cycle are forbidden.

    Source: Lattice FPGA-TN-02022, "iCE40 SPRAM Usage Guide": a read takes a cycle, and the output
    is undefined after a write, so that it is kept here, unless nobody needs it then.

    Timing: as of ``systolith_hw.ram.Ram``.

    Parameters
    ----------
    depth : int
        Rows: 16384 or 32768, of 2 or 4 cells.
    keeps : bool
        Whether ``read_data`` stays as it is over a write.

    Members
    -------
    write_addr, write_data, write_en, read_addr, read_en, read_data
        As of ``Ram`` with ``granularity=8``.
    """
    def __init__(self, *, depth: int, keeps: bool = True):
        if depth not in (ROWS, 2 * ROWS):
            raise ValueError(f"depth must be {ROWS} or {2 * ROWS}, not {depth!r}")
        self.depth = depth
        self.keeps = keeps
        super().__init__({
            "write_addr": In(range(depth)),
            "write_data": In(32),
            "write_en": In(4),
            "read_addr": In(range(depth)),
            "read_en": In(1),
            "read_data": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        check(m, platform, ~(self.write_en.any() & self.read_en),
              "a single-port memory may not be read in the cycle of a write")
        if has_vendor_cells(platform):
            self._cells(m)
            return m
        m.submodules.ram = ram = Ram(depth=self.depth, width=32, granularity=8)
        m.d.comb += [
            ram.write_addr.eq(self.write_addr),
            ram.write_data.eq(self.write_data),
            ram.write_en.eq(self.write_en),
            ram.read_addr.eq(self.read_addr),
            ram.read_en.eq(self.read_en),
            self.read_data.eq(ram.read_data),
        ]
        return m

    def _cells(self, m):
        address = Signal(range(self.depth))
        writes = self.write_en.any()
        m.d.comb += address.eq(Mux(writes, self.write_addr, self.read_addr))
        banks = self.depth // ROWS
        bank = address[14:] if banks > 1 else Const(0, 1)
        outputs = []
        for number in range(banks):
            output = Signal(32, name=f"output_{number}")
            for half in range(2):
                enables = self.write_en[2 * half:2 * half + 2]
                m.submodules[f"cell_{number}_{half}"] = Instance(
                    "SB_SPRAM256KA",
                    i_ADDRESS=address[:14],
                    i_DATAIN=self.write_data.word_select(half, BITS),
                    i_MASKWREN=Cat(enable.replicate(2) for enable in enables),
                    i_WREN=writes,
                    i_CHIPSELECT=(bank == number) & (writes | self.read_en),
                    i_CLOCK=ClockSignal(),
                    i_STANDBY=Const(0), i_SLEEP=Const(0), i_POWEROFF=Const(1),
                    o_DATAOUT=output.word_select(half, BITS))
            outputs.append(output)
        read_bank = Signal.like(bank, name="read_bank", reset_less=True)
        with m.If(self.read_en):
            m.d.sync += read_bank.eq(bank)
        chosen = Mux(read_bank, outputs[-1], outputs[0]) if banks > 1 else outputs[0]
        if not self.keeps:
            m.d.comb += self.read_data.eq(chosen)
            return
        fresh = Signal()
        kept = Signal(32, reset_less=True)
        m.d.sync += fresh.eq(self.read_en)
        m.d.comb += self.read_data.eq(Mux(fresh, chosen, kept))
        with m.If(fresh):
            m.d.sync += kept.eq(chosen)
