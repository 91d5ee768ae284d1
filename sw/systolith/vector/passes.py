"""Passes over rows: one vector command each, with the range of its numbers at every stage."""

from collections.abc import Collection
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ElementType, Function, Operand, Reduction, Scale, VectorOp

from ..program import Program
from .commands import Commands
from .constants import Constants
from .tables import Table
from .values import (
    INT32,
    LIMITS,
    MASKED,
    ROW,
    SQUARE,
    Columns,
    Product,
    Range,
    Record,
    Result,
    Rows,
    RowScale,
    Scaling,
    Step,
    Weighted,
)

__all__ = ["Passes", "scaled"]

SHIFTS = (-31, 7)
UNSIGNED18, IMMEDIATE = (1 << 17) - 1, (1 << 15) - 1


def scaled(x: int, multiplier: int, shift: int) -> int:
    """TFLite's MultiplyByQuantizedMultiplier."""
    left, right = max(shift, 0), max(-shift, 0)
    high = x * multiplier + (1 << 30 - left) - ((1 << 31) if right and x < 0 else 0) >> 31 - left
    return (high >> right) + (high >> right - 1 & 1 if right else 0)


class Passes:
    """The passes of one operation over a block of rows.

    ``step`` checks and keeps a pass; ``emit`` appends them all. Every pass waits, piece of the
    rows by piece, for the one before it, so that one may read what another wrote, and the vector
    unit never stands still between them where a block takes longer than its latency.

    Parameters
    ----------
    program : Program
    constants : Constants
    rows : int
        Of the block.
    chain : str
        Semaphore that orders the passes.
    first_record : int
        Of the row file.

    Raises
    ------
    ValueError
        More rows than the row file has records.
    """
    def __init__(self, program: Program, constants: Constants, *, rows: int,
                 chain: str = "vector_chain", first_record: int = 0):
        self.program, self.constants, self.rows = program, constants, rows
        self.config: CoreConfig = program.config
        self.chain = chain
        self.first_record = first_record
        self.records_used = 0
        self.steps: list[Step] = []
        self.values: dict[tuple[int, str], Range] = {}
        self.ranges: dict[str, Range] = {}

    def record(self) -> Record:
        """Records for all rows that nothing else uses."""
        base = self.first_record + self.records_used * self.rows
        self.records_used += 1
        if base + self.rows > self.config.vector.rows:
            raise ValueError(f"rows must be at most "
                             f"{self.config.vector.rows // self.records_used} of "
                             f"{self.records_used} records each, not {self.rows!r}")
        return Record(base=base)

    def known(self, record: Record, low: int, high: int) -> None:
        """State the range of a record's field, where more is known than arithmetic shows."""
        self.values[record.base, record.name] = low, high

    def step(self, source: Rows | Record, *, second: int | str | Rows = 0,
             operation: VectorOp = VectorOp.ADD, mask: Rows | None = None, fine: bool = False,
             reduce: Reduction = Reduction.NONE, record: Record | None = None,
             function: Table | str | Product | Weighted | None = None,
             function_first: bool = True, scale: Scaling = None, zero_point: int = 0,
             clamp: Range = (-128, 127), result: Result = None,
             sum_results: bool = False, saturates: Collection[str] = (),
             expect: Range | None = None) -> dict[str, Range]:
        """Keep one pass.

        Parameters
        ----------
        source : Rows or Record
        second : int, Rows or ``ROW``
            Second operand; ``ROW`` is the value of the row's ``record``.
        mask : Rows or None
            Where it is 0, ``MASKED`` takes the place of the combined number; with ``SELECT``, the
            second operand that of the source.
        record : Record or None
            Of each row, for everything that reads or writes records.
        function : Table, ``SQUARE``, Product, Weighted or None
        scale : tuple of int, Columns, ``ROW`` or None
            Multiplier and shift.
        result : Rows, Record, RowScale or None
        saturates : names of stages
            Where saturation is meant: ``combined``, ``function``, ``result``.
        expect : tuple of int or None
            Range of the scaled number, where arithmetic alone cannot show it.

        Returns
        -------
        dict of str to tuple of int
            Least and largest number at each stage.

        Raises
        ------
        ValueError
            A number could saturate where that is not meant; rows that do not fit each other, or
            are not aligned; a sum too long.
        """
        ranges: dict[str, Range] = {}
        shape = source if isinstance(source, Rows) else None
        fields: dict[str, Any] = {"operation": operation, "fine": int(fine),
                                  "zero_point": zero_point, "clamp": clamp,
                                  "function_first": int(function_first)}
        own = record or (source if isinstance(source, Record) else None)
        if record and isinstance(source, Record) and record.base != source.base:
            raise ValueError(f"record must be that of the source, not {record!r}")
        streams = [rows for rows in (mask, second if isinstance(second, Rows) else None,
                                     function.stream if isinstance(function, (Product, Weighted))
                                     else None) if rows is not None]
        if any(stream != streams[0] for stream in streams):
            raise ValueError(f"stream must be the same wherever a pass uses it, not {streams!r}")
        self._check_unit(
            scratch=bool(streams) or isinstance(source, Rows) and source.kind != ElementType.ACC,
            records=own is not None or isinstance(result, (Record, RowScale)),
            products=function == SQUARE or isinstance(function, (Product, Weighted)))
        for rows in (source, result, *streams):
            if isinstance(rows, Rows):
                rows.check(self.config)
                if isinstance(scale, Columns) and rows.runs > 1:
                    raise ValueError(f"runs must be 1 for a scale of each column, "
                                     f"not {rows.runs!r}")
                if shape and (rows.cols, rows.runs) != (shape.cols, shape.runs):
                    raise ValueError(f"rows of one pass must have {shape.runs} runs of "
                                     f"{shape.cols} columns, not {rows.runs} of {rows.cols!r}")

        # Combined.
        a = (source.reach if isinstance(source, Rows)
             else self.values.get((source.base, source.name), INT32))
        if fine:
            a = self._within("fine source", a[0] << 8, a[1] << 8, INT32)
        b, bias = self._second(fields, second, own, function)
        ranges["combined"] = combined = self._within(
            "combined number", *_combined(operation, a, b), INT32,
            meant="combined" in saturates)
        if mask is not None and operation != VectorOp.SELECT:
            fields["masked"] = 1
            ranges["combined"] = combined = (MASKED, combined[1])

        # Reduced.
        length = shape.cols * shape.runs if shape else 1
        if reduce != Reduction.NONE:
            fields["reduce"] = reduce
            reduced = combined
            if reduce == Reduction.SUM:
                reduced = self._sum("sum of a row", length, combined, INT32)
            if own:
                self.values[own.base, "value"] = reduced
                if reduce == Reduction.MAXIMUM:
                    self.values[own.base, "position"] = 0, length - 1
            ranges["reduced"] = reduced

        # Function and scale, in either order.
        number = combined
        stages = ["function", "scale"] if function_first else ["scale", "function"]
        limits = LIMITS[result.kind] if isinstance(result, Rows) else INT32
        for stage in stages:
            if stage == "function":
                number = self._function(fields, function, number, saturates, result)
            else:
                number = self._scale(fields, scale, bias, number, expect)
                if not isinstance(result, RowScale):
                    number = number[0] + zero_point, number[1] + zero_point
                if not function_first and isinstance(function, Table) and (
                        function.kind == Function.TABLE):
                    number = max(number[0], clamp[0]), min(number[1], clamp[1])
            ranges[stage] = number
        number = self._within("result", *number, limits, meant="result" in saturates)
        if isinstance(result, Rows) and result.kind == ElementType.INT8 and (
                function_first or function is None):
            number = max(number[0], clamp[0]), max(clamp[0], min(number[1], clamp[1]))
        ranges["result"] = number
        if sum_results:
            fields["sum_results"] = 1
            ranges["sum"] = self._sum("sum of results", length, number, (0, INT32[1]))
            if own:
                self.values[own.base, "sum"] = ranges["sum"]
        if isinstance(result, Record):
            self.values[result.base, result.name] = number
        self.steps.append(Step(source=source, result=result, record=own, fields=fields,
                               stream=streams[0] if streams else None))
        self.ranges = ranges
        return ranges

    def _check_unit(self, *, scratch: bool, records: bool, products: bool) -> None:
        unit = self.config.vector
        if scratch and not unit.elementwise:
            raise ValueError("vector.elementwise must be true for operands in the scratchpad, "
                             "not False")
        if products and not unit.multiply:
            raise ValueError("vector.multiply must be true for products and squares, not False")
        if records and not unit.rows:
            raise ValueError("vector.rows must be at least 16 for reductions of rows, not 0")

    # Stages.

    def _within(self, what: str, low: int, high: int, limits: Range, *,
                meant: bool = False) -> Range:
        if not meant and (low < limits[0] or high > limits[1]):
            raise ValueError(f"{what} must be from {limits[0]} to {limits[1]}, "
                             f"not {low} to {high!r}")
        return (min(max(low, limits[0]), limits[1]), min(max(high, limits[0]), limits[1]))

    def _sum(self, what: str, length: int, number: Range, limits: Range) -> Range:
        low, high = length * number[0], length * number[1]
        if low < limits[0] or high > limits[1]:
            most = min(limit // end for limit, end in zip(limits, number, strict=True)
                       if end and (end > 0) == (limit > 0) or end < 0 == limit)
            raise ValueError(f"{what} of {length} columns must be from {limits[0]} to {limits[1]} "
                             f"(at most {most} columns), not {low} to {high!r}")
        return low, high

    def _second(self, fields: dict[str, Any], second: int | str | Rows, own: Record | None,
                function: object) -> tuple[Range, int]:
        """Range of the second operand, and the bias where it is one."""
        if isinstance(second, Rows):
            fields["second"] = Operand.STREAM
            return second.reach, 0
        if isinstance(second, str):
            if own is None:
                raise ValueError("record must be given where the second operand is a row's, "
                                 "not None")
            fields["second"] = Operand.ROW
            return self.values.get((own.base, "value"), INT32), 0
        if not INT32[0] <= second <= INT32[1]:
            raise ValueError(f"second must be from {INT32[0]} to {INT32[1]}, not {second!r}")
        if isinstance(function, (Product, Weighted)) and second or (
                not -IMMEDIATE - 1 <= second <= IMMEDIATE):
            fields["second"] = Operand.CHANNEL
            return (second, second), second
        fields["second"] = Operand.IMMEDIATE
        if isinstance(function, (Product, Weighted)):
            # The immediate is the function's; a bias of 0 leaves the source alone.
            fields["second"] = Operand.CHANNEL
        else:
            fields["immediate"] = second
        return (second, second), 0

    def _function(self, fields: dict[str, Any], function: object, number: Range,
                  saturates: Collection[str], result: Result) -> Range:
        narrow = (-UNSIGNED18 - 1, UNSIGNED18)
        meant = "function" in saturates
        if function is None:
            return number
        if isinstance(function, Table):
            fields.update(function=function.kind, function_base=self.constants.table(function),
                          function_shift=function.shift, segments=int(function.wide),
                          function_signed=int(function.signed))
            if function.kind == Function.TABLE:
                number = self._within("number of a table of 256", *number, (-128, 127), meant=meant)
            if function.kind == Function.CHANNEL:
                fields["function_first"] = 0
                number = self._within("number of a channel's function", *number, narrow,
                                      meant=meant)
            if isinstance(result, RowScale):
                self._exponent(fields, result, number, meant)
                return number
            return function.reach(*number)
        if isinstance(function, Product):
            fields.update(function=Function.PRODUCT, immediate=function.zero)
            low, high = (end - function.zero for end in function.stream.reach)
            other = self._within("stream of a product", low, high, narrow)
            u = self._within("factor of a product", *number, narrow, meant=meant)
            ends = [x * y for x in u for y in other]
            return self._within("product", min(ends), max(ends), INT32, meant=meant)
        if isinstance(function, Weighted):
            fields.update(function=Function.WEIGHTED, immediate=function.weight)
            self._within("stream of a weighted sum", *function.stream.reach, narrow)
            ends = [end * function.weight for end in function.stream.reach]
            return self._within("weighted sum", number[0] + min(ends), number[1] + max(ends),
                                INT32, meant=meant)
        fields["function"] = Function.SQUARE
        low, high = self._within("root of a square", *number, narrow, meant=meant)
        least = 0 if low <= 0 <= high else min(low * low, high * high)
        return self._within("square", least, max(low * low, high * high), INT32, meant=meant)

    def _exponent(self, fields: dict[str, Any], result: RowScale, number: Range,
                  meant: bool) -> None:
        fields["zero_point"] = result.exponent
        lefts = [31 - max(1, end).bit_length() for end in number]
        low, high = (left // 2 if result.root else left for left in reversed(lefts))
        self._within("shift of a row", low + result.exponent, high + result.exponent, SHIFTS,
                     meant=meant)

    def _scale(self, fields: dict[str, Any], scale: Scaling, bias: int, number: Range,
               expect: Range | None) -> Range:
        fields["scale"] = Scale.UNIT
        if scale == ROW:
            fields["scale"] = Scale.ROW
            return expect or INT32
        if isinstance(scale, Columns):
            fields["scale"] = Scale.CHANNEL
            fields["param_base"] = self.constants.parameters(
                np.asarray(scale.bias) + bias, scale.multiplier, scale.shift)
            pairs = set(zip(*(values.reshape(-1).tolist() for values in np.broadcast_arrays(
                scale.multiplier, scale.shift)), strict=True))
            ends = [scaled(x, m, s) for x in number for m, s in pairs]
            return expect or (min(ends), max(ends))
        if scale is not None or fields["second"] == Operand.CHANNEL:
            multiplier, shift = scale if isinstance(scale, tuple) else (1 << 30, 1)
            fields["param_base"] = self.constants.parameters(
                np.asarray(bias), np.asarray(multiplier), np.asarray(shift))
            fields["param_step"] = 0
            if scale is not None:
                fields["scale"] = Scale.CHANNEL
                return expect or (scaled(number[0], multiplier, shift),
                                  scaled(number[1], multiplier, shift))
        return expect or number

    # Commands.

    def emit(self, *, ready: str | None = None, free: str | None = None,
             room: str | None = None, done: str | None = None) -> None:
        """Append the commands of all passes kept, and forget them.

        Parameters
        ----------
        ready : str or None
            Semaphore waited for before the first pass.
        free : str or None
            Semaphore raised when nothing of the sources will be read any more.
        room, done : str or None
            Semaphores waited for before the first pass that writes rows, and raised after the last.
        """
        Commands(self.program, rows=self.rows, chain=self.chain, steps=self.steps).emit(
            ready=ready, free=free, room=room, done=done)
        self.steps = []


def _combined(operation: VectorOp, a: Range, b: Range) -> Range:
    match operation:
        case VectorOp.ADD:
            return a[0] + b[0], a[1] + b[1]
        case VectorOp.SUBTRACT:
            return a[0] - b[1], a[1] - b[0]
        case VectorOp.REVERSE:
            return b[0] - a[1], b[1] - a[0]
        case VectorOp.MINIMUM:
            return min(a[0], b[0]), min(a[1], b[1])
        case VectorOp.MAXIMUM:
            return max(a[0], b[0]), max(a[1], b[1])
        case VectorOp.BELOW:
            return MASKED, a[1]
        case VectorOp.SELECT:
            return min(a[0], b[0]), max(a[1], b[1])
    reach = max(abs(a[0] - b[1]), abs(a[1] - b[0]))
    return (0 if a[0] <= b[1] and b[0] <= a[1] else min(abs(a[0] - b[1]), abs(b[0] - a[1]))), reach
