"""A serial line in Amaranth's simulator: frames in at one end, frames out at the other."""

import random

from systolith.frames import Decoder


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
        self.bit = dut.divisor * (1 + drift)
        self.gap = gap
        self.now = 0.0

    async def level(self, value, bits=1.0):
        """Hold the line for so many bits; fractions of cycles add up."""
        self.ctx.set(self.dut.rx, value)
        self.now += self.bit * bits
        cycles = int(self.now)
        self.now -= cycles
        await self.ctx.tick().repeat(max(cycles, 1))

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
        bit = self.dut.divisor
        while True:
            await ctx.tick().until(self.dut.tx == 0)
            await ctx.tick().repeat(bit // 2 - 1)
            value = 0
            for i in range(8):
                await ctx.tick().repeat(bit)
                value |= ctx.get(self.dut.tx) << i
            await ctx.tick().repeat(bit)
            assert ctx.get(self.dut.tx) == 1, "a byte must end with a stop bit"
            self.raw.append(value)
            self.frames += self.decoder.feed(bytes([value]))

    async def answers(self, ctx, count, cycles=20_000):
        """The next ``count`` answers."""
        for _ in range(cycles):
            if len(self.frames) >= count:
                break
            await ctx.tick()
        found, self.frames = self.frames[:count], self.frames[count:]
        assert len(found) == count, f"{count} answers must come, not {found!r}"
        return found
