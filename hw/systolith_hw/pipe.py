"""What travels beside the data of a pipeline that never stops."""

from amaranth.hdl import Module, Signal

__all__ = ["Pipe"]


class Pipe:
    """Signals that travel beside the data; stage 0 is the cycle in which a group is issued."""
    def __init__(self, m: Module):
        self.m = m
        self.stages: dict[str, list] = {}
        self.reset_less: dict[str, bool] = {}

    def start(self, name: str, value, *, reset_less: bool = True) -> None:
        """Let ``value`` set out."""
        self.stages[name] = [value]
        self.reset_less[name] = reset_less

    def at(self, name: str, stage: int):
        """What set out ``stage`` cycles ago."""
        values = self.stages[name]
        while len(values) <= stage:
            now = Signal(values[0].shape(), name=f"{name}_{len(values)}",
                         reset_less=self.reset_less[name])
            self.m.d.sync += now.eq(values[-1])
            values.append(now)
        return values[stage]
