"""The vector engine in Amaranth's simulator, between memories and semaphores made of Python."""

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import cache
from math import prod

import numpy as np
import pytest
from amaranth.sim import Simulator
from systolith.errors import CoreError
from systolith.model.address import loop_offsets, wrap
from systolith.model.engines import RUN
from systolith.model.state import CoreState
from systolith.model.validate import prepare
from systolith.model.vector import VectorWork
from systolith.program import GROUP_UNITS, Program
from systolith_hw.accumulator import Accumulator
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, ONCE, ElementType, Function, Memory, Opcode, Operand, Scale
from systolith_hw.legal import supported
from systolith_hw.scratchpad import Scratchpad
from systolith_hw.stages import Stages
from systolith_hw.vector import VectorEngine

from .simulate import PERIOD
from .streams import plain

__all__ = ["TB", "Groups", "config_of"]

VECTOR = COMMANDS[Opcode.VECTOR]
MEMORY = {"act_rows": 128, "act_banks": 2, "wgt_rows": 16, "acc_rows": 16, "par_rows": 16}
RECORDS = 16
READ_LATENCY = 4
TABLES = (Function.TABLE, Function.LINEAR, Function.CHANNEL)
PORTS = ("acc", "source", "stream", "wait", "raise_")


def config_of(rows, cols, lanes, loops=4, /, *, act_banks=2, compact=False, **vector):
    """A core whose vector unit has everything, but for what ``vector`` says."""
    return CoreConfig.from_dict({
        "array": {"rows": rows, "cols": cols}, "memory": {**MEMORY, "act_banks": act_banks},
        "vector": {"lanes": lanes, "functions": 256, "rows": RECORDS, **vector},
        "control": {"vector_loops": loops, "compact": compact}})


class Simulated:
    """An engine that one bench after the other finds as it is after a reset."""
    def __init__(self, config):
        self.dut = VectorEngine(config=config)
        self.bench = None
        self.simulator = Simulator(self.dut)
        self.simulator.add_clock(PERIOD)
        self.simulator.add_testbench(self._run)

    async def _run(self, ctx):
        await self.bench(ctx)

    def run(self, bench):
        """Run ``bench`` from the reset on."""
        if self.bench is not None:
            self.simulator.reset()
        self.bench = bench
        self.simulator.run()


@cache
def simulated(config):
    """The engine of ``config``, built once for all tests: that takes longer than most of them."""
    return Simulated(config)


@dataclass(frozen=True)
class Groups:
    """A command, and whether it may begin only when the engine is idle."""
    record: bytes
    alone: bool = False


@dataclass
class Seen:
    """What happened, and in which cycles."""
    busy: list = field(default_factory=list)        # a beat was read
    acts: list = field(default_factory=list)        # a row of the scratchpad was written
    values: list = field(default_factory=list)      # value and position of a record
    sums: list = field(default_factory=list)
    scales: list = field(default_factory=list)
    raises: list = field(default_factory=list)      # with the semaphore's number
    waits: list = field(default_factory=list)
    watched: list = field(default_factory=list)     # signals that were asked for, every cycle
    error: tuple | None = None


