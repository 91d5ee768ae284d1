"""Lane groups to reads: what a group needs, each when its memory has time for it."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .cells import check
from .config import CoreConfig
from .fifo import ShortQueue
from .isa import (
    ElementType,
    ErrorCode,
    Function,
    Operand,
    Reduction,
    ResultType,
    Scale,
    VectorOp,
)
from .ram import Ram
from .record import INDEX_BITS, error_layout
from .scratchpad import ReadPort
from .stages import Stages, beats_of

__all__ = ["ADDRESS_BITS", "BEATS", "GROUPS", "GroupReader", "group_layout", "group_ports",
           "head_layout", "settings_layout"]

ADDRESS_BITS = 16   # of lane groups
RECORD_NUMBER_BITS = 8
GROUPS = 3          # that a reader keeps waiting; as many as are needed for one each cycle
ENTRY_BITS = 9      # of a function table
BEATS = ("beats", "source_beats", "stream_beats", "result_beats")


def settings_layout(config: CoreConfig) -> data.StructLayout:
    """What a command says of all of its groups."""
    unit = config.vector
    fields = {"second": Operand, "scale": Scale, "result_type": ResultType,
              "immediate": signed(16), "zero_point": signed(8), "clamp_low": signed(8),
              "clamp_high": signed(8)}
    if unit.combines:
        fields |= {"operation": VectorOp, "source_type": ElementType, "fine": 1, "masked": 1,
                   "stream_type": 2, "reduce": Reduction, "fold": 1, "span": 1,
                   "sum_results": 1, "tail": 7}
    if unit.functions or unit.multiply:
        fields |= {"function": Function, "function_first": 1, "function_shift": 5,
                   "function_base": 3, "function_signed": 1, "segments": 1}
    return data.StructLayout(fields)


def group_layout(config: CoreConfig) -> data.StructLayout:
    """A group: the slot of its settings; whether something waits for its end; where its operands
    lie in their rows, parameter row, record, entry of the channel; its position in its row,
    whether it is the first, the last, and the last of loop 0; where its result goes."""
    unit, memory = config.vector, config.memory
    in_row = exact_log2(config.act_row_bytes // unit.lanes)
    return data.StructLayout({
        "slot": 1, "event": 1, "stream_unit": in_row,
        "source_unit": max(in_row, exact_log2(config.acc_group_pitch)),
        "param": exact_log2(memory.par_rows),
        "row": RECORD_NUMBER_BITS, "entry": ENTRY_BITS, "position": ADDRESS_BITS, "first": 1,
        "last": 1, "tail": 1,
        "result": max(exact_log2(config.act_groups), exact_log2(unit.rows) if unit.rows else 0)})


def head_layout(config: CoreConfig) -> data.StructLayout:
    """A group on its way to its reads: addresses in lane groups of what it reads and where its
    result goes, rows of parameters and records, and as in ``group_layout``; whether it ``begins``
    its command, and that command's ``index``; what it ``uses``; rows of each less one."""
    group = group_layout(config).members
    in_act = exact_log2(config.act_groups)
    in_acc = exact_log2(config.memory.acc_rows) + exact_log2(config.acc_group_pitch)
    return data.StructLayout({
        "source": max(in_act, in_acc), "second": in_act, "row": ADDRESS_BITS,
        **{name: group[name] for name in (
            "result", "param", "entry", "position", "slot", "event", "first", "last", "tail")},
        "begins": 1, "index": INDEX_BITS,
        "uses": data.StructLayout({name: 1 for name in (
            "acc", "source", "stream", "bias", "row_value", "row_sum")}),
        **dict.fromkeys(BEATS, exact_log2(beats_of(4, config)))})


def group_ports(config: CoreConfig) -> dict[str, wiring.Member]:
    """The memories that groups are read from, and what is said of those that are: members of
    ``GroupReader`` and of ``GroupSequencer``."""
    act = ReadPort(addr_bits=exact_log2(config.memory.act_rows), width=8 * config.act_row_bytes)
    return {
        "acc_valid": Out(1),
        "acc_row": Out(range(config.memory.acc_rows)),
        "acc_ready": In(1),
        "bias": Out(ReadPort(addr_bits=exact_log2(config.memory.par_rows),
                             width=32 * config.vector.lanes)),
        **({"source": Out(act), "stream": Out(act)} if config.vector.elementwise else {}),
        "issue": Out(1),
        "group": Out(group_layout(config)),
        "beat": Out(range(beats_of(4, config))),
        "source_read": Out(1), "stream_read": Out(1),
        "value_read": Out(1), "sum_read": Out(1), "record": Out(ADDRESS_BITS),
    }


