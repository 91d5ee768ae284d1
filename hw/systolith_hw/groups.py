"""Vector commands to lane groups: the walk, what is read, and which settings a group has."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .choose import choose
from .config import CoreConfig
from .fifo import ShortQueue
from .isa import (
    COMMANDS,
    ElementType,
    Function,
    Opcode,
    Operand,
    Reduction,
    ResultType,
    Scale,
    VectorOp,
)
from .narrow import index_bits, walked_bits
from .reads import (
    ADDRESS_BITS,
    BEATS,
    GROUPS,
    GroupReader,
    group_ports,
    head_layout,
    settings_layout,
)
from .record import INDEX_BITS, RECORD_BITS, Record, engine_ports
from .semaphore import Raiser
from .stages import Stages, beats_of
from .transfer import ring_row
from .walk import CommandWalker

__all__ = ["GroupSequencer", "walks_of"]


def walks_of(config: CoreConfig) -> tuple[str, ...]:
    """The streams of addresses that a command walks."""
    return ("source", "stream", "result") if config.vector.elementwise else ("source", "result")


class GroupSequencer(wiring.Component):
    """Walks vector commands, waits, checks addresses, and reads group after group.

    Of the settings of commands two are under way at a time, one with a serial requantiser; a
    command with others waits until those before the last are done, and one with another order of
    function and scale, or of writers of the row file, until all are.

    Timing: one group per cycle, and a cycle between commands; a group is read a cycle after its
    element came from the walk and its settings had room; one of which an operand or the result
    fills several scratchpad rows takes as many cycles, and one more whenever two operands meet in a
    bank. From one group to the next it is ``Stages(config).interval`` cycles.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its first group is next.
    halt : ``In(1)``
        Stop, a compact core at once, others after up to ``GROUPS`` groups.
    acc_valid, acc_row, acc_ready : accumulator's read port
    bias, source, stream : ``Out(ReadPort)``
        To the parameter memory and the activation scratchpad.
    issue : ``Out(1)``
        A group has been read.
    group : ``Out(group_layout)``
        That group; unless the core is compact, of the cycle before, as is ``record``.
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
        A group is done in the next cycle, and its slot and event.
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
        super().__init__({
            "command": In(stream.Signature(RECORD_BITS)),
            "halt": In(1),
            **group_ports(config),
            "settings": Out(data.ArrayLayout(self.layout, 2)),
            "function_first": Out(1),
            "retire": In(1),
            "retired": In(data.StructLayout({"slot": 1, "event": 1})),
            **engine_ports(),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        unit, loops, stages = config.vector, config.control.vector_loops, Stages(config)
        record = Record(COMMANDS[Opcode.VECTOR], self.command.payload)
        beat_bits = exact_log2(beats_of(4, config))
        compact = config.control.compact
        param_bits = walked_bits(config, config.memory.par_rows)
        kept = data.StructLayout({
            "settings": self.layout, "same": 1, "order": 2, "same_order": 1,
            **dict.fromkeys(BEATS, beat_bits),
            "source_size": 2, "stream_size": 2, "result_size": 2,
            "uses": data.StructLayout({name: 1 for name in (
                "acc", "source", "stream", "bias", "param", "record", "row_value", "row_sum",
                "result", "row_result", "table")}),
            **{f"{name}_{what}": bits for name in ("source", "stream", "result")
               for what, bits in (("base", ADDRESS_BITS), ("ring", 4))},
            "outside": 1, "blocks": 4, "param_base": param_bits, "param_outside": 1,
            "param_step": 1, "row_base": 8, "raises": 2,
            "number": data.ArrayLayout(5, 2), "index": INDEX_BITS})
        m.submodules.walker = walker = CommandWalker(
            loops=loops, streams=(ADDRESS_BITS,) * len(self.walks), kept=kept,
            count_bits=config.count_bits, queued=not compact, held=compact, levels=4)
        most = stages.done // stages.interval + 6   # groups under way
        # Room for a raise every four groups, where more than a few are under way.
        m.submodules.raiser = raiser = Raiser(depth=min(most, stages.done // 4 + 3), held=compact)
        wiring.connect(m, walker.wait, wiring.flipped(self.wait))
        wiring.connect(m, raiser.raise_, wiring.flipped(self.raise_))
        m.d.comb += self.raise_index.eq(raiser.raise_index)
        self._connect_command(m, walker, record, loops)
        now, uses = walker.kept, walker.kept.uses
        begins = Signal()   # the element is its command's first
        pass_  = Signal()   # it is a group to be read from the next cycle on
        m.d.sync += begins.eq(walker.begin | (begins & ~pass_))

        under_way = [Signal(bits_for(most), name=f"under_way{i}") for i in range(2)]
        vacant  = Signal(2, init=0b11)  # slots without groups under way
        empty   = vacant.all()
        if compact:     # the command stays until its groups are done
            settings, first_order = [now.settings] * 2, now.order[0]
            slot, room = Const(0, 1), Const(1)
        else:
            settings, first_order, slot, room = self._settings(m, now, begins, pass_, vacant)
        m.d.comb += [self.function_first.eq(first_order),
                     *(self.settings[i].eq(settings[i]) for i in range(2))]
        for i, count in enumerate(under_way):
            come, gone = pass_ & (slot == i), self.retire & (self.retired.slot == i)
            came = Signal(name=f"came{i}")
            m.d.sync += [
                came.eq(come),
                count.eq(count + came - gone),
                vacant[i].eq(~come & (vacant[i] | (gone & (count == 1) & ~came))),
            ]

        # From here on what has passed, where clocks are fast a cycle later: what says so is late.
        passing = data.StructLayout({"element": walker.o.payload.shape(), "begins": 1, "slot": 1,
                                     "event": 2})
        passes, passed, has_passed = Signal(passing), Signal(passing, reset_less=True), Signal()
        m.d["comb" if compact else "sync"] += [passed.eq(passes), has_passed.eq(pass_)]
        element = passed.element

        # Where everything is.
        source = Signal(ADDRESS_BITS)
        second = Signal(ADDRESS_BITS)
        result = Signal(ADDRESS_BITS)
        row_bits = exact_log2(config.act_row_bytes // unit.lanes)
        acc_row = source >> exact_log2(config.acc_group_pitch)
        param, row, entry, block, position = self._counters(m, now, passed, has_passed)
        m.d.comb += [
            at.eq(ring_row(element.address[f"s{self.walks.index(name)}"], now[f"{name}_base"],
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

        good = [~uses.acc | ((acc_row >> exact_log2(config.memory.acc_rows)) == 0),
                ~now.outside | ~(uses.acc | uses.source),
                ~uses.param | (((param >> exact_log2(config.memory.par_rows)) == 0)
                               & ~now.param_outside),
                ~uses.result | inside(result, now.result_size)]
        if unit.elementwise:
            good += [~uses.source | inside(source, now.source_size),
                     ~uses.stream | inside(second, now.stream_size)]
        if unit.rows:
            log2 = exact_log2(unit.rows)
            good += [~uses.record | ((row >> log2) == 0),
                     ~uses.row_result | ((result >> log2) == 0)]
        if unit.functions:
            good.append(~uses.table | ((block >> (exact_log2(unit.functions) - 6)) == 0))
        span_first = span_last = Const(0, 1)
        if unit.combines:
            span_first = element.first[0] & (~now.settings.span | element.first[1])
            span_last = element.last[0] & (~now.settings.span | element.last[1])
        words = {"source": source, "second": second, "result": result, "param": param, "row": row,
                 "entry": entry, "position": position}
        m.submodules.reader = reader = GroupReader(config=config)
        new = Signal(head_layout(config))
        checks = Signal(len(good))
        free = self._hand_over(m, reader, pass_, has_passed, new, checks)
        raises = raiser.ready       # there is room for its raises
        if not compact:             # of which the raiser learns a cycle later
            raises &= ~(passes.event.any() & raiser.event.any())
        m.d.comb += [
            checks.eq(Cat(*good)),
            passes.element.eq(walker.o.payload),
            passes.begins.eq(begins),
            passes.slot.eq(slot),
            passes.event.eq(now.raises & walker.o.payload.ends[2:]),
            pass_.eq(walker.o.valid & walker.open & room & free & raises),
            walker.o.ready.eq(pass_),
            walker.pass_.eq(pass_),
            raiser.event.eq(Mux(has_passed, passed.event, 0)),
            raiser.number.eq(now.number),
            raiser.index.eq(now.index),
            *(new[name].eq(value) for name, value in (
                *words.items(), ("slot", passed.slot), ("event", passed.event.any()),
                ("begins", passed.begins), ("first", span_first),
                ("last", span_last), ("tail", element.last[0]))),
            *(new.uses[name].eq(uses[name]) for name in new.uses.shape().members),
            *(new[name].eq(now[name]) for name in ("index", *BEATS)),
            reader.halt.eq(self.halt),
            *(getattr(self, name).eq(getattr(reader, name)) for name in (
                "acc_valid", "acc_row", "issue", "group", "beat", "source_read", "stream_read",
                "value_read", "sum_read", "record", "error")),
            reader.acc_ready.eq(self.acc_ready),
            self.busy.eq(reader.busy),
        ]
        for name in ("bias", "source", "stream") if unit.elementwise else ("bias",):
            wiring.connect(m, getattr(reader, name), wiring.flipped(getattr(self, name)))

        retired = Signal()  # a group was done a cycle ago
        due     = Signal()  # for which something waits
        still   = empty & ~retired & ~raiser.pending
        m.d.sync += [retired.eq(self.retire), due.eq(self.retire & self.retired.event)]
        m.d.comb += [
            raiser.due.eq(due),
            self.blocked.eq(walker.o.valid & ~walker.open),
            self.waiting.eq(self.blocked & still),
            self.waiting_index.eq(now.index),
            self.idle.eq(~self.command.valid & walker.idle & still),
        ]
        return m

    def _hand_over(self, m, reader, pass_, has_passed, new, checks):
        """Hand groups to the reader, which what passes hangs on by no more than how many are there.
        Returns whether there is room for one."""
        if self.config.control.compact:
            depth = 1 if Stages(self.config).interval > 1 else 2
            m.submodules.groups = groups = ShortQueue(depth=depth, shape=new.shape())
            # Apart from the addresses, so that no word of the Verilog depends on itself.
            m.submodules.checks = checked = ShortQueue(depth=depth, shape=len(checks))
            wiring.connect(m, groups.o, reader.i)
            m.d.comb += [
                groups.i.valid.eq(has_passed), groups.i.payload.eq(new),
                checked.i.valid.eq(has_passed), checked.i.payload.eq(checks),
                checked.o.ready.eq(groups.o.ready),
                reader.allowed.eq(checked.o.payload.all()),
            ]
            return groups.i.ready
        there = Signal(range(GROUPS + 1))   # on their way to the reader, or waiting there
        halted = Signal()
        m.d.sync += halted.eq(self.halt)
        m.d.comb += [reader.i.valid.eq(has_passed), reader.i.payload.eq(new),
                     reader.allowed.eq(checks.all())]
        with m.If(pass_ & ~reader.issue):
            m.d.sync += there.eq(there + 1)
        with m.Elif(reader.issue & ~pass_):
            m.d.sync += there.eq(there - 1)
        return (there != GROUPS) & ~halted

    def _settings(self, m, now, begins, pass_, vacant):
        """Settings of the command: as those of the one before, or into the slot that is not its, a
        cycle later; there is only one where few groups are under way. Also the order of function
        and scale of all groups under way, the slot of the group, and whether there is room for
        it."""
        slots   = [Signal(self.layout, name=f"settings{i}") for i in range(2)]
        current = Signal()
        loaded  = Signal()
        first_order = Signal()
        known   = now.same & loaded
        slot    = Signal()
        free    = vacant[0]     # the slot that it would get
        if Stages(self.config).interval == 1:
            free = Mux(current, vacant[0], vacant[1])
            m.d.comb += slot.eq(Mux(begins & ~known, ~current, current))
        with m.If(pass_ & begins):
            m.d.sync += [current.eq(slot), loaded.eq(1), first_order.eq(now.order[0])]
        for i in range(2):
            filled = Signal(name=f"filled{i}")
            m.d.sync += filled.eq(pass_ & begins & (slot == i))
            with m.If(filled):
                m.d.sync += slots[i].eq(now.settings)
        return slots, first_order, slot, ~begins | (
            (known | free) & (now.same_order | vacant.all()))

    def _counters(self, m, now, passed, has_passed):
        """Parameter row, record, group of the row, block of the table and place in the span of the
        element."""
        last, begins = passed.element.last, passed.begins
        following = []  # of the next element, unless that is a command's first

        def counter(name, start, bits=ADDRESS_BITS):
            value = Signal(bits, name=name)
            register = Signal(bits, name=f"{name}_following", reset_less=True)
            m.d.comb += value.eq(Mux(begins, start, register))
            following.append(register)
            return value

        param = counter("param", now.param_base, len(now.param_base))
        tile  = counter("param_tile", now.param_base, len(now.param_base))
        row   = counter("row", now.row_base)
        entry = counter("entry", 0)
        block = counter("block", now.blocks, len(now.blocks) + 1)   # the first beyond is an error
        position = counter("position", 0)
        next_param, next_tile, next_row, next_entry, next_block, next_position = following
        with m.If(has_passed):
            m.d.sync += [next_param.eq(param), next_tile.eq(tile), next_row.eq(row),
                         next_entry.eq(Mux(last[0], 0, entry + 1))]
            if self.config.vector.functions:
                filled = (now.settings.function == Function.CHANNEL) & entry[:6].all()
                m.d.sync += next_block.eq(Mux(last[0], now.blocks, block + filled))
            # Along with loop 0, back at loop 1, on to the next tile at loop 2.
            with m.If(now.param_step):
                with m.If(~last[0]):
                    m.d.sync += next_param.eq(param + 1)
                with m.Elif(~last[1]):
                    m.d.sync += next_param.eq(tile)
                with m.Elif(~last[2]):
                    m.d.sync += [next_param.eq(param + 1), next_tile.eq(param + 1)]
                with m.Else():
                    m.d.sync += [next_param.eq(now.param_base), next_tile.eq(now.param_base)]
            if self.config.vector.combines:
                ends = last[0] & (~now.settings.span | last[1])
                m.d.sync += next_position.eq(Mux(ends, 0, position + 1))
                with m.If(ends):
                    m.d.sync += next_row.eq(row + 1)
        return param, row, entry, block, position

    def _connect_command(self, m, walker, record, loops):
        """Give the walker what it takes of a command."""
        command = walker.command.payload
        kept, uses = command.kept, command.kept.uses
        valid, number, level = record.slots("wait")
        raises, raise_number, raise_level = record.slots("raise")
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
            command.walk.level.as_value().eq(Cat(level, raise_level)),
            *(kept.settings[name].eq(value) for name, value in settings.items()),
            kept.same.eq(0 if walker.held
                         else kept.settings.as_value() == walker.kept.settings.as_value()),
            kept.order.eq(Cat(record["function_first"] if Stages(self.config).function else 0,
                              result == ResultType.ROW_VALUE)),
            kept.same_order.eq(0 if walker.held else kept.order == walker.kept.order),
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
            # Of 64 entries of the table, those before the last that is certain to be read.
            kept.blocks.eq(record["function_base"] + Mux(
                (function == Function.TABLE)
                | ((function != Function.CHANNEL) & record["segments"]), 3, 0)),
            kept.outside.eq(record["source_base"][ADDRESS_BITS:].any()),
            *(kept[f"{name}_base"].eq(record[f"{name}_base"])
              for name in ("source", "stream", "result")),
            *(kept[f"{name}_ring"].eq(record["ring", s])
              for s, name in enumerate(("source", "stream", "result"))),
            kept.param_base.eq(record["param_base"]),
            kept.param_outside.eq(record["param_base"][len(kept.param_base):].any()),
            kept.param_step.eq(record["param_step"]),
            kept.row_base.eq(record["row_base"]),
            kept.raises.eq(raises),
            kept.number.eq(raise_number),
            kept.index.eq(record.index[:index_bits(self.config)]),
        ]
