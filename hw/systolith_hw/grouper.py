"""The vector engine of a shared sequencer: one lane group after the other."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import CoreConfig
from .given import Given
from .isa import COMMANDS, Opcode, Operand, ResultType, Scale
from .lanes import VectorLanes
from .microcode import Field
from .parameters import PARTS
from .scratchpad import ReadPort, WritePort
from .sequencer import unit_ports
from .stages import Stages
from .transfer import ring_row

__all__ = ["Grouper"]


class Grouper(wiring.Component):
    """Reads the lane groups that it is given, for ``VectorLanes``.

    Members
    -------
    stores, emit, field, value, go, event : ``In``
        See ``sequencer.unit_ports``: ``Field``.
    halt : ``In(1)``
        Stop.
    acc_valid, acc_row, acc_col, acc_ready, acc_data : accumulator's read port
    bias, scale : ``Out(ReadPort)``
        To the parameter memory; always granted.
    act : ``Out(WritePort)``
        To the activation scratchpad; always granted.
    result_step, param_step : ``Out``
        Lane groups of a result, or 0; parameter rows from one group to the next.
    free : ``Out(1)``
        Another group can be taken.
    done : ``Out(2)``
        What can be raised.
    quiet : ``Out(1)``
        Nothing is inside.
    wrong : ``Out(1)``
        An address leads out of its memory.
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        par_bits = exact_log2(config.memory.par_rows)
        super().__init__({
            **unit_ports(),
            "halt": In(1),
            "acc_valid": Out(1),
            "acc_row": Out(range(config.memory.acc_rows)),
            "acc_col": Out(exact_log2(config.acc_group_pitch)),
            "acc_ready": In(1),
            "acc_data": In(32),
            **{name: Out(ReadPort(addr_bits=par_bits, width=8 * len(part)))
               for name, part in PARTS.items()},
            "act": Out(WritePort(addr_bits=exact_log2(config.memory.act_rows),
                                 width=8 * config.act_row_bytes)),
            "result_step": Out(3),
            "param_step": Out(1),
            "free": Out(1),
            "done": Out(2),
            "quiet": Out(1),
            "wrong": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        stages = Stages(config)
        m.submodules.lanes = lanes = VectorLanes(config=config)
        wiring.connect(m, lanes.scale, wiring.flipped(self.scale))
        wiring.connect(m, lanes.act, wiring.flipped(self.act))
        value = self.value

        given  = Given(m, self.emit, self.field)
        # Settings, by the word of the command that they lie in.
        settings = Signal(lanes.layout, reset_less=True)

        def here(name):
            field = COMMANDS[Opcode.VECTOR].field(name)
            return value[field.bit % 32:field.bit % 32 + field.bits]

        for which, names in (
                (Field.SETTINGS, ("second", "scale", "result_type")),
                (Field.IMMEDIATE, ("immediate",)),
                (Field.CLAMPS, ("zero_point", "clamp_low", "clamp_high"))):
            with m.If(given(which)):
                m.d.sync += [settings[name].eq(here(name)) for name in names]
        rings = [Signal(4, name=f"ring{i}", reset_less=True) for i in range(3)]
        steps = Signal(reset_less=True)
        with m.If(given(Field.RING)):
            m.d.sync += [ring.eq(value[4 * i:4 * i + 4]) for i, ring in enumerate(rings)]
        with m.If(given(Field.SETTINGS)):
            m.d.sync += [steps.eq(here("result_step")), self.param_step.eq(here("param_step"))]
        result_type = settings["result_type"]
        to_act = result_type < ResultType.NONE
        m.d.sync += self.result_step.eq(Mux(steps, Mux(
            to_act, 1 << result_type[:2], 1), 0))

        # Where the group lies.
        def address(bits, place, base=None, ring=None):
            at  = Signal(bits, name=f"{place.name.lower()}_at", reset_less=True)
            out = Signal(name=f"{place.name.lower()}_outside", reset_less=True)
            wrapped = (value[:16] if ring is None
                       else ring_row(value[:16], Cat(at, Const(0, 16 - bits)), ring))
            beyond = Signal(name=f"{place.name.lower()}_beyond", reset_less=True)
            with m.If(given(place)):
                m.d.sync += [at.eq(wrapped), out.eq(wrapped[bits:].any())]
            if base is not None:
                with m.If(given(base)):
                    m.d.sync += [at.eq(value), beyond.eq(value[bits:].any())]
                return at, out | beyond
            return at, out

        source, no_source = address(exact_log2(config.acc_groups), Field.SOURCE,
                                    Field.SOURCE_BASE, rings[0])
        result, no_result = address(exact_log2(config.act_groups), Field.RESULT,
                                    Field.RESULT_BASE, rings[2])
        param, no_param = address(exact_log2(config.memory.par_rows), Field.PARAM)
        row_bits = exact_log2(config.act_row_bytes)
        lopsided = Cat((result_type == kind) & result[:min(log2, row_bits)].any()
                       for log2, kind in ((1, ResultType.INT16), (2, ResultType.INT32))).any()
        of_channel = settings["second"] == Operand.CHANNEL
        outside = (no_source | ((of_channel | (settings["scale"] == Scale.CHANNEL)) & no_param)
                   | (to_act & (no_result | lopsided)))

        # Groups: asked for, read, under way.
        asked  = Signal()
        issue  = Signal()
        event  = Signal(2)
        pause  = Signal(range(stages.interval))
        under_way = Signal(2)
        goes   = self.go
        checked = Signal()      # the group lies inside
        calm   = Signal(init=1)     # as many cycles have passed since the last
        wanted = checked & calm & ~self.halt
        still  = ~asked & (under_way == 0)
        m.d.comb += [
            self.acc_valid.eq(wanted),
            self.acc_row.eq(source >> exact_log2(config.acc_group_pitch)),
            self.acc_col.eq(source),
            issue.eq(wanted & self.acc_ready),
            self.bias.valid.eq(issue & of_channel),
            self.bias.addr.eq(param),
            self.free.eq(~asked & (event == 0)),
            self.done.eq(event & still.replicate(2)),
            self.quiet.eq(still & (event == 0)),
            lanes.issue.eq(issue),
            lanes.group.event.eq(1),
            lanes.group.source_unit.eq(source),
            lanes.group.param.eq(param),
            lanes.group.result.eq(result),
            *(lanes.settings[i].eq(settings) for i in range(2)),
            lanes.acc_data.eq(self.acc_data.replicate(config.array.sum_cols)),
            lanes.bias_data.eq(self.bias.data),
        ]
        m.d.sync += [
            pause.eq(Mux(issue, stages.interval - 1, Mux(pause == 0, 0, pause - 1))),
            calm.eq(~issue & ~pause[1:].any()),
            checked.eq(asked & ~issue & ~outside),
            under_way.eq(under_way + issue - lanes.retire),
        ]
        with m.If(given(Field.PARAM)):
            m.d.sync += asked.eq(1)
        with m.Elif(issue):
            m.d.sync += asked.eq(0)
        with m.If(goes):
            m.d.sync += event.eq(self.event)
        with m.Elif(still):
            m.d.sync += event.eq(0)
        with m.If(asked & outside):
            m.d.sync += self.wrong.eq(1)
        return m
