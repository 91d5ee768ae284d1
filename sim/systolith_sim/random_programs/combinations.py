"""Which fields of vector commands random programs should have combined, beside each for itself."""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

from systolith.model.uses import Uses
from systolith_hw.config import CoreConfig
from systolith_hw.isa import (
    ElementType,
    Function,
    Operand,
    Reduction,
    ResultType,
    Scale,
    VectorOp,
)

from .steps import ELEMENT_BYTES
from .vectors import PRODUCTS, ROW_SCALES, STREAMS

__all__ = ["SPECIAL_GROUPS", "combined", "idle_fields", "special_groups", "wanted_combinations"]

SPECIAL_GROUPS = ("results in place of the source", "results in place of the stream",
                  *(f"group of several rows: {name}" for name in STREAMS))


def special_groups(fields: Mapping[str, Any], config: CoreConfig) -> Iterator[str]:
    """Where the groups of a vector command lie, as far as programs tend to go wrong there."""
    idle = idle_fields(fields)
    for i, name in enumerate(STREAMS):
        kind = fields[f"{name}_type"]
        if f"{name}_base" in idle or kind not in ELEMENT_BYTES:
            continue
        if ELEMENT_BYTES[kind] * config.vector.lanes > config.act_row_bytes:
            yield f"group of several rows: {name}"
        parts = ("base", "jumps", "type")
        if (name != "result" and fields["ring"][i] == fields["ring"][2]
                and all(fields[f"{name}_{part}"] == fields[f"result_{part}"] for part in parts)):
            yield f"results in place of the {name}"


def idle_fields(fields: Mapping[str, Any]) -> set[str]:
    """Fields of a vector command that do nothing in it."""
    used, function = Uses(fields), fields["function"]
    unused: set[str] = set()
    for name, busy in (("source", used.source), ("stream", used.stream),
                       ("result", fields["result_type"] != ResultType.NONE)):
        if not busy:
            unused |= {f"{name}_base", f"{name}_jumps", f"{name}_step"}
    for busy, names in (
            (used.stream, ("stream_type",)), (used.param, ("param_base", "param_step")),
            (used.table, ("function_base",)), (used.record, ("row_base",)),
            (function == Function.LINEAR, ("function_shift", "function_signed", "segments")),
            (function != Function.NONE, ("function_first",)),
            (fields["reduce"] or fields["sum_results"], ("span", "tail")),
            (fields["second"] == Operand.IMMEDIATE or function in PRODUCTS, ("immediate",)),
            (fields["result_type"] == ResultType.INT8, ("clamp_low", "clamp_high"))):
        if not busy:
            unused.update(names)
    return unused


def _name(value: IntEnum) -> str:
    return value.name.lower()


def _orders(function: Function) -> tuple[str, ...]:
    return {Function.NONE: (), Function.CHANNEL: ("after the scale",),
            Function.PRODUCT: ("before the scale",),
            Function.WEIGHTED: ("before the scale",)}.get(
                function, ("before the scale", "after the scale"))


def combined(fields: Mapping[str, Any], config: CoreConfig) -> Iterator[tuple[str, str]]:
    """What a vector command combines: (one thing, another that goes with it)."""
    used = Uses(fields)
    source, result = ElementType(fields["source_type"]), ResultType(fields["result_type"])
    function, scale = Function(fields["function"]), Scale(fields["scale"])
    yield f"{_name(source)} to", _name(result)
    yield f"{_name(VectorOp(fields['operation']))} with", _name(Operand(fields["second"]))
    yield f"scale by {_name(scale)} to", _name(result)
    if function != Function.NONE:
        order = "before the scale" if fields["function_first"] else "after the scale"
        yield f"{_name(function)} {order} to", _name(result)
    if function == Function.LINEAR:
        yield "segments", _segments(fields["segments"], fields["function_signed"])
    if fields["reduce"]:
        yield (f"{_name(Reduction(fields['reduce']))} of a {'lane' if fields['fold'] else 'row'}",
               _span(fields))
        if 0 < fields["tail"] < config.vector.lanes:
            yield "tail of", _name(Reduction(fields["reduce"]))
    if fields["sum_results"]:
        yield "sum of results", _span(fields)
        if 0 < fields["tail"] < config.vector.lanes:
            yield "tail of", "results"
    if fields["fine"]:
        yield "fine", _name(source)
    for name, has in (("second operand", fields["second"] == Operand.STREAM),
                      ("mask", fields["masked"]),
                      ("select", fields["operation"] == VectorOp.SELECT),
                      ("product", function == Function.PRODUCT),
                      ("weighted", function == Function.WEIGHTED)):
        if has:
            yield f"stream as {name}", _name(ElementType(fields["stream_type"]))
    for name in ("stream", "param", "table", "record"):
        yield name, "used" if getattr(used, name) else "idle"


def _segments(many: int, signed: int) -> str:
    return f"{256 if many else 64} {'around' if signed else 'from'} 0"


def _span(fields: Mapping[str, Any]) -> str:
    loops = [count for count in fields["counts"][:1 + fields["span"]] if count > 1]
    return f"{len(loops)} of {1 + fields['span']} loops repeat"


def wanted_combinations() -> Iterator[tuple[str, str]]:
    """What vector commands must have combined, among them all."""
    plain = [result for result in ResultType if result not in ROW_SCALES]
    yield from ((f"{_name(source)} to", _name(result)) for source in ElementType
                for result in ResultType)
    yield from ((f"{_name(operation)} with", _name(second)) for operation in VectorOp
                for second in Operand)
    for scale in Scale:
        results = list(ResultType) if scale == Scale.UNIT else plain
        yield from ((f"scale by {_name(scale)} to", _name(result)) for result in results)
    for function in Function:
        for order in _orders(function):
            scales = function == Function.LINEAR and order == "before the scale"
            yield from ((f"{_name(function)} {order} to", _name(result))
                        for result in (ResultType if scales else plain))
    yield from (("segments", _segments(many, signed)) for many in (0, 1) for signed in (0, 1))
    spans = [f"{repeating} of {loops} loops repeat" for loops in (1, 2)
             for repeating in range(loops + 1)]
    for reduction in (Reduction.MAXIMUM, Reduction.SUM):
        yield from ((f"{_name(reduction)} of a {what}", span) for what in ("row", "lane")
                    for span in spans)
        yield "tail of", _name(reduction)
    yield from (("sum of results", span) for span in spans)
    yield "tail of", "results"
    yield from (("fine", _name(source)) for source in ElementType)
    yield from ((f"stream as {what}", _name(ElementType(kind)))
                for what in ("second operand", "mask", "select", "product", "weighted")
                for kind in ELEMENT_BYTES)
    yield from ((name, what) for name in ("stream", "param", "table", "record")
                for what in ("used", "idle"))
