"""The AXI4 master: one read and one write channel pair, shared by the engines.

Follows ARM IHI 0022 (AXI4): incrementing bursts of whole words, no exclusive accesses.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .bursts import burst_layout
from .config import BusConfig
from .fifo import Fifo, ShortQueue
from .isa import COMMAND_BYTES
from .record import INDEX_BITS

__all__ = ["AxiReader", "AxiWriter", "master_ports", "word_layout", "write_tag"]

OKAY = 0b00
LOADS, COMMANDS = 0, 1  # read transaction ids

write_tag = data.StructLayout({
    "event": 2, "number": data.ArrayLayout(5, 2), "index": INDEX_BITS})


def word_layout(config: BusConfig) -> data.StructLayout:
    """A bus word that was read, and whether the bus said it is in error."""
    return data.StructLayout({"data": config.data_bits, "error": 1})


def _address_ports(prefix: str, config: BusConfig) -> dict[str, wiring.Member]:
    return {
        f"{prefix}valid": Out(1), f"{prefix}ready": In(1), f"{prefix}id": Out(1),
        f"{prefix}addr": Out(config.addr_bits), f"{prefix}len": Out(8), f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2), f"{prefix}cache": Out(4), f"{prefix}prot": Out(3),
    }


def read_ports(config: BusConfig) -> dict[str, wiring.Member]:
    """AXI4 AR and R channels, flat, seen from the master."""
    return {
        **_address_ports("ar", config),
        "rvalid": In(1), "rready": Out(1), "rid": In(1), "rdata": In(config.data_bits),
        "rresp": In(2), "rlast": In(1),
    }


def write_ports(config: BusConfig) -> dict[str, wiring.Member]:
    """AXI4 AW, W and B channels, flat, seen from the master."""
    return {
        **_address_ports("aw", config),
        "wvalid": Out(1), "wready": In(1), "wdata": Out(config.data_bits),
        "wstrb": Out(config.data_bytes), "wlast": Out(1),
        "bvalid": In(1), "bready": Out(1), "bid": In(1), "bresp": In(2),
    }


def master_ports(config: BusConfig) -> dict[str, wiring.Member]:
    """All five AXI4 channels, flat, seen from the master."""
    return {**write_ports(config), **read_ports(config)}


def _asks(m: Module, master: "AxiReader | AxiWriter", prefix: str) -> tuple[str, dict, Value]:
    """How bursts are asked for on channel ``prefix``: the domain in which to set what, by name, for
    the cycle after, and whether there is room.

    Two have room, so that no path leads from the bus to who asks; in a compact master one, which
    the next follows in the cycle in which the bus takes it.
    """
    _constants(m, master, prefix, master.config)
    names = ("valid", "id", "addr", "len")
    ports = {name: getattr(master, prefix + name) for name in names}
    ready = getattr(master, f"{prefix}ready")
    if master.compact:
        with m.If(ready):
            m.d.sync += ports["valid"].eq(0)
        return "sync", ports, ~ports["valid"] | ready
    shape = data.StructLayout({name: ports[name].shape() for name in names[1:]})
    m.submodules.asked = asked = ShortQueue(shape=shape, depth=2)
    m.d.comb += [
        ports["valid"].eq(asked.o.valid),
        asked.o.ready.eq(ready),
        *(ports[name].eq(asked.o.payload[name]) for name in names[1:]),
    ]
    return "comb", {"valid": asked.i.valid,
                    **{name: asked.i.payload[name] for name in names[1:]}}, asked.i.ready


def _constants(m: Module, component, prefix: str, config: BusConfig) -> None:
    m.d.comb += [
        getattr(component, f"{prefix}size").eq(exact_log2(config.data_bytes)),
        getattr(component, f"{prefix}burst").eq(0b01),    # incrementing
        getattr(component, f"{prefix}cache").eq(0b0011),  # bufferable, modifiable
    ]


class AxiReader(wiring.Component):
    """Read master of two clients: loads and command fetch.

    Room for every word is reserved before it is asked for, so read data always has a place to
    go and neither client can hold up the other. Responses may come back in any order of ids.

    Timing: an address leaves the cycle after its burst is accepted, or stands behind one more; data
    reaches its client four cycles after the bus delivered it.

    Parameters
    ----------
    config : BusConfig
    prefetch : int
        Commands that may be under way or buffered.
    compact : bool
        Whether no register follows the buffers' RAM, which holds data alone: what is in error is
        known by the words before it, and so is all that follows. An address has room for itself
        only.

    Members
    -------
    window : ``In(addr_bits)``
        Bus address that word address 0 stands for.
    halt : ``In(1)``
        Accept no further bursts; what is under way completes.
    loads, commands : ``In(stream of bursts)``
        Bursts to read, as ``BurstSplitter`` makes them.
    load_words, command_words : ``Out(stream of word_layout)``
        The words, in order.
    load_word, command_word : ``Out(1)``
        Pulse for each word that the bus delivers.
    idle : ``Out(1)``
        Nothing is under way.
    """
    def __init__(self, *, config: BusConfig, prefetch: int, compact: bool = False):
        self.config = config
        self.prefetch = prefetch
        self.compact = compact
        burst = burst_layout(config.data_bytes)
        super().__init__({
            "window": In(config.addr_bits),
            "halt": In(1),
            "loads": In(stream.Signature(burst)),
            "commands": In(stream.Signature(burst)),
            "load_words": Out(stream.Signature(word_layout(config))),
            "command_words": Out(stream.Signature(word_layout(config))),
            "load_word": Out(1),
            "command_word": Out(1),
            "idle": Out(1),
            **read_ports(config),
        })

    def elaborate(self, platform):
        m = Module()
        word = self.config.data_bits if self.compact else word_layout(self.config)
        command_words = max(self.prefetch * COMMAND_BYTES // self.config.data_bytes, 2)
        fifos = tuple(Fifo(shape=word, depth=depth, registered=not self.compact)
                      for depth in (self.config.read_words, command_words))
        m.submodules.loads, m.submodules.commands = fifos
        clients = ((self.loads, self.load_words, self.load_word, LOADS),
                   (self.commands, self.command_words, self.command_word, COMMANDS))
        free  = Signal()  # a burst can be asked for
        taken, accepts = [], []
        domain, ask, room = _asks(m, self, "ar")
        m.d.comb += free.eq(~self.halt & room)
        under_way = Signal(range(self.config.read_words + command_words + 1))
        asked = Signal()    # a burst was accepted in the cycle before
        # Commands come first: they are few, and everything waits for them.
        for bursts, words, pulse, number in reversed(clients):
            fifo = fifos[number]
            space = Signal(range(fifo.depth + 1), init=fifo.depth, name=f"space{number}")
            burst = bursts.payload
            fits  = Signal(name=f"fits{number}")
            accept = Signal(name=f"accept{number}")
            arrive = Signal(name=f"arrive{number}")
            m.d.comb += [
                fits.eq(space > burst.words),
                bursts.ready.eq(free & fits & ~Cat(*taken).any()),
                accept.eq(bursts.valid & bursts.ready),
                arrive.eq(self.rvalid & (self.rid == number)),
                fifo.i.valid.eq(arrive),
                pulse.eq(arrive),
                words.valid.eq(fifo.o.valid),
                fifo.o.ready.eq(words.ready),
            ]
            wrong = self.rresp != OKAY
            if self.compact:
                broken = Signal(name=f"broken{number}")     # a word was in error
                ahead = Signal(range(fifo.depth + 3), name=f"ahead{number}")    # of that word
                m.d.comb += [
                    fifo.i.payload.eq(self.rdata),
                    words.payload.data.eq(fifo.o.payload),
                    words.payload.error.eq(broken & (ahead == 0)),
                ]
                m.d.sync += [
                    broken.eq(broken | (arrive & wrong)),
                    ahead.eq(ahead + (arrive & ~wrong & ~broken)
                             - (words.valid & words.ready & (ahead != 0))),
                ]
            else:
                m.d.comb += [
                    fifo.i.payload.data.eq(self.rdata),
                    fifo.i.payload.error.eq(wrong),
                    words.payload.eq(fifo.o.payload),
                ]
            taken.append(bursts.valid & fits)
            accepts.append(accept)
            leave = words.valid & words.ready
            with m.If(accept):
                m.d.sync += space.eq(space - burst.words - 1 + leave)
                m.d[domain] += [
                    ask["valid"].eq(1),
                    ask["id"].eq(number),
                    ask["addr"].eq(self.window + Cat(
                        Const(0, exact_log2(self.config.data_bytes)), burst.word)),
                    ask["len"].eq(burst.words),
                ]
            with m.Else():
                m.d.sync += space.eq(space + leave)
        m.d.comb += [
            self.rready.eq(1),
            self.idle.eq((under_way == 0) & ~self.arvalid),
        ]
        more = self.arlen   # words of the burst accepted in the cycle before, less one
        if not self.compact:
            more = Signal(len(self.arlen), reset_less=True)
            m.d.sync += more.eq(ask["len"])
        m.d.sync += [
            asked.eq(Cat(*accepts).any()),
            under_way.eq(under_way + Mux(asked, more + 1, 0) - self.rvalid),
        ]
        return m


class AxiWriter(wiring.Component):
    """Write master: bursts and their words in, tags out when memory has answered.

    Timing: an address leaves the cycle after its burst is accepted, or stands behind one more; a
    word two cycles after it came at the earliest, and not before its burst has been accepted for
    some three.

    Parameters
    ----------
    config : BusConfig
    compact : bool
        Whether an address has room for itself only.

    Members
    -------
    window : ``In(addr_bits)``
        Bus address that word address 0 stands for.
    halt : ``In(1)``
        Accept no further bursts; words still owed to the bus go out with no byte enabled.
    bursts : ``In(stream)``
        ``burst`` as ``BurstSplitter`` makes them, and ``tag`` to return with its response.
    words : ``In(stream)``
        ``data`` and ``strobe`` of each word, in order.
    done : ``Out(stream)``
        ``tag`` of each burst answered, and whether it was answered with an ``error``.
    word : ``Out(1)``
        Pulse for each word that the bus takes.
    idle : ``Out(1)``
        Nothing is under way.
    """
    LENGTHS = 16    # bursts whose words have not begun: as cycles between the two, and more

    def __init__(self, *, config: BusConfig, compact: bool = False):
        self.config = config
        self.compact = compact
        burst = burst_layout(config.data_bytes)
        super().__init__({
            "window": In(config.addr_bits),
            "halt": In(1),
            "bursts": In(stream.Signature(data.StructLayout({"burst": burst, "tag": write_tag}))),
            "words": In(stream.Signature(data.StructLayout({
                "data": config.data_bits, "strobe": config.data_bytes}))),
            "done": Out(stream.Signature(data.StructLayout({"tag": write_tag, "error": 1}))),
            "word": Out(1),
            "idle": Out(1),
            **write_ports(config),
        })

    def elaborate(self, platform):
        m = Module()
        shape = range(max(self.config.max_burst, 2))
        m.submodules.lengths = lengths = (
            ShortQueue(shape=shape, depth=min(self.LENGTHS, self.config.write_bursts))
            if self.compact else Fifo(shape=shape, depth=self.LENGTHS, registered=False))
        m.submodules.tags = tags = Fifo(shape=write_tag, depth=max(self.config.write_bursts, 2))
        under_way = Signal(range(self.config.write_bursts + 1))
        burst  = self.bursts.payload.burst
        accept = Signal()
        answer = Signal()
        domain, ask, room = _asks(m, self, "aw")
        m.d.comb += [
            self.bursts.ready.eq(~self.halt & room & lengths.i.ready
                                 & tags.i.ready & (under_way != self.config.write_bursts)),
            accept.eq(self.bursts.valid & self.bursts.ready),
            lengths.i.valid.eq(accept),
            lengths.i.payload.eq(burst.words),
            tags.i.valid.eq(accept),
            tags.i.payload.eq(self.bursts.payload.tag),
        ]
        with m.If(accept):
            m.d[domain] += [
                ask["valid"].eq(1),
                ask["addr"].eq(self.window + Cat(
                    Const(0, exact_log2(self.config.data_bytes)), burst.word)),
                ask["len"].eq(burst.words),
            ]

        left   = Signal(lengths.shape, reset_less=True)  # words of the burst after the next one
        inside = Signal()  # a burst has begun
        last   = Signal()
        send   = Signal()
        m.d.comb += [
            last.eq(Mux(inside, left, lengths.o.payload) == 0),
            send.eq((inside | lengths.o.valid) & (self.words.valid | self.halt)
                    & (~self.wvalid | self.wready)),
            lengths.o.ready.eq(send & ~inside),
            self.words.ready.eq(send),
        ]
        with m.If(self.wready):
            m.d.sync += self.wvalid.eq(0)
        with m.If(send):
            m.d.sync += [
                left.eq(Mux(inside, left, lengths.o.payload) - 1),
                inside.eq(~last),
                self.wvalid.eq(1),
                self.wdata.eq(self.words.payload.data),
                self.wstrb.eq(Mux(self.halt, 0, self.words.payload.strobe)),
                self.wlast.eq(last),
            ]
        m.d.comb += [
            self.word.eq(self.wvalid & self.wready),
            self.done.valid.eq(tags.o.valid & self.bvalid),
            self.done.payload.tag.eq(tags.o.payload),
            self.done.payload.error.eq(self.bresp != OKAY),
            answer.eq(self.done.valid & self.done.ready),
            tags.o.ready.eq(answer),
            self.bready.eq(tags.o.valid & self.done.ready),
            self.idle.eq(under_way == 0),
        ]
        m.d.sync += under_way.eq(under_way + accept - answer)
        return m
