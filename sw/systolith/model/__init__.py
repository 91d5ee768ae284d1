"""The bit-exact model: the same command bytes, memory contents, counters and errors as the core."""

from .arithmetic import requantise
from .core import CoreModel

__all__ = ["CoreModel", "requantise"]
