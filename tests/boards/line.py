"""A serial line in Amaranth's simulator: frames in at one end, frames out at the other."""

import random

from systolith.frames import Decoder

from ..hw.simulate import PERIOD


class Line:
    """The host's end of a board's pins.

    Parameters
    ----------
    ctx : simulator context
    dut : Link
    rng : random.Random
        Of gaps between bytes.
    drift : float
        How much longer than the board's a bit of the host is.
    gap : int
        Longest gap between bytes in bits.
    """
    def __init__(self, ctx, dut, *, rng=None, drift=0.0, gap=0):
        self.ctx, self.dut, self.rng = ctx, dut, rng or random.Random(0)
        self.bit = dut.divisor * (1 + drift) * PERIOD
        self.gap = gap

    async def level(self, value, bits=1.0):
        """Hold the line for so many bits."""
        self.ctx.set(self.dut.rx, value)
        await self.ctx.delay(self.bit * bits)

    async def byte(self, value, stop=1):
        await self.level(0)
        for i in range(8):
            await self.level(value >> i & 1)
        await self.level(stop)
        if self.gap:
            await self.level(1, self.rng.randrange(self.gap))

    async def send(self, data):
        for value in data:
            await self.byte(value)
        self.ctx.set(self.dut.rx, 1)


class Listener:
    """Collects what the board sends, as a background bench."""
    def __init__(self, dut):
        self.dut = dut
        self.raw = bytearray()
        self.frames = []
        self.decoder = Decoder()

    async def listen(self, ctx):
        bit = self.dut.divisor * PERIOD
        while True:
            await ctx.negedge(self.dut.tx)
            await ctx.delay(bit / 2)
            value = 0
            for i in range(8):
                await ctx.delay(bit)
                value |= ctx.get(self.dut.tx) << i
            await ctx.delay(bit)
            assert ctx.get(self.dut.tx) == 1, "a byte must end with a stop bit"
            self.raw.append(value)
            self.frames += self.decoder.feed(bytes([value]))

    async def answers(self, ctx, count, cycles=20_000):
        """The next ``count`` answers."""
        for _ in range(cycles // 50):
            if len(self.frames) >= count:
                break
            await ctx.delay(50 * PERIOD)
        found, self.frames = self.frames[:count], self.frames[count:]
        assert len(found) == count, f"{count} answers must come, not {found!r}"
        return found
