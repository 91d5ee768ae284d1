"""What stands behind a link in tests: memory and registers, as benches and as components."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_boards.link import Link
from systolith_hw.ram import Ram

MEMORY_WORDS = 4096


async def memory(ctx, dut, words, rng, pause=0, latency=1):
    """Memory behind ``request`` and ``answer``, up to so many cycles late; a background bench."""
    while True:
        if not ctx.get(dut.request.valid):
            await ctx.posedge(dut.request.valid)
            await ctx.delay(0)
            continue
        for _ in range(rng.randint(0, pause)):
            await ctx.tick()
        ctx.set(dut.request.ready, 1)
        *_, valid, payload = await ctx.tick().sample(dut.request.valid, dut.request.payload)
        ctx.set(dut.request.ready, 0)
        assert valid, "a request must stay until it is taken"
        if payload.write:
            words[payload.address] = payload.data
            continue
        for _ in range(rng.randrange(latency)):
            await ctx.tick()
        ctx.set(dut.answer.payload.data, words[payload.address])
        ctx.set(dut.answer.valid, 1)
        await ctx.tick().until(dut.answer.ready)
        ctx.set(dut.answer.valid, 0)


async def take(ctx, dut, rng, channel, *names):
    """Values of a channel of AXI4-Lite, taken after some cycles."""
    for _ in range(rng.randrange(4)):
        await ctx.tick()
    ready = getattr(dut, f"{channel}ready")
    ctx.set(ready, 1)
    _, _, valid, *values = await ctx.tick().sample(
        getattr(dut, f"{channel}valid"), *(getattr(dut, name) for name in names))
    ctx.set(ready, 0)
    assert valid, f"{channel}valid must stay until it is taken"
    return values


async def give(ctx, dut, rng, channel, late, error):
    """A response of AXI4-Lite, up to ``late`` cycles late."""
    for _ in range(rng.randrange(late)):
        await ctx.tick()
    ctx.set(getattr(dut, f"{channel}resp"), 2 if error else 0)
    ctx.set(getattr(dut, f"{channel}valid"), 1)
    await ctx.tick().until(getattr(dut, f"{channel}ready"))
    ctx.set(getattr(dut, f"{channel}valid"), 0)


async def written(ctx, dut, values, log, rng, late=1, bad=()):
    """Registers' write channels; ``log`` gets each write, those at ``bad`` answer with an error."""
    while True:
        if not ctx.get(dut.awvalid):
            await ctx.posedge(dut.awvalid)
        if rng.random() < 0.5:
            offset, = await take(ctx, dut, rng, "aw", "awaddr")
            value, strobes = await take(ctx, dut, rng, "w", "wdata", "wstrb")
        else:
            value, strobes = await take(ctx, dut, rng, "w", "wdata", "wstrb")
            offset, = await take(ctx, dut, rng, "aw", "awaddr")
        assert strobes == 15
        values[offset] = value
        log.append((offset, value))
        await give(ctx, dut, rng, "b", late, offset in bad)


async def got(ctx, dut, values, rng, late=1, bad=()):
    """Registers' read channels."""
    while True:
        if not ctx.get(dut.arvalid):
            await ctx.posedge(dut.arvalid)
        offset, = await take(ctx, dut, rng, "ar", "araddr")
        ctx.set(dut.rdata, values.get(offset, 0))
        await give(ctx, dut, rng, "r", late, offset in bad)


class SmallBoard(wiring.Component):
    """A link with a small memory and registers behind it, all in one.

    The register at 0 counts the writes to it; those at 4 to 28 keep what is written.
    """
    def __init__(self, *, divisor, data_words=64):
        self.divisor = divisor
        self.data_words = data_words
        self.link = Link(divisor=divisor, memory_words=MEMORY_WORDS, clock_hz=12_000_000,
                         fingerprint=0xC0DB_DCDD_0123_4567, data_words=data_words)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "busy": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = self.link
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx), self.busy.eq(link.busy)]
        m.submodules.ram = ram = Ram(depth=MEMORY_WORDS, width=32)
        request, answer = link.request, link.answer
        reading = Signal()
        take = Signal()
        m.d.comb += [
            request.ready.eq(~reading), answer.valid.eq(reading),
            take.eq(request.valid & request.ready),
            ram.write_addr.eq(request.payload.address), ram.read_addr.eq(request.payload.address),
            ram.write_data.eq(request.payload.data), answer.payload.data.eq(ram.read_data),
            ram.write_en.eq(take & request.payload.write),
            ram.read_en.eq(take & ~request.payload.write),
        ]
        with m.If(take):
            m.d.sync += reading.eq(~request.payload.write)
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
