"""Operators of the vector unit on feature maps: sums, functions, pooling, softmax."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from systolith_hw.isa import ElementType, Operand, Reduction, ResultType, Scale, VectorOp

from ..model.arithmetic import requantise
from ..program import GROUP_UNITS
from ..quantise import quantise_multiplier
from ..vector import elements, rows
from ..vector.elements import FINE
from ..vector.passes import Passes
from ..vector.pooling import Pooling, stretches
from ..vector.tables import Table
from ..vector.values import Rows, Weighted, narrowed
from .emitter import Emitter, Keep, Passing, Piece
from .maps import FeatureMap
from .shares import KINDS, Shares, emit_shares
from .sums import TwoPasses

__all__ = ["Sum", "Windows", "averages", "emit_copy", "emit_extreme", "emit_pooling",
           "emit_product", "emit_scaled", "emit_softmax", "emit_table", "piece_rows"]

PIECE_GROUPS = 256      # lane groups of a piece: several times the vector unit's latency


def piece_rows(emitter: Emitter, shape: FeatureMap) -> int:
    """Rows of pixels that passes work on at a time."""
    groups = shape.shape[2] * emitter.groups_per_row
    return max(1, min(shape.shape[1], PIECE_GROUPS // groups))


def pieces_of(shape: FeatureMap, step: int) -> list[Piece]:
    """All of a map, ``step`` rows of pixels at a time."""
    images, height, _, _ = shape.shape
    return [Piece(image, plane, range(y, min(height, y + step))) for image, plane, y in product(
        range(images), range(shape.planes), range(0, height, step))]


def _rows_of(emitter: Emitter, values: FeatureMap, piece: Piece) -> Rows:
    """The pixels of a piece, with whatever lies between and behind their channels."""
    per_row = emitter.groups_per_row
    return Rows(kind=ElementType.INT8,
                base=values.row(piece.image, piece.plane, piece.down.start) * per_row,
                cols=values.shape[2] * emitter.config.act_row_bytes,
                pitch=values.across * per_row)


class Sum:
    """TFLite's sum or difference of two maps, piece by piece.

    Parameters
    ----------
    operands : sequence of FeatureMap
    rooms : sequence of int
        First scratchpad rows of buffers of int32, each for a piece: two for each turn.
    step : int
        Rows of pixels of the largest piece.
    target : FeatureMap
        May be an operand.
    fast : TwoPasses or None
    how
        As ``vector.elements.add_exact`` takes it.
    """
    def __init__(self, emitter: Emitter, operands: Sequence[FeatureMap], rooms: Sequence[int],
                 step: int, target: FeatureMap, *, fast: TwoPasses | None, **how: Any):
        self.emitter, self.operands, self.rooms = emitter, operands, rooms
        self.target, self.step, self.fast, self.how = target, step, fast, how
        self.passing = Passing(emitter, self._keep, Piece(0, 0, range(step)), late=1)

    def add(self, image: int, plane: int, down: range) -> None:
        """Append what makes some rows of pixels of the sum."""
        for y in range(down.start, down.stop, self.step):
            self.passing.add(Piece(image, plane, range(y, min(down.stop, y + self.step))))

    def flush(self) -> None:
        """Append what is left."""
        self.passing.flush()

    def _room(self, number: int, cols: int) -> Rows:
        per_row = self.emitter.groups_per_row
        return Rows(kind=ElementType.INT32, base=self.rooms[number] * per_row, cols=cols,
                    pitch=4 * self.target.shape[2] * per_row)

    def _keep(self, passes: Passes, piece: Piece, number: int) -> None:
        found = [_rows_of(self.emitter, values, piece) for values in self.operands]
        made = _rows_of(self.emitter, self.target, piece)
        turns = len(self.rooms) // 2
        if self.fast is None:
            first = number % turns * 2
            elements.add_exact(passes, found, [self._room(first + i, made.cols)
                                               for i in range(2)], made, **self.how)
            return
        fast, room = self.fast, self._room(number % len(self.rooms), made.cols)
        p, q = found[::-1] if fast.swapped else found
        offset = self.how["offsets"][int(fast.swapped)]
        passes.step(p, fine=True, second=(-offset if fast.turned else offset) << FINE,
                    operation=VectorOp.REVERSE if fast.turned else VectorOp.ADD,
                    scale=fast.first, result=room)
        room = narrowed(room, *passes.ranges["result"])
        passes.step(room, second=fast.offset, function=Weighted(stream=q, weight=fast.weight),
                    scale=fast.last, zero_point=self.how["out_zero_point"],
                    clamp=self.how["clamp"], result=made, saturates=("result",))


def emit_product(emitter: Emitter, operands: Sequence[FeatureMap], target: FeatureMap,
                 **how: Any) -> None:
    """Append a product of two maps, as ``vector.elements.multiply`` takes it."""
    def keep(passes: Passes, piece: Piece, number: int) -> None:
        a, b = (_rows_of(emitter, values, piece) for values in operands)
        elements.multiply(passes, a, b, _rows_of(emitter, target, piece), **how)
    _emit(emitter, keep, pieces_of(target, piece_rows(emitter, target)))


def emit_extreme(emitter: Emitter, operands: Sequence[FeatureMap], target: FeatureMap, *,
                 largest: bool) -> None:
    """Append the larger or the smaller of two maps."""
    def keep(passes: Passes, piece: Piece, number: int) -> None:
        a, b = (_rows_of(emitter, values, piece) for values in operands)
        elements.extreme(passes, a, b, _rows_of(emitter, target, piece), largest=largest)
    _emit(emitter, keep, pieces_of(target, piece_rows(emitter, target)))


def emit_scaled(emitter: Emitter, source: FeatureMap, target: FeatureMap, **how: Any) -> None:
    """Append a change of scale and zero point, as ``vector.elements.requantise`` takes it."""
    def keep(passes: Passes, piece: Piece, number: int) -> None:
        elements.requantise(passes, _rows_of(emitter, source, piece),
                            _rows_of(emitter, target, piece), **how)
    _emit(emitter, keep, pieces_of(target, piece_rows(emitter, target)))


def emit_copy(emitter: Emitter, source: FeatureMap, target: FeatureMap) -> None:
    """Append a copy of a map."""
    def keep(passes: Passes, piece: Piece, number: int) -> None:
        passes.step(_rows_of(emitter, source, piece), result=_rows_of(emitter, target, piece))
    _emit(emitter, keep, pieces_of(target, piece_rows(emitter, target)))


def emit_table(emitter: Emitter, source: FeatureMap, target: FeatureMap, table: Table) -> None:
    """Append a function of each element."""
    def keep(passes: Passes, piece: Piece, number: int) -> None:
        elements.activate(passes, _rows_of(emitter, source, piece),
                          _rows_of(emitter, target, piece), table)
    _emit(emitter, keep, pieces_of(target, piece_rows(emitter, target)))


def emit_softmax(emitter: Emitter, source: FeatureMap, target: FeatureMap, *, scale: float,
                 step: int, exact: Shares | None = None, rooms: Sequence[int] = ()) -> None:
    """Append shares of powers of e along the channels of every pixel.

    Parameters
    ----------
    step : int
        Pixels at a time.
    exact : Shares or None
        How they are TFLite's in every byte; None: within one unit.
    rooms : sequence of int
        First scratchpad rows of buffers for those, as ``KINDS`` has them, each of int32.
    """
    per_row = emitter.groups_per_row
    images, height, width, depth = source.shape

    for values in (source, target):
        # Numbers of a pixel follow each other in one row, or where there is one pixel in several.
        if values.planes > 1 and (values.plane > 1 or not values.channels.dense or (
                values.channels.width < emitter.config.act_row_bytes)):
            raise ValueError(f"channels must be at most {values.channels.width} for a softmax of "
                             f"several pixels, not {depth!r}")

    def rows_of(values: FeatureMap, piece: Piece) -> Rows:
        assert piece.across is not None
        return Rows(kind=ElementType.INT8, cols=depth, pitch=per_row, base=values.row(
            piece.image, 0, piece.down.start, piece.across.start) * per_row)

    def keep(passes: Passes, piece: Piece, number: int) -> None:
        if exact is not None:
            emit_shares(passes, rows_of(source, piece), rows_of(target, piece), {
                name: Rows(kind=kind, base=room * per_row, cols=depth,
                           pitch=GROUP_UNITS[kind] * source.planes * per_row)
                for (name, kind), room in zip(KINDS.items(), rooms, strict=True)}, exact)
            return
        rows.softmax(passes, rows_of(source, piece), rows_of(target, piece), scale=scale)

    _emit(emitter, keep, [Piece(image, 0, range(y, y + 1), range(x, min(width, x + step)))
                          for image, y, x in product(range(images), range(height),
                                                     range(0, width, step))])


def _emit(emitter: Emitter, keep: Keep, pieces: Sequence[Piece]) -> None:
    passing = Passing(emitter, keep, max(pieces, key=lambda piece: piece.rows))
    for piece in pieces:
        passing.add(piece)


def averages(sums: np.ndarray, count: int) -> np.ndarray:
    """What the core makes of sums of ``count`` int8."""
    return requantise(sums.astype(np.int64) << FINE, *quantise_multiplier(1 / (count << FINE)))


class Windows:
    """Folds over the windows of a map, plane by plane.

    Parameters
    ----------
    pooling : Pooling
    source, target : FeatureMap
    """
    def __init__(self, emitter: Emitter, pooling: Pooling, source: FeatureMap, target: FeatureMap):
        self.emitter, self.pooling, self.source, self.target = emitter, pooling, source, target
        _, height, width, _ = source.shape
        self.windows = list(product(stretches(pooling.spans(0, height), pooling.stride[0]),
                                    stretches(pooling.spans(1, width), pooling.stride[1])))
        self.scales: dict[int, int] = {}
        for count in sorted({y.size * x.size for y, x in self.windows}) if pooling.average else ():
            lanes = emitter.config.vector.lanes
            multiplier, shift = quantise_multiplier(1 / (count << FINE))
            self.scales[count] = emitter.load_parameters(
                np.zeros(lanes, np.int64), np.repeat(multiplier, lanes), np.repeat(shift, lanes))

    def add(self, images: range, planes: range) -> None:
        """Append the folds of some planes of some images."""
        pooling, source, target = self.pooling, self.source, self.target
        per_row, deep = self.emitter.groups_per_row, self.emitter.config.control.vector_loops == 4
        groups = source.channels.width // self.emitter.config.vector.lanes
        down, across = source.across * per_row, target.across * per_row
        for y, x in self.windows:
            scale: dict[str, Any] = {"scale": Scale.UNIT}
            if pooling.average:
                scale = {"scale": Scale.CHANNEL, "param_base": self.scales[y.size * x.size],
                         "param_step": 0}
            walks = [(groups, 1, 1), (x.count, pooling.stride[1] * per_row, per_row),
                     (y.count, pooling.stride[0] * down, across),
                     (len(planes), source.plane * per_row, target.plane * per_row),
                     (len(images), source.image * per_row, target.image * per_row)]
            walks = sorted((walk for walk in walks if walk[0] > 1), key=lambda walk: -walk[0])
            # The longest walks are the command's own loops, the others make commands.
            own, rest = walks[:1 + deep], walks[1 + deep:]
            for places in product(*(range(times) for times, _, _ in rest)):
                steps = list(zip(places, rest, strict=True))
                self.emitter.program.vector(
                    counts=[x.size, y.size, *(times for times, _, _ in own)],
                    source=source.row(images.start, planes.start, y.start, x.start) * per_row
                    + sum(i * step for i, (_, step, _) in steps),
                    source_step=per_row, source_strides=[down, *(step for _, step, _ in own)],
                    result=target.row(images.start, planes.start, y.first, x.first) * per_row
                    + sum(i * step for i, (_, _, step) in steps),
                    result_step=0, result_strides=[0, *(step for _, _, step in own)],
                    source_type=ElementType.INT8, second=Operand.IMMEDIATE,
                    result_type=ResultType.INT8, clamp=pooling.clamp or (-128, 127), fold=1, span=1,
                    reduce=Reduction.SUM if pooling.average else Reduction.MAXIMUM,
                    fine=int(pooling.average), **scale)


def emit_pooling(emitter: Emitter, pooling: Pooling, source: FeatureMap,
                 target: FeatureMap) -> None:
    """Append folds over windows."""
    Windows(emitter, pooling, source, target).add(range(source.shape[0]), range(source.planes))
