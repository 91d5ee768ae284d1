"""A core that shows from outside what its engines do, for timelines."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from . import registers
from .config import CoreConfig
from .core import Core
from .record import RECORD_BITS
from .registers import BASIC_COUNTERS, COUNTERS, ENGINES

__all__ = ["PULSES", "STATES", "TRACKS", "WORK", "ObservedCore"]

TRACKS = (*ENGINES, "fetch")
# In the order of their numbers; waiting for weights is one of the stalls.
STATES = ("idle", "busy", "wait", "stall")
PULSES = BASIC_COUNTERS[1:]                    # what a timeline counts besides
# What counts an engine's work, piece by piece, in the order of its commands.
WORK = {"load": "load_words", "execute": "execute_busy", "vector": "vector_busy",
        "store": "store_words"}


class ObservedCore(wiring.Component):
    """``Core``, unchanged, with one more port.

    Nothing in the core depends on what this adds, so that it takes the same cycles. It looks only
    at members that the parts declare: what ``control`` counts, and the streams of commands.

    Members
    -------
    m_axi_* : AXI4 master
    s_axil_* : AXI4-Lite slave
    irq, busy, failed : ``Out(1)``
        As in ``Core``.
    observed : ``Out(32 * words)``
        Words of 32 bits. One for each of ``TRACKS``: the number of its state among ``STATES`` in
        bits 0 and 1; an engine's piece of ``WORK`` in bit 2; from bit 3 on, for ``fetch``, the
        command that is next. Then flags: bit 0, a program runs, in the cycles that the core's
        counters count; from bit 1 on, a command has come to an engine; from bit 8 on, ``PULSES``.
        Then the commands of the engines, 16 words each.

    Parameters
    ----------
    config : CoreConfig

    Raises
    ------
    RuntimeError
        On elaboration: a part of the core lacks a member that this looks at.
    """
    WORDS = len(TRACKS) + 1 + len(ENGINES) * RECORD_BITS // 32

    def __init__(self, *, config: CoreConfig):
        self.config = config
        self.core = Core(config=config)
        super().__init__({**dict(self.core.signature.members.items()),
                          "observed": Out(32 * self.WORDS)})

    def elaborate(self, platform):
        m = self.core.elaborate(platform)
        vars(self.core)["_MustUse__used"] = True   # elaborated, though not as a submodule
        for name, member in self.core.signature.members.items():
            outer, inner = getattr(self, name), getattr(self.core, name)
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        counted = _member(m, "control.events")
        events = {name: counted[i] for i, name in enumerate(COUNTERS)}
        running = self._running(m)
        tracks, shown, commands = [], [], []
        for name in ENGINES:
            state = Signal(2, name=f"{name}_state")
            m.d.comb += state.eq(_number({
                what: Cat(_event(events, f"{name}_{own}") for own in _counted_as(name, what)).any()
                for what in STATES[1:]}))
            tracks.append(Cat(state, _event(events, WORK[name]), Const(0, 29)))
            command = _member(m, f"{name}.command")
            seen = Signal(name=f"{name}_seen")
            m.d.sync += seen.eq(command.valid & ~command.ready)
            shown.append(command.valid & ~seen)
            commands.append(command.payload)
        words, index = _member(m, "dispatcher.words"), _member(m, "dispatcher.index")
        state = _number({
            "busy": words.valid & words.ready,
            "wait": _member(m, "dispatcher.blocked"),
            "stall": ~_member(m, "dispatcher.exhausted")})
        tracks.append(Cat(state, Const(0, 1), index, Const(0, 29 - len(index))))
        flags = Cat(running, *shown, Const(0, 7 - len(shown)),
                    *(_event(events, name) for name in PULSES), Const(0, 24 - len(PULSES)))
        m.d.comb += self.observed.eq(Cat(*tracks, flags, *commands))
        return m

    def _running(self, m: Module):
        """High in the cycles that the core's own counters count."""
        running = Signal()
        ends = (_member(m, "control.finished") | _member(m, "control.error").valid
                | _member(m, "control.clear"))
        with m.If(_member(m, "control.begin")):
            m.d.sync += running.eq(1)
        with m.Elif(ends):
            m.d.sync += running.eq(0)
        return running


def _counted_as(engine: str, state: str) -> list[str]:
    """The core's own states of an engine that ``state`` of ``STATES`` stands for."""
    return [own for own in registers.STATES[engine]
            if own == state or (state == "stall" and own not in STATES)]


def _member(m: Module, path: str):
    """A part's member, such as ``control.events``."""
    part, name = path.split(".")
    try:
        return getattr(getattr(m.submodules, part), name)
    except AttributeError:
        raise RuntimeError(f"core must have {path} for a timeline") from None


def _event(events, name: str):
    if name not in events:
        raise RuntimeError(f"core must count {name} for a timeline")
    return events[name]


def _number(states):
    """Number of the first of ``states`` that holds."""
    number = Const(STATES.index("idle"), 2)
    for name, holds in reversed(states.items()):
        number = Mux(holds, Const(STATES.index(name), 2), number)
    return number
