"""The vector engine: lanes of int32 between the accumulator and the activation scratchpad."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .accumulator import Accumulator
from .cells import place
from .choose import choose
from .config import CoreConfig
from .fifo import ShortQueue
from .isa import COMMANDS, ElementType, ErrorCode, Opcode
from .record import INDEX_BITS, RECORD_BITS, Record, engine_ports
from .requantise import Requantiser
from .scratchpad import ReadPort, Scratchpad, WritePort
from .semaphore import Raiser, at_level
from .transfer import ring_row
from .walk import CommandWalker

__all__ = ["VectorEngine"]

ADDRESS_BITS = 16  # of lane groups


class VectorEngine(wiring.Component):
    """Takes lane groups from the accumulator, adds their bias, requantises, writes activations.

    A group flows through a pipeline that never stops: its result write has the first right to
    the scratchpad. int32 results that are wider than a scratchpad row take several cycles each.

    Timing: one lane group per cycle, also from one command to the next; its result is written
    ``LATENCY`` (int8) or ``LATENCY_RAW`` (int32) cycles after its read was granted. Where the type
    of the results changes, the command waits until those before are written. Of int8 commands no
    more than three are in the first ``PLACE`` cycles of the pipeline.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its first group is next.
    halt : ``In(1)``
        Stop.
    acc_valid, acc_row, acc_ready, acc_data : accumulator's read port
    par : ``Out(ReadPort)``
        To the parameter memory; always granted.
    act : ``Out(WritePort)``
        To the activation scratchpad; always granted.
    wait, raise_ : ``Out(stream of number)``
        To the semaphores.
    raise_index : ``Out(INDEX_BITS)``
        The command that raises.
    busy, blocked, waiting, idle : ``Out(1)``
        A group was read this cycle; the next waits for a semaphore; the same and nothing else
        moves; nothing is inside.
    waiting_index : ``Out(INDEX_BITS)``
        The command that waits.
    error : ``Out(error_layout)``
    """
    SELECT = 1  # cycles to pick a group from a row
    BIAS = 1    # cycles to add the bias
    LATENCY_RAW = Accumulator.READ_LATENCY + SELECT + BIAS
    PLACE = LATENCY_RAW + Requantiser.PLACE  # cycles to zero point and limits
    LATENCY = LATENCY_RAW + Requantiser.LATENCY

    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            "command": In(stream.Signature(RECORD_BITS)),
            "halt": In(1),
            "acc_valid": Out(1),
            "acc_row": Out(range(config.memory.acc_rows)),
            "acc_ready": In(1),
            "acc_data": In(32 * config.array.cols),
            "par": Out(ReadPort(addr_bits=exact_log2(config.memory.par_rows),
                                width=8 * config.par_row_bytes)),
            "act": Out(WritePort(addr_bits=exact_log2(config.memory.act_rows),
                                 width=8 * config.act_row_bytes)),
            **engine_ports(),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        lanes = config.vector.lanes
        loops = config.control.vector_loops
        record = Record(COMMANDS[Opcode.VECTOR], self.command.payload)
        # An int32 group is written in beats of up to one scratchpad row.
        beat_bytes = min(4 * lanes, config.act_row_bytes)
        beats = 4 * lanes // beat_bytes
        beat_units = beat_bytes // lanes  # addresses from one beat to the next
        row_units = config.act_row_bytes // lanes

        scale = data.StructLayout({
            "zero_point": signed(8), "clamp_low": signed(8), "clamp_high": signed(8)})
        kept = data.StructLayout({
            "raw": 1, "scale": scale, "source_base": ADDRESS_BITS, "source_ring": 4,
            "result_base": ADDRESS_BITS, "result_ring": 4, "outside": 1,
            "param_base": ADDRESS_BITS, "raises": 2, "level": data.ArrayLayout(4, 2),
            "number": data.ArrayLayout(5, 2), "index": INDEX_BITS})
        m.submodules.walker = walker = CommandWalker(
            loops=loops, streams=(ADDRESS_BITS, ADDRESS_BITS), kept=kept)
        m.submodules.raiser = raiser = Raiser()
        m.submodules.scales = scales = ShortQueue(shape=scale, depth=2)
        wiring.connect(m, walker.wait, wiring.flipped(self.wait))
        wiring.connect(m, raiser.raise_, wiring.flipped(self.raise_))
        m.d.comb += self.raise_index.eq(raiser.raise_index)
        self._connect_command(m, walker, record, loops)
        now, group = walker.kept, walker.o.payload
        issue  = Signal()
        retire = Signal()
        begins = group.first.all()  # the first group of a command
        raw    = Signal()           # the groups in the pipeline become int32 results
        under_way = Signal(bits_for(self.LATENCY + beats + 2))
        m.d.sync += under_way.eq(under_way + issue - retire)
        with m.If(issue):
            m.d.sync += raw.eq(now.raw)

        # Which parameter row: along with loop 0, back at loop 1, on to the next tile at loop 2.
        param = Signal(ADDRESS_BITS, reset_less=True)
        param_tile = Signal(ADDRESS_BITS, reset_less=True)
        with m.If(walker.begin):
            m.d.sync += [param.eq(record["param_base"]), param_tile.eq(record["param_base"])]
        with m.Elif(issue):
            with m.If(~group.last[0]):
                m.d.sync += param.eq(param + 1)
            with m.Elif(~group.last[1]):
                m.d.sync += param.eq(param_tile)
            with m.Elif(~group.last[2]):
                m.d.sync += [param.eq(param + 1), param_tile.eq(param + 1)]
            with m.Else():
                m.d.sync += [param.eq(now.param_base), param_tile.eq(now.param_base)]

        # Read.
        source = Signal(ADDRESS_BITS)
        result = Signal(ADDRESS_BITS)
        result_end = Signal(ADDRESS_BITS + 1)
        acc_row = source >> exact_log2(config.acc_group_pitch)
        allowed = Signal()
        pause  = Signal(range(beats))  # cycles that the group before still writes
        event  = Signal(2)
        room   = Signal()  # the pipeline can take the group
        m.d.comb += [
            source.eq(ring_row(group.address.s0, now.source_base, now.source_ring)),
            result.eq(ring_row(group.address.s1, now.result_base, now.result_ring)),
            result_end.eq(result + Mux(now.raw, 3, 0)),
            allowed.eq((acc_row[exact_log2(config.memory.acc_rows):] == 0) & ~now.outside
                       & ((result_end >> exact_log2(config.act_groups)) == 0)
                       & (~now.raw | (result[:exact_log2(beat_units)] == 0))
                       & (param[exact_log2(config.memory.par_rows):] == 0)),
            event.eq(Cat(now.raises[slot] & at_level(group.last, now.level[slot], loops)
                         for slot in range(2))),
            room.eq((pause == 0) & ((now.raw == raw) | (under_way == 0))
                    & (scales.i.ready | ~begins)),
            self.acc_valid.eq(walker.o.valid & walker.open & allowed & room & ~self.halt
                              & (raiser.ready | ~event.any())),
            self.acc_row.eq(acc_row),
            issue.eq(self.acc_valid & self.acc_ready),
            walker.o.ready.eq(issue),
            walker.pass_.eq(issue),
            scales.i.valid.eq(issue & begins),
            scales.i.payload.eq(now.scale),
            raiser.event.eq(Mux(issue, event, 0)),
            raiser.number.eq(now.number),
            raiser.index.eq(now.index),
            self.par.valid.eq(issue),
            self.par.addr.eq(param),
            self.busy.eq(issue),
        ]
        if beats > 1:
            with m.If(issue & now.raw):
                m.d.sync += pause.eq(beats - 1)
            with m.Elif(pause != 0):
                m.d.sync += pause.eq(pause - 1)

        # The place of the result travels beside the data.
        place_layout = data.StructLayout({
            "result": exact_log2(config.act_groups), "event": 1, "first": 1})
        assert Accumulator.READ_LATENCY == Scratchpad.READ_LATENCY
        places = [Signal(place_layout, name="place0")]
        valids = [issue]
        m.d.comb += [
            places[0].result.eq(result), places[0].event.eq(event.any()),
            places[0].first.eq(begins),
        ]
        for stage in range(1, self.LATENCY + 1):
            places.append(Signal(place_layout, name=f"place{stage}", reset_less=True))
            valids.append(Signal(name=f"valid{stage}"))
            ends = raw if stage == self.LATENCY_RAW + 1 else Const(0)  # int32 groups leave before
            m.d.sync += [
                places[stage].eq(places[stage - 1]),
                valids[stage].eq(valids[stage - 1] & ~ends),
            ]
        # A command's zero point and limits wait until its first group comes to them. int32 results
        # have none; their place is taken as soon as it is left.
        now_scale = Signal(scale, reset_less=True)
        m.d.comb += scales.o.ready.eq(
            raw | (valids[self.PLACE - 1] & places[self.PLACE - 1].first))
        with m.If(scales.o.ready):
            m.d.sync += now_scale.eq(scales.o.payload)

        # Pick the group, add the bias, requantise.
        picked = Signal(range(config.acc_group_pitch))
        chosen = source[:exact_log2(config.acc_group_pitch)]
        for stage in range(Accumulator.READ_LATENCY):
            delayed = Signal(range(config.acc_group_pitch), name=f"picked{stage}", reset_less=True)
            m.d.sync += delayed.eq(chosen)
            chosen = delayed
        m.d.comb += picked.eq(chosen)
        width = 32 * lanes
        row = Cat(self.acc_data, Const(0, width * config.acc_group_pitch - len(self.acc_data)))
        groups = [row[width * i:width * (i + 1)] for i in range(config.acc_group_pitch)]
        params = self.par.data
        outputs, sums = [], []
        for lane in range(lanes):
            own = params[96 * lane:96 * (lane + 1)]
            value = Signal(signed(32), name=f"value{lane}", reset_less=True)
            bias  = Signal(signed(32), name=f"bias{lane}", reset_less=True)
            total = Signal(signed(32), name=f"total{lane}", reset_less=True)
            m.d.sync += [
                value.eq(choose(groups, picked)[32 * lane:32 * (lane + 1)]),
                bias.eq(own[0:32]),
                total.eq(value + bias),
            ]
            requantiser = Requantiser()
            place(m, platform, f"requantiser{lane}", requantiser)
            multiplier, shift = own[32:63], own[64:70]
            for stage in range(self.SELECT + self.BIAS):
                next_multiplier = Signal(31, name=f"multiplier{lane}_{stage}", reset_less=True)
                next_shift = Signal(signed(6), name=f"shift{lane}_{stage}", reset_less=True)
                m.d.sync += [next_multiplier.eq(multiplier), next_shift.eq(shift)]
                multiplier, shift = next_multiplier, next_shift
            m.d.comb += [
                requantiser.value.eq(total),
                requantiser.multiplier.eq(multiplier),
                requantiser.shift.eq(shift),
                requantiser.zero_point.eq(now_scale.zero_point),
                requantiser.clamp_low.eq(now_scale.clamp_low),
                requantiser.clamp_high.eq(now_scale.clamp_high),
            ]
            sums.append(total)
            outputs.append(requantiser.result)

        # Write: int8 groups in one beat, int32 groups in several.
        units = range(row_units)
        unit = Signal(range(row_units))
        unit_bits = exact_log2(row_units)
        beat = Signal(range(beats))
        held = Signal(width, reset_less=True)
        held_place = Signal(place_layout, reset_less=True)
        raw_place, raw_valid = places[self.LATENCY_RAW], valids[self.LATENCY_RAW]
        m.d.comb += [raiser.due.eq(0), retire.eq(0)]
        with m.If(raw):
            fresh = Cat(*sums)
            current = choose([fresh[:8 * beat_bytes],
                              *(held[8 * beat_bytes * i:][:8 * beat_bytes]
                                for i in range(1, beats))], beat)
            at = Signal(place_layout)
            active = Signal()
            m.d.comb += [
                at.eq(Mux(beat == 0, raw_place, held_place) if beats > 1 else raw_place),
                active.eq(raw_valid | (beat != 0)),
                self.act.valid.eq(active),
                self.act.addr.eq((at.result + beat * beat_units) >> unit_bits),
                unit.eq(at.result + beat * beat_units),
                self.act.data.eq(current.replicate(config.act_row_bytes // beat_bytes)),
                self.act.mask.eq(Cat(
                    ((unit >> exact_log2(beat_units)) == u // beat_units).replicate(lanes)
                    for u in units)),
                retire.eq(active & (beat == beats - 1)),
                raiser.due.eq(retire & at.event),
            ]
            if beats > 1:
                with m.If(active):
                    m.d.sync += beat.eq(beat + 1)
                with m.If(raw_valid):
                    m.d.sync += [held.eq(fresh), held_place.eq(raw_place)]
        with m.Else():
            at = places[self.LATENCY]
            m.d.comb += [
                self.act.valid.eq(valids[self.LATENCY]),
                self.act.addr.eq(at.result >> unit_bits),
                unit.eq(at.result),
                self.act.data.eq(Cat(*outputs).replicate(row_units)),
                self.act.mask.eq(Cat((unit == u).replicate(lanes) for u in units)),
                retire.eq(valids[self.LATENCY]),
                raiser.due.eq(retire & at.event),
            ]
        m.d.comb += [
            self.blocked.eq(walker.o.valid & ~walker.open),
            self.waiting.eq(self.blocked & (under_way == 0) & ~raiser.pending),
            self.waiting_index.eq(now.index),
            self.idle.eq(~self.command.valid & walker.idle & (under_way == 0) & ~raiser.pending),
            self.error.valid.eq(walker.o.valid & walker.open & ~allowed),
            self.error.code.eq(ErrorCode.SCRATCHPAD_ADDRESS),
            self.error.index.eq(now.index),
        ]
        return m

    def _connect_command(self, m, walker, record, loops):
        """Give the walker what it takes of a command."""
        command = walker.command.payload
        kept = command.kept
        raw = record["result_type"] == ElementType.INT32
        valid, number, level = record.slots("wait")
        raises, raise_number, _ = record.slots("raise")
        for i in range(loops):
            m.d.comb += [
                command.walk.count[i].eq(record["counts", i]),
                command.walk.jump0[i].eq(record["source_jumps", i - 1] if i else 1),
                command.walk.jump1[i].eq(record["result_jumps", i - 1] if i else Mux(raw, 4, 1)),
            ]
        m.d.comb += [
            walker.command.valid.eq(self.command.valid),
            self.command.ready.eq(walker.command.ready),
            command.walk.base0.eq(record["source_base"]),
            command.walk.base1.eq(record["result_base"]),
            command.waits.valid.eq(valid),
            command.waits.number.eq(number),
            command.waits.level.eq(level),
            kept.raw.eq(raw),
            kept.scale.zero_point.eq(record["zero_point"]),
            kept.scale.clamp_low.eq(record["clamp_low"]),
            kept.scale.clamp_high.eq(record["clamp_high"]),
            kept.source_base.eq(record["source_base"]),
            kept.source_ring.eq(record["ring", 0]),
            kept.outside.eq(record["source_base"][ADDRESS_BITS:].any()),
            kept.result_base.eq(record["result_base"]),
            kept.result_ring.eq(record["ring", 2]),
            kept.param_base.eq(record["param_base"]),
            kept.raises.eq(raises),
            kept.level.eq(level),
            kept.number.eq(raise_number),
            kept.index.eq(record.index),
        ]
