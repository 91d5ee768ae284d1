"""A picture of a timeline: the tracks of ``--trace FILE.json`` as SVG."""

import json
from collections.abc import Mapping
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["draw_timeline", "load_timeline"]

# State, colour of its area. The first stands at the bottom.
STATES = {"busy": "#2f7d4f", "stalled": "#e0872f", "waiting": "#b9c6d6"}
LEFT, RIGHT, TOP = 64, 160, 24      # margins
AREA, BAR, GAP = 30, 12, 12         # heights: of states, of commands above them, between tracks
CHART = 34                          # height of a counter's chart
LABEL_WIDTH = 26                    # narrowest bar that shows its command's number
LEVELS = 10                         # steps of an area's height
COLUMN = 2                          # pixels over which an area is averaged

Event = dict[str, Any]


def load_timeline(path: str | Path) -> dict[str, Any]:
    """The trace in a file that ``--trace FILE.json`` wrote.

    Raises
    ------
    ValueError
        It is something else.
    OSError
        It cannot be read.
    """
    trace: dict[str, Any] = {}
    try:
        trace = json.loads(Path(path).read_bytes())
        known = isinstance(trace["traceEvents"], list) and "core" in trace["otherData"]
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ValueError(f"timeline must be a file of --trace FILE.json, not {str(path)!r}")
    return trace


def draw_timeline(trace: Mapping[str, Any], *, first: int = 0, last: int | None = None,
                  width: int = 900) -> str:
    """The cycles from ``first`` to ``last`` of a timeline as an SVG text.

    Each track shows its commands as bars, numbered where there is room, and below them how much
    of the time it was busy, stalled or waiting: the height is the share of the cycles that a
    column stands for.

    Parameters
    ----------
    trace : mapping
        From ``load_timeline``.
    first, last : int
        First cycle, and the one after the last; None: to the end.
    width : int
        Of the tracks, in pixels.

    Raises
    ------
    ValueError
        There is no cycle between ``first`` and ``last``.
    """
    events = trace["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events
             if event["ph"] == "M" and event["name"] == "thread_name"}
    slices = [event for event in events if event["ph"] == "X"]
    end: int = max((event["ts"] + event["dur"] for event in slices), default=0)
    last = end if last is None else min(int(last), int(end))
    if not 0 <= first < last:
        raise ValueError(f"first must be from 0 to below {last}, not {first!r}")
    scale = width / (last - first)
    parts = []
    top = TOP
    for tid, name in names.items():
        own = [event for event in slices if event["tid"] == tid and event["ts"] < last
               and event["ts"] + event["dur"] > first]
        if any(event["cat"] == "state" for event in own):
            parts += _track(name, own, first, last, scale, top)
            top += BAR + AREA + GAP
    for name, series in _counters(events).items():
        for text, (cycles, values) in series.items():
            parts += _chart((text, name), cycles, values, first, last, scale, top)
            top += CHART + GAP
    parts += _axis(first, last, scale, top)
    height, total = top + 24, LEFT + width + RIGHT
    title = f"core {trace['otherData']['core']}, cycles {first:,} to {last:,}"
    size = f"width='{total}' height='{height}'"
    return "\n".join([
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} viewBox='0 0 {total} {height}'>",
        f"<title>{escape(title)}</title>", f"<rect {size} fill='#fff'/>", _text(LEFT, 14, title),
        *_legend(LEFT + width), *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 11,
          colour: str = "#333") -> str:
    return (f"<text x='{x:.1f}' y='{y}' text-anchor='{anchor}' font-family='sans-serif' "
            f"font-size='{size}' fill='{colour}'>{escape(text)}</text>")


