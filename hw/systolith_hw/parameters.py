"""The parameter memory: bias, multiplier and shift of every output channel."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from .config import CoreConfig
from .scratchpad import ReadPort, Scratchpad, WritePort

__all__ = ["Parameters"]

RECORD_BYTES = 12   # int32 bias, 31-bit multiplier, int8 shift, 3 bytes unused
PARTS = {"bias": range(4), "scale": range(4, 9)}    # bytes of a record


class Parameters(wiring.Component):
    """Rows of ``lanes`` records, written as a whole, read in two parts at different times.

    Timing: as ``Scratchpad``; every request is granted.

    Members
    -------
    write : ``In(WritePort)``
        Rows of 12 bytes for each lane.
    bias : ``In(ReadPort)``
        32 bits for each lane.
    scale : ``In(ReadPort)``
        Multiplier in bits 0 to 30 and shift in bits 32 to 37 of 40 for each lane.

    Parameters
    ----------
    config : CoreConfig
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        addr_bits, lanes = exact_log2(config.memory.par_rows), config.vector.lanes
        super().__init__({
            "write": In(WritePort(addr_bits=addr_bits, width=8 * config.par_row_bytes)),
            **{name: In(ReadPort(addr_bits=addr_bits, width=8 * len(part) * lanes))
               for name, part in PARTS.items()},
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.config.vector.lanes
        ready = []
        for name, part in PARTS.items():
            m.submodules[name] = pad = Scratchpad(
                rows=self.config.memory.par_rows, row_bytes=len(part) * lanes, banks=1, readers=1,
                writers=1, late=self.config.control.compact)
            taken = [RECORD_BYTES * lane + byte for lane in range(lanes) for byte in part]
            wiring.connect(m, wiring.flipped(getattr(self, name)), pad.read[0])
            m.d.comb += [
                pad.write[0].valid.eq(self.write.valid),
                pad.write[0].addr.eq(self.write.addr),
                pad.write[0].data.eq(Cat(self.write.data[8 * i:8 * i + 8] for i in taken)),
                pad.write[0].mask.eq(Cat(self.write.mask[i] for i in taken)),
            ]
            ready.append(pad.write[0].ready)
        m.d.comb += self.write.ready.eq(Cat(*ready).all())
        return m
