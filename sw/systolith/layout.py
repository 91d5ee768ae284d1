"""How matrices and parameters lie in system memory."""

import numpy as np
from systolith_hw.config import CoreConfig

__all__ = [
    "aligned", "pack_panels", "pack_parameters", "pack_row_parameters", "pack_weights",
    "split_weights",
]


def aligned(value: int, step: int) -> int:
    """The smallest multiple of ``step`` that is at least ``value``."""
    return -(-value // step) * step


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


def pack_weights(parts: list[np.ndarray], *, config: CoreConfig, padded_rows: int) -> bytes:
    """Column panel by column panel, each dense and in order of K.

    A panel holds ``config.array.cols`` columns (the last one what is left); its rows are those of
    every part in turn, each part padded with zeros to ``padded_rows``.

    Parameters
    ----------
    parts : list of int8 array, (K, N)
    padded_rows : int
        At least K.
    """
    k, n = parts[0].shape
    tall = np.zeros((len(parts), padded_rows, n), np.int8)
    for number, part in enumerate(parts):
        tall[number, :k] = part
    tall = tall.reshape(-1, n)
    return pack_panels(tall, config=config)


def pack_panels(matrix: np.ndarray, *, config: CoreConfig) -> bytes:
    """Panel by panel of ``config.array.cols`` columns, each dense; the last has what is left."""
    cols = config.array.cols
    return b"".join(matrix[:, start:start + cols].tobytes()
                    for start in range(0, matrix.shape[1], cols))


PARAMETERS = np.dtype([("bias", "<i4"), ("multiplier", "<i4"), ("shift", "i1"),
                       ("reserved", "V3")])


def pack_parameters(bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray, *,
                    config: CoreConfig) -> bytes:
    """12 bytes per output channel, every column tile padded to whole lane groups.

    Parameters
    ----------
    bias, multiplier : int32 array, (N,)
    shift : int8 array, (N,)
        Positive = left.
    """
    n, cols = len(bias), config.array.cols
    channels = config.groups_per_row * config.vector.lanes
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
