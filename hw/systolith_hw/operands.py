"""The operands of a lane group: rows are held, then each lane's elements are picked."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .choose import choose
from .combine import saturated
from .config import CoreConfig
from .isa import ElementType, Operand
from .reads import settings_layout
from .rowfile import position_bits
from .stages import Stages, beats_of

__all__ = ["OperandReader"]


class OperandReader(wiring.Component):
    """Turns what was read for a group into numbers of 32 bits.

    Timing: rows come in the stage ``ARRIVED``; their last beat brings everything else of the
    group. Settings and units are those of the group one cycle later, the stage ``HELD``, and the
    numbers are there two cycles after that: the stage ``OPERANDS``.

    Members
    -------
    acc_data, picked : ``In``
        A row of the accumulator, and which of its groups.
    bias : ``In(32 * lanes)``
        Of the parameter row.
    source_data, stream_data : ``In(row)``
        Rows of the activation scratchpad.
    source_arrived, stream_arrived, beat : ``In``
        Such a row has come, and which of its group it is.
    value, position, sum : ``In``
        Of the row's record.
    settings : ``In(settings_layout)``
    source_unit, stream_unit : ``In``
        Where the group begins in its row.
    first, second, stream : ``Out(ArrayLayout(signed(32), lanes))``
        First and second operand, and the stream.

    Parameters
    ----------
    config : CoreConfig
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        lanes = config.vector.lanes
        numbers = data.ArrayLayout(signed(32), lanes)
        unit = exact_log2(config.act_row_bytes // lanes)
        super().__init__({
            "acc_data": In(32 * config.array.sum_cols), "picked": In(range(config.acc_group_pitch)),
            "bias": In(32 * lanes),
            "source_data": In(8 * config.act_row_bytes),
            "stream_data": In(8 * config.act_row_bytes),
            "source_arrived": In(1), "stream_arrived": In(1),
            "beat": In(range(beats_of(4, config))),
            "value": In(signed(32)), "position": In(position_bits(config)), "sum": In(31),
            "settings": In(settings_layout(config)),
            "source_unit": In(unit), "stream_unit": In(unit),
            "first": Out(numbers), "second": Out(numbers), "stream": Out(numbers),
        })

    def elaborate(self, platform):
        m = Module()
        config, settings = self.config, self.settings
        unit, lanes = config.vector, config.vector.lanes

        # Where groups are far apart and one operand comes from the accumulator, the other from the
        # parameters, both stay until they have been combined: one register is enough.
        stays = (config.control.compact and Stages(config).interval > 1
                 and not (unit.elementwise or unit.rows))
        early = "comb" if stays else "sync"

        def held(name, value):
            """Register that follows ``value``, which ``stays`` as it is."""
            signal = Signal.like(value, name=f"{name}_held", reset_less=True)
            m.d[early] += signal.eq(value)
            return signal

        width = 32 * lanes
        row = Cat(self.acc_data, Const(0, width * config.acc_group_pitch - len(self.acc_data)))
        groups = [row[width * i:width * (i + 1)] for i in range(config.acc_group_pitch)]
        sums = held("sums", choose(groups, self.picked))
        bias = held("bias", self.bias)
        value, position, total = (held(name, getattr(self, name))
                                  for name in ("value", "position", "sum"))
        sources = streams = None
        if unit.elementwise:
            sources = self._elements(m, "source", settings.source_type)
            streams = self._elements(m, "stream", settings.stream_type)
        # What is not of the scratchpad; then one or the other.
        chosen = Signal(settings.shape(), reset_less=True)
        m.d.sync += chosen.eq(settings)
        for lane in range(lanes):
            own = slice(32 * lane, 32 * (lane + 1))
            first = Signal(signed(32), name=f"first{lane}", reset_less=True)
            second = Signal(signed(32), name=f"second{lane}", reset_less=True)
            m.d[early] += [first.eq(sums[own]), second.eq(bias[own])]
            if unit.rows:
                with m.Switch(settings.source_type):
                    for kind, number in ((ElementType.ROW_VALUE, value),
                                         (ElementType.ROW_SUM, total),
                                         (ElementType.ROW_POSITION, position)):
                        with m.Case(kind):
                            m.d[early] += first.eq(number)
            with m.Switch(settings.second):
                with m.Case(Operand.IMMEDIATE):
                    m.d[early] += second.eq(settings.immediate)
                if unit.rows:
                    with m.Case(Operand.ROW):
                        m.d[early] += second.eq(value)
            a, b = first, second
            if sources is not None and streams is not None:
                a = Mux(chosen.source_type < ElementType.ACC, sources[lane], first)
                b = Mux(chosen.second == Operand.STREAM, streams[lane], second)
                m.d.sync += self.stream[lane].eq(streams[lane])
            if unit.combines:
                a = Mux(chosen.fine, saturated(a << 8, 32), a)
            m.d.sync += [self.first[lane].eq(a), self.second[lane].eq(b)]
        return m

    def _elements(self, m, name, kind):
        """The elements of a group from the rows it was read from, one signed number a lane, one
        cycle after ``settings``."""
        lanes, row_bytes = self.config.vector.lanes, self.config.act_row_bytes
        rows = []
        for i in range(beats_of(4, self.config)):
            row = Signal(8 * row_bytes, name=f"{name}_row{i}", reset_less=True)
            with m.If(getattr(self, f"{name}_arrived") & (self.beat == i)):
                m.d.sync += row.eq(getattr(self, f"{name}_data"))
            rows.append(row)
        whole, unit = Cat(*rows), getattr(self, f"{name}_unit")
        values = []
        for size in (1, 2, 4):
            bits = 8 * size * lanes
            if size * lanes >= row_bytes:
                values.append(whole[:bits])
            else:
                groups = [rows[0][bits * i:bits * (i + 1)]
                          for i in range(row_bytes // (size * lanes))]
                values.append(choose(groups, unit[exact_log2(size):]))
        elements = []
        for lane in range(lanes):
            element = Signal(signed(32), name=f"{name}{lane}", reset_less=True)
            own = [value[8 * size * lane:8 * size * (lane + 1)].as_signed()
                   for size, value in zip((1, 2, 4), values, strict=True)]
            with m.Switch(kind):
                with m.Case(ElementType.INT8):
                    m.d.sync += element.eq(own[0])
                with m.Case(ElementType.INT16):
                    m.d.sync += element.eq(own[1])
                with m.Default():
                    m.d.sync += element.eq(own[2])
            elements.append(element)
        return elements
