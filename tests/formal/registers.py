"""What the control slave promises: the rules of AXI4-Lite, and registers that keep their values."""

from amaranth.hdl import Cat, Mux, Signal
from systolith_hw.config import CoreConfig
from systolith_hw.control import Control
from systolith_hw.registers import MAGIC, REGISTERS

from .proof import RUN, Bug, Proof
from .specification import Specification

__all__ = ["PROOFS"]

READ_CYCLES, WRITE_CYCLES = 2, 3  # until the answer is offered, as the docstring says


class Answers(Specification):
    """One answer for each request, offered in time and until taken; a register is what was
    written last, by the host or by a command.
    """
    def __init__(self):
        super().__init__(Control(config=CoreConfig.preset("tiny")))

    def properties(self, m, dut):
        # Requests without an answer.
        addresses, words, reads = Signal(2), Signal(2), Signal(2)
        wrote, read = dut.bvalid & dut.bready, dut.rvalid & dut.rready
        m.d.sync += [
            addresses.eq(addresses + (dut.awvalid & dut.awready) - wrote),
            words.eq(words + (dut.wvalid & dut.wready) - wrote),
            reads.eq(reads + (dut.arvalid & dut.arready) - read),
        ]
        self.require(m, ~dut.bvalid | ((addresses != 0) & (words != 0)),
                     "a write is answered once, after its address and its word")
        self.require(m, ~dut.rvalid | (reads != 0), "a read is answered once")
        self.require(m, (addresses <= 2) & (words <= 2) & (reads <= 1), "few are under way")
        self.require(m, self.held(m, dut.bvalid, dut.bready, dut.bresp, "b"),
                     "a write's answer stays until it is taken")
        self.require(m, self.held(m, dut.rvalid, dut.rready, Cat(dut.rdata, dut.rresp), "r"),
                     "a read's answer stays, unchanged, until it is taken")
        self.require(m, ~self.late(m, "b", (addresses != 0) & (words != 0) & ~dut.bvalid,
                                   WRITE_CYCLES - 1), "a write is answered in time")
        self.require(m, ~self.late(m, "r", (reads != 0) & ~dut.rvalid, READ_CYCLES - 1),
                     "a read is answered in time")
        self.require(m, dut.arready | (reads != 0), "a slave that owes nothing takes a read")
        self.require(m, (dut.awready | (addresses != 0)) & (dut.wready | (words != 0)),
                     "a slave that owes nothing takes a write")

        # What is written, and what is read.
        address, word, read_address = Signal(12), Signal(32), Signal(12)
        with m.If(dut.awvalid & dut.awready):
            m.d.sync += address.eq(dut.awaddr)
        with m.If(dut.wvalid & dut.wready):
            m.d.sync += word.eq(dut.wdata)
        with m.If(dut.arvalid & dut.arready):
            m.d.sync += read_address.eq(dut.araddr)
        written  = dut.bvalid & ~self.past(m, dut.bvalid & ~dut.bready, "b_stood")
        answered = dut.rvalid & ~self.past(m, dut.rvalid & ~dut.rready, "r_stood")

        def hits(where, name):
            return where[2:] == REGISTERS[name].offset >> 2

        # The host leaves parameters alone while the core is busy, and commands write them.
        params = [f"param{i}" for i in range(1, dut.config.control.params)]
        self.given(m, ~dut.param_write | (addresses == 0)
                   | ~Cat(hits(address, name) for name in params).any())
        commanded = self.past(m, dut.param_write & (dut.param_number == 1), "commanded")
        value = self.past(m, dut.param_value, "value")
        shown = {"program_address": dut.program_address, "window_bytes": dut.window_bytes,
                 "param1": dut.params[1]}
        for name, register in shown.items():
            host  = written & hits(address, name)
            given = commanded if name == "param1" else 0
            before = self.past(m, register, f"{name}_before")
            # Of what is beyond memory, the least.
            most = (1 << 17 if name != "param1" else (1 << 32) - 1)
            taken = Mux(word > most, most, word)
            self.require(m, register == Mux(host, taken, Mux(given, value, before)),
                         f"{name} is what was written last")
            self.require(m, ~(answered & hits(read_address, name)) | (dut.rdata == before),
                         f"{name} is read as it is")
        self.require(m, ~(answered & hits(read_address, "magic")) | (dut.rdata == MAGIC),
                     "magic is read")
        nowhere = ~Cat(hits(read_address, name) for name in REGISTERS).any()
        self.require(m, ~(answered & nowhere) | (dut.rdata == 0), "no register is read as 0")

        # An error holds the engines until a reset, and no program begins before.
        running, failed, resetting = Signal(), Signal(), Signal()
        reset = resetting | (written & hits(address, "control") & word[1])
        m.d.sync += resetting.eq(reset & ~dut.clear)
        with m.If(dut.begin):
            m.d.sync += running.eq(1)
        with m.If(dut.clear):
            m.d.sync += [running.eq(0), failed.eq(failed & ~reset)]
        with m.Elif(running & dut.error.valid):
            m.d.sync += [running.eq(0), failed.eq(~reset)]
        with m.Elif(running & dut.finished):
            m.d.sync += running.eq(0)
        self.require(m, ~dut.begin | self.past(m, dut.clear, "cleared"),
                     "a program begins after everything is cleared")
        self.require(m, ~(failed & ~dut.halt), "an error holds the engines until a reset")
        self.require(m, ~(failed & dut.begin), "no program begins after an error")
        self.require(m, ~dut.clear | dut.halt, "the engines are held while all is cleared")
        self.require(m, ~dut.begin | resetting | ~dut.halt, "no program begins held")


PROOFS = (
    Proof(
        name="axi-lite", block="control.py",
        claim="Control of the preset tiny: one answer for each request, of a write three cycles "
              "after it, of a read two, which stays and is stable until ready; program_address, "
              "window_bytes and param1 are what was written last, the first two at most 2^17, and "
              "are read so; other addresses read 0; after an error halt stays, and nothing begins, "
              "until a reset; all is cleared in a halt, and a program begins without",
        make=Answers,
        bugs=(
            Bug("an answer withdrawn", "hw/systolith_hw/control.py",
                "with m.If(self.rvalid & self.rready):", "with m.If(self.rvalid):", RUN),
            Bug("a write answered twice", "hw/systolith_hw/control.py",
                "write.eq(due & ~self.bvalid)", "write.eq(due)", RUN),
            Bug("a start that needs no reset after an error", "hw/systolith_hw/control.py",
                "word[0] & ~busy & ~failed & ~resetting", "word[0] & ~busy & ~resetting", RUN),
            Bug("a start beside a reset", "hw/systolith_hw/control.py",
                "~resetting & ~word[1]", "~resetting", RUN),
            Bug("a start that does not hold the engines", "hw/systolith_hw/control.py",
                "m.If(start | reset | fails)", "m.If(reset | fails)", RUN),
        )),
)
