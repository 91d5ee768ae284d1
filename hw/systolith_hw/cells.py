"""What an emission shares: cells emitted once, memories as modules of their own, and checks."""

import inspect
import re
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import (
    Assert,
    ClockSignal,
    Instance,
    Module,
    ResetSignal,
    Value,
    ValueCastable,
)
from amaranth.hdl._ir import PortDirection  # verilog.convert's own; it has no public name
from amaranth.lib import wiring

__all__ = ["EmitPlatform", "RamModule", "check", "flat_ports", "has_vendor_cells",
           "place", "unused"]


def flat_ports(component: wiring.Component) -> dict[str, tuple[Value, bool]]:
    """Ports of ``component`` by flat name, each with whether it is an input.

    Members of nested interfaces are joined with two underscores; ports of no width are left out.
    """
    ports = {}
    for path, member, value in component.signature.flatten(component):
        if isinstance(value, ValueCastable):
            value = value.as_value()
        if len(value) > 0:
            ports["__".join(map(str, path))] = (value, member.flow == wiring.In)
    return ports


class RamModule:
    """A simple dual-port memory as a plain-Verilog module.

    Parameters
    ----------
    name : str
        Name of the module.
    depth, width : int
        Rows, and bits of a row.
    granularity : int
        Bits that share one write enable; it divides ``width``.
    """

    def __init__(self, *, name: str, depth: int, width: int, granularity: int):
        self.name = name
        self.depth = depth
        self.width = width
        self.granularity = granularity

    @property
    def addr_bits(self) -> int:
        """Width of the address ports; a memory of one row has them too."""
        return max((self.depth - 1).bit_length(), 1)

    def verilog(self) -> str:
        """Verilog-2001 that synthesisers infer as block RAM."""
        enables, bits = self.width // self.granularity, self.granularity
        if enables == 1:
            writes = ["    if (write_en)\n      mem[write_addr] <= write_data;"]
        else:
            parts = [f"[{(i + 1) * bits - 1}:{i * bits}]" for i in range(enables)]
            writes = [f"    if (write_en[{i}])\n      mem[write_addr]{part} <= write_data{part};"
                      for i, part in enumerate(parts)]
        addr, data = f"[{self.addr_bits - 1}:0]", f"[{self.width - 1}:0]"
        # A range of one bit is no range, so that width-1 ports match their connections exactly.
        enable_range = f"[{enables - 1}:0] " if enables > 1 else ""
        body = "\n".join(writes)
        return f"""\
// Memory of {self.depth} rows of {self.width} bits, one write and one read port.
// Reads take one cycle; read_data holds while read_en is 0. Nobody reads the row being written.
module {self.name} (
  input clk,
  input {addr} write_addr,
  input {data} write_data,
  input {enable_range}write_en,
  input {addr} read_addr,
  input read_en,
  output reg {data} read_data
);
  (* no_rw_check *)
  reg {data} mem [0:{self.depth - 1}];
  always @(posedge clk) begin
{body}
  end
  always @(posedge clk)
    if (read_en)
      read_data <= mem[read_addr];
endmodule
"""


