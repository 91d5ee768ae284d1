"""A vector command in Python integers, one element after the other, independent of the model."""

from dataclasses import dataclass

from rounding import rounding_two_step
from systolith_hw.isa import (
    ElementType,
    Function,
    Operand,
    Reduction,
    ResultType,
    Scale,
    VectorOp,
)
from walking import Walk, wrapped

LEAST, MOST = -2**31, 2**31 - 1
SIZES = {ElementType.INT8: 1, ElementType.INT16: 2, ElementType.INT32: 4}


class OutsideError(Exception):
    """An address outside its memory, or not aligned."""


class OwnResultError(Exception):
    """The command reads what it has written."""


@dataclass
class Memories:
    """What a vector command reads and writes.

    Members
    -------
    act : bytearray
    acc : list of int
        Columns of all rows, rows rounded up to whole groups and a power of two of them.
    par, fun : list of bytes
        Rows.
    rows : list of dict
        ``value``, ``position``, ``sum``, ``multiplier``, ``shift`` of each record.
    """
    act: bytearray
    acc: list
    par: list
    fun: list
    rows: list


def limited(number, bits=32):
    return min(max(number, -2**(bits - 1)), 2**(bits - 1) - 1)


def signed(number, bits):
    number &= 2**bits - 1
    return number - 2**bits if number >> (bits - 1) else number


