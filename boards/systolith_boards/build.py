"""From a chip's top to a bitstream: synthesis, place and route, packing; each made once.

A netlist is kept under the hash of the Verilog it came from, a bitstream under that of its netlist,
constraints and seed; tools and their versions take part in both.
"""

import inspect
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.lib import wiring
from systolith.cache import cached, digest
from systolith_hw.config import CoreConfig
from systolith_hw.emit import emit_verilog

from . import block_ram
from .boards import Board
from .constraints import constraints
from .placement import SITES_85F, fix, side_by_side
from .synthesis import area_by_block as areas_of
from .synthesis import cells, summary
from .tools import Tool, find_tool

__all__ = ["Built", "Clock", "Stage", "area_by_block", "build", "chip_verilog", "multiplier_sites",
           "pack", "place", "synthesise"]

# How a stage's work is done: what it is called, and the work.
Stage = Callable[[str, Callable[[], Any]], Any]


@dataclass(frozen=True, kw_only=True)
class _Flow:
    """The tools of a chip family, what they call things, and the files between them."""
    place: str
    pack: str
    constraints: str
    placed: str
    bitstream: str
    luts: str
    dsps: str
    brams: str
    ff: str
    dsp: str


_FLOWS = {
    "ice40": _Flow(place="nextpnr-ice40", pack="icepack", constraints="pcf", placed="asc",
                   bitstream="bin", luts="ICESTORM_LC", dsps="ICESTORM_DSP", brams="ICESTORM_RAM",
                   ff="SB_DFF", dsp="SB_MAC16"),
    "ecp5": _Flow(place="nextpnr-ecp5", pack="ecppack", constraints="lpf", placed="textcfg",
                  bitstream="bit", luts="TRELLIS_COMB", dsps="MULT18X18D", brams="DP16KD",
                  ff="TRELLIS_FF", dsp="MULT18X18D"),
}


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A clock after place and route.

    Parameters
    ----------
    name : str
        Net that it is on.
    fmax_mhz, target_mhz : float
        Highest frequency that the slowest path allows, and what it must reach.
    path : tuple of str
        Cells along the slowest path; none where it goes from one edge to the other.
    """
    name: str
    fmax_mhz: float
    target_mhz: float
    path: tuple[str, ...]

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.fmax_mhz >= self.target_mhz

    @property
    def ends(self) -> str:
        """Where the slowest path starts and ends."""
        return f"{self.path[0]} to {self.path[-1]}" if self.path else "an edge to another"


@dataclass(frozen=True, kw_only=True)
class Built:
    """A bitstream, and what is in it.

    Parameters
    ----------
    board : Board
    seed : int
    luts, ffs, dsps, brams : int
        Logic cells, flip-flops, multipliers and block RAMs in use.
    used : mapping of str to (int, int)
        Cells in use and on the chip, by nextpnr's names.
    clocks : tuple of Clock
        That with the least margin first.
    tools : mapping of str to str
        Version of each tool.
    verilog : str
        What was synthesised.
    netlist, folder, bitstream : Path
        The synthesised netlist as JSON, the folder of logs and reports, and the bitstream; all in
        the cache.
    fresh : bool
        Whether it was placed and routed now; it was in the cache otherwise.
    """
    board: Board
    seed: int
    luts: int
    ffs: int
    dsps: int
    brams: int
    used: Mapping[str, tuple[int, int]]
    clocks: tuple[Clock, ...]
    tools: Mapping[str, str]
    verilog: str
    netlist: Path
    folder: Path
    bitstream: Path
    fresh: bool


def _at_once(_: str, work: Callable[[], Any]) -> Any:
    return work()


def build(top: wiring.Component, board: Board, *, seed: int = 1, sources: tuple[str, ...] = (),
          sites: Mapping[str, str] | None = None, allow_timing_fail: bool = False,
          stage: Stage = _at_once) -> Built:
    """Build the bitstream of ``top`` for ``board``.

    Parameters
    ----------
    top : wiring.Component
        Its members are pins of the board by flat name. The Verilog in its attribute ``sources``
        is added, where it has one.
    seed : int
        Where the placer starts from.
    sources : tuple of str
        Verilog of modules that ``top`` instantiates.
    sites : mapping of str to str or None
        Sites that multipliers are tied to, by the ends of their names.
    allow_timing_fail : bool
        Return also what is too slow.
    stage : callable
        Does each stage's work.

    Raises
    ------
    ImportError
        A tool is missing.
    ValueError
        ``top`` has other pins than the board, or does not fit its chip, or a clock is too slow.
    RuntimeError
        A tool failed.
    """
    verilog = stage("Emitting Verilog", lambda: chip_verilog(top, sources))
    built = place(synthesise(verilog, board, stage=stage), board, seed=seed, sites=sites or {},
                  verilog=verilog, stage=stage)
    for clock in built.clocks:
        if not (clock.met or allow_timing_fail):
            raise ValueError(
                f"clock {clock.name} must reach {clock.target_mhz:g} MHz on {board.name}, not "
                f"{clock.fmax_mhz:.1f} (slowest from {clock.ends}, seed {seed})")
    return built


def chip_verilog(top: wiring.Component, sources: tuple[str, ...] = ()) -> str:
    """Verilog of a chip as ``build`` synthesises it, with that of what it instantiates."""
    return "\n".join([emit_verilog(top, name="top", vendor_cells=True),
                      *getattr(top, "sources", ()), *sources])


def multiplier_sites(board: Board, config: CoreConfig) -> dict[str, str]:
    """Where the multipliers of a core's array lie: side by side on an 85F, anywhere elsewhere."""
    array = config.array
    if not board.device.endswith("85F") or array.strategy != "ecp5":
        return {}
    try:
        return side_by_side(array.rows, array.hard_cols, SITES_85F)
    except ValueError:  # more than that has sites for
        return {}


