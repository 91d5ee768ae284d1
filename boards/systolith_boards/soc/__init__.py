"""What stands on a chip around the core: memory, the host's link, clock, reset and pins."""

from .chip import Soc, Top, top_of

__all__ = ["Soc", "Top", "top_of"]
