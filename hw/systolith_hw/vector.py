"""The vector engine: lanes of int32 between accumulator, activation scratchpad and row file."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import CoreConfig
from .function import fun_port
from .groups import GroupSequencer
from .lanes import VectorLanes
from .parameters import PARTS
from .record import RECORD_BITS, engine_ports
from .scratchpad import ReadPort, WritePort

__all__ = ["VectorEngine"]


class VectorEngine(wiring.Component):
    """Runs vector commands: groups of lanes through a pipeline that never stops.

    A group is read, its operands are combined, folded or reduced, then go through the function
    unit and the requantiser or the other way round, and its result is written, which has the
    first right to the scratchpad.

    Timing: ``GroupSequencer`` says when groups are read; ``Stages(config).end`` cycles later their
    results are written, and after ``Stages(config).done`` everything that they change is changed.

    Members
    -------
    command : ``In(stream of commands)``
        Accepted when its first group is next.
    halt : ``In(1)``
        Stop, a compact core at once, others after up to ``reads.GROUPS`` groups.
    acc_valid, acc_row, acc_ready, acc_data : accumulator's read port
    bias, scale : ``Out(ReadPort)``
        To the parameter memory; always granted.
    source, stream : ``Out(ReadPort)``
        To the activation scratchpad.
    act : ``Out(WritePort)``
        To the activation scratchpad; always granted.
    fun : ``In(WritePort)``
        Writes function tables; always granted. In the upper half of the rows, what is for the
        first lane goes to all of them.
    wait, raise_ : ``Out(stream of number)``
        To the semaphores.
    raise_index : ``Out(INDEX_BITS)``
        The command that raises.
    busy, blocked, waiting, idle : ``Out(1)``
        A row of a group was read this cycle; the next waits for a semaphore; the same and nothing
        else moves; nothing is inside.
    waiting_index : ``Out(INDEX_BITS)``
        The command that waits.
    error : ``Out(error_layout)``
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        par_bits = exact_log2(config.memory.par_rows)
        act_bits, act_width = exact_log2(config.memory.act_rows), 8 * config.act_row_bytes
        ports = {name: Out(ReadPort(addr_bits=par_bits,
                                    width=8 * len(part) * config.vector.lanes))
                 for name, part in PARTS.items()}
        if config.vector.elementwise:
            ports |= {name: Out(ReadPort(addr_bits=act_bits, width=act_width))
                      for name in ("source", "stream")}
        super().__init__({
            "command": In(stream.Signature(RECORD_BITS)),
            "halt": In(1),
            "acc_valid": Out(1),
            "acc_row": Out(range(config.memory.acc_rows)),
            "acc_ready": In(1),
            "acc_data": In(32 * config.array.sum_cols),
            "act": Out(WritePort(addr_bits=act_bits, width=act_width)),
            **ports, **fun_port(config), **engine_ports(),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.sequencer = sequencer = GroupSequencer(config=self.config)
        m.submodules.lanes = self.lanes = lanes = VectorLanes(config=self.config)
        scratch = ("source", "stream") if self.config.vector.elementwise else ()
        for name in ("command", "wait", "raise_", "bias", *scratch):
            wiring.connect(m, getattr(sequencer, name), wiring.flipped(getattr(self, name)))
        for name in ("scale", "act", *fun_port(self.config)):
            wiring.connect(m, getattr(lanes, name), wiring.flipped(getattr(self, name)))
        m.d.comb += [
            sequencer.halt.eq(self.halt),
            sequencer.acc_ready.eq(self.acc_ready),
            *(getattr(self, name).eq(getattr(sequencer, name)) for name in (
                "acc_valid", "acc_row", "raise_index", "busy", "blocked", "waiting",
                "waiting_index", "idle", "error")),
            *(getattr(lanes, name).eq(getattr(sequencer, name)) for name in (
                "issue", "group", "beat", "source_read", "stream_read", "value_read", "sum_read",
                "record", "settings", "function_first")),
            sequencer.retire.eq(lanes.retire),
            sequencer.retired.eq(lanes.retired),
            lanes.acc_data.eq(self.acc_data),
            *(getattr(lanes, f"{name}_data").eq(getattr(self, name).data)
              for name in ("bias", *scratch)),
        ]
        return m