def synthesise(verilog: str, board: Board, *, stage: Stage = _at_once) -> Path:
    """The netlist of module ``top`` as JSON for nextpnr, in the cache.

    On ECP5 Yosys infers multipliers as far as the chip has them, and block RAM takes registers
    behind it. On iCE40 the pass that infers multipliers would change those that are instantiated,
    and loses some of a systolic array.
    """
    yosys, chip = find_tool("yosys"), board.chip
    # Eight cells of iCE40 share an enable: with one for every few, a full chip finds no places.
    # Its LUTs are chosen by the chip's delays. Wires are split into bits before that: bit 0 of one
    # gets its name from Yosys then, which may be that of another (Yosys issue 4349).
    passes = ((f"synth_ice40 -abc9 -device {chip.speed} -dffe_min_ce_use 4",)
              if chip.family == "ice40" else ("synth_ecp5", "synth_ecp5 -nodsp"))
    scripts = [f"read_verilog top.v; {each} -top top -run :map_luts; splitnets; "
               f"{each} -top top -run map_luts:; write_json top.json" for each in passes]
    absorbs = chip.family == "ecp5"
    key = digest(verilog, *scripts, str(chip.dsps), yosys.version,
                 inspect.getsource(block_ram) if absorbs else "")
    with cached("netlists", key) as (folder, building):
        if building is not None:
            def work() -> None:
                (building / "top.v").write_text(verilog)
                for script in scripts:
                    yosys.run(["-l", "yosys.log", "-p", script], building)
                    if _cells(building / "top.json")[_FLOWS[chip.family].dsp] <= chip.dsps:
                        break
                if absorbs:
                    netlist = json.loads((building / "top.json").read_text())
                    block_ram.absorb_registers(netlist)
                    (building / "top.json").write_text(json.dumps(netlist))

            stage("Synthesising", work)
        return folder / "top.json"


def place(netlist: Path, board: Board, *, seed: int, sites: Mapping[str, str], verilog: str = "",
          stage: Stage = _at_once) -> Built:
    """Place and route a netlist, and pack the bitstream, in the cache.

    Raises
    ------
    ValueError
        The netlist has other pins than the board, or does not fit its chip.
    RuntimeError
        A tool failed.
    """
    flow = _FLOWS[board.chip.family]
    placer, packer = find_tool(flow.place), find_tool(flow.pack)
    text = _constraints(netlist, board)
    options = [*board.place_options, "--freq", str(board.target_mhz), "--seed", str(seed)]
    key = digest(netlist.read_text(), text, *options, *board.packing, json.dumps(dict(sites)),
                 placer.version, packer.version)
    with cached("bitstreams", key) as (folder, building):
        if building is not None:
            (building / f"top.{flow.constraints}").write_text(text)
            stage("Placing and routing", lambda: _place(placer, flow, options, sites, netlist,
                                                        board, building))
            stage("Packing the bitstream", lambda: packer.run(
                [*board.packing, f"top.{flow.placed}", f"top.{flow.bitstream}"], building))
    report = json.loads((folder / "report.json").read_text())
    used = {name: (count["used"], count["available"])
            for name, count in report["utilization"].items()}
    return Built(
        board=board, seed=seed, luts=used[flow.luts][0], dsps=used.get(flow.dsps, (0, 0))[0],
        brams=used[flow.brams][0], ffs=_flip_flops(netlist, flow), used=used,
        clocks=_clocks(report), tools={tool.name: tool.version
                                       for tool in (find_tool("yosys"), placer, packer)},
        verilog=verilog, netlist=netlist, folder=folder,
        bitstream=folder / f"top.{flow.bitstream}", fresh=building is not None)


