"""The board's end of the host link; ``docs/link.md`` is its reference."""

from .link import Link

__all__ = ["Link"]
