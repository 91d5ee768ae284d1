"""The accumulator: adds the array's sums to rows of int32, one row per cycle."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from .cells import check
from .checks import check_int, check_power_of_two
from .ram import Ram

__all__ = ["Accumulator"]


class Accumulator(wiring.Component):
    """Memory of ``rows`` rows of int32, to which one row of sums a cycle is added.

    ``memory[addr] = sums + (0 if first else memory[addr])``, modulo 2**32. The array never waits;
    the vector unit reads when the array leaves the bank's read port free, which it does when it
    stands still, works in the other bank, or overwrites (``first``).

    Timing: ``sums`` come ``AHEAD`` cycles after their ``addr``; ``written`` follows one cycle
    after ``sums``, and the row can be read from the cycle after that. ``read_data`` shows the
    row of a granted read ``READ_LATENCY`` cycles later and holds it until the next::

        cycle   0            1                 2               3             4
                addr, first  RAM answers, or   sums; add them  write, and    readable
                             0 takes its place to the row      ``written``

    A row that comes again less than ``PIPELINE`` cycles later finds its sums not written yet. If
    ``revisit`` says that this can happen, they are forwarded; otherwise nothing is built for it.

    Parameters
    ----------
    rows : int
        Rows, over all banks; a power of two, 16 to 32768.
    cols : int
        The numbers in a row: C, or 2C. 1 to 128.
    banks : int
        1 or 2, by the top address bit.
    sum_bits : int
        Bits of the array's sums, up to 32.
    revisit : int
        Least cycles after which the array comes to a row again: R, the least a tile costs.

    Members
    -------
    valid : ``In(1)``
        A row of sums will come.
    addr : ``In(range(rows))``
        Where it goes.
    first : ``In(1)``
        Overwrite the row.
    sums : ``In(ArrayLayout(signed(sum_bits), cols))``
        What to add, ``AHEAD`` cycles after ``addr``.
    written : ``Out(1)``
        A row has been written. Rows are written in the order of their ``addr``.
    read_valid : ``In(1)``
        Read a row for the vector unit.
    read_addr : ``In(range(rows))``
        Which.
    read_ready : ``Out(1)``
        The read is granted; with ``read_valid`` it happens.
    read_data : ``Out(ArrayLayout(signed(32), cols))``
        The row read last.
    """
    AHEAD = 2         # cycles from addr to sums
    PIPELINE = 4      # cycles from addr until the row can be read again
    READ_LATENCY = 2  # cycles

    def __init__(self, *, rows: int, cols: int, banks: int, sum_bits: int, revisit: int):
        check_power_of_two("rows", rows, 16, 1 << 15)
        check_int("cols", cols, 1, 128)
        check_power_of_two("banks", banks, 1, 2)
        check_int("sum_bits", sum_bits, 1, 32)
        check_int("revisit", revisit, 1, 64)
        self.rows = rows
        self.cols = cols
        self.banks = banks
        self.sum_bits = sum_bits
        self.revisit = revisit
        super().__init__({
            "valid": In(1),
            "addr": In(range(rows)),
            "first": In(1),
            "sums": In(ArrayLayout(signed(sum_bits), cols)),
            "written": Out(1),
            "read_valid": In(1),
            "read_addr": In(range(rows)),
            "read_ready": Out(1),
            "read_data": Out(ArrayLayout(signed(32), cols)),
        })

    def elaborate(self, platform):
        m = Module()
        row_layout = self.read_data.shape()
        rams = [Ram(depth=self.rows // self.banks, width=32 * self.cols)
                for _ in range(self.banks)]
        for i, ram in enumerate(rams):
            m.submodules[f"bank_{i}"] = ram

        # The row's way through the pipeline; index 0 is the cycle of its addr.
        valid = [self.valid, Signal(name="valid_1"), Signal(name="valid_2"),
                 Signal(name="valid_3")]
        addr = [self.addr, *(Signal(range(self.rows), name=f"addr_{i}", reset_less=True)
                             for i in (1, 2, 3))]
        first_1 = Signal(reset_less=True)
        old     = Signal(row_layout, reset_less=True)  # what the row held: at index 2
        new     = Signal(row_layout, reset_less=True)  # what it will hold: at index 3
        for i in (1, 2, 3):
            m.d.sync += [valid[i].eq(valid[i - 1]), addr[i].eq(addr[i - 1])]
        m.d.sync += first_1.eq(self.first)

        # Which rows the array comes back to while their sums are at index 1, 2, 3.
        again = [valid[0] & ~self.first & valid[i] & (addr[0] == addr[i]) for i in (1, 2, 3)]
        for distance, is_again in enumerate(again, 1):
            if distance < self.revisit:
                check(m, platform, ~is_again, "a row may not come again before revisit cycles")

        # Read, or take the sums that are not written yet: from index 4, 3, and for the adder 3.
        array_reads = self.valid & ~self.first
        if self.revisit <= 3:
            array_reads &= ~again[2]  # that row is being written
        found = self._read(m, rams, array_reads)
        if self.revisit <= 3:
            again_3 = Signal()
            last    = Signal(row_layout, reset_less=True)
            m.d.sync += [again_3.eq(again[2]), last.eq(new)]
            found = Mux(again_3, last, found)
        if self.revisit <= 2:
            again_2 = Signal()
            m.d.sync += again_2.eq(again[1])
            found = Mux(again_2, new, found)
        with m.If(first_1):  # a synchronous reset: cheaper than a gate in front of the adder
            m.d.sync += old.eq(0)
        with m.Else():
            m.d.sync += old.eq(found)
        base = old
        if self.revisit == 1:
            again_1 = Signal(2)
            m.d.sync += again_1.eq(Cat(again[0], again_1))
            base = row_layout(Mux(again_1[1], new, old))

        # Add and write.
        for c in range(self.cols):
            m.d.sync += new[c].eq(base[c] + self.sums[c])
        for i, ram in enumerate(rams):
            m.d.comb += [
                ram.write_addr.eq(addr[3]),
                ram.write_data.eq(new),
                ram.write_en.eq(valid[3] & (self._bank(addr[3]) == i)),
            ]
        m.d.comb += self.written.eq(valid[3])
        return m

    def _bank(self, addr):
        """Bank of a row."""
        return addr[-1] if self.banks == 2 else Const(0)

    def _read(self, m, rams, array_reads):
        """Share the read ports; the value is the array's row, one cycle after its address."""
        def of_bank(bank, values):
            return Mux(bank, values[1], values[0]) if self.banks == 2 else values[0]

        grant      = Signal()
        granted    = Signal()
        array_bank = Signal(reset_less=True)
        bank       = Signal(reset_less=True)
        row        = Signal(self.read_data.shape(), reset_less=True)
        busy = [array_reads & (self._bank(self.addr) == i) for i in range(self.banks)]
        m.d.comb += [
            self.read_ready.eq(~of_bank(self._bank(self.read_addr), busy)),
            grant.eq(self.read_valid & self.read_ready),
            self.read_data.eq(row),
        ]
        for i, ram in enumerate(rams):
            m.d.comb += [
                ram.read_en.eq(busy[i] | (grant & (self._bank(self.read_addr) == i))),
                ram.read_addr.eq(Mux(busy[i], self.addr, self.read_addr)),
            ]
        m.d.sync += [
            array_bank.eq(self._bank(self.addr)),
            bank.eq(self._bank(self.read_addr)),
            granted.eq(grant),
        ]
        rows = [ram.read_data for ram in rams]
        with m.If(granted):
            m.d.sync += row.eq(of_bank(bank, rows))
        return of_bank(array_bank, rows)
