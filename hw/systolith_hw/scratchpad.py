"""Scratchpads: banks of block RAM between the engines."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .cells import check
from .choose import choose
from .pipe import Pipe
from .ram import Ram

__all__ = ["ReadPort", "Scratchpad", "WritePort"]


class ReadPort(wiring.Signature):
    """One engine's way to read a scratchpad; ``Out`` on the engine's side.

    Members
    -------
    valid : ``Out(1)``
        Read ``addr``.
    addr : ``Out(addr_bits)``
        Row.
    ready : ``In(1)``
        The read is granted this cycle; otherwise it waits.
    data : ``In(width)``
        The row, ``Scratchpad.READ_LATENCY`` cycles after the grant.
    """
    def __init__(self, *, addr_bits: int, width: int):
        super().__init__({"valid": Out(1), "addr": Out(addr_bits), "ready": In(1),
                          "data": In(width)})


class WritePort(wiring.Signature):
    """One engine's way to write a scratchpad; ``Out`` on the engine's side.

    Members
    -------
    valid : ``Out(1)``
        Write the bytes of ``data`` enabled by ``mask`` to row ``addr``.
    ready : ``In(1)``
        The write is granted this cycle; otherwise it waits.
    """
    def __init__(self, *, addr_bits: int, width: int):
        super().__init__({"valid": Out(1), "addr": Out(addr_bits), "ready": In(1),
                          "data": Out(width), "mask": Out(width // 8)})


class Scratchpad(wiring.Component):
    """``banks`` block RAMs by the top address bits, shared by several readers and writers.

    Every bank serves one read and one write per cycle: the requester of the lowest index wins,
    the others wait. Engines in different banks never meet.

    Timing: read data ``READ_LATENCY`` cycles after the grant; written data can be read by a
    request granted one cycle later. ``late``, a row may be written ``READ_LATENCY`` cycles after a
    read of it was granted, not sooner; otherwise in the next cycle.

    Parameters
    ----------
    rows : int
        Rows over all banks, a power of two.
    row_bytes : int
        Bytes of a row.
    banks : int
        Number of banks, a power of two.
    readers, writers : int
        Numbers of ports.
    late : bool
        Whether a read waits before its bank rather than behind it, and a write nowhere: fewer
        registers, at a slower clock.

    Members
    -------
    read : ``In(ReadPort)`` array
        Read ports, highest priority first.
    write : ``In(WritePort)`` array
        Write ports, highest priority first.
    """
    READ_LATENCY = 4  # cycles: the request, the bank, its output, the port

    def __init__(self, *, rows: int, row_bytes: int, banks: int, readers: int, writers: int,
                 late: bool = False):
        self.rows = rows
        self.row_bytes = row_bytes
        self.banks = banks
        self.readers = readers
        self.writers = writers
        self.late = late
        self.addr_bits = exact_log2(rows)
        super().__init__({
            "read": In(ReadPort(addr_bits=self.addr_bits, width=8 * row_bytes)).array(readers),
            "write": In(WritePort(addr_bits=self.addr_bits, width=8 * row_bytes)).array(writers),
        })

    def elaborate(self, platform):
        m = Module()
        bank_bits = exact_log2(self.banks)
        inner = self.addr_bits - bank_bits

        def grants(what, ports):
            """Grant each port's request, or not; whether each was, by bank, as ``held``."""
            served = []
            taken = [Const(0)] * self.banks
            for i, port in enumerate(ports):
                hits = [Signal(name=f"{what}{i}_hit{bank}") for bank in range(self.banks)]
                own = Signal(self.banks, name=f"{what}{i}_served")
                m.d.comb += [hit.eq(port.valid & (port.addr[inner:] == bank))
                             for bank, hit in enumerate(hits)]
                granted = Cat(hit & ~other for hit, other in zip(hits, taken, strict=True))
                m.d.comb += port.ready.eq(granted.any())
                m.d[decided] += own.eq(granted)
                taken = [hit | other for hit, other in zip(hits, taken, strict=True)]
                served.append(own)
            return served

        def held(port, name):
            """What ``port`` said in the cycle before; ``late``, what it says."""
            value = getattr(port, name)
            signal = Signal.like(value, reset_less=True)
            m.d[decided] += signal.eq(value)
            return signal

        # Requests are decided in one cycle, and go to their banks in the next; late, writes at
        # once, and reads so that the bank's row stands at the port in time.
        decided = "comb" if self.late else "sync"
        reading, writing = grants("read", self.read), grants("write", self.write)
        read_addr = [held(port, "addr")[:inner] for port in self.read]
        write_addr = [held(port, "addr")[:inner] for port in self.write]
        write_data = [held(port, "data") for port in self.write]
        write_mask = [held(port, "mask") for port in self.write]
        pipe = Pipe(m)
        outputs = []
        for bank in range(self.banks):
            ram = Ram(depth=self.rows // self.banks, width=8 * self.row_bytes, granularity=8)
            m.submodules[f"bank{bank}"] = ram
            reads, writes = ([own[bank] for own in served] for served in (reading, writing))
            wait = self.READ_LATENCY - ram.READ_LATENCY if self.late else 0
            pipe.start(f"en{bank}", Cat(*reads).any(), reset_less=False)
            pipe.start(f"addr{bank}", _served(reads, read_addr))
            m.d.comb += [
                ram.read_en.eq(pipe.at(f"en{bank}", wait)),
                ram.read_addr.eq(pipe.at(f"addr{bank}", wait)),
                ram.write_addr.eq(_served(writes, write_addr)),
                ram.write_data.eq(_served(writes, write_data)),
                ram.write_en.eq(Mux(Cat(*writes).any(), _served(writes, write_mask), 0)),
            ]
            output = Signal(8 * self.row_bytes, name=f"output{bank}", reset_less=True)
            m.d[decided] += output.eq(ram.read_data)
            outputs.append(output)

        # A bank's row stands at its output register, and then at the port.
        for i, port in enumerate(self.read):
            pipe.start(f"bank_of{i}", port.addr[inner:])
            row = Signal(8 * self.row_bytes, name=f"row{i}", reset_less=True)
            bank_of = pipe.at(f"bank_of{i}", self.READ_LATENCY - (not self.late))
            m.d[decided] += row.eq(choose(outputs, bank_of))
            m.d.comb += port.data.eq(row)
        for i, port in enumerate(self.read):
            for j, other in enumerate(self.write):
                check(m, platform,
                      ~(port.valid & port.ready & other.valid & other.ready
                        & (port.addr == other.addr)),
                      f"reader {i} and writer {j} may not meet in one row")
        return m


def _served(served, values):
    """The value of the port that is served; of the last where none is."""
    *others, found = values
    for own, value in reversed(list(zip(served, others, strict=False))):
        found = Mux(own, value, found)
    return found
