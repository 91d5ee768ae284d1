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
    """Without the wires that icebox_vlog declares although there are ports of their names."""
    ports = set(re.findall(r"\w+(?= *[,)])", verilog.partition(";")[0]))

    def left(found: re.Match) -> str:
        names = [name for name in found[1].split(", ") if name not in ports]
        return f"wire {', '.join(names)};" if names else ""

    return re.sub(r"^wire ([^;\[\]=]*);$", left, verilog, flags=re.M)
