"""``systolith build``."""

import json
from pathlib import Path
from typing import Any

import click
import tomli_w

from ..bound import gops
from .boards import board_option, board_with, require_packages
from .options import check_count, config_options_for, json_option
from .output import Steps, print_facts, print_json, print_table, write_files

__all__ = ["build"]


@click.command(epilog="""
\b
Examples:
  systolith build --board orangecrab_r0_2_25f
  systolith build --board ulx3s_85f --preset peak --seed 2 --json
  systolith build --board ulx3s_25f --set vector.functions=0 -o build/small
""")
@board_option
@config_options_for("the board's own")
@click.option("--seed", type=int, default=1, show_default=True,
              help="Where the placer starts from: another one gives another clock.")
@click.option("--allow-timing-fail", is_flag=True,
              help="Keep a bitstream that may compute wrongly, because a clock is too fast for it.")
@click.option("--blocks", is_flag=True,
              help="Area of each block too, which takes another synthesis.")
@click.option("-o", "--output", "folder", metavar="DIR",
              help="Folder for the files (default build/BOARD).")
@json_option
def build(board_name: str, preset: str | None, path: str | None, assignments: tuple[str, ...],
          seed: int, allow_timing_fail: bool, blocks: bool, folder: str | None, as_json: bool):
    """Make the bitstream of an accelerator for a board.

    Synthesis, place and route and packing, by Yosys, nextpnr and the chip's packer: those on PATH
    where they are not older than those of the package `systolith[boards]`, which are taken
    otherwise. What was built once is in ~/.cache/systolith (or $SYSTOLITH_CACHE).

    The configuration is the board's own (see `systolith boards`) with what --set changes, or that
    of --preset, which may be one of the board's, or of --config. A clock that the chip does not
    reach is an error; what is certain not to fit is refused before synthesis (see
    `systolith plan`).
    """
    require_packages()
    from systolith_boards.boards import RESOURCES
    from systolith_boards.build import area_by_block, multiplier_sites
    from systolith_boards.build import build as build_bitstream
    from systolith_boards.plan import check_fit, plan
    from systolith_boards.soc import top_of

    check_count("seed", seed)
    board, config = board_with(board_name, preset, path, assignments)
    target = Path(folder or f"build/{board.name}")
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(20, "is no folder", str(target))
    steps = Steps(quiet=as_json)
    check_fit(steps.run("Counting what it is made of", lambda: plan(
        top_of(board, config), config, board)))
    built = build_bitstream(top_of(board, config), board, seed=seed,
                            sites=multiplier_sites(board, config),
                            allow_timing_fail=allow_timing_fail, stage=steps.run)
    areas = area_by_block(built.verilog, board, stage=steps.run) if blocks else {}
    clock = built.clocks[0]
    result = {
        "board": board.name, "chip": board.device, "seed": seed,
        **{name: getattr(built, name) for name in RESOURCES},
        "fmax_mhz": round(clock.fmax_mhz, 2), "target_mhz": round(clock.target_mhz, 2),
        "clocks": {each.name: {"fmax_mhz": round(each.fmax_mhz, 2),
                               "target_mhz": round(each.target_mhz, 2)} for each in built.clocks},
        "macs_per_cycle": config.macs_per_cycle, "fingerprint": f"{config.fingerprint:016x}",
        "bitstream": str(target / f"{board.name}{built.bitstream.suffix}"),
        **({"blocks": areas} if blocks else {}), "tools": dict(built.tools),
    }
    files = write_files(target, {
        f"{board.name}{built.bitstream.suffix}": built.bitstream.read_bytes(),
        f"{board.name}.v": built.verilog,
        f"{board.name}.toml": tomli_w.dumps(config.to_dict()),
        **{f"{board.name}{entry.suffix}": entry.read_bytes()
           for entry in (built.folder / "top.pcf", built.folder / "top.lpf") if entry.exists()},
        f"{board.name}_nextpnr.log": (built.folder / "nextpnr.log").read_bytes(),
        f"{board.name}_report.json": (built.folder / "report.json").read_bytes(),
        f"{board.name}.json": json.dumps(result, indent=2) + "\n",
    })
    if as_json:
        print_json(result)
    else:
        _print(result, built, [str(file) for file in files])


def _print(result: dict[str, Any], built: Any, files: list[str]) -> None:
    from systolith_boards.boards import RESOURCES

    available = built.board.chip.available
    print_table([result["board"], "used", "available", "share"], [
        [text, f"{result[name]:,}", f"{available[name]:,}",
         f"{100 * result[name] / available[name]:.0f} %" if available[name] else "-"]
        for name, text in RESOURCES.items()])
    print_table(["clock", "MHz", "target", "slowest path"], [
        [each.name, f"{each.fmax_mhz:.1f}", f"{each.target_mhz:.1f}", each.ends]
        for each in built.clocks])
    if "blocks" in result:
        kinds = list(next(iter(result["blocks"].values())))
        print_table(["block", *kinds], [[name, *(f"{area[kind]:,}" for kind in kinds)]
                                        for name, area in result["blocks"].items()])
    print_facts({
        "MAC/cycle": str(result["macs_per_cycle"]),
        "peak": f"{gops(result['macs_per_cycle'], result['target_mhz']):.1f} GOPS at "
                f"{result['target_mhz']:g} MHz",
        "placed": f"now, seed {result['seed']}" if built.fresh else
                  f"before, seed {result['seed']}; from the cache",
        "files": ", ".join(files),
    })
    click.echo(f"\nNext: systolith program --board {result['board']} --bitstream "
               f"{result['bitstream']}")
