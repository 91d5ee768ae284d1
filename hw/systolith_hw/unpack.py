"""From a row of the weight scratchpad to the weights of one array row."""

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .choose import choose
from .config import CoreConfig
from .formats import BITS, DIGIT_BITS
from .isa import WeightFormat

__all__ = ["Unpacker", "by_format"]


def by_format(code: Value, values: Mapping[str, ValueLike]) -> ValueLike:
    """The one of ``values``, by format, that a command's ``code`` names."""
    *others, found = values.values()
    for name, value in zip(values, others, strict=False):
        found = Mux(code == WeightFormat[name.upper()], value, found)
    return found


class Unpacker(wiring.Component):
    """Picks an array row's weights, and of a weight wider than a cell the digit that is next.

    The code -2 of ternary weights counts as 0.

    Timing: combinational.

    Members
    -------
    row : ``In(8 * wgt_row_bytes)``
        Of the scratchpad.
    format : ``In(WeightFormat)``
    part : ``In(range(parts))``
        Which array row of those in ``row``.
    digit : ``In(range(digits))``
        Which digit, the lowest first.
    weights : ``Out(ArrayLayout(signed(weight_bits), cols))``
    pairs : ``Out(1)``
        They are pairs of int4.
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        self.formats = config.array.weights
        super().__init__({
            "row": In(8 * config.wgt_row_bytes),
            "format": In(WeightFormat),
            "part": In(range(max(map(config.weight_parts, self.formats)))),
            "digit": In(range(config.array.most_digits)),
            "weights": Out(ArrayLayout(signed(config.array.weight_bits), config.array.cols)),
            "pairs": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        array = self.config.array
        found, pairs = {}, {}
        for name in self.formats:
            bits, parts = self.config.weight_bits(name), self.config.weight_parts(name)
            chosen = Signal(bits, name=f"chosen_{name}")
            m.d.comb += chosen.eq(choose(
                [self.row[bits * part:bits * (part + 1)] for part in range(parts)],
                self.part[:exact_log2(parts)]))
            size = bits // array.cols    # of a weight, or of a pair
            found[name] = Cat(self._weight(name, chosen[size * c:size * (c + 1)])
                              for c in range(array.cols))
            pairs[name] = Const(array.paired(name), 1)
        m.d.comb += [
            self.weights.eq(by_format(self.format, found)),
            self.pairs.eq(by_format(self.format, pairs)),
        ]
        return m

    def _weight(self, name: str, code: Value) -> Value:
        """What the array takes, in exactly its width, for the code of a weight or a pair."""
        array, width = self.config.array, len(self.weights[0])
        if len(code) > BITS[name]:
            half = len(code) // 2
            return Cat(_extended(_number(name, code[:half]), 4),
                       _extended(_number(name, code[half:]), 4))
        digits, size = array.digits(name), DIGIT_BITS[array.cell]
        if digits == 1:
            return _extended(_number(name, code), width)
        top = code[-size:]
        highest = _extended(top if size > 1 else Cat(top, top), width)
        lower = [Cat(code[size * i:size * (i + 1)], Const(0, width - size))
                 for i in range(digits - 1)]
        return choose([*lower, highest], self.digit[:exact_log2(digits)])


def _number(name: str, code: Value) -> Value:
    return Cat(code[0], code[0] & code[1]) if name == "ternary" else code


def _extended(value: Value, width: int) -> Value:
    """``value`` with its sign in ``width`` bits."""
    return Cat(value, value[-1].replicate(width - len(value)))
