"""Scratchpads: banks of block RAM between the engines."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .cells import check
from .choose import choose
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
    request granted one cycle later.

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

    Members
    -------
    read : ``In(ReadPort)`` array
        Read ports, highest priority first.
    write : ``In(WritePort)`` array
        Write ports, highest priority first.
    """
    READ_LATENCY = 2

    def __init__(self, *, rows: int, row_bytes: int, banks: int, readers: int, writers: int):
        self.rows = rows
        self.row_bytes = row_bytes
        self.banks = banks
        self.readers = readers
        self.writers = writers
        self.addr_bits = exact_log2(rows)
        super().__init__({
            "read": In(ReadPort(addr_bits=self.addr_bits, width=8 * row_bytes)).array(readers),
            "write": In(WritePort(addr_bits=self.addr_bits, width=8 * row_bytes)).array(writers),
        })

    def elaborate(self, platform):
        m = Module()
        bank_bits = exact_log2(self.banks)
        inner = self.addr_bits - bank_bits
        width = 8 * self.row_bytes
        outputs = []
        read_ready = [[] for _ in self.read]
        write_ready = [[] for _ in self.write]
        for bank in range(self.banks):
            ram = Ram(depth=self.rows // self.banks, width=width, granularity=8)
            m.submodules[f"bank{bank}"] = ram
            outputs.append(ram.read_data)
            # Without a request the last port's address and data stand there, enabled by nothing.
            hits = [Signal(name=f"read_hit{k}") for k in range(self.readers)]
            taken = Const(0)
            for port, hit, ready in zip(self.read, hits, read_ready, strict=True):
                m.d.comb += hit.eq(port.valid & (port.addr[inner:] == bank))
                ready.append(hit & ~taken)
                taken = taken | hit
            m.d.comb += [ram.read_en.eq(taken), ram.read_addr.eq(self.read[-1].addr[:inner])]
            for port, hit in reversed(list(zip(self.read, hits, strict=True))[:-1]):
                with m.If(hit):
                    m.d.comb += ram.read_addr.eq(port.addr[:inner])
            hits = [Signal(name=f"write_hit{k}") for k in range(self.writers)]
            taken = Const(0)
            for port, hit, ready in zip(self.write, hits, write_ready, strict=True):
                m.d.comb += hit.eq(port.valid & (port.addr[inner:] == bank))
                ready.append(hit & ~taken)
                taken = taken | hit
            last = self.write[-1]
            m.d.comb += [
                ram.write_addr.eq(last.addr[:inner]),
                ram.write_data.eq(last.data),
                ram.write_en.eq(Mux(hits[-1], last.mask, 0)),
            ]
            for port, hit in reversed(list(zip(self.write, hits, strict=True))[:-1]):
                with m.If(hit):
                    m.d.comb += [
                        ram.write_addr.eq(port.addr[:inner]),
                        ram.write_data.eq(port.data),
                        ram.write_en.eq(port.mask),
                    ]
        for port, ready in zip(self.write, write_ready, strict=True):
            m.d.comb += port.ready.eq(Cat(*ready).any())
        for i, (port, ready) in enumerate(zip(self.read, read_ready, strict=True)):
            m.d.comb += port.ready.eq(Cat(*ready).any())
            # The bank answers in the next cycle, through a multiplexer into a register.
            bank  = Signal(max(bank_bits, 1), name=f"bank_of{i}", reset_less=True)
            row   = Signal(width, name=f"row{i}", reset_less=True)
            m.d.sync += bank.eq(port.addr[inner:])
            m.d.sync += row.eq(choose(outputs, bank))
            m.d.comb += port.data.eq(row)
        for i, port in enumerate(self.read):
            for j, other in enumerate(self.write):
                check(m, platform,
                      ~(port.valid & port.ready & other.valid & other.ready
                        & (port.addr == other.addr)),
                      f"reader {i} and writer {j} may not meet in one row")
        return m