class GroupReader(wiring.Component):
    """Reads group after group, each of its operands when its bank is free.

    What is not needed for that waits in a memory of its own, whose row comes a cycle later: little
    hangs on when a group is read.

    Timing: one group per cycle; a group is read two cycles after it came, in a compact core one;
    one of which an operand or the result fills several scratchpad rows takes as many cycles, and
    one more whenever two operands meet in a bank. From one group to the next it is
    ``Stages(config).interval`` cycles.

    Members
    -------
    i : ``In(stream of head_layout)``
        Groups.
    allowed : ``In(1)``
        The group that comes touches nothing that is not there.
    halt : ``In(1)``
        Stop; of a core that is not compact, the sequencer does.
    acc_valid, acc_row, acc_ready, bias, source, stream : memories
        As in ``GroupSequencer``.
    issue, group, beat, source_read, stream_read, value_read, sum_read, record : ``Out``
        As in ``GroupSequencer``.
    busy : ``Out(1)``
        A row, or what there is of one, is read.
    error : ``Out(error_layout)``
        The next group is not allowed.

    Parameters
    ----------
    config : CoreConfig
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(head_layout(config))),
            "allowed": In(1),
            "halt": In(1),
            **group_ports(config),
            "busy": Out(1),
            "error": Out(error_layout),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        interval = Stages(config).interval
        beat_bits = exact_log2(beats_of(4, config))
        row_bits = exact_log2(config.act_row_bytes // config.vector.lanes)
        compact = config.control.compact
        new = self.i.payload
        beside = Signal(data.StructLayout({
            "group": self.group.shape(), "record": ADDRESS_BITS, "index": INDEX_BITS}))
        m.d.comb += [
            *(beside.group[name].eq(new[name]) for name in beside.group.shape().members
              if name not in ("source_unit", "stream_unit")),
            beside.group.source_unit.eq(new.source),
            beside.group.stream_unit.eq(new.second),
            beside.record.eq(new.row),
            beside.index.eq(new.index),
        ]
        heads, head, allowed, wrong = self.i, new, self.allowed, Signal()
        may = allowed & ~self.halt
        if not compact:
            # A group's checks are known as one bit.
            needed = ("source", "second", "param", "begins", "uses", *BEATS)
            m.submodules.heads = queue = ShortQueue(depth=GROUPS, shape=data.StructLayout({
                **{name: new.shape().members[name] for name in needed}, "allowed": 1}))
            m.d.comb += [
                queue.i.valid.eq(self.i.valid),
                *(queue.i.payload[name].eq(new[name]) for name in needed),
                queue.i.payload.allowed.eq(self.allowed),
                self.i.ready.eq(queue.i.ready),
            ]
            check(m, platform, ~self.i.valid | self.i.ready, "there is room for each group")
            heads, head = queue.o, queue.o.payload
            allowed = may = head.allowed    # the sequencer halts

        # A command's last result of several rows keeps the next command's first one away.
        step  = Signal()            # a beat of the group is read
        issue = self.issue          # its last
        final = Signal()            # no beat after this
        beat  = Signal(beat_bits)
        rest  = Signal(beat_bits)   # beats of the last result to go
        rests = Signal()            # there is one
        pause = Signal(range(interval))     # that a serial requantiser keeps groups away
        free = pause == 0
        wanted  = Signal()
        m.d.comb += [
            self.beat.eq(beat),
            final.eq(beat == head.beats),
            wanted.eq(heads.valid & may & ~(head.begins & final & rests) & (~final | free)),
            issue.eq(step & final),
            heads.ready.eq(issue),
        ]
        with m.If(step):
            m.d.sync += beat.eq(Mux(final, 0, beat + 1))
        m.d.sync += [
            rest.eq(Mux(issue, head.result_beats, Mux(rests, rest - 1, 0))),
            rests.eq(Mux(issue, head.result_beats != 0, (rest >> 1).any())),
            pause.eq(Mux(issue, interval - 1, Mux(free, 0, pause - 1))),
        ]

        # The reads of a beat, each granted when its bank is free.
        done = []

        def ask(name, used, ready):
            """Whether to ask: until it is granted, and then not before the next beat."""
            granted, asks = Signal(name=f"{name}_granted"), Signal(name=f"{name}_asks")
            m.d.comb += asks.eq(wanted & used & ~granted)
            m.d.sync += granted.eq((granted | (asks & ready)) & ~step)
            done.append(~used | granted | ready)
            return asks

        m.d.comb += [
            self.acc_valid.eq(ask("acc", head.uses.acc & final, self.acc_ready)),
            self.acc_row.eq(head.source >> exact_log2(config.acc_group_pitch)),
            self.bias.valid.eq(issue & head.uses.bias),
            self.bias.addr.eq(head.param),
        ]
        if config.vector.elementwise:
            for name, port, at in (("source", self.source, head.source),
                                   ("stream", self.stream, head.second)):
                asks = ask(name, head.uses[name] & (beat <= head[f"{name}_beats"]), port.ready)
                m.d.comb += [
                    port.valid.eq(asks),
                    port.addr.eq((at >> row_bits) + beat),
                    getattr(self, f"{name}_read").eq(asks & port.ready),
                ]
        m.d.comb += [
            step.eq(wanted & Cat(*done).all()),
            self.busy.eq(step),
            self.value_read.eq(issue & head.uses.row_value),
            self.sum_read.eq(issue & head.uses.row_sum),
            wrong.eq(heads.valid & ~allowed),
            self.error.code.eq(ErrorCode.SCRATCHPAD_ADDRESS),
        ]
        goes = beside
        if compact:
            m.d.comb += self.error.valid.eq(wrong)
        else:
            goes = Signal(beside.shape(), name="goes")
            m.submodules.beside = ram = Ram(depth=1 << bits_for(GROUPS), width=len(goes.as_value()))
            ends = [Signal.like(ram.write_addr, name=name) for name in ("newest", "oldest")]
            for end, moves in zip(ends, (self.i.valid, issue), strict=True):
                with m.If(moves):
                    m.d.sync += end.eq(end + 1)
            # Where groups are apart, the row stays until the next one can be read.
            m.d.comb += [
                ram.write_addr.eq(ends[0]),
                ram.write_data.eq(beside),
                ram.write_en.eq(self.i.valid),
                ram.read_addr.eq(ends[1]),
                ram.read_en.eq(heads.valid & free),
                goes.eq(ram.read_data),
            ]
            m.d.sync += self.error.valid.eq(wrong & free)
        m.d.comb += [self.group.eq(goes.group), self.record.eq(goes.record),
                     self.error.index.eq(goes.index)]
        return m