class TB:
    """Commands, memories and semaphores around a vector engine; the model does the same.

    Parameters
    ----------
    config : CoreConfig
    seed : int
    pause : float or dict of str to float
        How often a port is not granted: all of ``PORTS``, or those named.
    tokens : bool
        Whether a wait needs a raise of the engine; otherwise there is always a token.
    """
    def __init__(self, config, *, seed, pause=0.0, tokens=False):
        print(f"seed {seed}")
        self.config, self.tokens = config, tokens
        self.pause = pause if isinstance(pause, dict) else dict.fromkeys(PORTS, pause)
        self.rng = random.Random(seed)
        self.stages = Stages(config)
        self.simulated = simulated(config)
        self.dut = self.simulated.dut
        self.state = CoreState(config, np.zeros(64, np.uint8))
        self.generator = generator = np.random.default_rng([*str(seed).encode()])
        cols, lanes = config.array.cols, config.vector.lanes
        acc = self.state.acc
        acc[:, :cols] = generator.integers(-40000, 40000, (16, cols))
        acc[1:16:4, :cols] = generator.integers(-300, 300, (4, cols))
        acc[2, :cols] = generator.choice([-2**31, 2**31 - 1, 0], cols)
        records = np.zeros((16, lanes, 3), np.int64)
        records[:, :, 0] = generator.integers(-5000, 5000, (16, lanes))
        records[:, :, 1] = generator.integers(1 << 30, 1 << 31, (16, lanes))
        # Of most numbers, an int8 that is not saturated; of every fourth row anything.
        records[:, :, 2] = generator.integers(-12, -7, (16, lanes)) & 0xff
        records[3::4, :, 2] = generator.integers(-12, 3, (4, lanes)) & 0xff
        self.par = self.state.pads[Memory.PAR].data
        self.par[:] = records.astype("<u4").view(np.uint8).reshape(16, config.par_row_bytes)
        self.act = self.state.pads[Memory.ACT].data
        self.act[:] = generator.integers(0, 256, self.act.shape, np.uint8)
        self.act[generator.random(self.act.shape) < 0.2] = 0
        self.rows = self.state.rows
        self.table_writes = list(self._table()) if config.vector.functions else []
        self.expected = {"wait": Counter(), "raise_": Counter()}
        self.begin()

    def _table(self):
        """Writes of random entries, and once more of some of their bytes."""
        pad = self.state.pads[Memory.FUN].data[:self.config.vector.functions]
        for again, numbers in enumerate((range(len(pad)), range(0, len(pad), 7))):
            for number in numbers:
                data = self.generator.integers(0, 256, pad.shape[1], np.uint8)
                mask = self.generator.integers(0, 2, data.shape, np.uint8) | (1 - again)
                pad[number, mask == 1] = data[mask == 1]
                yield number, data, mask

    def begin(self):
        """What the engine finds is what the model holds now."""
        self.found = self.act.copy()
        self.records = self.rows.copy()

    # Commands.

    def command(self, alone=False, **values):
        """A command as ``Program.vector`` takes it, done by the model at once."""
        program = Program(config=self.config)
        program.vector(**{"counts": [1], **values})
        return self.did(program.records[0], alone)

    def did(self, record, alone=False):
        """Let the model do ``record``; raises ``CoreError`` as the model does."""
        fields = VECTOR.decode(record)
        unnumbered = VECTOR.encode({**fields, "index": 0})   # only the dispatcher gives it one
        assert not prepare(unnumbered, self.config, [0] * self.config.control.params)[0]
        self.model(fields)
        for what, counter in self.expected.items():
            for slot in (0, 1):
                if fields[f"{what.rstrip('_')}{slot}_valid"]:
                    level = fields[f"level{slot}"]
                    counter[fields[f"{what.rstrip('_')}{slot}"]] += (
                        1 if level == ONCE else prod(fields["counts"][level:]))
        return Groups(record, alone)

    def model(self, fields):
        """Run the model's engine without semaphores; nothing is left of a command that fails."""
        kept = self.act.copy(), self.rows.copy()
        silent = {**fields, **{f"{what}{slot}_valid": 0 for what in ("wait", "raise")
                               for slot in (0, 1)}}
        try:
            for _ in RUN[Opcode.VECTOR](self.state, 0, silent):
                pass
        except CoreError:
            self.act[:], self.rows[:] = kept
            raise

    def refused(self, **values):
        """A command that leaves its memories; the model did the groups before."""
        program = Program(config=self.config)
        program.vector(**{"counts": [1], **values})
        fields = VECTOR.decode(program.records[0])
        work = VectorWork(self.state, 0, fields, 0)
        with pytest.raises(CoreError):
            for group in range(prod(fields["counts"])):
                work(group)
        return Groups(program.records[0])

    def give_records_contents(self):
        """Commands that write every part of every record."""
        pitch = self.config.acc_group_pitch
        each = {"counts": [1, RECORDS], "source_strides": [pitch], "scale": Scale.UNIT,
                "second": Operand.IMMEDIATE}
        commands = [self.command(**each, result_type=4, result_strides=[1]),
                    self.command(**each, result_type=3, sum_results=1)]
        if self.config.vector.linear:
            commands.append(self.command(**each, result_type=5, result_strides=[1], function=2,
                                         function_first=1, zero_point=-20))
        return commands

    def random_command(self, **forced):
        """A command that the core takes and that reads nothing that may still be written.

        Scratchpad groups are read from the lower half and written in the upper one; records are
        read from one half of the row file, and results that name a record go to the other.
        """
        for _ in range(10_000):
            values = self._random_values(forced)
            program = Program(config=self.config)
            try:
                program.vector(**values)
            except ValueError:      # a jump is too far
                continue
            record = program.records[0]
            fields = VECTOR.decode(record)
            code, *_ = prepare(record, self.config, [0] * self.config.control.params)
            if code or not self._apart(fields):
                continue
            reads_record = (fields["source_type"] > ElementType.ACC
                            or fields["second"] == Operand.ROW or fields["scale"] == Scale.ROW)
            try:
                return self.did(record, alone=bool(reads_record))
            except CoreError:
                continue
        raise ValueError(f"forced must leave a command that can be taken, not {forced!r}")

    def _random_values(self, forced):
        rng, config = self.rng, self.config
        loops, unit = config.control.vector_loops, config.vector
        draws = {name: forced[name] if name in forced else
                 rng.choice(sorted(supported(VECTOR, name, config)))
                 for name in ("operation", "source_type", "second", "stream_type", "result_type",
                              "function", "scale", "reduce")}
        draws |= {name: rng.randrange(2) for name in (
            "function_first", "fold", "sum_results", "span", "fine", "stream_step", "result_step",
            "param_step", "function_signed", "segments")}
        counts = forced.get("counts", [
            rng.choice([1, 2, 3, 5]), rng.choice([1, 2, 3]),
            *[rng.choice([1, 1, 2]) for _ in range(loops - 2)]])
        half, source = config.act_groups // 2, draws["source_type"]
        low, high = sorted(rng.randrange(-128, 128) for _ in range(2))
        size, stream_size, result_size = (
            GROUP_UNITS.get(draws[name], 1) for name in (
                "source_type", "stream_type", "result_type"))
        row_half = rng.choice([0, RECORDS // 2])
        to_act = draws["result_type"] < 3
        draws |= {
            "counts": counts,
            "source": (rng.randrange(config.acc_groups) if source == ElementType.ACC
                       else rng.randrange(0, half, size)),
            "source_step": rng.choice([1, 1, 1, 0, 2, -1]) * size,
            "source_strides": [rng.randrange(-3, 9) * size for _ in counts[1:]],
            "stream": rng.randrange(0, half, stream_size),
            "stream_strides": [rng.randrange(-3, 9) * stream_size for _ in counts[1:]],
            "result": (rng.randrange(half, 2 * half, result_size) if to_act
                       else RECORDS // 2 - row_half),
            "result_strides": [rng.randrange(0, 9 if to_act else 3) * result_size
                               for _ in counts[1:]],
            "rings": tuple(rng.choice([0, 0, rng.randint(3, half.bit_length() - 1)])
                           for _ in range(3)) if to_act else (0, 0, 0),
            "clamp": rng.choice([(-128, 127), (low, high)]),
            "tail": rng.choice([0, rng.randrange(unit.lanes + 1)]),
            "masked": int(rng.random() < 0.15),
            "immediate": rng.choice([0, rng.randrange(-2**15, 2**15), rng.randrange(-50, 50)]),
            "zero_point": rng.choice([rng.randrange(-128, 128), rng.randrange(-30, 10)]),
            "function_shift": rng.randrange(24), "function_base": rng.choice([0, 0, 1, 2, 3]),
            "param_base": rng.randrange(12), "row_base": row_half,
            **{f"level{slot}": rng.choice([ONCE, *range(loops)]) for slot in (0, 1)},
            **{f"{what}{slot}_valid": rng.randrange(2) for slot in (0, 1)
               for what in ("wait", "raise")},
            **{f"{what}{slot}": rng.randrange(32) for slot in (0, 1)
               for what in ("wait", "raise")},
        }
        return draws | forced

    def _apart(self, fields):
        """Whether reads stay in the lower half and results in the upper one, records likewise."""
        half, counts = self.config.act_groups // 2, fields["counts"]

        def groups(name, step, ring):
            jumps = (step, *fields[f"{name}_jumps"])
            strides, rewind = [], 0
            for count, jump in zip(counts, jumps, strict=True):
                strides.append(jump + rewind)
                rewind += (count - 1) * strides[-1]
            base = fields[f"{name}_base"]
            return wrap(base + loop_offsets(counts, strides) & 0xffff, base, ring)

        kind, result = fields["source_type"], fields["result_type"]
        stream_size = GROUP_UNITS[fields["stream_type"]]
        source = groups("source", fields["source_step"], fields["ring"][0])
        stream = groups("stream", fields["stream_step"] * stream_size, fields["ring"][1])
        to_act = result < 3
        size = GROUP_UNITS[result] if to_act else 1
        results = groups("result", fields["result_step"] * size, fields["ring"][2])
        rows = prod(counts[2 if fields["span"] else 1:])
        return ((kind >= ElementType.ACC or source.max() + GROUP_UNITS[kind] <= half)
                and stream.max() + stream_size <= half
                and (results.min() >= half if to_act else results.max() - fields["result_base"] < 8)
                and rows <= RECORDS // 2)

    # Simulation.

    def run(self, commands, *, cycles=20_000, after=0, halt=None, watch=()):
        """Until all is done, there is an error or ``halt`` groups were read; what was seen.

        Goes on for ``after`` cycles then. ``watch`` names signals of the engine.
        """
        assert Accumulator.READ_LATENCY == Scratchpad.READ_LATENCY == READ_LATENCY
        self.waiting, self.offered, self.watch = deque(commands), False, watch
        self.seen, self.cycle = Seen(), 0
        self.counts = {"wait": Counter(), "raise_": Counter()}
        self.reads = {name: deque([None] * READ_LATENCY)
                      for name in ("acc", "bias", "scale", "source", "stream")}
        self.shows = set()      # ports that show a row
        self.ports = [name for name in PORTS[:3] if name == "acc" or hasattr(self.dut, name)]

        async def bench(ctx):
            self.ctx, self.inputs = ctx, {}
            if any(VECTOR.decode(command.record)["function"] in TABLES for command in commands):
                await self._write_table()
            while self.seen.error is None and (self.waiting or not ctx.get(self.dut.idle)):
                if len(self.seen.busy) == halt:
                    self._set(self.dut.halt, 1)
                    break
                await self._cycle()
                if self.cycle > cycles * self.stages.interval:
                    raise TimeoutError(f"the commands must be done within {cycles} cycles")
            for _ in range(after):
                await self._cycle()

        self.simulated.run(bench)
        return self.seen

    def _set(self, signal, value):
        """Give an input its value; every change makes the simulator settle."""
        if self.inputs.get(id(signal)) != value:
            self.inputs[id(signal)] = value
            self.ctx.set(signal, value)

    async def _write_table(self):
        port = self.dut.fun
        self._set(port.valid, 1)
        for number, data, mask in self.table_writes:
            self._set(port.addr, number)
            self._set(port.data, int.from_bytes(data.tobytes(), "little"))
            self._set(port.mask, sum(int(bit) << i for i, bit in enumerate(mask)))
            await self.ctx.tick()
        self._set(port.valid, 0)

    async def _cycle(self):
        dut, rng, seen, get = self.dut, self.rng, self.seen, self.ctx.get
        self._answer()
        grants = {name: rng.random() >= self.pause.get(name, 0) for name in PORTS}
        waited = get(dut.wait.payload)
        grants["wait"] &= not self.tokens or self.counts["raise_"][waited] > (
            self.counts["wait"][waited])
        for name in ("wait", "raise_", *self.ports[1:]):
            self._set(getattr(dut, name).ready, grants[name])
        self._set(dut.acc_ready, grants["acc"])
        if self.waiting and not self.offered:
            # Once offered, it stays until it is taken, in a compact core until it is done.
            alone = self.waiting[0].alone or self.config.control.compact
            self.offered = not alone or get(dut.idle)
            if self.offered:
                self._set(dut.command.payload, int.from_bytes(self.waiting[0].record, "little"))
        self._set(dut.command.valid, self.offered)
        if "source" in self.ports and grants["stream"] and self._meets(dut.source, dut.stream):
            grants["stream"] = False
            self._set(dut.stream.ready, 0)
        self._take_reads(grants)
        self._take_writes()
        for name, cycles in (("wait", seen.waits), ("raise_", seen.raises)):
            port = getattr(dut, name)
            if grants[name] and get(port.valid):
                self.counts[name][get(port.payload)] += 1
                cycles.append((self.cycle, get(port.payload)))
        if get(dut.busy):
            seen.busy.append(self.cycle)
        if self.offered and get(dut.command.ready):
            self.waiting.popleft()
            self.offered = False
        if self.watch:
            seen.watched.append({name: get(getattr(dut, name)) for name in self.watch})
        error = plain(get(dut.error))
        if error["valid"]:
            seen.error = (error["code"], error["index"])
        self.cycle += 1
        await self.ctx.tick()

    def _meets(self, one, other):
        """Whether two ports ask for the same bank."""
        get = self.ctx.get
        inner = (self.config.memory.act_rows // self.config.memory.act_banks).bit_length() - 1
        return (get(one.valid) and get(other.valid)
                and get(one.addr) >> inner == get(other.addr) >> inner)

    def _answer(self):
        """Data of the reads of some cycles ago; the scratchpads show anything without one, but
        for the scales that a serial requantiser takes its time with, and the biases of a compact
        core with one."""
        stays = {"acc", "scale"} if self.stages.interval > 1 else {"acc"}
        if self.stages.interval > 1 and self.config.control.compact:
            stays.add("bias")
        for name, pipeline in self.reads.items():
            data = pipeline.popleft()
            if name in stays:
                if data is not None:
                    port = self.dut.acc_data if name == "acc" else getattr(self.dut, name).data
                    self._set(port, data)
            elif data is not None:
                self.shows.add(name)
                self._set(getattr(self.dut, name).data, data)
            elif name in self.shows:
                self.shows.remove(name)
                port = getattr(self.dut, name)
                self._set(port.data, self.rng.getrandbits(len(port.data)))

    def _take_reads(self, grants):
        def number(values):
            return int.from_bytes(values.tobytes(), "little")

        dut, config, get = self.dut, self.config, self.ctx.get
        read = dict.fromkeys(self.reads)
        if grants["acc"] and get(dut.acc_valid):
            read["acc"] = number(self.state.acc[get(dut.acc_row), :config.array.cols])
        for name, bytes_ in (("bias", range(4)), ("scale", range(4, 9))):
            port = getattr(dut, name)
            if get(port.valid):
                row = self.par[get(port.addr)].reshape(config.vector.lanes, 12)
                read[name] = number(row[:, bytes_])
        for name in self.ports[1:]:
            port = getattr(dut, name)
            if grants[name] and get(port.valid):
                read[name] = number(self.found[get(port.addr)])
        for name, data in read.items():
            self.reads[name].append(data)

    def _take_writes(self):
        dut, seen, get = self.dut, self.seen, self.ctx.get
        if get(dut.act.valid):
            row, mask = get(dut.act.addr), get(dut.act.mask)
            data = get(dut.act.data).to_bytes(self.config.act_row_bytes, "little")
            for byte in range(self.config.act_row_bytes):
                if mask >> byte & 1:
                    self.found[row, byte] = data[byte]
            seen.acts.append(self.cycle)
        if not self.config.vector.rows:
            return
        rows = dut.lanes.rows
        if get(rows.value_write):
            record = get(rows.value_record)
            self.records["value"][record] = get(rows.value_data)
            self.records["position"][record] = get(rows.position_data)
            seen.values.append(self.cycle)
        if get(rows.sum_write):
            self.records["sum"][get(rows.sum_record)] = get(rows.sum_data)
            seen.sums.append(self.cycle)
        if get(rows.scale_write):
            record, scale = get(rows.scale_write_record), plain(get(rows.scale_data))
            self.records["multiplier"][record] = scale["multiplier"]
            self.records["shift"][record] = scale["shift"]
            seen.scales.append(self.cycle)

    def check(self):
        """Results, records and semaphores are the model's, and no other byte has changed."""
        assert self.seen.error is None
        assert np.array_equal(self.found, self.act), self.differences()
        for name in self.rows.dtype.names:
            assert np.array_equal(self.records[name], self.rows[name]), name
        if not self.tokens:
            assert self.counts == self.expected

    def differences(self):
        """Rows of the scratchpad that differ."""
        return np.flatnonzero((self.found != self.act).any(axis=1)).tolist()
