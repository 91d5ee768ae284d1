"""The bus master against a memory that answers late, in bursts, and in any order of ids."""

import random
from collections import deque
from itertools import accumulate
from operator import or_

import pytest
from systolith_hw.axi import COMMANDS, LOADS, AxiReader, AxiWriter
from systolith_hw.config import BusConfig

from .simulate import simulate
from .streams import receive, send

CONFIG = BusConfig(data_bits=32, addr_bits=20, max_burst=8, read_words=16, write_bursts=4)
WINDOW = 0x3000
OKAY, SLVERR = 0, 2


def word_at(address):
    """What memory holds there."""
    return address * 0x9E3779B1 & 0xffffffff


def random_bursts(rng, count, most):
    return [{"word": rng.randrange(1 << 12), "words": rng.randrange(min(most, 8)), "last": 0}
            for _ in range(count)]


class ReadMemory:
    """Answers reads: bursts of one id in order, words of different ids as it likes."""
    def __init__(self, dut, rng, *, pause, fails=()):
        self.dut, self.rng, self.pause = dut, rng, pause
        self.fails = fails  # bus addresses that are answered with an error
        self.waiting = {LOADS: deque(), COMMANDS: deque()}
        self.bursts = []    # (id, address, beats)
        self.most = 0       # words under way

    async def serve(self, ctx, until):
        dut, rng = self.dut, self.rng
        offered = None
        while not until() or any(self.waiting.values()):
            ready = rng.random() >= self.pause
            ctx.set(dut.arready, ready)
            ids = [i for i, words in self.waiting.items() if words]
            reply = rng.choice(ids) if ids and rng.random() >= self.pause else None
            ctx.set(dut.rvalid, reply is not None)
            if reply is not None:
                address, last = self.waiting[reply][0]
                ctx.set(dut.rid, reply)
                ctx.set(dut.rdata, word_at(address))
                ctx.set(dut.rresp, SLVERR if address in self.fails else OKAY)
                ctx.set(dut.rlast, last)
            *_, valid, number, address, beats, size, kind, takes = await ctx.tick().sample(
                dut.arvalid, dut.arid, dut.araddr, dut.arlen, dut.arsize, dut.arburst, dut.rready)
            assert takes, "room for every word is reserved"
            if offered is not None:
                assert (valid, number, address, beats) == offered, "an address must stay"
            offered = (valid, number, address, beats) if valid and not ready else None
            if reply is not None:
                self.waiting[reply].popleft()
            if valid and ready:
                assert (size, kind) == (2, 1)
                self.bursts.append((number, address, beats))
                self.waiting[number].extend((address + 4 * i, i == beats)
                                            for i in range(beats + 1))
            self.most = max(self.most, len(self.waiting[LOADS]))


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_words_reach_their_client_in_order(pause, compact):
    rng = random.Random(f"read {pause}")
    dut = AxiReader(config=CONFIG, prefetch=1, compact=compact)
    loads, commands = random_bursts(rng, 60, 8), random_bursts(rng, 25, 8)
    fails = {WINDOW + 4 * commands[3]["word"], WINDOW + 4 * loads[9]["word"]}
    memory = ReadMemory(dut, rng, pause=pause, fails=fails)
    finished = []

    def expected(bursts):
        addresses = [WINDOW + 4 * (burst["word"] + i)
                     for burst in bursts for i in range(burst["words"] + 1)]
        wrong = [address in fails for address in addresses]
        if compact:     # nothing behind an error counts
            wrong = list(accumulate(wrong, or_))
        return [{"data": word_at(address), "error": error}
                for address, error in zip(addresses, wrong, strict=True)]

    def client(bursts, words, wanted):
        async def driver(ctx):
            await send(ctx, bursts, wanted, rng=rng, pause=pause)

        async def monitor(ctx):
            found = await receive(ctx, words, len(expected(wanted)), rng=rng, pause=pause)
            assert found == expected(wanted)
            finished.append(words)
        return driver, monitor

    async def bus(ctx):
        ctx.set(dut.window, WINDOW)
        assert ctx.get(dut.idle)
        await memory.serve(ctx, lambda: len(finished) == 2)
        assert ctx.get(dut.idle)

    simulate(dut, *client(dut.loads, dut.load_words, loads),
             *client(dut.commands, dut.command_words, commands), bus)
    for number, wanted in ((LOADS, loads), (COMMANDS, commands)):
        assert [burst[1:] for burst in memory.bursts if burst[0] == number] == [
            (WINDOW + 4 * burst["word"], burst["words"]) for burst in wanted]