def pack(netlist: Path, board: Board) -> dict[str, int]:
    """Logic cells, flip-flops, multipliers and block RAMs of a netlist, whether they fit or not.

    That takes seconds; it is in the cache.
    """
    flow = _FLOWS[board.chip.family]
    placer = find_tool(flow.place)
    text = _constraints(netlist, board)
    key = digest(netlist.read_text(), text, *board.place_options, placer.version)
    with cached("packed", key) as (folder, building):
        if building is not None:
            (building / f"top.{flow.constraints}").write_text(text)
            copy = building / "netlist.json"
            shutil.copyfile(netlist, copy)
            said = placer.run([*board.place_options, "--json", copy.name, f"--{flow.constraints}",
                               f"top.{flow.constraints}", "--pack-only"], building)
            copy.unlink()
            (building / "nextpnr.log").write_text(said)
    used = dict(re.findall(r"(\w+): +(\d+)/", (folder / "nextpnr.log").read_text()))
    return {"luts": int(used[flow.luts]), "ffs": _flip_flops(netlist, flow),
            "dsps": int(used.get(flow.dsps, 0)), "brams": int(used[flow.brams])}


def area_by_block(verilog: str, board: Board, *, stage: Stage = _at_once
                  ) -> dict[str, dict[str, int]]:
    """Cells of each block of module ``top``, the largest block by its own blocks, in the cache.

    Blocks are synthesised with the hierarchy kept, so that their sum is more than the whole.
    """
    family = board.chip.family
    with cached("areas", digest(verilog, family, find_tool("yosys").version)) as (folder, building):
        if building is not None:
            modules = stage("Synthesising by block",
                            lambda: cells(verilog, top="top", family=family, flatten=False))
            areas = {name: summary(count, family)
                     for name, count in areas_of(modules, top="top").items()}
            largest = max(areas, key=lambda name: areas[name]["LUT"])
            if f"top_{largest}" in modules:
                del areas[largest]
                areas |= {f"{largest}.{name}": summary(count, family)
                          for name, count in areas_of(modules, top=f"top_{largest}").items()}
            (building / "areas.json").write_text(json.dumps(areas))
    return json.loads((folder / "areas.json").read_text())


def _place(placer: Tool, flow: _Flow, options: list[str], sites: Mapping[str, str],
           netlist: Path, board: Board, directory: Path) -> None:
    """Run nextpnr, leaving what it placed, its log and its report in ``directory``."""
    copy = directory / "netlist.json"
    shutil.copyfile(netlist, copy)
    if sites:
        fix(copy, sites)
    try:
        placer.run([*options, "--json", copy.name, f"--{flow.constraints}",
                    f"top.{flow.constraints}", f"--{flow.placed}", f"top.{flow.placed}",
                    "--report", "report.json", "--log", "nextpnr.log", "--timing-allow-fail",
                    "--quiet"], directory)
    except RuntimeError:
        log = directory / "nextpnr.log"
        said = log.read_text() if log.exists() else ""
        for name, used, available in re.findall(r"(\w+): +(\d+)/ *(\d+)", said):
            if int(used) > int(available):
                raise ValueError(f"design must fit the {available} {name} of {board.name}, not "
                                 f"need {used}") from None
        raise
    finally:
        copy.unlink()


def _constraints(netlist: Path, board: Board) -> str:
    """Constraints of the pins of module ``top``."""
    ports = json.loads(netlist.read_text())["modules"]["top"]["ports"]
    return constraints(board, {name: len(port["bits"]) for name, port in ports.items()})


def _cells(netlist: Path) -> Counter[str]:
    """Cells of a flattened netlist by type."""
    module = json.loads(netlist.read_text())["modules"]["top"]
    return Counter(cell["type"] for cell in module["cells"].values())


def _flip_flops(netlist: Path, flow: _Flow) -> int:
    return sum(count for name, count in _cells(netlist).items() if name.startswith(flow.ff))


def _clocks(report: Mapping[str, Any]) -> tuple[Clock, ...]:
    """Clocks of nextpnr's report, that with the least margin first."""
    paths = {}
    for path in report["critical_paths"]:
        if path["from"] == path["to"]:
            cells = [step[end]["cell"] for step in path["path"] for end in ("from", "to")]
            paths[path["from"].split()[-1]] = tuple(dict.fromkeys(cells))
    clocks = [Clock(name=_plain(name), fmax_mhz=figures["achieved"],
                    target_mhz=figures["constraint"], path=paths.get(name, ()))
              for name, figures in report["fmax"].items()]
    return tuple(sorted(clocks, key=lambda clock: clock.fmax_mhz / clock.target_mhz))


def _plain(name: str) -> str:
    """A net's name without what nextpnr adds for buffers and global lines."""
    return re.sub(r"^\$glbnet\$|(\$SB_IO_IN|\$TRELLIS_IO_IN|_?\$glb_clk).*$", "", name)
