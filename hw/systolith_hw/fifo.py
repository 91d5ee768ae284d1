"""First-in first-out buffers, in block RAM and in registers, and the fork of a stream."""

from amaranth.hdl import Cat, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .ram import Ram

__all__ = ["Fifo", "Fork", "ShortQueue"]


class Fifo(wiring.Component):
    """Stream buffer of ``depth`` entries in block RAM, with a register behind the RAM.

    Timing: one entry per cycle in and out; an entry leaves three cycles after it came at the
    earliest, two without the register. Beside the RAM's ``depth`` entries, the output stages hold
    up to two more, or one.

    Parameters
    ----------
    shape : shape-like
        What an entry is.
    depth : int
        Entries in RAM, a power of two, at least 2.
    registered : bool
        Whether there is a register behind the RAM.

    Members
    -------
    i : ``In(stream.Signature(shape))``
        Entries come in.
    o : ``Out(stream.Signature(shape))``
        Entries go out, in order.
    empty : ``Out(1)``
        No entry is inside.
    """
    def __init__(self, *, shape: ShapeLike, depth: int, registered: bool = True):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two of at least 2, not {depth!r}")
        self.shape = shape
        self.depth = depth
        self.registered = registered
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        width = Shape.cast(self.shape).width
        m.submodules.ram = ram = Ram(depth=self.depth, width=width)
        level  = Signal(range(self.depth + 1))
        fetched = Signal()  # the RAM's output holds an entry
        write  = self.i.valid & self.i.ready
        advance = Signal()  # the RAM's output moves on
        fetch  = Signal()
        m.d.comb += [
            self.i.ready.eq(~level[-1]),
            ram.write_en.eq(write),
            ram.write_data.eq(Value.cast(self.i.payload)),
            fetch.eq((level != 0) & (~fetched | advance)),
            ram.read_en.eq(fetch),
        ]
        write_addr = Signal(range(self.depth))
        read_addr = Signal(range(self.depth))
        m.d.comb += [ram.write_addr.eq(write_addr), ram.read_addr.eq(read_addr)]
        # No sum of what comes late: it chooses.
        with m.If(write & ~fetch):
            m.d.sync += level.eq(level + 1)
        with m.Elif(fetch & ~write):
            m.d.sync += level.eq(level - 1)
        with m.If(write):
            m.d.sync += write_addr.eq(write_addr + 1)
        with m.If(fetch):
            m.d.sync += read_addr.eq(read_addr + 1)
        m.d.sync += fetched.eq(fetch | (fetched & ~advance))
        if not self.registered:
            m.d.comb += [
                advance.eq(fetched & self.o.ready),
                self.o.valid.eq(fetched),
                Value.cast(self.o.payload).eq(ram.read_data),
                self.empty.eq((level == 0) & ~fetched),
            ]
            return m
        out    = Signal(width, reset_less=True)
        out_valid = Signal()
        m.d.comb += [
            advance.eq(fetched & (~out_valid | self.o.ready)),
            self.o.valid.eq(out_valid),
            Value.cast(self.o.payload).eq(out),
            self.empty.eq((level == 0) & ~fetched & ~out_valid),
        ]
        m.d.sync += out_valid.eq(advance | (out_valid & ~self.o.ready))
        with m.If(advance):
            m.d.sync += out.eq(ram.read_data)
        return m


class ShortQueue(wiring.Component):
    """Stream buffer of a few entries in registers.

    Timing: one entry per cycle in and out; an entry can leave the cycle after it came.

    Parameters
    ----------
    shape : shape-like
        What an entry is.
    depth : int
        Number of entries, at least 1; with 1, entries pass every other cycle at best.

    Members
    -------
    i : ``In(stream.Signature(shape))``
        Entries come in.
    o : ``Out(stream.Signature(shape))``
        Entries go out, in order.
    empty : ``Out(1)``
        No entry is inside.
    """
    def __init__(self, *, shape: ShapeLike, depth: int):
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth!r}")
        self.shape = shape
        self.depth = depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        width = Shape.cast(self.shape).width
        entries = [Signal(width, name=f"entry{i}", reset_less=True) for i in range(self.depth)]
        # An entry takes the one behind it, or the input where that is not valid: a register
        # selects, so that a bit needs no more than one LUT.
        valid = Signal(self.depth)
        write = self.i.valid & self.i.ready
        read = self.o.valid & self.o.ready
        m.d.comb += [
            self.i.ready.eq(~valid[-1]),
            self.o.valid.eq(valid[0]),
            self.empty.eq(~valid[0]),
            Value.cast(self.o.payload).eq(entries[0]),
        ]
        with m.If(write & ~read):
            m.d.sync += valid.eq(Cat(1, valid))
        with m.Elif(read & ~write):
            m.d.sync += valid.eq(valid[1:])
        for i, entry in enumerate(entries):
            item, free = Value.cast(self.i.payload), ~valid[i]
            if i + 1 < self.depth:  # to the last nothing comes while it is taken
                item, free = Mux(valid[i + 1], entries[i + 1], item), read | ~valid[i]
            with m.If(free):
                m.d.sync += entry.eq(item)
        return m


class Fork(wiring.Component):
    """Hands every item of a stream to several takers, each when it is ready.

    Timing: nothing is stored; an item stays at ``i`` until the cycle after the last of the takers
    took it, so that ``i`` hangs on none of them; ``prompt``, until it takes it.

    Parameters
    ----------
    shape : shape-like
        What an item is.
    ways : int
        Number of takers.
    prompt : bool
        Whether an item leaves with its last taker.

    Members
    -------
    i : ``In(stream.Signature(shape))``
        Items come in.
    o : ``Out(stream.Signature(shape))`` array
        Each taker's own.
    """
    def __init__(self, *, shape: ShapeLike, ways: int, prompt: bool = False):
        self.shape = shape
        self.ways = ways
        self.prompt = prompt
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)).array(ways),
        })

    def elaborate(self, platform):
        m = Module()
        had = Signal(self.ways)  # the takers that have the item
        has = had | Cat(port.ready for port in self.o)
        m.d.comb += self.i.ready.eq((has if self.prompt else had).all())
        for port, flag in zip(self.o, had, strict=True):
            m.d.comb += [
                port.valid.eq(self.i.valid & ~flag),
                Value.cast(port.payload).eq(Value.cast(self.i.payload)),
            ]
        with m.If(self.i.valid):
            m.d.sync += had.eq(Mux(self.i.ready, 0, has))
        return m