def test_asks_for_no_more_words_than_it_has_room_for():
    rng = random.Random(0)
    dut = AxiReader(config=CONFIG, prefetch=1)
    memory = ReadMemory(dut, rng, pause=0)

    async def driver(ctx):
        await send(ctx, dut.loads, random_bursts(rng, 4, 8), rng=rng)

    async def bus(ctx):
        # Nobody takes words: those asked for must all find a place, and no more are asked for.
        cycles = iter(range(100))
        await memory.serve(ctx, lambda: next(cycles, 99) == 99)

    async def late_client(ctx):
        await ctx.tick().repeat(90)
        asked = sum(beats + 1 for _, _, beats in memory.bursts)
        assert CONFIG.read_words - 8 < asked <= CONFIG.read_words
        ctx.set(dut.load_words.ready, 1)

    simulate(dut, driver, bus, late_client)


def test_halt_refuses_bursts_but_takes_what_is_under_way():
    rng = random.Random(1)
    dut = AxiReader(config=CONFIG, prefetch=1)
    memory = ReadMemory(dut, rng, pause=0.3)

    async def bench(ctx):
        ctx.set(dut.loads.payload, {"word": 5, "words": 7, "last": 1})
        ctx.set(dut.loads.valid, 1)
        await ctx.tick()
        ctx.set(dut.halt, 1)
        cycles = iter(range(100))
        await memory.serve(ctx, lambda: next(cycles, 99) == 99)
        assert ctx.get(dut.idle)
        assert memory.bursts == [(LOADS, 20, 7)]

    simulate(dut, bench)


class WriteMemory:
    """Takes bursts and words as they come, each channel with its own pauses; answers late."""
    def __init__(self, dut, rng, *, pause, fails=()):
        self.dut, self.rng, self.pause, self.fails = dut, rng, pause, fails
        self.bursts, self.words = [], []
        self.answered = 0
        self.most = 0

    async def serve(self, ctx, until):
        dut, rng = self.dut, self.rng
        ended, answering = 0, False
        offered = {}
        while not until():
            free = {name: rng.random() >= self.pause for name in ("aw", "w")}
            ctx.set(dut.awready, free["aw"])
            ctx.set(dut.wready, free["w"])
            complete = min(ended, len(self.bursts))
            if not answering:
                answering = self.answered < complete and rng.random() >= self.pause
            ctx.set(dut.bvalid, answering)
            ctx.set(dut.bresp, SLVERR if self.answered in self.fails else OKAY)
            *_, awvalid, addr, beats, wvalid, word, strobe, last, bready = await ctx.tick().sample(
                dut.awvalid, dut.awaddr, dut.awlen, dut.wvalid, dut.wdata, dut.wstrb, dut.wlast,
                dut.bready)
            for name, valid, payload in (("aw", awvalid, (addr, beats)),
                                         ("w", wvalid, (word, strobe, last))):
                if name in offered:
                    assert valid and payload == offered[name], f"{name} must stay until taken"
                offered.pop(name, None)
                if valid and not free[name]:
                    offered[name] = payload
            if awvalid and free["aw"]:
                self.bursts.append((addr, beats))
            if wvalid and free["w"]:
                self.words.append((word, strobe, last))
                ended += last
            if answering and bready:
                self.answered += 1
                answering = False
            self.most = max(self.most, len(self.bursts) - self.answered)