def _track(name: str, own: list[Event], first: int, last: int, scale: float,
           top: int) -> list[str]:
    base = top + BAR + AREA
    parts = [_text(LEFT - 6, base - AREA // 2 + 4, name, anchor="end"),
             f"<path d='M{LEFT} {base}h{(last - first) * scale:.0f}' stroke='#999'/>"]
    bars, labels = [], []
    for event in own:
        if event["cat"] != "command":
            continue
        begin, after = max(event["ts"], first), min(event["ts"] + event["dur"], last)
        x, wide = LEFT + (begin - first) * scale, (after - begin) * scale
        drawn = max(wide - 0.6, 0.3)     # so that neighbours stay apart
        bars.append(f"M{x:.1f} {top}h{drawn:.1f}v{BAR - 2}h{-drawn:.1f}z")
        if wide >= LABEL_WIDTH:
            labels.append(_text(x + wide / 2, top + 9, str(event["args"]["command"]),
                                anchor="middle", size=9, colour="#fff"))
    parts += [f"<path d='{''.join(bars)}' fill='#4a5d7a'/>", *labels]
    columns = int((last - first) * scale) // COLUMN
    stacked = np.zeros(columns)
    for state, colour in STATES.items():
        below = stacked
        stacked = below + _shares([event for event in own if event["name"] == state], first, last,
                                  columns)
        parts.append(f"<path d='{_area(below, stacked, base)}' fill='{colour}'/>")
    return parts


def _shares(events: list[Event], first: int, last: int, columns: int) -> np.ndarray:
    """The share of each column's cycles that ``events`` cover."""
    # The cycles covered up to the edge of each column, by interpolation between starts and ends.
    starts = np.array([event["ts"] for event in events], float)
    ends = starts + np.array([event["dur"] for event in events], float)
    total = np.cumsum(ends - starts)
    known = np.concatenate([[0], np.stack([starts, ends], 1).reshape(-1)])
    covered = np.concatenate([[0], np.stack([total - (ends - starts), total], 1).reshape(-1)])
    edges = np.linspace(first, last, columns + 1)
    return np.diff(np.interp(edges, known, covered)) / np.diff(edges)


def _area(below: np.ndarray, above: np.ndarray, base: int) -> str:
    """A path between two outlines of steps; equal neighbours become one rectangle."""
    low = np.rint(below * LEVELS).astype(int)
    high = np.rint(above * LEVELS).astype(int)
    edges = [0, *(np.flatnonzero((np.diff(low) != 0) | (np.diff(high) != 0)) + 1), len(low)]
    step, path = AREA / LEVELS, []
    for left, right in pairwise(edges):
        tall = high[left] - low[left] if right > left else 0
        if tall:
            wide = COLUMN * (right - left)
            path.append(f"M{LEFT + COLUMN * left} {base - high[left] * step:g}h{wide}"
                        f"v{tall * step:g}h{-wide}z")
    return "".join(path)


def _counters(events: list[Event]) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Cycles and values of every series of every counter."""
    found: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for event in events:
        if event["ph"] == "C":
            for text, value in event["args"].items():
                found.setdefault(event["name"], {}).setdefault(text, []).append(
                    (event["ts"], value))
    return {name: {text: (np.array([cycle for cycle, _ in points]),
                          np.array([value for _, value in points]))
                   for text, points in series.items()} for name, series in found.items()}


def _chart(texts: tuple[str, str], cycles: np.ndarray, values: np.ndarray, first: int, last: int,
           scale: float, top: int) -> list[str]:
    """A counter as steps."""
    base, most = top + CHART, max(int(values.max()), 1)
    columns = int((last - first) * scale)
    edges = np.linspace(first, last, columns, endpoint=False)
    at = np.searchsorted(cycles, edges, side="right") - 1
    heights = np.where(at >= 0, values[np.maximum(at, 0)], 0) * (CHART / most)
    changes = [0, *(np.flatnonzero(np.diff(heights)) + 1), columns]
    path = "".join(f"V{base - heights[left]:.1f}h{right - left}"
                   for left, right in pairwise(changes))
    return [f"<path d='M{LEFT} {base}{path}V{base}z' fill='#8a6fb0'/>",
            _text(LEFT - 6, base - CHART + 10, str(most), anchor="end"),
            _text(LEFT - 6, base, "0", anchor="end"),
            *(_text(LEFT + columns + 8, base - CHART + 14 + 14 * i, text)
              for i, text in enumerate(texts))]


def _axis(first: int, last: int, scale: float, top: int) -> list[str]:
    """Ticks at round cycles, ten at most."""
    step = next(size for size in (digit * 10 ** zeros for zeros in range(20) for digit in (1, 2, 5))
                if (last - first) <= 10 * size)
    parts = []
    for cycle in range(-(-first // step) * step, last + 1, step):
        x = LEFT + (cycle - first) * scale
        parts += [f"<path d='M{x:.1f} {top}v4' stroke='#333'/>",
                  _text(x, top + 16, f"{cycle:,}", anchor="middle")]
    return parts


def _legend(right: int) -> list[str]:
    parts = []
    for i, (state, colour) in enumerate(STATES.items()):
        y = TOP + 10 + 18 * i
        parts += [f"<rect x='{right + 8}' y='{y}' width='12' height='12' fill='{colour}'/>",
                  _text(right + 26, y + 10, state)]
    return parts