class EmitPlatform:
    """The platform of an emission: what it must know, and the modules it collects.

    Parameters
    ----------
    top : str
        Name of the top module; all other modules' names start with it.
    assertions : bool
        Whether checks become assertions (for simulation and proofs) or vanish.
    vendor_cells : bool
        Whether components around a vendor's cell emit that cell, or its behaviour.

    Attributes
    ----------
    rams : dict
        Memory modules by depth, width and granularity, in the order of their first use.
    cells : dict
        RTLIL text of each shared cell, by module name.
    """

    def __init__(self, *, top: str, assertions: bool = False, vendor_cells: bool = False):
        if not isinstance(top, str):
            raise TypeError(f"top must be a string, not {top!r}")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", top):
            raise ValueError(f"top must be a Verilog identifier, not {top!r}")
        self.top = top
        self.assertions = bool(assertions)
        self.vendor_cells = bool(vendor_cells)
        self.rams: dict[tuple[int, int, int], RamModule] = {}
        self.cells: dict[str, str] = {}
        self._cell_names: dict[tuple[Any, ...], str] = {}
        self._names = {top}

    def unique_name(self, name: str) -> str:
        """``name``, or with a number appended where it is taken; taken from now on."""
        candidate, number = name, 1
        while candidate in self._names:
            number += 1
            candidate = f"{name}_{number}"
        self._names.add(candidate)
        return candidate

    def ram(self, *, depth: int, width: int, granularity: int) -> RamModule:
        """The memory module of this shape."""
        key = (depth, width, granularity)
        if key not in self.rams:
            name = f"{self.top}_ram_{depth}x{width}"
            if granularity != width:
                name += f"_{granularity}"
            self.rams[key] = RamModule(name=self.unique_name(name), depth=depth, width=width,
                                       granularity=granularity)
        return self.rams[key]

    def cell(self, component: wiring.Component) -> str:
        """Name of the module that stands for ``component`` and all others like it."""
        key = (type(component), *_parameters(component))
        if key not in self._cell_names:
            snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(component).__name__).lower()
            name = self.unique_name(f"{self.top}_{snake.strip('_')}")
            self._cell_names[key] = name
            self.cells[name] = self.convert(component, name=name)
        return self._cell_names[key]

    def convert(self, component: wiring.Component, *, name: str) -> str:
        """Text of a shared cell: a module ``name``, and all below it."""
        return convert_rtlil(component, name=name, platform=self)


def convert_rtlil(component: wiring.Component, *, name: str, platform: Any) -> str:
    """RTLIL of ``component`` and of all below it, as modules ``name`` and ``name.*``."""
    ports = {port: (value, PortDirection.Input if is_input else PortDirection.Output)
             for port, (value, is_input) in flat_ports(component).items()}
    return rtlil.convert(component, name=name, platform=platform, ports=ports, emit_src=False)


def _parameters(component: wiring.Component) -> tuple[Any, ...]:
    """Constructor parameters of ``component``, read from the attributes of the same names."""
    if type(component).__init__ is wiring.Component.__init__:
        return ()
    values = []
    for name in inspect.signature(type(component)).parameters:
        if not hasattr(component, name):
            raise TypeError(f"{type(component).__name__} must store its parameter under the same "
                            f"name, not without {name!r}")
        value = getattr(component, name)
        try:
            hash(value)
        except TypeError:
            value = repr(value)
        values.append((name, value))
    return tuple(values)


def place(m: Module, platform: Any, name: str, component: wiring.Component) -> None:
    """Add ``component`` to ``m`` as submodule ``name``; an emission emits all its likes once.

    Two components are alike when their class and their constructor parameters are the same.
    """
    if not isinstance(platform, EmitPlatform):
        m.submodules[name] = component
        return
    module = platform.cell(component)
    connections: dict[str, Any] = {}
    for port, (value, is_input) in flat_ports(component).items():
        connections[f"{'i' if is_input else 'o'}_{port}"] = value
    header = platform.cells[module]
    header = header[header.index(f"module \\{module}\n"):].partition("\nend\n")[0]
    for port, signal in (("clk", ClockSignal()), ("rst", ResetSignal())):
        if re.search(rf"^  wire width 1 input \d+ +\\{port}$", header, re.M):
            connections[f"i_{port}"] = signal
    m.submodules[name] = Instance(module, **connections)
    unused(component)   # only the first of its kind is ever elaborated


def has_vendor_cells(platform: Any) -> bool:
    """Whether cells of an FPGA are instantiated; their behaviour is elaborated otherwise.

    Behaviour is for Amaranth's simulator and for an emission that does not ask for cells.
    """
    return getattr(platform, "vendor_cells", platform is not None)


def unused(component: wiring.Component) -> None:
    """Say that ``component``, and those it was made of, may never be elaborated; Amaranth warns
    otherwise."""
    vars(component)["_MustUse__used"] = True
    for part in vars(component).values():
        if isinstance(part, wiring.Component):
            unused(part)


def check(m: Module, platform: Any, condition: Any, message: str) -> None:
    """Assert ``condition`` at every clock edge outside reset, in simulation and in proofs.

    Plain Verilog carries nothing of it.
    """
    if platform is None or getattr(platform, "assertions", False):
        m.d.sync += Assert(ResetSignal(allow_reset_less=True) | condition, message)
