"""The vector engine of the model: groups of lanes through operation, function, scale, reductions.

Everything saturates; nothing wraps.
"""

from dataclasses import dataclass, field
from math import prod

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import (
    ElementType,
    ErrorCode,
    Function,
    Operand,
    Reduction,
    ResultType,
    Scale,
    VectorOp,
)

from ..errors import CoreError
from .address import ROW_MASK, loop_offsets, strides_of, wrap
from .arithmetic import requantise
from .state import CoreState
from .uses import Fields, Uses

__all__ = ["VectorWork"]

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
SIZES = {ElementType.INT8: 1, ElementType.INT16: 2, ElementType.INT32: 4}
RECORD_FIELDS = {ElementType.ROW_VALUE: "value", ElementType.ROW_SUM: "sum",
                 ElementType.ROW_POSITION: "position"}
DTYPES = {1: np.dtype("i1"), 2: np.dtype("<i2"), 4: np.dtype("<i4")}
FRACTION_BITS = 15  # of a place within a segment
BASE_BITS = 18      # of a segment, its slope above them
SLOPE_BITS = 14
GUARD_BITS = 2      # of a segment's base below the result's bits
UNIT = (1 << 30, 1)  # multiplier and shift that change nothing
SHIFTS = (-31, 7)


def saturated(values: np.ndarray, bits: int = 32) -> np.ndarray:
    """The nearest numbers of so many bits; int64."""
    return np.clip(values, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


@dataclass
class _Row:
    """What is known of rows that have begun: of each lane the reduced number, its group, the
    sum of results; (rows, lanes) each."""
    best: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    group: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    total: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))