class Vector:
    """Runs one command.

    Parameters
    ----------
    config : CoreConfig
    fields : dict
        All fields.
    memories : Memories
        Changed in place.

    Raises
    ------
    OutsideError, OwnResultError
    """
    def __init__(self, config, fields, memories):
        self.config, self.f, self.memories = config, fields, memories
        self.lanes = config.vector.lanes
        self.written = set()
        self.uses_stream = (
            fields["second"] == Operand.STREAM or fields["masked"]
            or fields["operation"] == VectorOp.SELECT
            or fields["function"] in (Function.PRODUCT, Function.WEIGHTED))
        self.reduces_rows = fields["reduce"] and not fields["fold"]
        self.uses_record = (
            fields["source_type"] > ElementType.ACC or fields["second"] == Operand.ROW
            or fields["scale"] == Scale.ROW or fields["sum_results"] or self.reduces_rows)
        self.check_table()
        counts = fields["counts"]
        steps = {"source": fields["source_step"],
                 "stream": fields["stream_step"] * SIZES[fields["stream_type"]],
                 "result": fields["result_step"] * SIZES.get(fields["result_type"], 1)}
        walks = [Walk(fields[f"{name}_base"], [step, *fields[f"{name}_jumps"]], 16)(counts)
                 for name, step in steps.items()]
        loops = 2 if fields["span"] else 1
        for (source, index), (stream, _), (result, _) in zip(*walks, strict=True):
            places = {name: wrapped(place, fields[f"{name}_base"], fields["ring"][i])
                      for i, (name, place) in enumerate(
                          {"source": source, "stream": stream, "result": result}.items())}
            number = 0
            for level in range(3, loops - 1, -1):
                number = number * counts[level] + index[level]
            in_row = index[0] + (counts[0] * index[1] if loops == 2 else 0)
            last = all(index[level] == counts[level] - 1 for level in range(loops))
            self.group(places, index, number, in_row, last)

    def check_table(self):
        f = self.f
        last = {Function.TABLE: 255, Function.LINEAR: 255 if f["segments"] else 63,
                Function.CHANNEL: f["counts"][0] - 1}.get(f["function"])
        if last is not None and 64 * f["function_base"] + last >= len(self.memories.fun):
            raise OutsideError

    # Memories.

    def act_bytes(self, group, kind):
        size = SIZES[kind] * self.lanes
        start = group * self.lanes
        if start % min(size, self.config.act_row_bytes) or start + size > len(self.memories.act):
            raise OutsideError
        return range(start, start + size)

    def from_act(self, group, kind):
        places = self.act_bytes(group, kind)
        if self.written & {("act", place) for place in places}:
            raise OwnResultError
        data = bytes(self.memories.act[places.start:places.stop])
        size = SIZES[kind]
        return [int.from_bytes(data[i:i + size], "little", signed=True)
                for i in range(0, len(data), size)]

    def record(self, number):
        if not number < len(self.memories.rows):
            raise OutsideError
        return self.memories.rows[number]

    def from_record(self, number, name):
        if (number, name) in self.written:
            raise OwnResultError
        return self.record(number)[name]

    def to_record(self, number, **values):
        self.record(number).update(values)
        self.written |= {(number, name) for name in values}

    def param(self, index):
        f = self.f
        row = f["param_base"]
        if f["param_step"]:
            row += index[0] + index[2] * f["counts"][0]
        row &= 0xffff
        if row >= len(self.memories.par):
            raise OutsideError
        raw = self.memories.par[row]
        records = [raw[12 * lane:12 * lane + 12] for lane in range(self.lanes)]
        return [(int.from_bytes(r[:4], "little", signed=True),
                 int.from_bytes(r[4:8], "little") & MOST,
                 int.from_bytes(r[8:9], "little", signed=True)) for r in records]

    def segment(self, entry, lane, place):
        word = int.from_bytes(self.memories.fun[entry][4 * lane:4 * lane + 4], "little")
        return signed(word, 18) + (signed(word >> 18, 14) * place >> 15)

    # A group.

    def group(self, places, index, row, in_row, last):
        f, lanes = self.f, range(self.lanes)
        number = (f["row_base"] + row) & 0xffff
        if self.uses_record:
            self.record(number)
        a = self.source(places["source"], number)
        stream = ([0] * self.lanes if not self.uses_stream
                  else self.from_act(places["stream"], f["stream_type"]))
        param = (self.param(index) if Operand.CHANNEL == f["second"] or f["scale"] == Scale.CHANNEL
                 else None)
        b = {Operand.IMMEDIATE: lambda: [f["immediate"]] * self.lanes,
             Operand.STREAM: lambda: stream,
             Operand.CHANNEL: lambda: [bias for bias, _, _ in param],
             Operand.ROW: lambda: [self.from_record(number, "value")] * self.lanes}[f["second"]]()
        x = [self.combined(a[i], b[i], stream[i]) for i in lanes]
        kind = f["result_type"]
        if kind in SIZES:
            self.act_bytes(places["result"], kind)
        elif kind != ResultType.NONE:
            self.record(places["result"])
        scales = {Scale.UNIT: lambda: [None] * self.lanes,
                  Scale.CHANNEL: lambda: [(m, s) for _, m, s in param],
                  Scale.ROW: lambda: [(self.from_record(number, "multiplier"),
                                       self.from_record(number, "shift"))] * self.lanes
                  }[f["scale"]]()
        valid = [index[0] < f["counts"][0] - 1 or not f["tail"] or i < f["tail"] for i in lanes]
        if f["reduce"]:
            x = self.reduced(x, valid, in_row, last, number)
            if x is None:
                return
        if kind in (ResultType.ROW_SCALE, ResultType.ROW_ROOT):
            self.write_scale(x[0], places["result"])
            return
        y = [self.result(x[i], scales[i], stream[i], index[0], i) for i in lanes]
        if f["sum_results"]:
            self.summed(y, valid, in_row, last, number)
        self.write(y, places["result"])

    def source(self, group, number):
        f = self.f
        kind = f["source_type"]
        names = {ElementType.ROW_VALUE: "value", ElementType.ROW_SUM: "sum",
                 ElementType.ROW_POSITION: "position"}
        if kind in names:
            a = [self.from_record(number, names[kind])] * self.lanes
        elif f["source_base"] >= 2**16:
            raise OutsideError
        elif kind == ElementType.ACC:
            start = group * self.lanes
            if start >= len(self.memories.acc):
                raise OutsideError
            a = self.memories.acc[start:start + self.lanes]
        else:
            a = self.from_act(group, kind)
        return [limited(256 * x) for x in a] if f["fine"] else a

    def combined(self, a, b, stream):
        f = self.f
        x = {VectorOp.ADD: a + b, VectorOp.SUBTRACT: a - b, VectorOp.REVERSE: b - a,
             VectorOp.MINIMUM: min(a, b), VectorOp.MAXIMUM: max(a, b),
             VectorOp.BELOW: a if a < b else LEAST, VectorOp.SELECT: a if stream else b,
             VectorOp.DISTANCE: abs(a - b)}[f["operation"]]
        return LEAST if f["masked"] and stream == 0 else limited(x)

    def reduced(self, x, valid, in_row, last, number):
        """The group that goes on, if one does."""
        f = self.f
        fold, largest = f["fold"], f["reduce"] == Reduction.MAXIMUM
        if in_row == 0:
            self.taken = [[] for _ in range(self.lanes)]    # of each lane: (number, position)
        for lane, (value, good) in enumerate(zip(x, valid, strict=True)):
            if good or fold:
                self.taken[lane].append((value, in_row * self.lanes + lane))
        if not last:
            return None if fold else x
        sums = []
        for lane in self.taken:
            total = 0
            for value, _ in lane:
                total = limited(total + value)
            sums.append(total)
        if fold:
            return [max(value for value, _ in lane) for lane in self.taken] if largest else sums
        if largest:
            value, place = min((-value, place) for lane in self.taken for value, place in lane)
            self.to_record(number, value=-value, position=place)
        else:
            self.to_record(number, value=limited(sum(sums)), position=0)
        return x

    def result(self, x, scale, stream, group, lane):
        f = self.f
        kind = f["result_type"]
        bits = 8 * SIZES.get(kind, 4)
        after = f["function"] != Function.NONE and not f["function_first"]
        if f["function_first"]:
            x = self.function(x, stream, group, lane)
        if scale is not None:
            x = rounding_two_step(x, *scale)
        x += f["zero_point"]
        if (f["function"] == Function.TABLE) if after else bits == 8:
            x = min(max(x, f["clamp_low"]), f["clamp_high"])
        elif after:
            x = limited(x)
        if after:
            x = self.function(x, stream, group, lane)
        return limited(x, bits)

    def function(self, x, stream, group, lane):
        f = self.f
        first, u = 64 * f["function_base"], limited(x, 18)
        function = f["function"]
        if function == Function.TABLE:
            size = len(self.memories.fun[0]) // self.lanes
            return signed(self.memories.fun[first + limited(x, 8) + 128][size * lane], 8)
        if function == Function.LINEAR:
            return self.linear(x, first, lane)
        if function == Function.CHANNEL:
            return self.segment(first + group, lane, u) + 2 >> 2
        if function == Function.SQUARE:
            return limited(u * u)
        if function == Function.PRODUCT:
            return limited(u * limited(stream - f["immediate"], 18))
        if function == Function.WEIGHTED:
            return limited(x + limited(stream, 18) * f["immediate"])
        return x

    def linear(self, x, first, lane):
        f = self.f
        width = 2**f["function_shift"]
        if width > 2**15:
            x -= x % 256    # what is left has no more bits than a place
        count = 256 if f["segments"] else 64
        least = -count // 2 if f["function_signed"] else 0
        segment, place = x // width, x % width * 2**15 // width
        if segment < least:
            segment, place = least, 0
        if segment >= least + count:
            segment, place = least + count - 1, 2**15 - 1
        return self.segment(first + segment - least, lane, place) + 2 >> 2

    def summed(self, y, valid, in_row, last, number):
        fold = self.f["reduce"] and self.f["fold"]
        if in_row == 0 or fold:
            self.totals = [0] * self.lanes
        for lane, (value, good) in enumerate(zip(y, valid, strict=True)):
            if good or fold:
                self.totals[lane] = limited(self.totals[lane] + value)
        if last:
            self.to_record(number, sum=min(max(sum(self.totals), 0), MOST))

    def write(self, y, place):
        kind = self.f["result_type"]
        if kind == ResultType.ROW_VALUE:
            self.to_record(place, value=y[0], position=0)
        elif kind in SIZES:
            places = self.act_bytes(place, kind)
            self.memories.act[places.start:places.stop] = b"".join(
                value.to_bytes(SIZES[kind], "little", signed=True) for value in y)
            self.written |= {("act", byte) for byte in places}

    def write_scale(self, t, place):
        f = self.f
        t = max(t, 1)
        exponent = 31 - t.bit_length()      # t * 2^exponent has 31 bits
        if f["result_type"] == ResultType.ROW_ROOT:
            exponent -= exponent % 2
        digits = f"{t << exponent:031b}"
        bits = 8 if f["segments"] else 6
        mantissa = self.segment(64 * f["function_base"] + int(digits[:bits], 2), 0,
                                int(digits[bits:bits + 15], 2))
        multiplier = min(max(mantissa, 0), 2**18 - 1) * 2**13
        if f["result_type"] == ResultType.ROW_ROOT:
            exponent //= 2
        shift = exponent + f["zero_point"]
        if shift > 7:
            multiplier, shift = MOST, 7
        if shift < -31:
            multiplier, shift = 0, -31
        self.to_record(place, multiplier=multiplier, shift=shift)
