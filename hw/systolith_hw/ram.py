"""The only memory: one write port, one read port, never both at the same row; and one of constants.
"""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .cells import EmitPlatform, check

__all__ = ["Ram", "Rom"]


class Ram(wiring.Component):
    """Simple dual-port memory, block RAM where the synthesiser finds it large enough.

    Its contents are undefined until written. Reading the row that is being written is forbidden:
    the user's construction excludes it, and simulation asserts it.

    Timing: ``read_data`` shows the row of ``read_addr`` one cycle after ``read_en`` and holds it
    until the next. A row can be read in the cycle after its write.

    Parameters
    ----------
    depth : int
        Rows, at least 1.
    width : int
        Bits of a row, at least 1.
    granularity : int or None
        Bits that share a write enable; it divides ``width``. None: the whole row.

    Members
    -------
    write_addr : ``In(range(depth))``
        Row to write.
    write_data : ``In(width)``
        Its new contents.
    write_en : ``In(width // granularity)``
        Which parts of it to write, the lowest bits first.
    read_addr : ``In(range(depth))``
        Row to read.
    read_en : ``In(1)``
        Read it.
    read_data : ``Out(width)``
        The row read last.

    Raises
    ------
    TypeError, ValueError
        A parameter is no integer, less than 1, or ``granularity`` does not divide ``width``.
    """
    READ_LATENCY = 1  # cycles

    write_addr: Signal
    write_data: Signal
    write_en: Signal
    read_addr: Signal
    read_en: Signal
    read_data: Signal

    def __init__(self, *, depth: int, width: int, granularity: int | None = None):
        for name, value in (("depth", depth), ("width", width), ("granularity", granularity)):
            if name == "granularity" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        if granularity is not None and width % granularity:
            raise ValueError(f"granularity must divide width={width}, not {granularity!r}")
        self.depth = depth
        self.width = width
        self.granularity = width if granularity is None else granularity
        super().__init__({
            "write_addr": In(range(depth)),
            "write_data": In(width),
            "write_en": In(width // self.granularity),
            "read_addr": In(range(depth)),
            "read_en": In(1),
            "read_data": Out(width),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if isinstance(platform, EmitPlatform):
            module = platform.ram(depth=self.depth, width=self.width, granularity=self.granularity)
            # A memory of one row has addresses of no width here and of one bit in Verilog.
            no_addr = Const(0, 1)
            m.submodules.memory = Instance(
                module.name,
                i_clk=ClockSignal(),
                i_write_addr=self.write_addr if self.depth > 1 else no_addr,
                i_write_data=self.write_data,
                i_write_en=self.write_en,
                i_read_addr=self.read_addr if self.depth > 1 else no_addr,
                i_read_en=self.read_en,
                o_read_data=self.read_data)
        else:
            m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[],
                                                  attrs={"no_rw_check": 1})
            write: Any = memory.write_port(granularity=self.granularity)
            read: Any = memory.read_port()
            m.d.comb += [
                write.addr.eq(self.write_addr),
                write.data.eq(self.write_data),
                write.en.eq(self.write_en),
                read.addr.eq(self.read_addr),
                read.en.eq(self.read_en),
                self.read_data.eq(read.data),
            ]
        collides = self.write_en.any() & self.read_en & (self.write_addr == self.read_addr)
        check(m, platform, ~collides, "a row may not be read in the cycle it is written")
        return m


class Rom(wiring.Component):
    """Constants in block RAM, which a chip's configuration fills.

    Timing: ``read_data`` shows the row of ``read_addr`` one cycle later.

    Parameters
    ----------
    rows : sequence of int
    width : int
        Bits of a row.

    Members
    -------
    read_addr : ``In(range(len(rows)))``
        Row to read.
    read_data : ``Out(width)``
        The row read last.
    """
    def __init__(self, *, rows: Sequence[int], width: int):
        self.rows = tuple(rows)
        self.width = width
        super().__init__({"read_addr": In(range(len(self.rows))), "read_data": Out(width)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.width, depth=len(self.rows),
                                              init=self.rows)
        read = memory.read_port()
        m.d.comb += [read.addr.eq(self.read_addr), self.read_data.eq(read.data)]
        return m
