"""Weight formats, and which strategies multiply by them."""

from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["BITS", "DIGIT_BITS", "RANGES", "STRATEGIES", "Strategy", "check_family"]

BITS = MappingProxyType({"int8": 8, "int4": 4, "ternary": 2})
RANGES = MappingProxyType({"int8": (-128, 127), "int4": (-8, 7), "ternary": (-1, 1)})
# Of a wider weight, what an element of this cell multiplies by in one turn.
DIGIT_BITS = MappingProxyType({"int8": 8, "int4": 4, "ternary": 1})


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """What a strategy can be made of.

    Parameters
    ----------
    cells : tuple of str
        Cells it has.
    pairs : tuple of str
        Cells it has that also multiply by pairs.
    chips : tuple of str
        Families that have its multipliers; none: all have.
    """
    cells: tuple[str, ...]
    pairs: tuple[str, ...] = ()
    chips: tuple[str, ...] = ()


STRATEGIES = MappingProxyType({
    "generic": Strategy(cells=("int8", "int4", "ternary"), pairs=("int8",)),
    "ecp5": Strategy(cells=("int8",), pairs=("int8",), chips=("ecp5",)),
    "ice40": Strategy(cells=("int8",), chips=("ice40",)),
    "soft": Strategy(cells=("int4", "ternary"), pairs=("int8",)),
    "soft_ecp5": Strategy(cells=("ternary",), chips=("ecp5",)),
})


def check_family(strategy: str, family: str) -> None:
    """Raise ``ValueError`` where a chip family lacks the multipliers of ``strategy``."""
    if STRATEGIES[strategy].chips and family not in STRATEGIES[strategy].chips:
        fitting = [name for name, other in STRATEGIES.items()
                   if not other.chips or family in other.chips]
        raise ValueError(f"array.strategy must be one of {', '.join(fitting)} for {family}, "
                         f"not {strategy!r}")
