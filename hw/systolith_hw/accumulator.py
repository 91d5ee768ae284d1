"""The accumulator: adds the array's sums to rows of int32, one row per cycle."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .cells import check
from .checks import check_int, check_power_of_two
from .choose import choose
from .pipe import Pipe
from .ram import Ram

__all__ = ["Accumulator"]


class Accumulator(wiring.Component):
    """Memory of ``rows`` rows of int32, to which one row of sums a cycle is added.

    ``memory[addr] = sums + (0 if first else memory[addr])``, modulo 2**32. The array never waits;
    the vector unit reads when the array leaves the bank's read port free, which it does when it
    stands still, works in the other bank, or overwrites (``first``).

    Timing: ``sums`` come ``AHEAD`` cycles after their ``addr``; ``written`` follows one cycle
    after ``sums``, and the row can be read from that cycle on. ``read_data`` shows the row of a
    granted read ``READ_LATENCY`` cycles later and holds it until the next::

        cycle   0            1         2             3           4                 5
                addr, first  bank is   bank answers  its output  sums; add them    write, and
                             asked                   register    to the row, or 0  ``written``

    A row that comes again less than ``WRITE`` cycles later finds its sums not written yet. If
    ``revisit`` says that this can happen, they are forwarded; otherwise nothing is built for it.
    ``late``, the bank is asked for the array in cycle 3 and answers in time for the addition, so
    that it suffices when a row comes again ``WRITE - 2`` cycles later.

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
    late : bool
        Whether a read waits before its bank rather than behind it: fewer registers, at a slower
        clock.
    single : bool
        Whether the vector unit reads one number of a row, that in column ``read_col``, which is 0
        beyond the last one.

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
    read_col : ``In``
        Only where ``single``: until ``READ_LATENCY`` cycles after the grant.
    read_ready : ``Out(1)``
        The read is granted; with ``read_valid`` it happens.
    read_data : ``Out(ArrayLayout(signed(32), cols))``
        The row read last.
    """
    AHEAD = 4               # cycles from addr to sums
    WRITE = AHEAD + 1       # cycles from addr until the row is written
    READ_LATENCY = 4        # cycles

    def __init__(self, *, rows: int, cols: int, banks: int, sum_bits: int, revisit: int,
                 late: bool = False, single: bool = False):
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
        self.late = late
        self.single = single
        self.written_after = self.WRITE - 2 * late     # cycles after which a row finds its sums
        super().__init__({
            "valid": In(1),
            "addr": In(range(rows)),
            "first": In(1),
            "sums": In(ArrayLayout(signed(sum_bits), cols)),
            "written": Out(1),
            "read_valid": In(1),
            "read_addr": In(range(rows)),
            **({"read_col": In(ceil_log2(cols))} if single else {}),
            "read_ready": Out(1),
            "read_data": Out(ArrayLayout(signed(32), 1 if single else cols)),
        })

    def elaborate(self, platform):
        m = Module()
        row_layout = ArrayLayout(signed(32), self.cols)
        rams = [Ram(depth=self.rows // self.banks, width=32 * self.cols)
                for _ in range(self.banks)]
        for i, ram in enumerate(rams):
            m.submodules[f"bank_{i}"] = ram

        # The row's way through the pipeline; stage 0 is the cycle of its addr.
        pipe = Pipe(m)
        pipe.start("valid", self.valid, reset_less=False)
        pipe.start("addr", self.addr)
        pipe.start("first", self.first)
        new = Signal(row_layout, reset_less=True)   # what it will hold: in the stage WRITE
        pipe.start("new", new)

        # Which rows the array comes back to before they are written.
        for distance in range(1, self.written_after):
            again = Signal(name=f"again{distance}")
            m.d.comb += again.eq(self.valid & ~self.first & pipe.at("valid", distance)
                                 & (self.addr == pipe.at("addr", distance)))
            pipe.start(f"again{distance}", again)
            if distance < self.revisit:
                check(m, platform, ~again, "a row may not come again before revisit cycles")

        # Read, or take the sums that are not written yet: those of the nearest row before.
        place = self.AHEAD - (not self.late)    # the stage in which the bank has answered
        least = self.AHEAD - place + 1          # the nearest row whose sums are there then
        found = self._read(m, rams, pipe)
        for distance in reversed(range(max(self.revisit, least), self.written_after)):
            found = Mux(pipe.at(f"again{distance}", place),
                        pipe.at("new", distance - least), found)
        base = row_layout(found)
        sole = Const(0)     # the row is overwritten, and what it held is not 0
        if self.late:
            sole = pipe.at("first", place)  # beside a cell's carry there is room for a gate
        else:
            base = old = Signal(row_layout, reset_less=True)    # what the row held
            with m.If(pipe.at("first", place)):
                m.d.sync += old.eq(0)   # a synchronous reset: cheaper than a gate before the adder
            with m.Else():
                m.d.sync += old.eq(found)
            if self.revisit == 1:
                base = row_layout(Mux(pipe.at("again1", self.AHEAD), new, old))

        # Add and write.
        addr, valid = pipe.at("addr", self.WRITE), pipe.at("valid", self.WRITE)
        for c in range(self.cols):
            m.d.sync += new[c].eq(Mux(sole, self.sums[c], base[c] + self.sums[c]))
        for i, ram in enumerate(rams):
            m.d.comb += [
                ram.write_addr.eq(addr),
                ram.write_data.eq(new),
                ram.write_en.eq(valid & (self._bank(addr) == i)),
            ]
        m.d.comb += self.written.eq(valid)
        return m

    def _bank(self, addr):
        """Bank of a row."""
        return addr[-1] if self.banks == 2 else Const(0)

    def _read(self, m, rams, pipe):
        """Share the read ports; the array's row as the memory has it, in the stage in which the
        bank has answered."""
        reads  = Signal()   # the array needs its bank
        grant  = Signal()
        wanted = Signal()   # what it reads there is not being written
        row    = Signal(self.read_data.shape(), reset_less=True)
        valid, first, array_addr = (pipe.at(name, int(self.late))
                                    for name in ("valid", "first", "addr"))
        m.d.comb += [
            reads.eq(valid & ~first),
            wanted.eq(1 if self.revisit >= self.written_after
                      else ~pipe.at(f"again{self.written_after - 1}", int(self.late))),
            self.read_ready.eq(~(reads & (self._bank(array_addr) == self._bank(self.read_addr)))),
            grant.eq(self.read_valid & self.read_ready),
            self.read_data.eq(row),
        ]
        outputs = []
        for i, ram in enumerate(rams):
            own  = Signal(name=f"own{i}")   # it is the array's
            en   = Signal(name=f"en{i}")
            addr = Signal(len(ram.read_addr), name=f"addr{i}", reset_less=True)
            m.d.comb += own.eq(reads & (self._bank(array_addr) == i))
            m.d.sync += [
                en.eq(Mux(own, wanted, grant & (self._bank(self.read_addr) == i))),
                addr.eq(Mux(own, array_addr, self.read_addr)),
            ]
            pipe.start(f"en{i}", en, reset_less=False)
            pipe.start(f"addr{i}", addr)
            pipe.start(f"output{i}", ram.read_data)
            m.d.comb += [
                ram.read_en.eq(pipe.at(f"en{i}", int(self.late))),
                ram.read_addr.eq(pipe.at(f"addr{i}", int(self.late))),
            ]
            outputs.append(pipe.at(f"output{i}", int(not self.late)))

        def of_bank(bank):
            return Mux(bank, outputs[1], outputs[0]) if self.banks == 2 else outputs[0]

        pipe.start("grant", grant, reset_less=False)
        pipe.start("bank", self._bank(self.read_addr))
        granted, bank = (pipe.at(name, self.READ_LATENCY - 1) for name in ("grant", "bank"))
        with m.If(granted):
            read = of_bank(bank)
            if self.single:
                numbers = [read.word_select(c, 32) for c in range(self.cols)]
                numbers += [Const(0, 32)] * ((1 << ceil_log2(self.cols)) - self.cols)
                read = choose(numbers, self.read_col)
            m.d.sync += row.eq(read)
        return of_bank(self._bank(pipe.at("addr", self.AHEAD - (not self.late))))
