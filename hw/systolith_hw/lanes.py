"""What becomes of a lane group: combined, folded, reduced, a function, scaled, written."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .cells import check, place
from .combine import Combiner, saturated
from .config import CoreConfig
from .formats import STRATEGIES
from .function import FunctionUnit, fun_port, function_layout
from .isa import ElementType, Function, Reduction, ResultType, Scale
from .operands import OperandReader
from .parameters import PARTS
from .pipe import Pipe
from .reads import group_layout, settings_layout
from .reduce import Folder, LaneTree
from .requantise import Requantiser
from .rowfile import RowFile
from .rowscale import RowScale
from .scratchpad import ReadPort, WritePort
from .serial import SerialRequantiser, SerialSteps
from .stages import ARRIVED, COMBINED, FOLDED, HELD, OPERANDS, Stages, beats_of
from .writer import ResultWriter

__all__ = ["VectorLanes"]

UNIT = (1 << 30, 1)  # multiplier and shift that change nothing


class VectorLanes(wiring.Component):
    """The pipeline of the vector unit; it never stops.

    Timing: ``Stages``, counted from ``issue``.

    Members
    -------
    issue, group : ``In``
        A group has been read; which one, and its record, come a cycle later unless compact.
    beat, source_read, stream_read : ``In``
        Row of a group that is read in this cycle.
    value_read, sum_read, record : ``In``
        Read of the row file with a group.
    settings, function_first : ``In``
        As ``GroupSequencer`` has them.
    retire, retired : ``Out``
        A group is done in the next cycle.
    acc_data, bias_data, source_data, stream_data : ``In``
        What was read, in the stage ``ARRIVED``.
    scale, act : ``Out(ReadPort)``, ``Out(WritePort)``
        To the parameter memory and the activation scratchpad; always granted.
    fun : ``In(WritePort)``
        Writes function tables.

    Parameters
    ----------
    config : CoreConfig
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        self.stages = Stages(config)
        self.cells = STRATEGIES[config.array.strategy].chips == ("ecp5",)
        unit = config.vector
        self.layout = settings_layout(config)
        row_bits = 8 * config.act_row_bytes
        super().__init__({
            "issue": In(1), "group": In(group_layout(config)),
            "beat": In(range(beats_of(4, config))),
            "source_read": In(1), "stream_read": In(1),
            "value_read": In(1), "sum_read": In(1), "record": In(16),
            "settings": In(data.ArrayLayout(self.layout, 2)), "function_first": In(1),
            "retire": Out(1), "retired": Out(data.StructLayout({"slot": 1, "event": 1})),
            "acc_data": In(32 * config.array.sum_cols), "bias_data": In(32 * unit.lanes),
            "source_data": In(row_bits), "stream_data": In(row_bits),
            "scale": Out(ReadPort(addr_bits=exact_log2(config.memory.par_rows),
                                  width=8 * len(PARTS["scale"]) * unit.lanes)),
            "act": Out(WritePort(addr_bits=exact_log2(config.memory.act_rows), width=row_bits)),
            **fun_port(config),
        })

    def elaborate(self, platform):
        m = Module()
        unit = self.config.vector
        self.m, self.platform = m, platform
        self.pipe = Pipe(m, interval=self.stages.interval)
        self._register, self._delay = self.pipe.register, self.pipe.delay
        self.settled = {}
        self.pipe.start("valid", self.issue, reset_less=False)
        late = not self.config.control.compact
        for name in self.group.shape().members:
            self.pipe.start(name, self.group[name], held=True, late=late)
        if unit.rows:
            m.submodules.rows = self.rows = RowFile(config=self.config)
            for name in ("value_read", "sum_read", "record"):
                self.pipe.start(name, getattr(self, name), reset_less=name == "record",
                                late=late and name == "record")
                m.d.comb += getattr(self.rows, name).eq(
                    self.pipe.at(name, ARRIVED - RowFile.READ_LATENCY))
        operands = self._operands()
        numbers = self._reduce(self._combine(operands))
        results = self._scale(numbers, self._factors(operands.stream))
        self._emit()
        if unit.rows:
            self._write_rows(results)
        self._write_act(results)
        last = self.stages.done - 1
        m.d.comb += [
            self.retire.eq(self.pipe.at("valid", last)),
            self.retired.slot.eq(self.pipe.at("slot", last)),
            self.retired.event.eq(self.pipe.at("event", last)),
        ]
        return m

    def _setting(self, name: str, stage: int):
        """A setting of the group that is at ``stage``, a register; in a compact core the command's,
        which stays as long as a group of its is under way."""
        if self.config.control.compact or name not in self.layout.members:
            return self._of_slot(name, 0)
        if (name, stage) not in self.settled:
            self.settled[name, stage] = self._register(
                f"{name}_{stage}", self.layout.members[name],
                self._of_slot(name, self.pipe.at("slot", stage - 1)))
        return self.settled[name, stage]

    def _of_slot(self, name: str, slot):
        """The setting of the groups of ``slot``; 0 where the unit has none."""
        if name not in self.layout.members:
            return Const(0)
        return Mux(slot, self.settings[1][name], self.settings[0][name])

    def _taken(self, stage):
        """Of each lane, whether it counts in the group at ``stage``: all but those beyond the
        tail of the last group."""
        fold, tail = (self._setting(name, stage - 1) for name in ("fold", "tail"))
        all_taken = fold | (tail == 0) | ~self.pipe.at("tail", stage - 1)
        return [self._register(f"taken{lane}_{stage}", 1, all_taken | (lane < tail))
                for lane in range(self.config.vector.lanes)]

    def _operands(self):
        """The operands, of stage ``OPERANDS``."""
        m, pipe = self.m, self.pipe
        m.submodules.operands = operands = OperandReader(config=self.config)
        for name in ("beat", "source_read", "stream_read"):
            pipe.start(name, getattr(self, name), reset_less=name == "beat")
        m.d.comb += [
            operands.acc_data.eq(self.acc_data),
            operands.picked.eq(pipe.at("source_unit", ARRIVED)),
            operands.bias.eq(self.bias_data),
            operands.beat.eq(pipe.at("beat", ARRIVED)),
            *(getattr(operands, f"{name}_data").eq(getattr(self, f"{name}_data"))
              for name in ("source", "stream")),
            *(getattr(operands, f"{name}_arrived").eq(pipe.at(f"{name}_read", ARRIVED))
              for name in ("source", "stream")),
            *(getattr(operands, f"{name}_unit").eq(pipe.at(f"{name}_unit", HELD))
              for name in ("source", "stream")),
            *(operands.settings[name].eq(self._setting(name, HELD))
              for name in self.layout.members),
        ]
        if self.config.vector.rows:
            m.d.comb += [getattr(operands, name).eq(getattr(self.rows, name))
                         for name in ("value", "position", "sum")]
        return operands

    # Numbers.

    def _combine(self, operands):
        """Each lane's combined number, of stage ``COMBINED``."""
        m, unit = self.m, self.config.vector
        numbers = []
        for lane in range(unit.lanes):
            combiner = Combiner(operations=unit.combines, selects=unit.elementwise)
            place(m, self.platform, f"combiner{lane}", combiner)
            m.d.comb += [combiner.first.eq(operands.first[lane]),
                         combiner.second.eq(operands.second[lane])]
            if unit.combines:
                m.d.comb += combiner.operation.eq(self._setting("operation", OPERANDS))
            if unit.elementwise:
                m.d.comb += [
                    combiner.masked.eq(self._setting("masked", OPERANDS + 1)),
                    combiner.kept.eq(self._register(f"kept{lane}", 1, operands.stream[lane].any())),
                ]
            numbers.append(combiner.result)
        return numbers

    def _factors(self, stream):
        """Each lane's factor from the stream, of stage ``number``; none without a multiplier."""
        unit = self.config.vector
        if not (unit.multiply and unit.elementwise):
            return [Const(0, 1)] * unit.lanes
        subtracts = self._setting("function", OPERANDS - 1) == Function.PRODUCT
        immediate = self._register("subtracted", signed(16), Mux(
            subtracts, self._setting("immediate", OPERANDS - 1), 0))
        factors = []
        for lane in range(unit.lanes):
            offset = self._register(f"offset{lane}", signed(33), stream[lane] - immediate)
            factor = self._register(f"factor{lane}", signed(18), saturated(offset, 18))
            factors.append(self._delay(f"factor{lane}", factor, self.stages.number - COMBINED))
        return factors

    def _reduce(self, numbers):
        """Fold each lane or reduce all of a row; numbers of stage ``number``."""
        m, pipe, unit = self.m, self.pipe, self.config.vector
        if not unit.combines:
            return numbers
        maximum = self._register("folds_maximum", 1, (
            self._setting("reduce", COMBINED - 1) == Reduction.MAXIMUM))
        if unit.rows:
            m.submodules.tree = self.tree = LaneTree(lanes=unit.lanes, largest=True)
            m.d.comb += self.tree.maximum.eq(
                self._delay("tree_maximum", maximum, Folder.LATENCY))
        results = []
        for lane, takes in enumerate(self._taken(COMBINED)):
            folder = Folder(largest=True)
            place(m, self.platform, f"folder{lane}", folder)
            m.d.comb += [
                folder.valid.eq(pipe.at("valid", COMBINED)),
                folder.first.eq(pipe.at("first", COMBINED)),
                folder.take.eq(takes),
                folder.maximum.eq(maximum),
                folder.number.eq(numbers[lane]),
                folder.group.eq(pipe.at("position", COMBINED)),
            ]
            if unit.rows:
                m.d.comb += getattr(self.tree, f"lane{lane}").eq(folder.folded)
            straight = self._delay(f"straight{lane}", numbers[lane], Folder.LATENCY)
            results.append(Mux(self._setting("fold", FOLDED), folder.folded.number, straight))
        return results

    def _travelling(self, name, scale_first, function_first):
        """What travels with the group that is at one of two stages, by what comes first; a
        register."""
        value = self.pipe.at(name, scale_first - 1)
        if self.stages.function:
            value = Mux(self.function_first, self.pipe.at(name, function_first - 1), value)
        return self._register(f"{name}_at_{scale_first}", self.pipe.stages[name][-1].shape(), value,
                              reset_less=self.pipe.reset_less[name])

    def _scale(self, numbers, factors):
        """Function and scale in either order; results of stage ``result``."""
        m, unit, stages = self.m, self.config.vector, self.stages
        first = self.function_first
        at, later = stages.number + stages.choice, stages.function

        def travelling(name, stage):
            """Of the group that the requantiser has at ``stage`` from its input."""
            return self._travelling(name, at + stage, at + later + stage)

        def setting(name, stage):
            if self.config.control.compact or name not in self.layout.members:
                return self._setting(name, at + stage)
            return self._register(f"{name}_scales_{stage}", self.layout.members[name],
                                  self._of_slot(name, travelling("slot", stage - 1)))

        def asked(by, ahead):
            """Whether a group that is scaled ``by`` something reads that so many cycles before."""
            return self._register(f"asked_{by.name}", 1, travelling("valid", -ahead - 1)
                                  & (setting("scale", -ahead - 1) == by), reset_less=False)

        m.d.comb += [
            self.scale.valid.eq(asked(Scale.CHANNEL, ARRIVED)),
            self.scale.addr.eq(travelling("param", -ARRIVED)),
        ]
        if unit.rows:
            ahead = RowFile.READ_LATENCY
            m.d.comb += [
                self.rows.scale_read.eq(asked(Scale.ROW, ahead)),
                self.rows.scale_record.eq(travelling("row", -ahead)),
            ]
        by = setting("scale", 0)
        steps  = SerialSteps() if stages.requantiser is SerialRequantiser else None
        slot   = Signal()   # of the group that a serial requantiser has, from ``PLACE`` - 1 on
        by_row = Signal()   # its scale, from the cycle after the start on
        if steps is not None:
            m.submodules.steps = steps
            placing, placed_slot = (travelling(name, SerialRequantiser.PLACE - 2)
                                    for name in ("valid", "slot"))
            m.d.comb += steps.start.eq(travelling("valid", 0))
            with m.If(steps.start):
                m.d.sync += by_row.eq(by == Scale.ROW)
            with m.If(placing):
                m.d.sync += slot.eq(placed_slot)
        kind, zero_point, low, high = self._placed(
            setting if steps is None else lambda name, _: self._of_slot(name, slot))
        scaled, self.left = [], Const(0, 5)
        requantisers = [Requantiser(cells=self.cells) if steps is None else SerialRequantiser()
                        for _ in numbers]
        for lane, requantiser in enumerate(requantisers):
            own = self.scale.data[40 * lane:40 * (lane + 1)]
            multiplier = Signal(31, name=f"multiplier{lane}")
            shift = Signal(signed(6), name=f"shift{lane}")
            if steps is not None:
                m.d.comb += [multiplier.eq(own[:31]), shift.eq(own[32:38].as_signed()),
                             requantiser.start.eq(steps.start), requantiser.step.eq(steps.step),
                             requantiser.unit.eq(by == Scale.UNIT)]
                if unit.rows:
                    with m.If(by_row):
                        m.d.comb += multiplier.eq(self.rows.scale.multiplier)
                    with m.If(by == Scale.ROW):
                        m.d.comb += shift.eq(self.rows.scale.shift)
            else:
                m.d.comb += [multiplier.eq(UNIT[0]), shift.eq(UNIT[1])]
                with m.If(by == Scale.CHANNEL):
                    m.d.comb += [multiplier.eq(own[:31]), shift.eq(own[32:38].as_signed())]
                if unit.rows:
                    with m.Elif(by == Scale.ROW):
                        m.d.comb += [multiplier.eq(self.rows.scale.multiplier),
                                     shift.eq(self.rows.scale.shift)]
            place(m, self.platform, f"requantiser{lane}", requantiser)
            m.d.comb += [
                requantiser.multiplier.eq(multiplier), requantiser.shift.eq(shift),
                requantiser.result_type.eq(kind), requantiser.zero_point.eq(zero_point),
                requantiser.clamp_low.eq(low), requantiser.clamp_high.eq(high),
            ]
            scaled.append(requantiser.result)
        if not later:
            for requantiser, number in zip(requantisers, numbers, strict=True):
                m.d.comb += requantiser.value.eq(number)
            return scaled
        functions = self._functions(numbers, scaled, factors)
        results = []
        for lane, (requantiser, function) in enumerate(zip(requantisers, functions, strict=True)):
            m.d.comb += requantiser.value.eq(self._register(
                f"value{lane}", signed(32), Mux(first, function, numbers[lane])))
            results.append(self._register(
                f"result{lane}", signed(32), Mux(first, scaled[lane], function)))
        return results

    def _placed(self, setting):
        """Type, zero point and clamp of the results that the requantisers place."""
        place_at = self.stages.requantiser.PLACE
        result_type, function, zero_point = (setting(name, place_at - 1) for name in (
            "result_type", "function", "zero_point"))
        kind = Signal(ElementType)
        self.m.d.comb += kind.eq(
            Mux(result_type < ResultType.NONE, result_type, ElementType.INT32))
        if self.stages.function:
            with self.m.If(~self.function_first & (function == Function.TABLE)):
                self.m.d.comb += kind.eq(ElementType.INT8)
            with self.m.Elif(~self.function_first & (function != Function.NONE)):
                self.m.d.comb += kind.eq(ElementType.INT32)
        return (self._register("kind", ElementType, kind),
                self._register("offset", signed(8), Mux(
                    result_type > ResultType.ROW_VALUE, 0, zero_point)),
                setting("clamp_low", place_at), setting("clamp_high", place_at))

    def _functions(self, numbers, scaled, factors):
        """What the lanes' function units make of numbers, or of what is scaled already."""
        m, unit, first = self.m, self.config.vector, self.function_first
        early = self.stages.number + 1
        late = early + self.stages.choice + self.stages.requantiser.LATENCY
        slot = self._travelling("slot", late - 2, early - 2)

        def setting(name):
            return self._register(f"{name}_of_function", self.layout.members[name],
                                  self._of_slot(name, slot))

        shift, result_type, function = (setting(name) for name in (
            "function_shift", "result_type", "function"))
        segments = setting("segments")
        coarse = shift > 15
        values = {
            "function": function,
            "coarse": coarse,
            "left": Mux(segments, 15, 17) - Mux(coarse, shift - 8, shift),
            "wide": segments,
            "two_sided": setting("function_signed"),
            "base": setting("function_base"),
            "immediate": setting("immediate"),
            "limit": Mux(~first & (function != Function.NONE) & (result_type < ResultType.NONE),
                         result_type, ElementType.INT32),
            "normalise": result_type > ResultType.ROW_VALUE,
            "halve": result_type == ResultType.ROW_ROOT,
            "reads": self._travelling("valid", late - 1, early - 1) & (
                (function == Function.TABLE) | (function == Function.LINEAR)
                | (function == Function.CHANNEL)),
        }
        settings = Signal(function_layout, name="function_settings", reset_less=True)
        m.d.sync += [settings[name].eq(value) for name, value in values.items()]
        entry = self.pipe.at("entry", late)
        results = []
        for lane, (number, other, factor) in enumerate(zip(numbers, scaled, factors, strict=True)):
            function_unit = FunctionUnit(
                entries=unit.functions, multiply=unit.multiply, cells=self.cells,
                normalises=lane == 0 and unit.rows > 0 and unit.linear)
            place(m, self.platform, f"function{lane}", function_unit)
            m.d.comb += [
                function_unit.settings.eq(settings),
                function_unit.x.eq(self._register(f"x{lane}", signed(32),
                                                  Mux(first, number, other))),
                function_unit.factor.eq(self._register(f"x_factor{lane}", signed(18), factor)),
                function_unit.entry.eq(entry),
            ]
            if unit.functions:
                self._write_table(lane, function_unit)
            if lane == 0:
                self.left = function_unit.left
            results.append(function_unit.result)
        return results

    def _write_table(self, lane, function_unit):
        """Write what comes for the lane's table."""
        size = function_unit.entry_bytes
        to_all = self.fun.addr[-1]
        own, own_mask = (Mux(to_all, whole[:bits], whole[bits * lane:bits * (lane + 1)])
                         for whole, bits in ((self.fun.data, 8 * size), (self.fun.mask, size)))
        self.m.d.comb += [
            self.fun.ready.eq(1),
            function_unit.write_addr.eq(self.fun.addr[:-1]),
            function_unit.write_data.eq(own),
            function_unit.write_en.eq(Mux(self.fun.valid, own_mask, 0)),
        ]

    # Results.

    def _emit(self):
        """Say whether a group at ``result`` has one: not what was folded into one that comes."""
        before = self.stages.result - 1
        emitted = self.pipe.at("valid", before)
        if self.config.vector.combines:
            emitted = emitted & (~self._setting("fold", before) | self.pipe.at("last", before))
        self.emitted = self._register("emitted", 1, emitted, reset_less=False)

    def _write_rows(self, results):
        """Write what was found of rows, and results that go to their records."""
        m, unit, pipe, rows, tree = (
            self.m, self.config.vector, self.pipe, self.rows, self.tree)
        at, found = self.stages.result, FOLDED + self.stages.tree
        pipe.start("reduced", pipe.at("valid", FOLDED) & pipe.at("last", FOLDED)
                   & ~self._setting("fold", FOLDED)
                   & (self._setting("reduce", FOLDED) != Reduction.NONE), reset_less=False)
        reduces = pipe.at("reduced", self.stages.tree)
        result_type = self._setting("result_type", at)
        to_value = self.emitted & (result_type == ResultType.ROW_VALUE)
        check(m, self.platform, ~(reduces & to_value),
              "a record's value may have one writer at a time")
        m.d.comb += [
            rows.value_write.eq(self._register("value_write", 1, reduces | to_value,
                                               reset_less=False)),
            rows.value_record.eq(self._register("value_record", rows.value_record.shape(), Mux(
                reduces, pipe.at("row", found), pipe.at("result", at)))),
            rows.value_data.eq(self._register("value_data", signed(32), Mux(
                reduces, tree.number, results[0]))),
            rows.position_data.eq(self._register("position_data", tree.position.shape(), Mux(
                reduces, tree.position, 0))),
        ]
        if unit.linear:
            self._write_scale(results[0], result_type)
        self._sum_results(results)

    def _write_scale(self, result, result_type):
        """Write multiplier and shift, two cycles after their result."""
        m, pipe, rows, at = self.m, self.pipe, self.rows, self.stages.result
        m.submodules.row_scale = row_scale = RowScale()
        pipe.start("scales", self.emitted & (result_type > ResultType.ROW_VALUE), reset_less=False)
        m.d.comb += [
            row_scale.result.eq(result),
            row_scale.left.eq(self._delay(
                "left", self.left, self.stages.requantiser.LATENCY + 2 * self.stages.choice)),
            row_scale.halved.eq(result_type == ResultType.ROW_ROOT),
            row_scale.offset.eq(self._setting("zero_point", at)),
            rows.scale_data.eq(row_scale.scale),
            rows.scale_write.eq(pipe.at("scales", 2)),
            rows.scale_write_record.eq(pipe.at("result", at + 2)),
        ]

    def _sum_results(self, results):
        """Add up the results of each row."""
        m, unit, pipe, rows = self.m, self.config.vector, self.pipe, self.rows
        at, last = self.stages.result, self.stages.sum
        m.submodules.sum_tree = tree = LaneTree(lanes=unit.lanes, largest=False)
        begins = self._register("sum_begins", 1, (
            pipe.at("first", at - 1) | self._setting("fold", at - 1)))
        for lane, (result, takes) in enumerate(zip(results, self._taken(at), strict=True)):
            folder = Folder(largest=False)
            place(m, self.platform, f"summer{lane}", folder)
            m.d.comb += [
                folder.valid.eq(self.emitted),
                folder.first.eq(begins),
                folder.take.eq(takes),
                folder.number.eq(result),
                getattr(tree, f"lane{lane}").eq(folder.folded),
            ]
        total = tree.number
        pipe.start("summed", pipe.at("valid", at) & pipe.at("last", at)
                   & self._setting("sum_results", at), reset_less=False)
        m.d.comb += [
            rows.sum_write.eq(pipe.at("summed", last)),
            rows.sum_record.eq(pipe.at("row", at + last)),
            rows.sum_data.eq(Mux(total < 0, 0, total[:31])),
        ]

    def _write_act(self, results):
        """Write results to the scratchpad."""
        m, at = self.m, self.stages.result
        m.submodules.writer = writer = ResultWriter(config=self.config)
        wiring.connect(m, writer.act, wiring.flipped(self.act))
        m.d.comb += [writer.valid.eq(self.emitted), writer.place.eq(self.pipe.at("result", at)),
                     writer.type.eq(self._setting("result_type", at)),
                     *(writer.results[lane].eq(result) for lane, result in enumerate(results))]
