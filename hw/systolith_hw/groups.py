"""Vector commands to lane groups: the walk, what is read, and which settings a group has."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .choose import choose
from .config import CoreConfig
from .isa import (
    COMMANDS,
    ElementType,
    ErrorCode,
    Function,
    Opcode,
    Operand,
    Reduction,
    ResultType,
    Scale,
    VectorOp,
)
from .record import INDEX_BITS, RECORD_BITS, Record, engine_ports
from .scratchpad import ReadPort
from .semaphore import Raiser, at_level
from .stages import Stages, beats_of
from .transfer import ring_row
from .walk import CommandWalker

__all__ = ["GroupSequencer", "group_layout", "settings_layout", "walks_of"]

ADDRESS_BITS = 16   # of lane groups
RECORD_NUMBER_BITS = 8
ENTRY_BITS = 9      # of a function table


def settings_layout(config: CoreConfig) -> data.StructLayout:
    """What a command says of all of its groups."""
    unit = config.vector
    fields = {"second": Operand, "scale": Scale, "result_type": ResultType,
              "immediate": signed(16), "zero_point": signed(8), "clamp_low": signed(8),
              "clamp_high": signed(8)}
    if unit.combines:
        fields |= {"operation": VectorOp, "source_type": ElementType, "fine": 1, "masked": 1,
                   "stream_type": 2, "reduce": Reduction, "fold": 1, "span": 1,
                   "sum_results": 1, "tail": 7}
    if unit.functions or unit.multiply:
        fields |= {"function": Function, "function_first": 1, "function_shift": 5,
                   "function_base": 3, "function_signed": 1, "segments": 1}
    return data.StructLayout(fields)


def group_layout(config: CoreConfig) -> data.StructLayout:
    """A group: the slot of its settings; whether something waits for its end; where its operands
    lie in their rows, parameter row, record, entry of the channel; its position in its row,
    whether it is the first, the last, and the last of loop 0; where its result goes."""
    unit, memory = config.vector, config.memory
    in_row = exact_log2(config.act_row_bytes // unit.lanes)
    return data.StructLayout({
        "slot": 1, "event": 1, "stream_unit": in_row,
        "source_unit": max(in_row, exact_log2(config.acc_group_pitch)),
        "param": exact_log2(memory.par_rows),
        "row": RECORD_NUMBER_BITS, "entry": ENTRY_BITS, "position": ADDRESS_BITS, "first": 1,
        "last": 1, "tail": 1,
        "result": max(exact_log2(config.act_groups), exact_log2(unit.rows) if unit.rows else 0)})


def walks_of(config: CoreConfig) -> tuple[str, ...]:
    """The streams of addresses that a command walks."""
    return ("source", "stream", "result") if config.vector.elementwise else ("source", "result")


class GroupSequencer(wiring.Component):
    """Walks vector commands, waits, checks addresses, and reads group after group.

    Of the settings of commands two are under way at a time; a command with others waits until
    those before the last are done, and one with another order of function and scale, or of
    writers of the row file, until all are.

    Timing: one group per cycle, also from one command to the next; a group of which an operand or
    the result fills several scratchpad rows takes as many cycles, and one more whenever two
    operands meet in a bank.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its first group is next.
    halt : ``In(1)``
        Stop.
    acc_valid, acc_row, acc_ready : accumulator's read port
    bias, source, stream : ``Out(ReadPort)``
        To the parameter memory and the activation scratchpad.
    issue : ``Out(1)``
        A group has been read.
    group : ``Out(group_layout)``
        That group.
    beat : ``Out(range(beats))``
        Row of a group that is read.
    source_read, stream_read : ``Out(1)``
        It is.
    value_read, sum_read : ``Out(1)``
        Read these parts of the record with the group.
    record : ``Out(16)``
        Which.
    settings : ``Out(ArrayLayout(settings_layout, 2))``
        Of the groups under way, by their slot.
    function_first : ``Out(1)``
        Of all groups under way.
    retire, retired : ``In``
        A group is done, and its slot and event.
    wait, raise_, raise_index, busy, blocked, waiting, waiting_index, idle, error : ``Out``
        As in ``VectorEngine``.

    Parameters
    ----------
    config : CoreConfig
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        self.walks = walks_of(config)
        self.layout = settings_layout(config)
        act = ReadPort(addr_bits=exact_log2(config.memory.act_rows),
                       width=8 * config.act_row_bytes)
        super().__init__({
            "command": In(stream.Signature(RECORD_BITS)),
            "halt": In(1),
            "acc_valid": Out(1),
            "acc_row": Out(range(config.memory.acc_rows)),
            "acc_ready": In(1),
            "bias": Out(ReadPort(addr_bits=exact_log2(config.memory.par_rows),
                                 width=32 * config.vector.lanes)),
            **({"source": Out(act), "stream": Out(act)} if config.vector.elementwise else {}),
            "issue": Out(1),
            "group": Out(group_layout(config)),
            "beat": Out(range(beats_of(4, config))),
            "source_read": Out(1), "stream_read": Out(1),
            "value_read": Out(1), "sum_read": Out(1), "record": Out(ADDRESS_BITS),
            "settings": Out(data.ArrayLayout(self.layout, 2)),
            "function_first": Out(1),
            "retire": In(1),
            "retired": In(data.StructLayout({"slot": 1, "event": 1})),
            **engine_ports(),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        unit, loops = config.vector, config.control.vector_loops
        record = Record(COMMANDS[Opcode.VECTOR], self.command.payload)
        beat_bits = exact_log2(beats_of(4, config))
        kept = data.StructLayout({
            "settings": self.layout, "same": 1, "order": 2,
            "beats": beat_bits, "source_beats": beat_bits, "stream_beats": beat_bits,
            "result_beats": beat_bits,
            "source_size": 2, "stream_size": 2, "result_size": 2,
            "uses": data.StructLayout({name: 1 for name in (
                "acc", "source", "stream", "bias", "param", "record", "row_value", "row_sum",
                "result", "row_result", "table")}),
            **{f"{name}_{what}": bits for name in ("source", "stream", "result")
               for what, bits in (("base", ADDRESS_BITS), ("ring", 4))},
            "outside": 1, "param_base": ADDRESS_BITS, "param_step": 1, "row_base": 8,
            "raises": 2, "level": data.ArrayLayout(4, 2), "number": data.ArrayLayout(5, 2),
            "index": INDEX_BITS})
        m.submodules.walker = walker = CommandWalker(
            loops=loops, streams=(ADDRESS_BITS,) * len(self.walks), kept=kept)
        m.submodules.raiser = raiser = Raiser(depth=8)
        wiring.connect(m, walker.wait, wiring.flipped(self.wait))
        wiring.connect(m, raiser.raise_, wiring.flipped(self.raise_))
        m.d.comb += self.raise_index.eq(raiser.raise_index)
        self._connect_command(m, walker, record, loops)
        now, group = walker.kept, walker.o.payload
        uses = now.uses
        begins = group.first.all()  # the first group of a command
        step   = Signal()           # a beat of the group is read
        issue  = self.issue         # its last
        final  = Signal()           # no beat after this
        beat   = Signal(beat_bits)
        m.d.comb += self.beat.eq(beat)
        m.d.comb += [final.eq(beat == now.beats), issue.eq(step & final)]
        with m.If(step):
            m.d.sync += beat.eq(Mux(final, 0, beat + 1))

        # A command's last result of several rows keeps the next command's first one away.
        rest = Signal(beat_bits)
        m.d.sync += rest.eq(Mux(issue, now.result_beats, Mux(rest == 0, 0, rest - 1)))

        # Settings of the command: as those of the one before, or into the slot that is not its.
        slots   = [Signal(self.layout, name=f"settings{i}") for i in range(2)]
        current = Signal()
        loaded  = Signal()
        order   = Signal(2)
        known   = now.same & loaded
        slot    = Signal()
        most    = Stages(config).done + 2
        under_way = [Signal(bits_for(most), name=f"under_way{i}") for i in range(2)]
        empty   = (under_way[0] == 0) & (under_way[1] == 0)
        m.d.comb += slot.eq(Mux(begins & ~known, ~current, current))
        with m.If(issue & begins):
            m.d.sync += [current.eq(slot), loaded.eq(1), order.eq(now.order)]
            for i in range(2):
                with m.If(slot == i):
                    m.d.sync += slots[i].eq(now.settings)
        m.d.comb += [self.function_first.eq(order[0]),
                     *(self.settings[i].eq(slots[i]) for i in range(2))]
        for i, count in enumerate(under_way):
            m.d.sync += count.eq(count + (issue & (slot == i))
                                 - (self.retire & (self.retired.slot == i)))
        room = ~begins | ((known | (Mux(current, under_way[0], under_way[1]) == 0))
                          & ((now.order == order) | empty) & ~(final & (rest != 0)))

        # Where everything is.
        source = Signal(ADDRESS_BITS)
        second = Signal(ADDRESS_BITS)
        result = Signal(ADDRESS_BITS)
        row_bits = exact_log2(config.act_row_bytes // unit.lanes)
        acc_row = source >> exact_log2(config.acc_group_pitch)
        param, row, entry, position = self._counters(m, walker)
        m.d.comb += [
            at.eq(ring_row(group.address[f"s{self.walks.index(name)}"], now[f"{name}_base"],
                           now[f"{name}_ring"]))
            for name, at in (("source", source), ("stream", second), ("result", result))
            if name in self.walks]

        def inside(address, size):
            """Whether a group of ``1 << size`` units lies in the scratchpad, and aligned."""
            end = address + Mux(size == 2, 3, Mux(size == 1, 1, 0))
            aligned = Const(1)
            for log2 in (1, 2):
                low = address[:min(log2, row_bits)]
                aligned = aligned & ((size != log2) | (low == 0))
            return aligned & ((end >> exact_log2(config.act_groups)) == 0)

        allowed = Signal()
        good = [~uses.acc | ((acc_row >> exact_log2(config.memory.acc_rows)) == 0),
                ~now.outside | ~(uses.acc | uses.source),
                ~uses.param | ((param >> exact_log2(config.memory.par_rows)) == 0),
                ~uses.result | inside(result, now.result_size)]
        if unit.elementwise:
            good += [~uses.source | inside(source, now.source_size),
                     ~uses.stream | inside(second, now.stream_size)]
        if unit.rows:
            log2 = exact_log2(unit.rows)
            good += [~uses.record | ((row >> log2) == 0),
                     ~uses.row_result | ((result >> log2) == 0)]
        if unit.functions:
            settings = now.settings
            wide = (settings.function == Function.TABLE) | settings.segments
            last = Mux(settings.function == Function.CHANNEL, entry, Mux(wide, 255, 63))
            good.append(~uses.table | (((last + (settings.function_base << 6))
                                        >> exact_log2(unit.functions)) == 0))
        event = Signal(2)
        wanted = Signal()   # the group could be read
        m.d.comb += [
            allowed.eq(Cat(*good).all()),
            event.eq(Cat(now.raises[i] & at_level(group.last, now.level[i], loops)
                         for i in range(2))),
            wanted.eq(walker.o.valid & walker.open & allowed & room & ~self.halt
                      & (raiser.ready | ~event.any())),
        ]

        # The reads of a beat, each granted when its bank is free.
        done = []

        def read(name, used, ready):
            """Whether to ask: until it is granted, and then not before the next beat."""
            granted, asks = Signal(name=f"{name}_granted"), Signal(name=f"{name}_asks")
            m.d.comb += asks.eq(wanted & used & ~granted)
            m.d.sync += granted.eq((granted | (asks & ready)) & ~step)
            done.append(~used | granted | ready)
            return asks

        m.d.comb += [
            self.acc_valid.eq(read("acc", uses.acc & final, self.acc_ready)),
            self.acc_row.eq(acc_row),
            self.bias.valid.eq(issue & uses.bias),
            self.bias.addr.eq(param),
        ]
        if unit.elementwise:
            for name, port, address in (("source", self.source, source),
                                        ("stream", self.stream, second)):
                asks = read(name, uses[name] & (beat <= now[f"{name}_beats"]), port.ready)
                m.d.comb += [
                    port.valid.eq(asks),
                    port.addr.eq((address >> row_bits) + beat),
                ]
                m.d.comb += getattr(self, f"{name}_read").eq(asks & port.ready)
        m.d.comb += [
            step.eq(wanted & Cat(*done).all()),
            walker.o.ready.eq(issue),
            walker.pass_.eq(issue),
            raiser.event.eq(Mux(issue, event, 0)),
            raiser.number.eq(now.number),
            raiser.index.eq(now.index),
            self.busy.eq(step),
        ]

        span_first = span_last = Const(0, 1)
        if unit.combines:
            span_first = group.first[0] & (~now.settings.span | group.first[1])
            span_last = group.last[0] & (~now.settings.span | group.last[1])
        m.d.comb += [
            *(self.group[name].eq(value) for name, value in (
                ("slot", slot), ("event", event.any()), ("source_unit", source),
                ("stream_unit", second), ("param", param),
                ("row", row), ("entry", entry), ("position", position), ("first", span_first),
                ("last", span_last), ("tail", group.last[0]), ("result", result))),
            self.value_read.eq(issue & uses.row_value),
            self.sum_read.eq(issue & uses.row_sum),
            self.record.eq(row),
        ]
        m.d.comb += [
            raiser.due.eq(self.retire & self.retired.event),
            self.blocked.eq(walker.o.valid & ~walker.open),
            self.waiting.eq(self.blocked & empty & ~raiser.pending),
            self.waiting_index.eq(now.index),
            self.idle.eq(~self.command.valid & walker.idle & empty & ~raiser.pending),
            self.error.valid.eq(walker.o.valid & walker.open & ~allowed),
            self.error.code.eq(ErrorCode.SCRATCHPAD_ADDRESS),
            self.error.index.eq(now.index),
        ]
        return m

    def _counters(self, m, walker):
        """Parameter row, record, group of the row and place in the span of the next group."""
        now, group = walker.kept, walker.o.payload
        command = walker.command.payload.kept
        param = Signal(ADDRESS_BITS, reset_less=True)
        param_tile = Signal(ADDRESS_BITS, reset_less=True)
        row   = Signal(ADDRESS_BITS, reset_less=True)
        entry = Signal(ADDRESS_BITS, reset_less=True)
        position = Signal(ADDRESS_BITS, reset_less=True)
        with m.If(walker.begin):
            m.d.sync += [param.eq(command.param_base), param_tile.eq(command.param_base),
                         row.eq(command.row_base), entry.eq(0), position.eq(0)]
        with m.Elif(self.issue):
            # Along with loop 0, back at loop 1, on to the next tile at loop 2.
            with m.If(now.param_step):
                with m.If(~group.last[0]):
                    m.d.sync += param.eq(param + 1)
                with m.Elif(~group.last[1]):
                    m.d.sync += param.eq(param_tile)
                with m.Elif(~group.last[2]):
                    m.d.sync += [param.eq(param + 1), param_tile.eq(param + 1)]
                with m.Else():
                    m.d.sync += [param.eq(now.param_base), param_tile.eq(now.param_base)]
            m.d.sync += entry.eq(Mux(group.last[0], 0, entry + 1))
            if self.config.vector.combines:
                ends = group.last[0] & (~now.settings.span | group.last[1])
                m.d.sync += position.eq(Mux(ends, 0, position + 1))
                with m.If(ends):
                    m.d.sync += row.eq(row + 1)
        return param, row, entry, position

    def _connect_command(self, m, walker, record, loops):
        """Give the walker what it takes of a command."""
        command = walker.command.payload
        kept, uses = command.kept, command.kept.uses
        valid, number, level = record.slots("wait")
        raises, raise_number, _ = record.slots("raise")
        source, result, function = (record[name] for name in (
            "source_type", "result_type", "function"))
        stream_size = record["stream_type"]
        scratch, to_act = source < ElementType.ACC, result < ResultType.NONE
        second = record["second"]
        on_stream = ((second == Operand.STREAM) | record["masked"]
                     | (record["operation"] == VectorOp.SELECT)
                     | (function == Function.PRODUCT) | (function == Function.WEIGHTED))
        beats = [Const(beats_of(1 << size, self.config) - 1, len(kept.beats)) for size in range(3)]

        def of(size, used):
            """Beats after the first of a group with such elements."""
            return Mux(used, choose(beats, size), 0)

        def larger(a, b):
            return Mux(a < b, b, a)

        for i in range(loops):
            first = {"source": record["source_step"],
                     "stream": Mux(record["stream_step"], 1 << stream_size, 0),
                     "result": Mux(record["result_step"], Mux(to_act, 1 << result[:2], 1), 0)}
            m.d.comb += [
                command.walk.count[i].eq(record["counts", i]),
                *(command.walk[f"jump{s}"][i].eq(
                    record[f"{name}_jumps", i - 1] if i else first[name])
                  for s, name in enumerate(self.walks)),
            ]
        settings = {name: record[name] for name in self.layout.members}
        m.d.comb += [
            walker.command.valid.eq(self.command.valid),
            self.command.ready.eq(walker.command.ready),
            *(command.walk[f"base{s}"].eq(record[f"{name}_base"])
              for s, name in enumerate(self.walks)),
            command.waits.valid.eq(valid),
            command.waits.number.eq(number),
            command.waits.level.eq(level),
            *(kept.settings[name].eq(value) for name, value in settings.items()),
            kept.same.eq(kept.settings.as_value() == walker.kept.settings.as_value()),
            kept.order.eq(Cat(record["function_first"] if Stages(self.config).function else 0,
                              result == ResultType.ROW_VALUE)),
            kept.source_beats.eq(of(source[:2], scratch)),
            kept.stream_beats.eq(of(stream_size, on_stream)),
            kept.result_beats.eq(of(result[:2], to_act)),
            kept.beats.eq(larger(kept.source_beats, larger(
                kept.stream_beats, kept.result_beats))),
            kept.source_size.eq(source[:2]),
            kept.stream_size.eq(stream_size),
            kept.result_size.eq(result[:2]),
            uses.acc.eq(source == ElementType.ACC),
            uses.source.eq(scratch),
            uses.stream.eq(on_stream),
            uses.bias.eq(second == Operand.CHANNEL),
            uses.param.eq(uses.bias | (record["scale"] == Scale.CHANNEL)),
            uses.record.eq((source > ElementType.ACC) | (second == Operand.ROW)
                           | (record["scale"] == Scale.ROW) | record["sum_results"]
                           | ((record["reduce"] != Reduction.NONE) & ~record["fold"])),
            uses.row_value.eq((source == ElementType.ROW_VALUE) | (second == Operand.ROW)
                              | (source == ElementType.ROW_POSITION)),
            uses.row_sum.eq(source == ElementType.ROW_SUM),
            uses.result.eq(to_act),
            uses.row_result.eq(result > ResultType.NONE),
            uses.table.eq((function == Function.TABLE) | (function == Function.LINEAR)
                          | (function == Function.CHANNEL)),
            kept.outside.eq(record["source_base"][ADDRESS_BITS:].any()),
            *(kept[f"{name}_base"].eq(record[f"{name}_base"])
              for name in ("source", "stream", "result")),
            *(kept[f"{name}_ring"].eq(record["ring", s])
              for s, name in enumerate(("source", "stream", "result"))),
            kept.param_base.eq(record["param_base"]),
            kept.param_step.eq(record["param_step"]),
            kept.row_base.eq(record["row_base"]),
            kept.raises.eq(raises),
            kept.level.eq(level),
            kept.number.eq(raise_number),
            kept.index.eq(record.index),
        ]
