"""SDRAM behind LiteDRAM's controller: bus words in and out, initialisation, and the chip's pins."""

from amaranth.hdl import (
    Array,
    Cat,
    ClockSignal,
    Const,
    Instance,
    IOBufferInstance,
    IOPort,
    Module,
    Mux,
    ResetSignal,
    Signal,
)
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2
from systolith_hw.cells import check, has_vendor_cells
from systolith_hw.fifo import Fifo

from .litedram import NAME, Controller, Geometry, Step

__all__ = ["Initialiser", "Pads", "Sdram", "beat_layout", "pin_layout"]


def beat_layout(word_bits: int, address_bits: int) -> data.StructLayout:
    """A bus word to ``write``, where ``strobe`` says so of its bytes, or one to read."""
    return data.StructLayout({"address": address_bits, "write": 1, "data": word_bits,
                              "strobe": word_bits // 8})


def pin_layout(geometry: Geometry) -> data.StructLayout:
    """What a chip's pins are to show in the next cycle; ``cs``, ``ras``, ``cas`` and ``we`` are
    active when high here, ``dq`` is driven where ``drive``."""
    return data.StructLayout({
        "clk_en": 1, "cs": 1, "ras": 1, "cas": 1, "we": 1, "ba": geometry.bank_bits,
        "a": max(geometry.row_bits, geometry.column_bits), "dqm": geometry.data_bits // 8,
        "dq": geometry.data_bits, "drive": 1})


class Initialiser(wiring.Component):
    """Tells a memory chip what it must be told before its first use, once after a reset.

    Timing: the first step comes in the first cycle, ``done`` rises when the last one's cycles are
    over and stays.

    Parameters
    ----------
    geometry : Geometry
    steps : tuple of Step

    Members
    -------
    pins : ``Out(pin_layout(geometry))``
    done : ``Out(1)``
    """
    def __init__(self, *, geometry: Geometry, steps: tuple[Step, ...]):
        self.geometry = geometry
        self.steps = steps
        super().__init__({"pins": Out(pin_layout(geometry)), "done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        number = Signal(range(len(self.steps)))
        left = Signal(range(max(step.cycles for step in self.steps)))
        fresh = Signal(init=1)  # the step begins
        pauses = Array(Const(step.cycles - 1, len(left)) for step in self.steps)
        m.d.comb += self.pins.clk_en.eq(1)
        with m.If(fresh):
            with m.Switch(number):
                for value, step in enumerate(self.steps):
                    with m.Case(value):
                        m.d.comb += [
                            self.pins.cs.eq(step.ras or step.cas or step.we),
                            self.pins.ras.eq(step.ras),
                            self.pins.cas.eq(step.cas),
                            self.pins.we.eq(step.we),
                            self.pins.a.eq(step.address),
                            self.pins.ba.eq(step.bank),
                        ]
            m.d.sync += [fresh.eq(0), left.eq(pauses[number])]
        with m.Elif(~self.done):
            m.d.sync += left.eq(left - 1)
            with m.If(left == 1):
                with m.If(number == len(self.steps) - 1):
                    m.d.sync += self.done.eq(1)
                with m.Else():
                    m.d.sync += [number.eq(number + 1), fresh.eq(1)]
        return m


class Pads(wiring.Component):
    """Registers on a memory chip's pins, and its clock.

    Timing: ``pins`` are on the pads a cycle later; ``read`` is what was there at the last edge. The
    chip's clock rises with ``clock``, which is this one shifted.

    Parameters
    ----------
    geometry : Geometry
    dq : IOPort

    Members
    -------
    pins : ``In(pin_layout(geometry))``
    read : ``Out(data_bits)``
    clock : ``In(1)``
        The clock for the chip.
    clk_out, clk_en, cs, ras, cas, we, ba, a, dqm : ``Out``
        Pads; ``cs``, ``ras``, ``cas`` and ``we`` are active when low.
    """
    INVERTED = ("cs", "ras", "cas", "we")

    def __init__(self, *, geometry: Geometry, dq: IOPort):
        self.geometry = geometry
        self.dq = dq
        layout = pin_layout(geometry)
        self.outputs = {name: field.width for name, field in layout
                        if name not in ("dq", "drive")}
        super().__init__({
            "pins": In(layout), "read": Out(geometry.data_bits), "clock": In(1), "clk_out": Out(1),
            **{name: Out(width) for name, width in self.outputs.items()}})

    def elaborate(self, platform):
        m = Module()
        levels = {name: ~self.pins[name] if name in self.INVERTED else self.pins[name]
                  for name in self.outputs}
        if has_vendor_cells(platform):
            self._cells(m, levels)
            return m
        written = Signal(len(self.dq), reset_less=True)
        drive = Signal()
        pad = Signal(len(self.dq))
        m.submodules.dq = IOBufferInstance(self.dq, i=pad, o=written, oe=drive)
        m.d.comb += self.clk_out.eq(self.clock)
        m.d.sync += [getattr(self, name).eq(level) for name, level in levels.items()]
        m.d.sync += [written.eq(self.pins.dq), drive.eq(self.pins.drive), self.read.eq(pad)]
        return m

    def _cells(self, m, levels):
        """ECP5: registers beside the pads (Lattice FPGA-TN-02035, "ECP5 High-Speed I/O
        Interface")."""
        def register(cell, name, level, output):
            m.submodules[name] = Instance(
                cell, i_SCLK=ClockSignal(), i_SP=Const(1), i_CD=Const(0), i_D=level, o_Q=output)

        m.submodules.clk_out = Instance("ODDRX1F", i_SCLK=self.clock, i_RST=Const(0), i_D0=Const(1),
                                    i_D1=Const(0), o_Q=self.clk_out)
        for name, level in levels.items():
            for i in range(len(level)):
                register("OFS1P3DX", f"{name}_{i}", level[i], getattr(self, name)[i])
        for i in range(len(self.dq)):
            written, released, pad = (Signal(name=f"{name}_{i}")
                                      for name in ("written", "released", "pad"))
            register("OFS1P3DX", f"dq_{i}", self.pins.dq[i], written)
            register("OFS1P3DX", f"drive_{i}", ~self.pins.drive, released)
            register("IFS1P3DX", f"read_{i}", pad, self.read[i])
            m.submodules[f"pad_{i}"] = Instance("BB", i_T=released, i_I=written, o_O=pad,
                                                io_B=self.dq[i])


class Sdram(wiring.Component):
    """A memory chip and its controller.

    Each beat is as many words of the chip as make a word of the bus, in order. Beats wait until
    the chip has been initialised.

    Timing: a word of the chip is asked for in a cycle; what was read comes some 12 cycles later
    where its row is open.

    Parameters
    ----------
    geometry : Geometry
    controller : Controller
        Made for this geometry; whoever emits the Verilog adds its text.
    word_bits : int
        Of a word of the bus: those of a word of the chip, times a power of two.
    dq : IOPort
        The chip's data pins.

    Members
    -------
    beats : ``In(stream of beat_layout)``
    words : ``Out(stream of word_bits)``
        Words read, in order.
    clock : ``In(1)``
        The clock for the chip.
    clk_out, clk_en, cs, ras, cas, we, ba, a, dqm : ``Out``
        The chip's pins.
    """
    WORDS = 16          # that may be under way or wait for ``words``
    HALVES = 16         # words of the chip that may wait to be written

    def __init__(self, *, geometry: Geometry, controller: Controller, word_bits: int, dq: IOPort):
        if word_bits < geometry.data_bits or word_bits % geometry.data_bits:
            raise ValueError(f"word_bits must be a multiple of the {geometry.data_bits} of a word "
                             f"of the memory, not {word_bits!r}")
        self.geometry = geometry
        self.controller = controller
        self.word_bits = word_bits
        self.dq = dq
        self.ratio = word_bits // geometry.data_bits
        self.pads = Pads(geometry=geometry, dq=dq)
        beat = beat_layout(word_bits, geometry.address_bits - exact_log2(self.ratio))
        super().__init__({
            "beats": In(stream.Signature(beat)),
            "words": Out(stream.Signature(word_bits)),
            "clock": In(1), "clk_out": Out(1),
            **{name: Out(width) for name, width in self.pads.outputs.items()}})

    def elaborate(self, platform):
        m = Module()
        bits = self.geometry.data_bits
        m.submodules.pads = pads = self.pads
        m.submodules.initialiser = initialiser = Initialiser(
            geometry=self.geometry, steps=self.controller.steps)
        m.submodules.written = written = Fifo(
            shape=data.StructLayout({"data": bits, "strobe": bits // 8}), depth=self.HALVES)
        m.submodules.words = words = Fifo(shape=self.word_bits, depth=self.WORDS)
        pins = pin_layout(self.geometry)
        controlled = Signal(pins)
        cs_n, ras_n, cas_n, we_n = (Signal(name=f"{name}_n") for name in Pads.INVERTED)
        asks, takes = Signal(), Signal()            # a word of the chip: offered, accepted
        writes, arrives = Signal(), Signal()        # its data: taken, there
        address = Signal(self.geometry.address_bits)
        read = Signal(bits)
        m.submodules.controller = Instance(
            NAME, i_sys_clk=ClockSignal(), i_sys_rst=ResetSignal() | ~initialiser.done,
            i_cmd_valid=asks, o_cmd_ready=takes, i_cmd_payload_we=self.beats.payload.write,
            i_cmd_payload_addr=address, o_wdata_ready=writes,
            i_wdata_payload_data=written.o.payload.data,
            i_wdata_payload_we=written.o.payload.strobe,
            o_rdata_valid=arrives, o_rdata_payload_data=read,
            o_dfi_p0_address=controlled.a, o_dfi_p0_bank=controlled.ba,
            o_dfi_p0_cs_n=cs_n, o_dfi_p0_ras_n=ras_n, o_dfi_p0_cas_n=cas_n, o_dfi_p0_we_n=we_n,
            o_dfi_p0_wrdata=controlled.dq, o_dfi_p0_wrdata_en=controlled.drive,
            o_dfi_p0_wrdata_mask=controlled.dqm, i_dfi_p0_rddata=pads.read)
        chosen = Signal(pins)
        m.d.comb += [
            controlled.clk_en.eq(1),
            *(controlled[name].eq(~level) for name, level in
              zip(Pads.INVERTED, (cs_n, ras_n, cas_n, we_n), strict=True)),
            chosen.eq(Mux(initialiser.done, controlled, initialiser.pins)),
            pads.pins.eq(chosen),
            # Masks of words that are not written would hide words that are read.
            pads.pins.dqm.eq(Mux(chosen.drive, chosen.dqm, 0)),
            pads.clock.eq(self.clock),
            self.clk_out.eq(pads.clk_out),
            *(getattr(self, name).eq(getattr(pads, name)) for name in pads.outputs),
        ]

        # A beat stays until its last word of the chip has been asked for.
        beat = self.beats.payload
        part = Signal(range(self.ratio))
        room = Signal(range(self.WORDS + 1), init=self.WORDS)
        reserve = Signal()
        asked = asks & takes
        m.d.comb += [
            asks.eq(self.beats.valid & initialiser.done
                    & Mux(beat.write, written.i.ready, (part != 0) | (room != 0))),
            address.eq(Cat(part, beat.address)),
            self.beats.ready.eq(asked & (part == self.ratio - 1)),
            reserve.eq(asked & ~beat.write & (part == 0)),
            written.i.valid.eq(asked & beat.write),
            written.i.payload.data.eq(beat.data.word_select(part, bits)),
            written.i.payload.strobe.eq(beat.strobe.word_select(part, bits // 8)),
            written.o.ready.eq(writes),
        ]
        with m.If(asked):
            m.d.sync += part.eq(Mux(part == self.ratio - 1, 0, part + 1))
        leave = self.words.valid & self.words.ready
        m.d.sync += room.eq(room - reserve + leave)
        check(m, platform, ~writes | written.o.valid, "what is written must be there in time")

        # The chip's words become the bus'.
        gathered = Signal(self.word_bits, reset_less=True)
        arrived = Signal(range(self.ratio))
        m.d.comb += [
            words.i.valid.eq(arrives & (arrived == self.ratio - 1)),
            words.i.payload.eq(Cat(gathered[bits:], read)),
            self.words.valid.eq(words.o.valid),
            self.words.payload.eq(words.o.payload),
            words.o.ready.eq(self.words.ready),
        ]
        with m.If(arrives):
            m.d.sync += [
                gathered.eq(Cat(gathered[bits:], read)),
                arrived.eq(Mux(arrived == self.ratio - 1, 0, arrived + 1)),
            ]
        check(m, platform, ~words.i.valid | words.i.ready, "what is read must have room")
        return m
