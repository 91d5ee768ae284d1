"""What rows of the weight scratchpad mean in each weight format."""

from dataclasses import dataclass

import numpy as np
from systolith_hw.config import CoreConfig

__all__ = ["Weights"]

CODE_BITS = {"int8": 8, "int4": 4, "ternary": 2}
# Of a weight that is wider than a cell: places of a digit.
DIGIT_PLACES = {"int8": 8, "int4": 4, "ternary": 1}


@dataclass(frozen=True)
class Weights:
    """Weights of one format in one core.

    Parameters
    ----------
    config : CoreConfig
    name : str
        ``int8``, ``int4`` or ``ternary``.
    """
    config: CoreConfig
    name: str

    @property
    def code_bits(self) -> int:
        """Bits of a weight."""
        return CODE_BITS[self.name]

    @property
    def columns(self) -> int:
        """Columns of a tile."""
        array = self.config.array
        return array.cols * (2 if array.pairs and self.name != "int8" else 1)

    @property
    def parts(self) -> int:
        """Array rows in a scratchpad row."""
        parts, array = 1, self.config.array
        row_bits = max(Weights(self.config, name).columns * CODE_BITS[name]
                       for name in array.weights)
        row_bits = -(-row_bits // 8) * 8
        while 2 * parts * self.columns * self.code_bits <= row_bits:
            parts *= 2
        return parts

    @property
    def places(self) -> int:
        """Bits of a digit; the format's own where a cell takes all of it."""
        cell = self.config.array.cell
        return self.code_bits if self.code_bits <= CODE_BITS[cell] else DIGIT_PLACES[cell]

    @property
    def digits(self) -> int:
        """Digits of a weight."""
        return self.code_bits // self.places

    def values(self, rows: np.ndarray) -> np.ndarray:
        """The weights in scratchpad rows.

        Parameters
        ----------
        rows : uint8 array, (n, wgt_row_bytes)

        Returns
        -------
        int8 array, (n, parts, digits, columns)
            Digits, the lowest first, each at its place: their sum is the weight.
        """
        size, columns, parts = self.code_bits, self.columns, self.parts
        if size == self.places == 8:
            return rows[:, None, None, :columns].view(np.int8)
        bits = np.unpackbits(rows, axis=1, bitorder="little")[:, :parts * columns * size]
        bits = bits.reshape(len(rows), parts, columns, size)
        if self.columns > self.config.array.cols:
            # Byte by byte the weights of a low and of a high column.
            pairs = bits.reshape(len(rows), parts, columns // 2, 2, size)
            bits = np.swapaxes(pairs, 2, 3).reshape(bits.shape)
        if self.name == "ternary":
            sign = bits[..., 1:] & bits[..., :1]    # the code -2 counts as 0
            bits = np.concatenate([bits[..., :1], sign], axis=3)
        place = 1 << np.arange(size, dtype=np.int16)
        place[-1] = -place[-1]
        weighted = (bits * place).reshape(len(rows), parts, columns, self.digits, self.places)
        return np.moveaxis(weighted.sum(axis=4), 3, 2).astype(np.int8)
