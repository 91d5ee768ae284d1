"""The fewest cycles that a matrix product can take: what measured cycles are compared with."""

from dataclasses import dataclass

from systolith_hw.config import CoreConfig
from systolith_hw.formats import BITS

from .shapes import Shape

__all__ = ["Bound", "gops", "product_bound"]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What array and bus each need for a product, if nothing else took time.

    Parameters
    ----------
    array : int
        Cycles of the array.
    bus : int
        Cycles of the bus.
    compulsory_bytes : int
        Operands, parameters and results, each moved once.
    """
    array: int
    bus: int
    compulsory_bytes: int

    @property
    def cycles(self) -> int:
        """The larger of the two."""
        return max(self.array, self.bus)


def gops(macs_per_cycle: float, mhz: float) -> float:
    """Operations a second, in 10^9; a multiply-accumulate is two."""
    return 2 * macs_per_cycle * mhz / 1000


def product_bound(config: CoreConfig, shape: Shape, *, result_bytes: int,
                  param_bytes: int, weights: str = "int8") -> Bound:
    """The bound of an M x K by K x N product on an array of R x C::

        array(M, N) = max(M, R) * ceil(K / R) * ceil(N / C)
        bus         = ceil((M*K + w*K*N + P*N + o*M*N) / bus_bytes)
        bound       = max(min(array(M, N), array(N, M)), bus)

    Weights narrower than int8 stay: only array(M, N) counts then, times the turns of a weight wider
    than a cell, with 2C in place of C where they are pairs, and w is their share of a byte.

    A tile of m activation rows costs max(m, R) cycles, since R rows of weights slide in while its
    own rows pass; a full array is what tiles cost with all of M as their rows. Either operand may
    be the stationary one, since Y = X W is Y' = W' X' as well. The bus counts reads and writes
    together, as if they shared one channel: with a channel for each, products with many results
    for their operands can take less. The larger of the two is the roofline of Williams, Waterman
    and Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009.

    Parameters
    ----------
    config : CoreConfig
        R, C and the bytes of a bus word.
    shape : Shape
    result_bytes : int
        o: 1 for int8, 4 for int32.
    param_bytes : int
        P, of each output column: 0 if one scale serves all, 12 for bias, multiplier and shift.
    weights : str
        Their format.
    """
    m, n, k = shape.m, shape.n, shape.k
    compulsory = (m * k + -(-k * n * BITS[weights] // 8) + param_bytes * n + result_bytes * m * n)
    array = _array(config, m, n, k, weights)
    if weights == "int8":
        array = min(array, _array(config, n, m, k, weights))
    return Bound(array=array, bus=-(-compulsory // config.bus.data_bytes),
                 compulsory_bytes=compulsory)


def _array(config: CoreConfig, m: int, n: int, k: int, weights: str) -> int:
    rows, cols = config.array.rows, config.array.columns(weights)
    return max(m, rows) * -(-k // rows) * -(-n // cols) * config.array.digits(weights)
