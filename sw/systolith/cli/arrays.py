"""Arrays from the files that commands are given."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["named_arrays"]


def named_arrays(path: Path, names: Sequence[str], option: str) -> dict[str, np.ndarray]:
    """One array for each name, from a .npy file of one array or a .npz file that names them.

    Raises
    ------
    ValueError
        It is no such file, or has other arrays.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise ValueError(f"{option} must be a .npy or .npz file, not {str(path)!r}") from None
    if isinstance(found, np.ndarray):
        arrays = {names[0]: found}
    else:
        with found:
            arrays = {key: found[key] for key in found.files}
        if len(arrays) == len(names) == 1:
            arrays = {names[0]: next(iter(arrays.values()))}
    if set(arrays) != set(names):
        raise ValueError(f"{option} must hold {', '.join(names)}, not {', '.join(arrays)}")
    return {name: arrays[name] for name in names}
