"""Components that exist for benches only: many arrays in one build, and DMA without the rest."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from systolith_hw.array import Array
from systolith_hw.axi import AxiReader, AxiWriter, master_ports, read_ports, write_ports
from systolith_hw.cells import place
from systolith_hw.config import CoreConfig
from systolith_hw.element import ProcessingElement
from systolith_hw.load import LoadEngine
from systolith_hw.record import RECORD_BITS, error_layout
from systolith_hw.scratchpad import Scratchpad
from systolith_hw.store import StoreEngine
from systolith_hw.transfer import pad_shapes

__all__ = ["ELEMENT_ROWS", "SHAPES", "Dma", "Shapes"]

SHAPES = ((1, 1), (4, 4), (3, 5), (8, 8), (1, 16), (16, 1), (16, 16))
ELEMENT_ROWS = (0, 7)


class Shapes(wiring.Component):
    """Arrays of all ``SHAPES`` and elements of ``ELEMENT_ROWS`` side by side: one build for all.

    Ports are those of the parts, after ``array_<rows>x<cols>_`` and ``element_<row>_``.
    """
    def __init__(self):
        self.parts = {
            **{f"array_{rows}x{cols}": Array(rows=rows, cols=cols) for rows, cols in SHAPES},
            **{f"element_{row}": ProcessingElement(row=row) for row in ELEMENT_ROWS},
        }
        super().__init__({f"{part}_{port}": member for part, component in self.parts.items()
                          for port, member in component.signature.members.items()})

    def elaborate(self, platform):
        m = Module()
        for part, component in self.parts.items():
            m.submodules[part] = component
            for port, member in component.signature.members.items():
                outer, inner = getattr(self, f"{part}_{port}"), getattr(component, port)
                m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        return m


class Dma(wiring.Component):
    """Load and store engine with their bus master and scratchpads, and windows into these.

    Members
    -------
    m_axi_* : AXI4 master
    load, store : ``In(stream of commands)``
    load_wait, store_wait, load_raise, store_raise : ``Out(stream of number)``
        To semaphores.
    load_error, store_error : ``Out(error_layout)``
    idle : ``Out(1)``
        Nothing moves.
    window, window_bytes : ``In``
    peek_addr : ``In(16)``
        Row to read in all scratchpads, while nothing moves.
    peek_act, peek_wgt, peek_par : ``Out``
        The rows, ``Scratchpad.READ_LATENCY`` cycles later.
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            **{f"m_axi_{name}": member for name, member in master_ports(config.bus).items()},
            **{name: In(stream.Signature(RECORD_BITS)) for name in ("load", "store")},
            **{f"{engine}_{what}": Out(stream.Signature(5))
               for engine in ("load", "store") for what in ("wait", "raise")},
            **{f"{engine}_error": Out(error_layout) for engine in ("load", "store")},
            "idle": Out(1),
            "window": In(config.bus.addr_bits),
            "window_bytes": In(32),
            "peek_addr": In(16),
            **{f"peek_{memory.name.lower()}": Out(8 * row_bytes)
               for memory, (_, row_bytes, _) in pad_shapes(config).items()},
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.reader = reader = AxiReader(config=config.bus, prefetch=1)
        m.submodules.writer = writer = AxiWriter(config=config.bus)
        load, store = LoadEngine(config=config), StoreEngine(config=config)
        # As modules with ports of their own: Amaranth merges the wires of submodules otherwise,
        # part by part, and Verilator takes what comes of it for a combinational loop.
        place(m, platform, "load_engine", load)
        place(m, platform, "store_engine", store)
        for part, ports in ((reader, read_ports(config.bus)), (writer, write_ports(config.bus))):
            for name, member in ports.items():
                outer, inner = getattr(self, f"m_axi_{name}"), getattr(part, name)
                m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        wiring.connect(m, reader.loads, load.bursts)
        wiring.connect(m, reader.load_words, load.words)
        wiring.connect(m, writer.bursts, store.bursts)
        wiring.connect(m, writer.words, store.words)
        wiring.connect(m, writer.done, store.done)
        for memory, (rows, row_bytes, _) in pad_shapes(config).items():
            name = memory.name.lower()
            readers = 2 if name == "act" else 1
            pad = Scratchpad(rows=rows, row_bytes=row_bytes, readers=readers, writers=1,
                             banks=config.memory.act_banks if name == "act" else 1)
            m.submodules[name] = pad
            wiring.connect(m, pad.write[0], getattr(load, name))
            peek = pad.read[-1]
            if name == "act":
                wiring.connect(m, pad.read[0], store.act)
            m.d.comb += [
                # Not while the row is being written; nobody looks then.
                peek.valid.eq(self.idle),
                peek.addr.eq(self.peek_addr),
                getattr(self, f"peek_{name}").eq(peek.data),
            ]
        for engine, name in ((load, "load"), (store, "store")):
            wiring.connect(m, wiring.flipped(getattr(self, name)), engine.command)
            wiring.connect(m, engine.wait, wiring.flipped(getattr(self, f"{name}_wait")))
            wiring.connect(m, engine.raise_, wiring.flipped(getattr(self, f"{name}_raise")))
            m.d.comb += [
                getattr(self, f"{name}_error").eq(engine.error),
                engine.window_bytes.eq(self.window_bytes),
            ]
        m.d.comb += [
            reader.window.eq(self.window),
            writer.window.eq(self.window),
            self.idle.eq(load.idle & store.idle & reader.idle & writer.idle),
        ]
        return m
