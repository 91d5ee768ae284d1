"""What load and store share: the walk over runs, and the walk through the rows of one run."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .affine import AffineWalker
from .config import CoreConfig
from .isa import COMMANDS, ErrorCode, Memory, Opcode
from .record import RECORD_BITS, Record, error_layout
from .semaphore import Gate, at_level

__all__ = ["RunWalker", "lane_bits", "pad_shapes", "ring_row", "rotate_bytes", "run_layout"]

ROW_BITS = 16


def pad_shapes(config: CoreConfig) -> dict[Memory, tuple[int, int, int]]:
    """Rows, bytes of a row and row pitch of each scratchpad."""
    return {
        Memory.ACT: (config.memory.act_rows, config.act_row_bytes, config.act_row_bytes),
        Memory.WGT: (config.memory.wgt_rows, config.wgt_row_bytes, config.wgt_row_pitch),
        Memory.PAR: (config.memory.par_rows, config.par_row_bytes, config.par_row_pitch),
    }


def ring_row(row, base, ring):
    """``row`` kept within the aligned ring of ``2 ** ring`` rows around ``base``; 0: no ring."""
    bits = []
    for i in range(len(row)):
        outside = ring != 0 if i >= 15 else (ring != 0) & (ring <= i)
        bits.append(Mux(outside, base[i], row[i]))
    return Cat(*bits)


def lane_bits(config: CoreConfig) -> int:
    """Bits that hold any number of bytes of a scratchpad row."""
    return bits_for(max(pitch for _, _, pitch in pad_shapes(config).values()))


def rotate_bytes(value, amount):
    """``value`` rotated left by ``amount`` bytes; its size is a power of two of bytes."""
    for i in range(len(amount)):
        value = Mux(amount[i], value.rotate_left(8 << i), value)
    return value


def run_layout(config: CoreConfig) -> data.StructLayout:
    """A run: its first ``address`` in memory; ``row`` and first ``lane`` in the scratchpad;
    whether its end is the ``event`` of raising slot 0, 1; whether it is the command's ``last``."""
    return data.StructLayout({
        "address": 32, "row": ROW_BITS, "lane": lane_bits(config), "event": 2, "last": 1})


class RunWalker(wiring.Component):
    """Walks a load or store command's runs, waits at its semaphores and checks its addresses.

    Timing: the first run leaves three cycles after the command came, then one per cycle.

    Parameters
    ----------
    config : CoreConfig
    opcode : Opcode
        ``LOAD`` or ``STORE``.

    Members
    -------
    command : ``In(RECORD_BITS)``
        The command; it stays until ``walked``.
    start : ``In(1)``
        Begin with it.
    walked : ``Out(1)``
        Its last run has been accepted.
    window_bytes : ``In(32)``
        Size of the window.
    run : ``Out(stream of run_layout)``
        The runs. One whose address is not allowed is not offered.
    wait : ``Out(stream of number)``
        To the semaphores.
    waiting : ``Out(1)``
        The next run waits for a semaphore.
    error : ``Out(error_layout)``
        An address is not allowed.
    """
    def __init__(self, *, config: CoreConfig, opcode: Opcode):
        self.config = config
        self.opcode = opcode
        super().__init__({
            "command": In(RECORD_BITS),
            "start": In(1),
            "walked": Out(1),
            "window_bytes": In(32),
            "run": Out(stream.Signature(run_layout(config))),
            "wait": Out(stream.Signature(5)),
            "waiting": Out(1),
            "error": Out(error_layout),
        })

    def elaborate(self, platform):
        m = Module()
        loops = self.config.control.load_loops
        record = Record(COMMANDS[self.opcode], self.command)
        m.submodules.walker = walker = AffineWalker(loops=loops, streams=(32, 32))
        m.submodules.gate = gate = Gate(loops=loops)
        element = walker.o.payload
        memory_address, pad_address = element.address.s0, element.address.s1
        for i in range(loops):
            m.d.comb += [
                walker.count[i].eq(record["counts", i]),
                walker.jump0[i].eq(record["memory_jumps", i]),
                walker.jump1[i].eq(record["pad_jumps", i]),
            ]
        valid, number, level = record.slots("wait")
        raise_valid, _, _ = record.slots("raise")
        m.d.comb += [
            walker.start.eq(self.start),
            walker.base0.eq(record["memory_base"]),
            walker.base1.eq(record["pad_base"]),
            gate.start.eq(self.start),
            Cat(gate.valid).eq(valid),
            gate.number.eq(number),
            gate.level.eq(level),
            gate.first.eq(element.first),
            gate.last.eq(element.last),
        ]
        wiring.connect(m, gate.wait, wiring.flipped(self.wait))

        # Where the run lies in its scratchpad, by the scratchpad's row pitch.
        run = self.run.payload
        row = Signal(32)
        fits = Signal()
        for memory, (_, row_bytes, pitch) in pad_shapes(self.config).items():
            with m.If(record["memory"] == memory):
                lane = pad_address[:exact_log2(pitch)]
                m.d.comb += [
                    row.eq(pad_address[exact_log2(pitch):]),
                    run.lane.eq(lane),
                    fits.eq(lane + record["row_bytes"] <= row_bytes),
                ]
        memory_end = Signal(33)
        reads_memory = record["mode"] == 0 if self.opcode == Opcode.LOAD else 1
        in_window = Signal()
        in_pad  = Signal()
        allowed = Signal()
        m.d.comb += [
            memory_end.eq(memory_address + record["run_bytes"]),
            in_window.eq((memory_end <= self.window_bytes) | ~reads_memory),
            in_pad.eq(fits & ((record["ring", 0] != 0) | (row[ROW_BITS:] == 0))),
            allowed.eq(in_window & in_pad),
            run.address.eq(memory_address),
            run.row.eq(row),
            run.event.eq(Cat(
                raise_valid[slot] & at_level(element.last, record[f"level{slot}"], loops)
                for slot in range(2))),
            run.last.eq(element.last.all()),
            self.run.valid.eq(walker.o.valid & gate.open & allowed),
            walker.o.ready.eq(self.run.ready & gate.open & allowed),
            gate.pass_.eq(self.run.valid & self.run.ready),
            self.walked.eq(gate.pass_ & run.last),
            self.waiting.eq(walker.o.valid & ~gate.open),
            self.error.valid.eq(walker.o.valid & gate.open & ~allowed),
            self.error.code.eq(Mux(in_window, ErrorCode.SCRATCHPAD_ADDRESS,
                                   ErrorCode.MEMORY_ADDRESS)),
            self.error.index.eq(record.index),
        ]
        return m
