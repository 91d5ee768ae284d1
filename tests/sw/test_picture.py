"""The picture of a timeline: where the areas lie, and what they say."""

import re
from xml.etree import ElementTree

import pytest
from systolith.picture import AREA, BAR, CHART, LEFT, STATES, TOP, draw_timeline

BASE = TOP + BAR + AREA     # of the first track


def trace(states, command=(0, 100, 7), counts=()):
    """A trace of one engine: (name, first cycle, cycles) of states, one command, one counter."""
    events = [{"ph": "M", "name": "thread_name", "tid": tid, "args": {"name": name}}
              for tid, name in enumerate(("program", "load"))]
    first, cycles, index = command
    events.append({"ph": "X", "tid": 0, "name": "program", "cat": "program", "ts": 0, "dur": 100})
    events.append({"ph": "X", "tid": 1, "name": f"load #{index}", "cat": "command", "ts": first,
                   "dur": cycles, "args": {"command": index}})
    events += [{"ph": "X", "tid": 1, "name": name, "cat": "state", "ts": ts, "dur": dur}
               for name, ts, dur in states]
    events += [{"ph": "C", "name": "words", "ts": ts, "args": {"loads": value}}
               for ts, value in counts]
    return {"traceEvents": events, "otherData": {"core": "a<b"}}


def drawn(picture, colour):
    """The path filled with `colour`."""
    found = [element.attrib["d"] for element in ElementTree.fromstring(picture).iter()
             if element.tag.endswith("path") and element.attrib.get("fill") == colour]
    assert len(found) == 1
    return found[0]


def texts(picture):
    return [element.text for element in ElementTree.fromstring(picture).iter()
            if element.tag.endswith("text")]


def test_areas_are_as_wide_as_their_cycles():
    picture = draw_timeline(trace([("busy", 0, 50), ("waiting", 50, 30)]), width=100)
    assert drawn(picture, STATES["busy"]) == f"M{LEFT} {BASE - AREA}h50v{AREA}h-50z"
    assert drawn(picture, STATES["waiting"]) == f"M{LEFT + 50} {BASE - AREA}h30v{AREA}h-30z"
    assert drawn(picture, STATES["stalled"]) == ""


def test_areas_are_as_high_as_their_share_and_stand_on_each_other():
    states = [(name, cycle + shift, 1) for cycle in range(0, 100, 2)
              for shift, name in enumerate(("busy", "stalled"))]
    picture = draw_timeline(trace(states), width=50)
    assert drawn(picture, STATES["busy"]) == f"M{LEFT} {BASE - AREA // 2}h50v{AREA // 2}h-50z"
    assert drawn(picture, STATES["stalled"]) == f"M{LEFT} {BASE - AREA}h50v{AREA // 2}h-50z"


def test_a_window_of_cycles_fills_the_width():
    picture = draw_timeline(trace([("busy", 20, 20)]), first=30, last=50, width=100)
    assert drawn(picture, STATES["busy"]) == f"M{LEFT} {BASE - AREA}h50v{AREA}h-50z"
    assert "core a<b, cycles 30 to 50" in texts(picture)


def test_commands_have_a_bar_and_a_number_where_there_is_room():
    wide = draw_timeline(trace([("busy", 10, 40)], command=(10, 40, 7)), width=100)
    assert drawn(wide, "#4a5d7a").startswith(f"M{LEFT + 10}.0 {TOP}h39.4")
    assert "7" in texts(wide)
    assert "7" not in texts(draw_timeline(trace([("busy", 10, 4)], command=(10, 4, 7)), width=100))


def test_counters_are_steps_of_their_values():
    picture = draw_timeline(trace([("busy", 0, 100)], counts=[(0, 5), (50, 10), (100, 0)]),
                            width=100)
    top = BASE + 12
    assert drawn(picture, "#8a6fb0") == (
        f"M{LEFT} {top + CHART}V{top + CHART / 2}h50V{top:.1f}h50V{top + CHART}z")
    assert {"loads", "words", "10"} <= set(texts(picture))


@pytest.mark.parametrize("first, last", [(100, None), (-1, None), (20, 20), (30, 20)])
def test_an_empty_window_is_refused(first, last):
    end = 100 if last is None else last
    with pytest.raises(ValueError, match=re.escape(f"first must be from 0 to below {end}, "
                                                   f"not {first}")):
        draw_timeline(trace([]), first=first, last=last)
