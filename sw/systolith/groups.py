"""What a vector command's lane groups cost."""

from systolith_hw.config import CoreConfig
from systolith_hw.isa import ElementType, Function, Operand, ResultType, VectorOp

__all__ = ["INTERVAL", "beats", "group_cycles", "group_rows"]

INTERVAL = {"pipelined": 1, "serial": 24}   # cycles from one group to the next, by requantiser


def beats(config: CoreConfig, size: int) -> int:
    """Scratchpad rows of a lane group whose elements have ``size`` bytes."""
    return max(1, size * config.vector.lanes // config.act_row_bytes)


def group_cycles(values: dict, *, config: CoreConfig) -> int:
    """Cycles from a vector command's lane group to the next: the rows of its widest operand in
    the scratchpad, or the requantiser's."""
    return max(INTERVAL[config.vector.requantiser], group_rows(values, config=config))


def group_rows(values: dict, *, config: CoreConfig) -> int:
    """Rows of the scratchpad that a vector command's lane group is read from or written to."""
    types = [values["result_type"] if values["result_type"] < ResultType.NONE else 0]
    source = values.get("source_type", ElementType.ACC)
    types.append(source if source < ElementType.ACC else 0)
    if (values.get("second") == Operand.STREAM or values.get("masked")
            or values.get("operation") == VectorOp.SELECT
            or values.get("function") in (Function.PRODUCT, Function.WEIGHTED)):
        types.append(values.get("stream_type", 0))
    return beats(config, 1 << max(types))
