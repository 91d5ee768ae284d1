"""What becomes of a lane group: combined, folded, reduced, a function, scaled, written."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .cells import check, place
from .choose import choose
from .combine import Combiner, saturated
from .config import CoreConfig
from .function import MANTISSA_BITS, FunctionUnit, function_layout
from .groups import group_layout, settings_layout
from .isa import ElementType, Function, Reduction, ResultType, Scale
from .operands import OperandReader
from .parameters import PARTS
from .pipe import Pipe
from .reduce import Folder, LaneTree
from .requantise import Requantiser
from .rowfile import RowFile
from .scratchpad import ReadPort, WritePort
from .stages import ARRIVED, COMBINED, HELD, OPERANDS, Stages, beats_of

__all__ = ["VectorLanes", "fun_port"]

UNIT = (1 << 30, 1)  # multiplier and shift that change nothing


def fun_port(config: CoreConfig) -> dict[str, wiring.Member]:
    """The way to write function tables, where there are any."""
    if not config.vector.functions:
        return {}
    return {"fun": In(WritePort(addr_bits=1 + exact_log2(config.vector.functions),
                                width=8 * config.fun_row_bytes))}


class VectorLanes(wiring.Component):
    """The pipeline of the vector unit; it never stops.

    Timing: ``Stages``, counted from ``issue``.

    Members
    -------
    issue, group : ``In``
        A group has been read.
    beat, source_read, stream_read : ``In``
        Row of a group that is read in this cycle.
    value_read, sum_read, record : ``In``
        Read of the row file with a group.
    settings, function_first : ``In``
        As ``GroupSequencer`` has them.
    retire, retired : ``Out``
        A group is done.
    acc_data, bias_data, source_data, stream_data : ``In``
        What was read, in the stage ``ARRIVED``.
    scale : ``Out(ReadPort)``
        To the parameter memory; always granted.
    act : ``Out(WritePort)``
        To the activation scratchpad; always granted.
    fun : ``In(WritePort)``
        Writes function tables.

    Parameters
    ----------
    config : CoreConfig
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        self.stages = Stages(config)
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
        self.m, self.platform, self.pipe = m, platform, Pipe(m)
        self.pipe.start("valid", self.issue, reset_less=False)
        for name in self.group.shape().members:
            self.pipe.start(name, self.group[name])
        if unit.rows:
            m.submodules.rows = self.rows = RowFile(config=self.config)
            m.d.comb += [
                self.rows.value_read.eq(self.value_read),
                self.rows.sum_read.eq(self.sum_read),
                self.rows.record.eq(self.record),
            ]
        operands = self._operands()
        numbers = self._reduce(self._combine(operands))
        results = self._scale(numbers, self._factors(operands.stream))
        if unit.rows:
            self._write_rows(results)
        self._write_act(results)
        done = self.stages.done
        m.d.comb += [
            self.retire.eq(self.pipe.at("valid", done)),
            self.retired.slot.eq(self.pipe.at("slot", done)),
            self.retired.event.eq(self.pipe.at("event", done)),
        ]
        return m

    def _setting(self, name: str, stage: int):
        """A setting of the group that is at ``stage``; 0 where the unit has none."""
        if name not in self.layout.members:
            return Const(0)
        return Mux(self.pipe.at("slot", stage), self.settings[1][name], self.settings[0][name])

    def _register(self, name, shape, value):
        """A register that follows ``value``."""
        signal = Signal(shape, name=name, reset_less=True)
        self.m.d.sync += signal.eq(value)
        return signal

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
        immediate = Mux(self._setting("function", OPERANDS) == Function.PRODUCT,
                        self._setting("immediate", OPERANDS), 0)
        factors = []
        for lane in range(unit.lanes):
            value = stream[lane]
            offset = self._register(f"offset{lane}", signed(33), value - immediate)
            factor = self._register(f"factor{lane}_1", signed(18), saturated(offset, 18))
            factors.append(self._register(f"factor{lane}_2", signed(18), factor))
        return factors

    def _reduce(self, numbers):
        """Fold each lane or reduce all of a row; numbers of stage ``number``."""
        m, config, pipe = self.m, self.config, self.pipe
        unit, at = config.vector, COMBINED
        if not unit.combines:
            return numbers
        fold, reduce = self._setting("fold", at), self._setting("reduce", at)
        tail = self._setting("tail", at)
        all_taken = fold | (tail == 0) | ~pipe.at("tail", at)
        results = []
        if unit.rows:
            m.submodules.tree = self.tree = LaneTree(lanes=unit.lanes, largest=True)
            m.d.comb += self.tree.maximum.eq(
                self._setting("reduce", at + 1) == Reduction.MAXIMUM)
        for lane in range(unit.lanes):
            folder = Folder(largest=True)
            place(m, self.platform, f"folder{lane}", folder)
            m.d.comb += [
                folder.valid.eq(pipe.at("valid", at)),
                folder.first.eq(pipe.at("first", at)),
                folder.take.eq(all_taken | (lane < tail)),
                folder.maximum.eq(reduce == Reduction.MAXIMUM),
                folder.number.eq(numbers[lane]),
                folder.group.eq(pipe.at("position", at)),
            ]
            if unit.rows:
                m.d.comb += getattr(self.tree, f"lane{lane}").eq(folder.folded)
            straight = self._register(f"straight{lane}", signed(32), numbers[lane])
            number = Signal(signed(32), name=f"number{lane}")
            m.d.comb += number.eq(Mux(self._setting("fold", at + 1), folder.folded.number,
                                      straight))
            results.append(number)
        return results

    def _scale(self, numbers, factors):
        """Function and scale in either order; results of stage ``end``."""
        m, config, pipe = self.m, self.config, self.pipe
        unit, at, later = config.vector, self.stages.number, self.stages.function
        first = self.function_first if later else Const(0)

        def setting(name, stage):
            """Of the group that the requantiser has at ``stage`` from its input."""
            early = self._setting(name, at + stage)
            return Mux(first, self._setting(name, at + later + stage), early) if later else early

        def travelling(name, stage):
            early = pipe.at(name, at + stage)
            return Mux(first, pipe.at(name, at + later + stage), early) if later else early

        by = setting("scale", -ARRIVED)
        valid = travelling("valid", -ARRIVED)
        m.d.comb += [
            self.scale.valid.eq(valid & (by == Scale.CHANNEL)),
            self.scale.addr.eq(travelling("param", -ARRIVED)),
        ]
        if unit.rows:
            m.d.comb += [
                self.rows.scale_read.eq(valid & (by == Scale.ROW)),
                self.rows.scale_record.eq(travelling("row", -ARRIVED)),
            ]
        by = setting("scale", 0)
        result_type, function = (setting(name, Requantiser.PLACE) for name in (
            "result_type", "function"))
        kind = Signal(ElementType)
        plain = Mux(result_type < ResultType.NONE, result_type, ElementType.INT32)
        m.d.comb += kind.eq(plain)
        if later:
            with m.If(~first & (function == Function.TABLE)):
                m.d.comb += kind.eq(ElementType.INT8)
            with m.Elif(~first & (function != Function.NONE)):
                m.d.comb += kind.eq(ElementType.INT32)
        results, self.left = [], Const(0, 5)
        for lane in range(unit.lanes):
            own = self.scale.data[40 * lane:40 * (lane + 1)]
            multiplier = Signal(31, name=f"multiplier{lane}")
            shift = Signal(signed(6), name=f"shift{lane}")
            m.d.comb += [multiplier.eq(UNIT[0]), shift.eq(UNIT[1])]
            with m.If(by == Scale.CHANNEL):
                m.d.comb += [multiplier.eq(own[:31]), shift.eq(own[32:38].as_signed())]
            if unit.rows:
                with m.Elif(by == Scale.ROW):
                    m.d.comb += [multiplier.eq(self.rows.scale.multiplier),
                                 shift.eq(self.rows.scale.shift)]
            requantiser = Requantiser()
            place(m, self.platform, f"requantiser{lane}", requantiser)
            value = numbers[lane]
            if later:
                function_unit = self._function(lane, numbers[lane], requantiser.result,
                                               factors[lane], first)
                value = Mux(first, function_unit.result, value)
                results.append(Mux(first, requantiser.result, function_unit.result))
            else:
                results.append(requantiser.result)
            m.d.comb += [
                requantiser.value.eq(value),
                requantiser.multiplier.eq(multiplier),
                requantiser.shift.eq(shift),
                requantiser.result_type.eq(kind),
                *(getattr(requantiser, name).eq(setting(name, Requantiser.PLACE))
                  for name in ("clamp_low", "clamp_high")),
                requantiser.zero_point.eq(Mux(
                    setting("result_type", Requantiser.PLACE) > ResultType.ROW_VALUE, 0,
                    setting("zero_point", Requantiser.PLACE))),
            ]
        return results

    def _function(self, lane, number, scaled, factor, first):
        """The function unit of a lane, before or behind its requantiser."""
        m, unit, pipe = self.m, self.config.vector, self.pipe
        function_unit = FunctionUnit(entries=unit.functions, multiply=unit.multiply,
                                     normalises=lane == 0 and unit.rows > 0 and unit.linear)
        place(m, self.platform, f"function{lane}", function_unit)
        early, late = self.stages.number, self.stages.number + Requantiser.LATENCY
        settings = Signal(function_layout, name=f"function_settings{lane}")

        def setting(name):
            return Mux(first, self._setting(name, early), self._setting(name, late))

        shift, result_type = setting("function_shift"), setting("result_type")
        behind = ~first & (setting("function") != Function.NONE)
        coarse = shift > 15
        m.d.comb += [
            settings.function.eq(setting("function")),
            settings.coarse.eq(coarse),
            settings.left.eq(Mux(setting("segments"), 15, 17) - Mux(coarse, shift - 8, shift)),
            settings.wide.eq(setting("segments")),
            settings.two_sided.eq(setting("function_signed")),
            settings.base.eq(setting("function_base")),
            settings.immediate.eq(setting("immediate")),
            settings.limit.eq(Mux(behind & (result_type < ResultType.NONE), result_type,
                                  ElementType.INT32)),
            settings.normalise.eq(result_type > ResultType.ROW_VALUE),
            settings.halve.eq(result_type == ResultType.ROW_ROOT),
            settings.reads.eq(Mux(first, pipe.at("valid", early), pipe.at("valid", late)) & (
                (settings.function == Function.TABLE) | (settings.function == Function.LINEAR)
                | (settings.function == Function.CHANNEL))),
            function_unit.settings.eq(settings),
            function_unit.x.eq(Mux(first, number, scaled)),
            function_unit.factor.eq(factor),
            function_unit.entry.eq(pipe.at("entry", late)),
        ]
        if unit.functions:
            size = function_unit.entry_bytes
            to_all = self.fun.addr[-1]
            own, own_mask = (Mux(to_all, whole[:bits], whole[bits * lane:bits * (lane + 1)])
                             for whole, bits in ((self.fun.data, 8 * size),
                                                 (self.fun.mask, size)))
            m.d.comb += [
                self.fun.ready.eq(1),
                function_unit.write_addr.eq(self.fun.addr[:-1]),
                function_unit.write_data.eq(own),
                function_unit.write_en.eq(Mux(self.fun.valid, own_mask, 0)),
            ]
        if lane == 0:
            self.left = function_unit.left
        return function_unit

    # Results.

    def _emitted(self):
        """Whether a group at ``end`` has a result: not what was folded into one that comes."""
        end = self.stages.end
        valid = self.pipe.at("valid", end)
        if not self.config.vector.combines:
            return valid
        return valid & (~self._setting("fold", end) | self.pipe.at("last", end))

    def _write_rows(self, results):
        """Write what was found of rows, and results that go to their records."""
        m, unit, pipe, rows, tree = (
            self.m, self.config.vector, self.pipe, self.rows, self.tree)
        end, folded = self.stages.end, COMBINED + 1
        reduced = Signal()
        m.d.comb += reduced.eq(
            pipe.at("valid", folded) & pipe.at("last", folded) & ~self._setting("fold", folded)
            & (self._setting("reduce", folded) != Reduction.NONE))
        pipe.start("reduced", reduced, reset_less=False)
        reduces = pipe.at("reduced", self.stages.tree)
        result_type = self._setting("result_type", end)
        to_value = self._emitted() & (result_type == ResultType.ROW_VALUE)
        check(m, self.platform, ~(reduces & to_value),
              "a record's value may have one writer at a time")
        m.d.comb += [
            rows.value_write.eq(reduces | to_value),
            rows.value_record.eq(Mux(reduces, pipe.at("row", folded + self.stages.tree),
                                     pipe.at("result", end))),
            rows.value_data.eq(Mux(reduces, tree.number, results[0])),
            rows.position_data.eq(Mux(reduces, tree.position, 0)),
        ]
        if unit.linear:
            self._write_scale(results[0], result_type)
        self._sum_results(results)

    def _write_scale(self, result, result_type):
        """Write multiplier and shift."""
        m, pipe, rows, end = self.m, self.pipe, self.rows, self.stages.end
        halved = result_type == ResultType.ROW_ROOT
        left = self.left
        for i in range(Requantiser.LATENCY):
            left = self._register(f"left{i}", 5, left)
        mantissa = Mux(result < 0, 0, Mux(result[MANTISSA_BITS:].any(), (1 << MANTISSA_BITS) - 1,
                                          result[:MANTISSA_BITS]))
        shift = Signal(signed(9))
        scale = rows.scale_data
        m.d.comb += [
            shift.eq(Mux(halved, left >> 1, left) + self._setting("zero_point", end)),
            rows.scale_write.eq(self._emitted() & (result_type > ResultType.ROW_VALUE)),
            rows.scale_write_record.eq(pipe.at("result", end)),
            scale.shift.eq(shift),
            scale.multiplier.eq(Cat(Const(0, 31 - MANTISSA_BITS), mantissa)),
        ]
        with m.If(shift > Requantiser.MAX_SHIFT):
            m.d.comb += [scale.shift.eq(Requantiser.MAX_SHIFT), scale.multiplier.eq(~0)]
        with m.Elif(shift < Requantiser.MIN_SHIFT):
            m.d.comb += [scale.shift.eq(Requantiser.MIN_SHIFT), scale.multiplier.eq(0)]

    def _sum_results(self, results):
        """Add up the results of each row."""
        m, unit, pipe, rows = self.m, self.config.vector, self.pipe, self.rows
        end, last = self.stages.end, self.stages.sum
        m.submodules.sum_tree = tree = LaneTree(lanes=unit.lanes, largest=False)
        fold, tail = self._setting("fold", end), self._setting("tail", end)
        all_taken = fold | (tail == 0) | ~pipe.at("tail", end)
        for lane, result in enumerate(results):
            folder = Folder(largest=False)
            place(m, self.platform, f"summer{lane}", folder)
            m.d.comb += [
                folder.valid.eq(self._emitted()),
                folder.first.eq(pipe.at("first", end) | fold),
                folder.take.eq(all_taken | (lane < tail)),
                folder.number.eq(result),
                getattr(tree, f"lane{lane}").eq(folder.folded),
            ]
        total = tree.number
        summed = Signal()
        m.d.comb += summed.eq(pipe.at("valid", end) & pipe.at("last", end)
                              & self._setting("sum_results", end))
        pipe.start("summed", summed, reset_less=False)
        m.d.comb += [
            rows.sum_write.eq(pipe.at("summed", last)),
            rows.sum_record.eq(pipe.at("row", end + last)),
            rows.sum_data.eq(Mux(total < 0, 0, total[:31])),
        ]

    def _write_act(self, results):
        """Write results to the scratchpad, wide ones in several beats."""
        m, config, pipe, end = self.m, self.config, self.pipe, self.stages.end
        lanes, row_bytes = config.vector.lanes, config.act_row_bytes
        unit_bits = exact_log2(row_bytes // lanes)
        beats = beats_of(4, config)
        kind = self._setting("result_type", end)
        valid = self._emitted() & (kind < ResultType.NONE)
        result = pipe.at("result", end)[:exact_log2(config.act_groups)]
        unit = result[:unit_bits]
        row_data, mask = Signal(8 * row_bytes), Signal(row_bytes)
        wide = Signal(32 * lanes)
        for size, type_ in ((1, ResultType.INT8), (2, ResultType.INT16), (4, ResultType.INT32)):
            flat = Cat(value[:8 * size] for value in results)
            with m.If(kind == type_):
                m.d.comb += wide.eq(flat)
                if size * lanes >= row_bytes:
                    m.d.comb += [row_data.eq(flat), mask.eq(~0)]
                else:
                    places = row_bytes // (size * lanes)
                    m.d.comb += [
                        row_data.eq(flat.replicate(places)),
                        mask.eq(Cat((unit[exact_log2(size):] == i).replicate(size * lanes)
                                    for i in range(places))),
                    ]
        m.d.comb += [
            self.act.valid.eq(valid),
            self.act.addr.eq(result >> unit_bits),
            self.act.data.eq(row_data),
            self.act.mask.eq(mask),
        ]
        if beats == 1:
            return
        left = Signal(range(beats))     # beats still to be written
        rest = Signal(32 * lanes, reset_less=True)
        row  = Signal(len(self.act.addr), reset_less=True)
        more = choose([Const(beats_of(size, config) - 1, len(left)) for size in (1, 2, 4)], kind)
        with m.If(left != 0):
            m.d.comb += [
                self.act.valid.eq(1),
                self.act.addr.eq(row),
                self.act.data.eq(rest[:8 * row_bytes]),
                self.act.mask.eq(~0),
            ]
            m.d.sync += [left.eq(left - 1), row.eq(row + 1), rest.eq(rest >> 8 * row_bytes)]
        with m.If(valid):
            m.d.sync += [left.eq(more), row.eq((result >> unit_bits) + 1),
                         rest.eq(wide >> 8 * row_bytes)]
        check(m, self.platform, ~(valid & (left != 0)),
              "a result may not come before the one before is written")
