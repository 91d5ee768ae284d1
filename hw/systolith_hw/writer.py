"""Results of the vector unit on their way to the activation scratchpad."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .cells import check
from .choose import choose
from .config import CoreConfig
from .isa import ResultType
from .scratchpad import WritePort
from .stages import beats_of

__all__ = ["ResultWriter"]


class ResultWriter(wiring.Component):
    """Puts the results of a group in their place in a row, or in several rows.

    Timing: a group's first row is written one cycle after its results, the others in the cycles
    behind; until then no group may come whose results go to the scratchpad.

    Members
    -------
    valid : ``In(1)``
        There are results.
    type : ``In(ResultType)``
        The scratchpad takes int8, int16 and int32 only.
    place : ``In(act_groups)``
        Group of bytes where they go.
    results : ``In(ArrayLayout(signed(32), lanes))``
    act : ``Out(WritePort)``
        To the activation scratchpad; always granted.

    Parameters
    ----------
    config : CoreConfig
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            "valid": In(1), "type": In(ResultType),
            "place": In(exact_log2(config.act_groups)),
            "results": In(data.ArrayLayout(signed(32), config.vector.lanes)),
            "act": Out(WritePort(addr_bits=exact_log2(config.memory.act_rows),
                                 width=8 * config.act_row_bytes)),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, row_bytes = self.config.vector.lanes, self.config.act_row_bytes
        unit_bits = exact_log2(row_bytes // lanes)
        beats = beats_of(4, self.config)
        unit = self.place[:unit_bits]
        row_data, row_mask = Signal(8 * row_bytes), Signal(row_bytes)
        wide = Signal(32 * lanes)
        for size, type_ in ((1, ResultType.INT8), (2, ResultType.INT16), (4, ResultType.INT32)):
            flat = Cat(value[:8 * size] for value in self.results)
            with m.If(self.type == type_):
                m.d.comb += wide.eq(flat)
                if size * lanes >= row_bytes:
                    m.d.comb += [row_data.eq(flat), row_mask.eq(~0)]
                else:
                    places = row_bytes // (size * lanes)
                    m.d.comb += [
                        row_data.eq(flat.replicate(places)),
                        row_mask.eq(Cat((unit[exact_log2(size):] == i).replicate(size * lanes)
                                        for i in range(places))),
                    ]
        begins = self.valid & (self.type < ResultType.NONE)
        valid = Signal()
        addr = Signal.like(self.act.addr, reset_less=True)
        line = Signal.like(self.act.data, reset_less=True)
        mask = Signal.like(self.act.mask, reset_less=True)
        m.d.comb += [self.act.valid.eq(valid), self.act.addr.eq(addr), self.act.data.eq(line),
                     self.act.mask.eq(mask)]
        m.d.sync += [valid.eq(begins), addr.eq(self.place >> unit_bits), line.eq(row_data),
                     mask.eq(row_mask)]
        if beats == 1:
            return m
        left = Signal(range(beats))     # rows still to be written
        rest = Signal(32 * lanes - 8 * row_bytes, reset_less=True)
        more = choose([Const(beats_of(size, self.config) - 1, len(left)) for size in (1, 2, 4)],
                      self.type)
        m.d.sync += [left.eq(Mux(begins, more, 0)), rest.eq(wide >> 8 * row_bytes)]
        with m.If(left != 0):
            m.d.sync += [valid.eq(1), addr.eq(addr + 1), line.eq(rest), mask.eq(~0),
                         left.eq(left - 1), rest.eq(rest >> 8 * row_bytes)]
        check(m, platform, ~(begins & (left != 0)),
              "a result may not come before the one before is written")
        return m
