"""How much of an engine's work fell into cycles in which another one worked too."""

import json
import re
from pathlib import Path

import numpy as np

__all__ = ["busy_together"]


def busy_together(trace: str | Path, engine: str, other: str, *,
                  command: str = "") -> tuple[int, int]:
    """Busy cycles of ``engine``, and how many of them were busy cycles of ``other``.

    Parameters
    ----------
    trace : path
        A timeline of one program, as ``Timeline`` writes it.
    engine, other : str
        ``load``, ``execute``, ``vector`` or ``store``.
    command : str
        Regular expression: only cycles of the engine's commands in whose text it is found.
    """
    events = json.loads(Path(trace).read_text())["traceEvents"]
    tracks = {event["args"]["name"]: event["tid"] for event in events
              if event["name"] == "thread_name"}
    end = max(event["ts"] + event["dur"] for event in events if event["ph"] == "X")

    def cycles(track: str, kind: str, name: str) -> np.ndarray:
        found = np.zeros(end, bool)
        for event in events:
            text = event.get("args", {}).get("text", event["name"])
            if (event["tid"], event.get("cat")) == (tracks[track], kind) and re.search(name, text):
                found[event["ts"]:event["ts"] + event["dur"]] = True
        return found

    busy = cycles(engine, "state", "busy") & cycles(engine, "command", command)
    return int(busy.sum()), int((busy & cycles(other, "state", "busy")).sum())
