"""The row file: what reductions find out about rows, and how rows are to be scaled."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import CoreConfig
from .ram import Ram

__all__ = ["RowFile", "position_bits", "scale_layout"]

scale_layout = data.StructLayout({"multiplier": 31, "shift": signed(6)})


def position_bits(config: CoreConfig) -> int:
    """Bits of an element's place in its row: 16 of its group, the rest of its lane."""
    return 16 + exact_log2(config.vector.lanes)


class RowFile(wiring.Component):
    """``vector.rows`` records in three memories, each with one writer.

    Timing: what is read stands there ``READ_LATENCY`` cycles after it was asked for; a record can
    be read in the cycle after it was written.

    Members
    -------
    value_read, sum_read, record : ``In``
        Read value and position, or sum, of a record.
    value, position, sum : ``Out``
    scale_read, scale_record : ``In``
        Read its scale.
    scale : ``Out(scale_layout)``
    value_write, value_record, value_data, position_data : ``In``
        Write value and position.
    sum_write, sum_record, sum_data : ``In``
    scale_write, scale_write_record, scale_data : ``In``

    Parameters
    ----------
    config : CoreConfig
    """
    READ_LATENCY = 2    # cycles

    def __init__(self, *, config: CoreConfig):
        self.config = config
        record = range(config.vector.rows)
        super().__init__({
            "value_read": In(1), "sum_read": In(1), "record": In(record),
            "value": Out(signed(32)), "position": Out(position_bits(config)), "sum": Out(31),
            "scale_read": In(1), "scale_record": In(record), "scale": Out(scale_layout),
            "value_write": In(1), "value_record": In(record), "value_data": In(signed(32)),
            "position_data": In(position_bits(config)),
            "sum_write": In(1), "sum_record": In(record), "sum_data": In(31),
            "scale_write": In(1), "scale_write_record": In(record),
            "scale_data": In(scale_layout),
        })

    def elaborate(self, platform):
        m = Module()

        def ram(name, width, *, read, write, record):
            """A memory of the record's part; its output register."""
            m.submodules[name] = memory = Ram(depth=self.config.vector.rows, width=width)
            out = Signal(width, name=f"{name}_out", reset_less=True)
            enable, at, content = write
            m.d.comb += [
                memory.read_en.eq(read), memory.read_addr.eq(record),
                memory.write_en.eq(enable), memory.write_addr.eq(at),
                memory.write_data.eq(content),
            ]
            m.d.sync += out.eq(memory.read_data)
            return out

        value = ram("values", 32 + len(self.position), read=self.value_read, record=self.record,
                    write=(self.value_write, self.value_record,
                           Cat(self.value_data, self.position_data)))
        total = ram("sums", 31, read=self.sum_read, record=self.record,
                    write=(self.sum_write, self.sum_record, self.sum_data))
        scale = ram("scales", scale_layout.size, read=self.scale_read, record=self.scale_record,
                    write=(self.scale_write, self.scale_write_record,
                           self.scale_data.as_value()))
        m.d.comb += [
            Cat(self.value, self.position).eq(value),
            self.sum.eq(total),
            self.scale.as_value().eq(scale),
        ]
        return m
