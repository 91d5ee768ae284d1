"""What stands behind a link in tests: memory and registers, as benches and as components."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from systolith_boards.link import Link
from systolith_boards.link.executor import master_ports

MEMORY_WORDS = 64


async def memory(ctx, dut, words, rng, pause=0.0, latency=1):
    """Memory behind ``request`` and ``answer``; a background bench."""
    waiting = []  # answers and the cycles until they may leave
    while True:
        ready = rng.random() >= pause
        ctx.set(dut.request.ready, ready)
        if waiting and waiting[0][1] <= 0:
            ctx.set(dut.answer.valid, 1)
            ctx.set(dut.answer.payload.data, waiting[0][0])
        else:
            ctx.set(dut.answer.valid, 0)
        *_, valid, payload, taken = await ctx.tick().sample(
            dut.request.valid, dut.request.payload, dut.answer.valid & dut.answer.ready)
        waiting = [(value, left - 1) for value, left in waiting[bool(taken):]]
        if valid and ready:
            if payload.write:
                words[payload.address] = payload.data
            else:
                waiting.append((words[payload.address], rng.randrange(latency)))


async def registers(ctx, dut, values, log, rng, late=1, bad=()):
    """AXI4-Lite registers; ``log`` gets each write. Offsets in ``bad`` answer with an error."""
    held = {}
    answer = None  # channel, cycles, response
    while True:
        for channel in ("aw", "w"):
            ctx.set(getattr(dut, f"{channel}ready"), channel not in held and rng.random() < 0.5)
        ctx.set(dut.arready, answer is None and rng.random() < 0.5)
        due = answer is not None and answer[1] <= 0
        ctx.set(dut.bvalid, due and answer[0] == "b")
        ctx.set(dut.rvalid, due and answer[0] == "r")
        if due:
            ctx.set(getattr(dut, f"{answer[0]}resp"), 2 if answer[2] in bad else 0)
            if answer[0] == "r":
                ctx.set(dut.rdata, values.get(answer[2], 0))
        *_, aw, w, ar, done, awaddr, wdata, strobes, araddr = await ctx.tick().sample(
            dut.awvalid & dut.awready, dut.wvalid & dut.wready, dut.arvalid & dut.arready,
            (dut.bvalid & dut.bready) | (dut.rvalid & dut.rready),
            dut.awaddr, dut.wdata, dut.wstrb, dut.araddr)
        if done:
            answer = None
        elif answer is not None:
            answer = (answer[0], answer[1] - 1, answer[2])
        if aw:
            held["aw"] = awaddr
        if w:
            assert strobes == 15
            held["w"] = wdata
        if len(held) == 2:
            values[held["aw"]] = held["w"]
            log.append((held["aw"], held["w"]))
            answer = ("b", rng.randrange(late), held["aw"])
            held = {}
        if ar:
            answer = ("r", rng.randrange(late), araddr)


class SmallBoard(wiring.Component):
    """A link with a small memory and registers behind it, all in one.

    Register 0 counts the writes to it; registers 4 to 28 keep what is written.
    """
    def __init__(self, *, divisor, data_words=16):
        self.divisor = divisor
        self.data_words = data_words
        self.link = Link(divisor=divisor, memory_words=MEMORY_WORDS, clock_hz=12_000_000,
                         fingerprint=0xC0DB_DCDD_0123_4567, data_words=data_words)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "busy": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = self.link
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx), self.busy.eq(link.busy)]
        words = Array(Signal(32, name=f"word{i}", reset_less=True) for i in range(MEMORY_WORDS))
        request, answer = link.request, link.answer
        reading = Signal()
        m.d.comb += [request.ready.eq(~reading), answer.valid.eq(reading)]
        with m.If(request.valid & request.ready):
            m.d.sync += reading.eq(~request.payload.write)
            with m.If(request.payload.write):
                m.d.sync += words[request.payload.address].eq(request.payload.data)
            with m.Else():
                m.d.sync += answer.payload.data.eq(words[request.payload.address])
        with m.If(answer.valid & answer.ready):
            m.d.sync += reading.eq(0)

        values = Array(Signal(32, name=f"register{i}") for i in range(8))
        number = link.awaddr[2:5]
        m.d.comb += [
            link.awready.eq(link.awvalid & link.wvalid & ~link.bvalid),
            link.wready.eq(link.awready),
            link.arready.eq(~link.rvalid),
        ]
        with m.If(link.bready):
            m.d.sync += link.bvalid.eq(0)
        with m.If(link.awready):
            m.d.sync += [
                link.bvalid.eq(1),
                values[number].eq(Mux(number == 0, values[0] + 1, link.wdata)),
            ]
        with m.If(link.rready):
            m.d.sync += link.rvalid.eq(0)
        with m.If(link.arvalid & link.arready):
            m.d.sync += [link.rvalid.eq(1), link.rdata.eq(values[link.araddr[2:5]])]
        return m
