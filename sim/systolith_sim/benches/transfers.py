"""Random transfers, and what must come of them: the bit-exact model, semaphores, bytes written."""

import random
from collections import Counter
from math import prod

import numpy as np
from systolith.errors import CoreError
from systolith.model.address import loop_offsets, strides_of
from systolith.model.engines import RUN
from systolith.model.state import CoreState
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, ONCE, LoadMode, Memory, Opcode, jumps_of
from systolith_hw.transfer import pad_shapes

__all__ = ["PAGE", "Transfers"]

PAGE = 4096


class Transfers:
    """Makes load and store commands, and keeps what memory and scratchpads hold after them.

    Parameters
    ----------
    config : CoreConfig
    contents : uint8 array
        Of the window.
    rng : random.Random

    Members
    -------
    state : CoreState
        Memory, scratchpads and word counters after the commands so far.
    semaphores : dict of str to Counter
        How often each number was waited for and raised, by ``load_wait`` and so on.
    written : set of int
        Bytes of memory that a store may have written.
    """
    def __init__(self, config: CoreConfig, contents: np.ndarray, rng: random.Random):
        self.config = config
        self.rng = rng
        self.state = CoreState(config, contents)
        self.semaphores = {f"{engine}_{what}": Counter() for engine in ("load", "store")
                           for what in ("wait", "raise")}
        self.written: set[int] = set()

    def model(self, opcode, fields):
        """Let the model do it; whether it may."""
        state = self.state
        kept = (state.memory.copy(), {m: p.data.copy() for m, p in state.pads.items()},
                dict(state.counters))
        state.semaphores = [15] * len(state.semaphores)
        silent = {**fields, **{f"{what}{slot}_valid": 0 for what in ("wait", "raise")
                               for slot in (0, 1)}}
        try:
            for _ in RUN[opcode](state, 0, silent):
                pass
        except CoreError:
            state.memory[:] = kept[0]
            for name, data in kept[1].items():
                state.pads[name].data[:] = data
            state.counters = kept[2]
            return False
        if opcode == Opcode.STORE:
            firsts = fields["memory_base"] + loop_offsets(
                fields["counts"], strides_of(fields["counts"], fields["memory_jumps"]))
            self.written |= {(int(first) + i) % (1 << 32) for first in firsts
                             for i in range(fields["run_bytes"])}
        engine = opcode.name.lower()
        for what in ("wait", "raise"):
            for slot in (0, 1):
                if fields[f"{what}{slot}_valid"]:
                    level = fields[f"level{slot}"]
                    times = 1 if level == ONCE else prod(fields["counts"][level:])
                    self.semaphores[f"{engine}_{what}"][fields[f"{what}{slot}"]] += times
        return True

    def random_command(self, opcode, most=3000):
        """A transfer of up to ``most`` bytes that stays inside, as the model did it."""
        rng, config = self.rng, self.config
        loops = config.control.load_loops
        while True:
            shapes = pad_shapes(config)
            name = rng.choice(list(shapes)) if opcode == Opcode.LOAD else Memory.ACT
            rows, row_bytes, pitch = shapes[name]
            lane = rng.choice([0, rng.randrange(row_bytes)])
            count = rng.choice([row_bytes - lane, rng.randint(1, row_bytes - lane)])
            run = rng.choice([rng.randint(1, count), count, rng.randint(1, 4 * count),
                              rng.randint(1, 400)])
            counts = [rng.choice([1, 1, 2, 3, 4]) for _ in range(loops)]
            ring = rng.choice([0, rng.randint(1, rows.bit_length() - 1)])
            size = len(self.state.memory)
            base = rng.choice([rng.randrange(size),
                               rng.randrange(0, size, PAGE) + PAGE - rng.randrange(300)])
            memory_strides = [rng.choice([run, rng.randrange(-700, 700)]) for _ in range(loops)]
            pad_strides = [pitch * rng.randrange(-8, 9) for _ in range(loops)]
            values = {
                "memory": name, "counts": counts, "run_bytes": run, "row_bytes": count,
                "row_step": rng.choice([1, 1, 2, -1]), "memory_base": base,
                "memory_jumps": jumps_of(counts, memory_strides),
                "pad_base": rng.randrange(rows) * pitch + lane,
                "pad_jumps": jumps_of(counts, pad_strides), "ring": [ring],
                **{f"level{slot}": rng.choice([ONCE, *range(loops)]) for slot in (0, 1)},
            }
            for slot in (0, 1):
                for what in ("wait", "raise"):
                    values[f"{what}{slot}_valid"] = rng.randrange(2)
                    values[f"{what}{slot}"] = rng.randrange(config.control.semaphores)
            if opcode == Opcode.LOAD and rng.random() < 0.15:
                values |= {"mode": LoadMode.FILL, "fill": rng.randrange(-128, 128)}
            record = COMMANDS[opcode].encode(values)
            if prod(counts) * run <= most and self.model(opcode, COMMANDS[opcode].decode(record)):
                return record

    def one_run(self, opcode, address, count):
        """A run into or out of scratchpad rows from row 0, in a ring of all rows."""
        row_bytes = self.config.act_row_bytes
        ring = self.config.memory.act_rows.bit_length() - 1
        lane = self.rng.randrange(row_bytes)
        record = COMMANDS[opcode].encode({
            "memory_base": address, "run_bytes": count, "row_bytes": row_bytes - lane,
            "pad_base": lane, "ring": [ring]})
        assert self.model(opcode, COMMANDS[opcode].decode(record))
        return record

    def fill_all(self):
        """Loads that give every scratchpad row known contents: block RAM starts undefined."""
        records = []
        for name, (rows, row_bytes, _) in pad_shapes(self.config).items():
            count = rows * row_bytes
            record = COMMANDS[Opcode.LOAD].encode({
                "memory": name, "run_bytes": count, "row_bytes": row_bytes,
                "memory_base": self.rng.randrange(len(self.state.memory) - count)})
            assert self.model(Opcode.LOAD, COMMANDS[Opcode.LOAD].decode(record))
            records.append(record)
        return records
