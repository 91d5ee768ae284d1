"""A bitstream is what a chip is given: what an iCE40's says, back in Verilog."""

import re
import shutil
import tempfile
from pathlib import Path

from .build import Built
from .netlist import with_models
from .tools import find_tool, run_command

__all__ = ["bitstream_verilog"]


def bitstream_verilog(built: Built) -> str:
    """Verilog of what the bitstream of an iCE40 says, as icestorm's icebox_vlog reads it, and the
    models of its cells.

    The pins have the names that the board gives them. Cells that icebox_vlog does not know, such as
    the multipliers and the single-port memory of the UP5K, are not there.

    Raises
    ------
    ImportError
        icebox_vlog is missing.
    ValueError
        The chip is no iCE40, or a cell has no model.
    RuntimeError
        A tool failed.
    """
    if built.board.chip.family != "ice40":
        raise ValueError(f"chip of {built.board.name} must be an iCE40, not {built.board.device}")
    reader = shutil.which("icebox_vlog")
    if reader is None:
        raise ImportError("icebox_vlog must be installed to read bitstreams: "
                          "sudo apt-get install -y fpga-icestorm")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(built.bitstream, folder)
        (Path(folder) / "top.pcf").write_text("".join(
            f"set_io {line.split()[-2]} {line.split()[-1]}\n"  # icebox_vlog knows no options
            for line in (built.folder / "top.pcf").read_text().splitlines()
            if line.startswith("set_io")))
        find_tool("icepack").run(["-u", built.bitstream.name, "top.asc"], Path(folder))
        package = built.board.place_options[-1]
        verilog = run_command([reader, "-s", "-c", "-n", "top", "-p", "top.pcf", "-d", package,
                               "top.asc"], "icebox_vlog", Path(folder))
    return with_models(_without_twins(verilog), "ice40")


def _without_twins(verilog: str) -> str:
    """Without the wires and registers that icebox_vlog declares although there are ports of their
    names; such a register is the port's own."""
    header, rest = verilog.split(";", 1)
    ports = set(re.findall(r"\w+(?= *[,)])", header))

    def left(found: re.Match) -> str:
        nonlocal header
        kind, names = found[1], []
        for each in found[2].split(", "):
            name = each.removesuffix(" = 0").removesuffix(" = 1")
            if name not in ports:
                names.append(each)
            elif kind == "reg":
                header = re.sub(rf"\boutput {name}(?= *[,)])", f"output reg {each}", header)
        return f"{kind} {', '.join(names)};" if names else ""

    rest = re.sub(r"^(wire|reg) ([^;\[\]]*);$", left, rest, flags=re.M)
    return f"{header};{rest}"