def tagged(rng, bursts):
    return [{"burst": burst, "tag": {"event": rng.randrange(4), "index": rng.randrange(1 << 20),
                                     "number": [rng.randrange(32), rng.randrange(32)]}}
            for burst in bursts]


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_writes_words_in_their_bursts_and_returns_tags_when_answered(pause, compact):
    rng = random.Random(f"write {pause}")
    dut = AxiWriter(config=CONFIG, compact=compact)
    bursts = tagged(rng, random_bursts(rng, 50, 8))
    words = [{"data": rng.getrandbits(32), "strobe": rng.randrange(16)}
             for burst in bursts for _ in range(burst["burst"]["words"] + 1)]
    memory = WriteMemory(dut, rng, pause=pause, fails={7, 8, 20})
    found = []

    async def burst_driver(ctx):
        await send(ctx, dut.bursts, bursts, rng=rng, pause=pause)

    async def word_driver(ctx):
        await send(ctx, dut.words, words, rng=rng, pause=pause)

    async def monitor(ctx):
        found.extend(await receive(ctx, dut.done, len(bursts), rng=rng, pause=pause))
        assert memory.answered >= len(bursts) - 1

    async def bus(ctx):
        ctx.set(dut.window, WINDOW)
        await memory.serve(ctx, lambda: len(found) == len(bursts))
        assert ctx.get(dut.idle)

    simulate(dut, burst_driver, word_driver, monitor, bus)
    assert found == [{"tag": burst["tag"], "error": i in memory.fails}
                     for i, burst in enumerate(bursts)]
    assert memory.bursts == [(WINDOW + 4 * b["burst"]["word"], b["burst"]["words"])
                             for b in bursts]
    ends = [i == b["burst"]["words"] for b in bursts for i in range(b["burst"]["words"] + 1)]
    assert memory.words == [(word["data"], word["strobe"], end)
                            for word, end in zip(words, ends, strict=True)]
    assert memory.most <= CONFIG.write_bursts + 1


def test_halt_completes_the_burst_under_way_with_no_byte_enabled():
    rng = random.Random(2)
    dut = AxiWriter(config=CONFIG)
    memory = WriteMemory(dut, rng, pause=0.3)

    async def driver(ctx):
        await send(ctx, dut.bursts, tagged(rng, [{"word": 4, "words": 5, "last": 1}]), rng=rng)
        await send(ctx, dut.words, [{"data": 1, "strobe": 15}] * 2, rng=rng)
        await ctx.tick().repeat(10)
        ctx.set(dut.halt, 1)
        ctx.set(dut.done.ready, 1)
        await ctx.tick().until(dut.idle)

    async def bus(ctx):
        await memory.serve(ctx, lambda: memory.answered == 1)

    simulate(dut, driver, bus)
    assert [strobe for _, strobe, _ in memory.words] == [15, 15, 0, 0, 0, 0]
    assert [last for _, _, last in memory.words] == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("channel", ["ar", "aw"])
def test_bursts_are_accepted_while_their_addresses_have_room(channel, compact):
    dut = (AxiReader(config=CONFIG, prefetch=1, compact=compact) if channel == "ar" else
           AxiWriter(config=CONFIG, compact=compact))
    bursts = dut.loads if channel == "ar" else dut.bursts
    ready = getattr(dut, f"{channel}ready")

    async def bench(ctx):
        ctx.set(bursts.valid, 1)
        refused = []
        for cycle in range(8):
            ctx.set(ready, cycle >= 5)  # the bus takes one in each cycle from then on
            *_, accepted = await ctx.tick().sample(bursts.ready)
            if not accepted:
                refused.append(cycle)
        # A compact master accepts when the bus takes, another one when there is room again.
        assert refused == ([1, 2, 3, 4] if compact else [2, 3, 4, 5])

    simulate(dut, bench)