class VectorWork:
    """One vector command, in pieces of the loops below ``split``.

    Parameters
    ----------
    state : CoreState
    index : int
        The command's position in the program.
    fields : mapping
    split : int
        Lowest loop level that semaphores act at.
    """
    def __init__(self, state: CoreState, index: int, fields: Fields, split: int):
        self.state, self.index, self.fields = state, index, fields
        self.config: CoreConfig = state.config
        self.lanes = self.config.vector.lanes
        self.uses = Uses(fields)
        self.counts = counts = fields["counts"]
        self.split = split
        self.span_loops = 2 if fields["span"] else 1
        self.span = prod(counts[:self.span_loops])
        self.row = _Row()
        self.done = 0   # groups in pieces before
        size = SIZES.get(fields["result_type"], 1)
        stream = SIZES[fields["stream_type"]]
        self.walks = {
            "source": (fields["source_base"], (fields["source_step"], *fields["source_jumps"]),
                       fields["ring"][0]),
            "stream": (fields["stream_base"],
                       (fields["stream_step"] * stream, *fields["stream_jumps"]),
                       fields["ring"][1]),
            "result": (fields["result_base"],
                       (fields["result_step"] * size, *fields["result_jumps"]),
                       fields["ring"][2]),
        }
        self.parts = {name: self._parts(base, strides_of(counts, jumps))
                      for name, (base, jumps, _) in self.walks.items()}
        param = [1, 0, counts[0], 0] if fields["param_step"] else [0] * 4
        self.parts["param"] = self._parts(fields["param_base"], param)
        self.parts["group"] = self._parts(0, [1, 0, 0, 0])
        rows, strides = 1, []
        for level, count in enumerate(counts):
            strides.append(rows if level >= self.span_loops else 0)
            rows *= count if level >= self.span_loops else 1
        self.parts["record"] = self._parts(fields["row_base"], strides)

    def _parts(self, base: int, strides: list[int]) -> tuple[np.ndarray, np.ndarray]:
        split = self.split
        return (base + loop_offsets(self.counts[:split], strides[:split]),
                loop_offsets(self.counts[split:], strides[split:]))

    def _walk(self, name: str, t: int) -> np.ndarray:
        inner, outer = self.parts[name]
        places = (inner + outer[t]) & ROW_MASK
        if name in self.walks:
            base, _, ring = self.walks[name]
            places = wrap(places, base, ring)
        return places

    def _require(self, good: bool | np.bool_) -> None:
        if not good:
            raise CoreError(ErrorCode.SCRATCHPAD_ADDRESS, self.index)

    def _of_copies(self, places: np.ndarray, size: int = 0) -> np.ndarray:
        """Places of every copy, one after the other, where each has ``size``."""
        if self.state.copies == 1:
            return places
        return (np.arange(self.state.copies)[:, None] * size + places).reshape(-1)

    def _act_places(self, groups: np.ndarray, size: int) -> np.ndarray:
        """Checked byte addresses of groups of the activation scratchpads."""
        places = groups * self.lanes
        self._require(not (places % min(size * self.lanes, self.config.act_row_bytes)).any())
        self._require(places.max() + size * self.lanes <= self.state.act.size)
        return self._of_copies(places, self.state.act.size)

    def _read_act(self, groups: np.ndarray, size: int) -> np.ndarray:
        places = self._act_places(groups, size)
        count = size * self.lanes
        raw = self.state.acts.reshape(-1)[places[:, None] + np.arange(count)]
        return np.ascontiguousarray(raw).view(DTYPES[size]).astype(np.int64)

    def __call__(self, t: int) -> None:
        """Do the groups of iteration ``t`` of the loops from ``split`` up.

        Raises
        ------
        CoreError
            An address outside its memory.
        """
        fields, uses_, state = self.fields, self.uses, self.state
        places = {name: self._walk(name, t) for name in self.parts}
        self._require(fields["source_base"] <= ROW_MASK or not uses_.source)
        if uses_.record:
            self._require(places["record"].max() < len(state.rows))
            places["record"] = self._of_copies(places["record"], len(state.rows))
        if uses_.param:
            self._require(places["param"].max() < self.config.memory.par_rows)
        self._require(64 * fields["function_base"] + self._last_entry(places["group"])
                      < self.config.vector.functions or not uses_.table)
        result = self._result_places(places["result"])
        places["group"] = self._of_copies(places["group"])
        self.rows = state.records.reshape(-1)
        records = self.rows[places["record"]] if uses_.record else None
        params = self._params(places["param"]) if uses_.param else None
        stream = (self._read_act(places["stream"], SIZES[fields["stream_type"]])
                  if uses_.stream else np.zeros((1, 1), np.int64))
        numbers = self._combine(self._source(places["source"], records), stream, params, records)
        valid = np.ones((len(numbers), self.lanes), bool)
        if fields["tail"]:
            valid[places["group"] == self.counts[0] - 1] = (
                np.arange(self.lanes) < fields["tail"])
        start = self.done % self.span
        count = len(numbers) // state.copies
        ends = self._of_copies(start + np.arange(count)) % self.span == self.span - 1
        self.done += count
        if fields["reduce"]:
            numbers, keep = self._reduce(numbers, valid, ends, places["record"], start)
            places = {name: places[name][keep] for name in ("record", "group")
                      if len(places[name]) == len(keep)}
            result, valid, ends = result[keep], valid[keep], ends[keep]
            records = None if records is None else records[keep]
            params = None if params is None else {k: v[keep] for k, v in params.items()}
            stream = stream[keep] if len(stream) == len(keep) else stream
            if not len(numbers):
                return
        if fields["result_type"] in (ResultType.ROW_SCALE, ResultType.ROW_ROOT):
            self._write_scales(numbers[:, 0], result)
            return
        if fields["function_first"]:
            numbers = self._function(numbers, stream, places["group"])
        # Where the function follows, it takes the whole number, and a table an int8.
        size = SIZES.get(fields["result_type"], 4)
        after = fields["function"] != Function.NONE and not fields["function_first"]
        scaled = 4 if after else size
        if after and fields["function"] == Function.TABLE:
            scaled = 1
        numbers = self._scale(numbers, params, records, scaled)
        if after:
            numbers = saturated(self._function(numbers, stream, places["group"]), 8 * size)
        if fields["sum_results"]:
            self._sum(numbers, valid, ends, places["record"], start)
        self._write(numbers, result)

    # Operands.

    def _params(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        records = self.state.par[rows].reshape(len(rows), self.lanes, 12)
        params = {"bias": records[:, :, 0:4].copy().view("<i4")[:, :, 0].astype(np.int64),
                  "multiplier": records[:, :, 4:8].copy().view("<i4")[:, :, 0] & INT32_MAX,
                  "shift": records[:, :, 8].view(np.int8)}
        return {name: np.tile(values, (self.state.copies, 1)) for name, values in params.items()}

    def _source(self, groups: np.ndarray, records: np.ndarray | None) -> np.ndarray:
        kind = self.fields["source_type"]
        if records is not None and kind > ElementType.ACC:
            values = records[RECORD_FIELDS[kind]].astype(np.int64)[:, None]
            values = np.repeat(values, self.lanes, axis=1)
        elif kind == ElementType.ACC:
            size = self.state.acc.size // self.lanes
            self._require(groups.max() < size)
            values = self.state.accs.reshape(-1, self.lanes)[
                self._of_copies(groups, size)].astype(np.int64)
        else:
            values = self._read_act(groups, SIZES[kind])
        return saturated(values << 8) if self.fields["fine"] else values

    def _combine(self, a: np.ndarray, stream: np.ndarray,
                 params: dict[str, np.ndarray] | None,
                 records: np.ndarray | None) -> np.ndarray:
        fields = self.fields
        b = np.full((1, 1), fields["immediate"], np.int64)
        if fields["second"] == Operand.STREAM:
            b = stream
        elif fields["second"] == Operand.CHANNEL and params is not None:
            b = params["bias"]
        elif fields["second"] == Operand.ROW and records is not None:
            b = records["value"].astype(np.int64)[:, None]
        match VectorOp(fields["operation"]):
            case VectorOp.ADD:
                combined = a + b
            case VectorOp.SUBTRACT:
                combined = a - b
            case VectorOp.REVERSE:
                combined = b - a
            case VectorOp.MINIMUM:
                combined = np.minimum(a, b)
            case VectorOp.MAXIMUM:
                combined = np.maximum(a, b)
            case VectorOp.BELOW:
                combined = np.where(a < b, a, INT32_MIN)
            case VectorOp.SELECT:
                combined = np.where(stream != 0, a, b)
            case VectorOp.DISTANCE:
                combined = np.abs(a - b)
        if fields["masked"]:
            combined = np.where(stream != 0, combined, INT32_MIN)
        return saturated(combined)

    # Reductions.

    def _pieces(self, values: np.ndarray) -> np.ndarray:
        """``values`` of groups by row and group of the row: (rows or 1, groups of each, ...)."""
        length = (self.span if self.split >= self.span_loops
                  else len(values) // self.state.copies)
        return values.reshape(-1, length, *values.shape[1:])

    def _reduce(self, numbers: np.ndarray, valid: np.ndarray, ends: np.ndarray,
                record: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Reduce; what goes on, and which groups that is."""
        fields, row = self.fields, self.row
        largest = fields["reduce"] == Reduction.MAXIMUM
        neutral = INT32_MIN if largest else 0
        pieces = self._pieces(np.where(valid | bool(fields["fold"]), numbers, neutral))
        taken = self._pieces(valid | bool(fields["fold"]))
        best, group = row.best, row.group
        if start == 0:
            best = np.full((len(pieces), self.lanes), neutral, np.int64)
            group = np.full((len(pieces), self.lanes), -1, np.int64)
        for i in range(pieces.shape[1]):
            if largest:
                better = taken[:, i] & ((pieces[:, i] > best) | (group < 0))
                group = np.where(better, start + i & ROW_MASK, group)
                best = np.where(better, pieces[:, i], best)
            else:
                best = saturated(best + pieces[:, i])
        row.best, row.group = best, group
        if fields["fold"]:
            return best if ends[-1] else best[:0], ends
        if ends[-1]:
            records = record[ends]
            if largest:
                self.rows["value"][records] = best.max(axis=1)
                order = np.where((best == best.max(axis=1)[:, None]) & (group >= 0),
                                 group * self.lanes + np.arange(self.lanes), INT32_MAX)
                self.rows["position"][records] = order.min(axis=1)
            else:
                self.rows["value"][records] = saturated(best.sum(axis=1))
                self.rows["position"][records] = 0
        return numbers, np.ones(len(numbers), bool)

    def _sum(self, numbers: np.ndarray, valid: np.ndarray, ends: np.ndarray,
             record: np.ndarray, start: int) -> None:
        """Add up results to the sum of their rows' records."""
        row = self.row
        if self.fields["reduce"] and self.fields["fold"]:   # one group is left of each row
            pieces, start = numbers[:, None], 0
        else:
            pieces = self._pieces(np.where(valid, numbers, 0))
        total = row.total if start else np.zeros((len(pieces), self.lanes), np.int64)
        for i in range(pieces.shape[1]):
            total = saturated(total + pieces[:, i])
        row.total = total
        if ends[-1]:
            self.rows["sum"][record[ends]] = np.clip(total.sum(axis=1), 0, INT32_MAX)

    # Function and scale.

    def _last_entry(self, groups: np.ndarray) -> int:
        """Last entry that the function may use, from its first."""
        if self.fields["function"] == Function.CHANNEL:
            return int(groups.max())
        wide = self.fields["function"] == Function.TABLE or self.fields["segments"]
        return 255 if wide else 63

    def _entries(self) -> np.ndarray:
        """The table's entries as integers of 32 bits or of 8, (entries, lanes)."""
        raw = self.state.tables.entries
        weights = 1 << 8 * np.arange(raw.shape[2], dtype=np.int64)
        return (raw.astype(np.int64) * weights).sum(axis=2)

    def _segment(self, entry: np.ndarray, place: np.ndarray) -> np.ndarray:
        """``base + slope * place / 2^15`` of entries (groups, lanes), with guard bits."""
        word = self._entries()[entry, np.arange(entry.shape[1])]
        base = _signed(word, BASE_BITS)
        slope = _signed(word >> BASE_BITS, SLOPE_BITS)
        return base + (slope * place >> FRACTION_BITS)

    def _function(self, x: np.ndarray, stream: np.ndarray, group: np.ndarray) -> np.ndarray:
        fields = self.fields
        first = 64 * fields["function_base"]
        u = saturated(x, 18)
        match Function(fields["function"]):
            case Function.NONE:
                return x
            case Function.TABLE:
                word = self._entries()[first + saturated(x, 8) + 128, np.arange(self.lanes)]
                return _signed(word, 8)
            case Function.LINEAR:
                shift = fields["function_shift"]
                if shift > FRACTION_BITS:
                    x, shift = x >> 8, shift - 8
                count = 256 if fields["segments"] else 64
                least = -count // 2 if fields["function_signed"] else 0
                place = np.clip(x << FRACTION_BITS - shift, least << FRACTION_BITS,
                                (least + count << FRACTION_BITS) - 1)
                entry = first + (place >> FRACTION_BITS) - least
                return _rounded(self._segment(entry, place & (1 << FRACTION_BITS) - 1))
            case Function.CHANNEL:
                entry = np.repeat(first + group[:, None], self.lanes, axis=1)
                return _rounded(self._segment(entry, u))
            case Function.SQUARE:
                return saturated(u * u)
            case Function.PRODUCT:
                return saturated(u * saturated(stream - fields["immediate"], 18))
            case Function.WEIGHTED:
                return saturated(x + saturated(stream, 18) * fields["immediate"])

    def _scale(self, x: np.ndarray, params: dict[str, np.ndarray] | None,
               records: np.ndarray | None, size: int) -> np.ndarray:
        fields = self.fields
        multiplier, shift = np.asarray(UNIT[0]), np.asarray(UNIT[1])
        if fields["scale"] == Scale.CHANNEL and params is not None:
            multiplier, shift = params["multiplier"], params["shift"]
        elif fields["scale"] == Scale.ROW and records is not None:
            multiplier, shift = records["multiplier"][:, None], records["shift"][:, None]
        return requantise(x.astype(np.int32), multiplier, shift, dtype=DTYPES[size],
                          zero_point=fields["zero_point"],
                          clamp=(fields["clamp_low"], fields["clamp_high"])).astype(np.int64)

    # Results.

    def _result_places(self, groups: np.ndarray) -> np.ndarray:
        kind = self.fields["result_type"]
        if kind in SIZES:
            return self._act_places(groups, SIZES[kind])
        if kind != ResultType.NONE:
            self._require(groups.max() < len(self.state.rows))
        return self._of_copies(groups, len(self.state.rows))

    def _write_scales(self, numbers: np.ndarray, records: np.ndarray) -> None:
        """Multiplier and shift of the function of normalised numbers."""
        fields = self.fields
        numbers = np.maximum(numbers, 1)
        left = 30 - np.floor(np.log2(numbers)).astype(np.int64)
        halved = fields["result_type"] == ResultType.ROW_ROOT
        if halved:
            left &= ~1
        index_bits = 8 if fields["segments"] else 6
        place = (numbers << left) >> 31 - index_bits - FRACTION_BITS
        entry = 64 * fields["function_base"] + (place >> FRACTION_BITS)
        mantissa = np.clip(self._segment(entry[:, None], place[:, None] & (
            (1 << FRACTION_BITS) - 1))[:, 0], 0, (1 << BASE_BITS) - 1) << 31 - BASE_BITS
        shift = (left >> 1 if halved else left) + fields["zero_point"]
        mantissa = np.where(shift > SHIFTS[1], INT32_MAX,
                            np.where(shift < SHIFTS[0], 0, mantissa))
        self.rows["multiplier"][records] = mantissa
        self.rows["shift"][records] = np.clip(shift, *SHIFTS)

    def _write(self, numbers: np.ndarray, result: np.ndarray) -> None:
        kind = self.fields["result_type"]
        if kind == ResultType.ROW_VALUE:
            self.rows["value"][result] = numbers[:, 0]
            self.rows["position"][result] = 0
        elif kind in SIZES:
            size = SIZES[kind]
            row = min(size * self.lanes, self.config.act_row_bytes)
            data = np.ascontiguousarray(numbers.astype(DTYPES[size])).view(np.int8)
            places = result[:, None] // row + np.arange(size * self.lanes // row)
            self.state.acts.reshape(-1, row)[places.reshape(-1)] = data.reshape(-1, row)


def _signed(words: np.ndarray, bits: int) -> np.ndarray:
    """The lowest bits as a number in two's complement."""
    sign = 1 << bits - 1
    return (words & (1 << bits) - 1 ^ sign) - sign


def _rounded(values: np.ndarray) -> np.ndarray:
    """Without guard bits, half up."""
    return values + (1 << (GUARD_BITS - 1)) >> GUARD_BITS
