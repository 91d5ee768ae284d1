"""How matrices and parameters lie in system memory."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.formats import BITS

__all__ = [
    "Packing", "aligned", "pack_panels", "pack_parameters", "pack_row_parameters", "pack_weights",
    "parameter_rows", "split_weights",
]


def aligned(value: int, step: int) -> int:
    """The smallest multiple of ``step`` that is at least ``value``."""
    return -(-value // step) * step


@dataclass(frozen=True)
class Packing:
    """How weights of one format fill rows of the weight scratchpad, in it and in memory.

    int8 weights take a byte each. Narrower ones fill each byte from its low bits on, and a row
    with as many array rows as fit; of pairs, those of columns c and C + c follow each other.

    Parameters
    ----------
    config : CoreConfig
    name : str
        The format.

    Members
    -------
    cols : int
        Columns of a tile.
    groups : int
        Lane groups of a row of its sums.
    digits : int
        Turns that a tile takes in the array.
    parts : int
        Array rows in a scratchpad row.
    """
    config: CoreConfig
    name: str = "int8"

    @cached_property
    def cols(self) -> int:
        return self.config.array.columns(self.name)

    @cached_property
    def groups(self) -> int:
        return self.config.groups_of(self.name)

    @cached_property
    def digits(self) -> int:
        return self.config.array.digits(self.name)

    @cached_property
    def parts(self) -> int:
        return self.config.weight_parts(self.name)

    def row_bytes(self, columns: int) -> int:
        """Bytes of a scratchpad row with weights of ``columns`` columns of a tile."""
        if self.name == "int8":
            return columns
        return -(-self.parts * self.config.weight_bits(self.name) // 8)

    def rows(self, k: int, height: int) -> int:
        """Scratchpad rows for ``k`` array rows in tiles of ``height``, each in rows of its own."""
        tiles, rest = divmod(k, height)
        return tiles * -(-height // self.parts) + -(-rest // self.parts)

    def pack(self, weights: np.ndarray, height: int) -> bytes:
        """Rows of one panel of up to ``cols`` columns.

        Parameters
        ----------
        weights : int8 array, (k, columns)
        """
        k, columns = weights.shape
        if self.name == "int8":
            return weights.tobytes()
        bits, parts = BITS[self.name], self.parts
        tiles = -(-k // height)
        padded = np.zeros((tiles * height, self.cols), np.uint8)
        padded[:k, :columns] = weights.view(np.uint8) & (1 << bits) - 1
        if self.config.array.paired(self.name):
            padded = padded.reshape(-1, 2, self.config.array.cols).swapaxes(1, 2)
        rows = np.zeros((tiles, aligned(height, parts), self.cols), np.uint8)
        rows[:, :height] = padded.reshape(tiles, height, self.cols)
        codes = rows.reshape(-1, parts * self.cols)[:self.rows(k, height)]
        return np.packbits(np.unpackbits(codes[..., None], axis=2, bitorder="little")[
            ..., :bits].reshape(len(codes), -1), axis=1, bitorder="little").tobytes()


def split_weights(weights: np.ndarray) -> list[np.ndarray]:
    """int8 matrices that sum to ``weights``.

    Weights less their zero point need 9 bits; the core then multiplies the same activations by
    each of the summands.

    Parameters
    ----------
    weights : int16 array, (K, N)
        Or a wider integer type.
    """
    rest = np.asarray(weights)
    parts = []
    while not parts or rest.any():
        part = np.clip(rest, -128, 127)
        parts.append(part.astype(np.int8))
        rest = rest - part
    return parts


def pack_weights(parts: list[np.ndarray], *, config: CoreConfig, padded_rows: int,
                 weights: str = "int8", tile_rows: int = 1) -> bytes:
    """Column panel by column panel, each in order of K, as ``Packing`` has them.

    A panel holds the columns of a tile (the last one what is left); its rows are those of every
    part in turn, each part padded with zeros to ``padded_rows``.

    Parameters
    ----------
    parts : list of int8 array, (K, N)
    padded_rows : int
        At least K.
    weights : str
        Their format.
    tile_rows : int
        Rows of a K tile, where the format is not int8.
    """
    k, n = parts[0].shape
    tall = np.zeros((len(parts), padded_rows, n), np.int8)
    for number, part in enumerate(parts):
        tall[number, :k] = part
    tall = tall.reshape(-1, n)
    packing = Packing(config, weights)
    return b"".join(packing.pack(tall[:, start:start + packing.cols], tile_rows)
                    for start in range(0, n, packing.cols))


def pack_panels(matrix: np.ndarray, *, config: CoreConfig) -> bytes:
    """Panel by panel of ``config.array.cols`` columns, each dense; the last has what is left."""
    cols = config.array.cols
    return b"".join(matrix[:, start:start + cols].tobytes()
                    for start in range(0, matrix.shape[1], cols))


PARAMETERS = np.dtype([("bias", "<i4"), ("multiplier", "<i4"), ("shift", "i1"),
                       ("reserved", "V3")])


def parameter_rows(bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray, *,
                   lanes: int) -> np.ndarray:
    """Records of channels, (rows, lanes); the last row is padded with zeros.

    Parameters
    ----------
    bias, multiplier, shift : int array, (channels,)
    """
    records = np.zeros(aligned(len(bias), lanes), PARAMETERS)
    for name, values in (("bias", bias), ("multiplier", multiplier), ("shift", shift)):
        records[name][:len(bias)] = values
    return records.reshape(-1, lanes)


def pack_parameters(bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray, *,
                    config: CoreConfig, weights: str = "int8") -> bytes:
    """12 bytes per output channel, every column tile padded to whole lane groups.

    Parameters
    ----------
    bias, multiplier : int32 array, (N,)
    shift : int8 array, (N,)
        Positive = left.
    weights : str
        Format of the weights, which the columns of a tile depend on.
    """
    n, cols = len(bias), config.array.columns(weights)
    channels = config.groups_of(weights) * config.vector.lanes
    records = np.zeros((-(-n // cols), channels), PARAMETERS)
    tile, column = np.divmod(np.arange(n), cols)
    for name, values in (("bias", bias), ("multiplier", multiplier), ("shift", shift)):
        records[name][tile, column] = values
    return records.tobytes()


def pack_row_parameters(bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray, *,
                        config: CoreConfig) -> bytes:
    """One parameter row per output channel, the same in every lane; as ``pack_parameters``."""
    records = np.zeros((len(bias), config.vector.lanes), PARAMETERS)
    for name, values in (("bias", bias), ("multiplier", multiplier), ("shift", shift)):
        records[name] = values[:, None]
    return records.tobytes()
