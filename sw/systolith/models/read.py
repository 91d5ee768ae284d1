"""Model files."""

from pathlib import Path

from .graph import Graph
from .onnx import read_onnx
from .tflite import read_tflite

__all__ = ["read_model"]

READERS = {".onnx": read_onnx, ".tflite": read_tflite}
MOST_BYTES = 1 << 30


def read_model(path: str | Path) -> Graph:
    """The graph of a model file, of the kind that its name ends with.

    Raises
    ------
    ImportError
        The package that reads such files is missing.
    OSError
        It cannot be read.
    ValueError
        It is no such model, or has what is not known; names the node.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"a model must end in {', '.join(READERS)}, not {path.name!r}")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} must have at most {MOST_BYTES:,} bytes")
    return reader(path.read_bytes(), path.name)
