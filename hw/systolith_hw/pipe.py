"""What travels beside the data of a pipeline that never stops."""

from amaranth.hdl import Module, Signal

__all__ = ["Pipe"]


class Pipe:
    """Signals that travel beside the data; stage 0 is the cycle in which a group is issued.

    Parameters
    ----------
    m : Module
    interval : int
        Cycles from one group to the next, at least: what is held needs a register for as many
        stages.
    """
    def __init__(self, m: Module, *, interval: int = 1):
        self.m = m
        self.interval = interval
        self.stages: dict[str, list] = {}
        self.reset_less: dict[str, bool] = {}
        self.every: dict[str, int] = {}     # stages for which a register holds

    def start(self, name: str, value, *, reset_less: bool = True, held: bool = False,
              late: bool = False) -> None:
        """Let ``value`` set out; one that is ``held`` counts only beside what was started as
        ``valid``, and one that comes ``late`` is that of the cycle before."""
        self.stages[name] = [None, value] if late else [value]
        self.reset_less[name] = reset_less
        self.every[name] = self.interval if held else 1

    def at(self, name: str, stage: int):
        """What set out ``stage`` cycles ago."""
        values, every = self.stages[name], self.every[name]
        place = -(-stage // every)
        while len(values) <= place:
            now = Signal(values[-1].shape(), name=f"{name}_{len(values)}",
                         reset_less=self.reset_less[name])
            if every == 1:
                self.m.d.sync += now.eq(values[-1])
            else:
                arrives = self.at("valid", (len(values) - 1) * every)
                with self.m.If(arrives):
                    self.m.d.sync += now.eq(values[-1])
            values.append(now)
        return values[place]

    def register(self, name: str, shape, value, *, reset_less: bool = True):
        """A register that follows ``value``."""
        signal = Signal(shape, name=name, reset_less=reset_less)
        self.m.d.sync += signal.eq(value)
        return signal

    def delay(self, name: str, value, cycles: int):
        """``value`` of ``cycles`` cycles before."""
        for i in range(cycles):
            value = self.register(f"{name}_{i + 1}", value.shape(), value)
        return value
