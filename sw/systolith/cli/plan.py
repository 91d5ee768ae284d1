"""``systolith plan``."""

import shlex
from pathlib import Path

import click

from ..bound import gops
from ..models.quantiser import WEIGHTS, quantised_model
from ..models.read import read_model
from .arrays import named_arrays
from .boards import board_option, board_with, require_packages
from .options import check_count, complete, config_options_for, json_option
from .output import Steps, print_facts, print_json, print_table
from .propose import print_proposals

__all__ = ["plan"]


@click.command(epilog="""
\b
Examples:
  systolith plan --board ulx3s_25f
  systolith plan --board ulx3s_85f --preset peak
  systolith plan --board ulx3s_85f --set array.rows=16 --set array.cols=9
  systolith plan --board icebreaker --preset demo --json
  systolith plan --board ulx3s_85f --model model.tflite
""")
@board_option
@config_options_for("the board's own")
@click.option("--model", metavar="FILE",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="TFLite or ONNX file to propose configurations for.")
@click.option("--calibrate", metavar="FILE",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help=".npy or .npz file of inputs, by which a float model becomes one of int8.")
@click.option("--weights", metavar="|".join(WEIGHTS), default="int8", show_default=True,
              shell_complete=complete(*WEIGHTS), help="Weights of a model that is quantised.")
@click.option("--best", type=int, metavar="N", default=3, show_default=True,
              help="How many configurations to propose.")
@json_option
def plan(board_name: str, preset: str | None, path: str | None, assignments: tuple[str, ...],
         model: Path | None, calibrate: Path | None, weights: str, best: int, as_json: bool):
    """Say whether a configuration fits a board, without building it.

    Multipliers and block RAMs are counted, by the rules of the synthesiser. LUTs and flip-flops are
    estimated from what the design has of registers, sums, choices and so on, by weights fitted on
    builds of other configurations; how far off they were for builds that took no part in that is
    said, too. `systolith build` refuses what is certain not to fit; only it can tell the clock that
    a chip reaches, so that the peak here is at the clock that the board is meant to reach.

    Where it does not fit: an array takes a DSP for each product (two on iCE40), memory.* block RAM,
    and all of vector.*, control.* and bus.data_bits LUTs.

    With --model, shape of the array, scratchpads, lanes and width of the bus are searched instead:
    the model is compiled for some two dozen configurations, its cycles are predicted with the
    board's memory, and the fastest that fit are listed, each of another shape, with the options
    that build them. It takes about a minute, longer for small arrays, whose programs are long, and
    does not try everything.
    """
    require_packages()
    options = " ".join([
        f"--board {shlex.quote(board_name)}",
        *(f"--{name} {shlex.quote(value)}" for name, value in
          (("preset", preset), ("config", path)) if value),
        *(f"--set {shlex.quote(each)}" for each in assignments)])
    if model is not None:
        check_count("best", best)
        board, config = board_with(board_name, preset, path, assignments)
        steps = Steps(quiet=as_json)
        graph = read_model(model)
        if calibrate is not None:
            data = named_arrays(calibrate, graph.inputs, "calibrate")
            graph = steps.run(f"quantising {model.name}", lambda: quantised_model(
                graph, data, weights=weights))
        print_proposals(graph, board, config, options, steps, best=best, as_json=as_json)
        return
    if calibrate is not None or weights != "int8":
        raise ValueError("model must be given where calibrate or weights is")
    from systolith_boards.boards import RESOURCES
    from systolith_boards.plan import plan as plan_chip
    from systolith_boards.soc import top_of

    board, config = board_with(board_name, preset, path, assignments)
    planned = Steps(quiet=as_json).run(
        "Counting what it is made of", lambda: plan_chip(
            top_of(board, config), config, board))
    available, lacking = planned.available, planned.lacking
    peak = gops(config.macs_per_cycle, board.target_mhz)
    if as_json:
        print_json({
            "board": board.name, "chip": board.device, "fits": not lacking,
            **{name: getattr(planned, name) for name in RESOURCES}, "available": available,
            "errors": dict(planned.errors), "target_mhz": board.target_mhz,
            "macs_per_cycle": config.macs_per_cycle, "gops": round(peak, 2),
        })
        return
    print_table([board.name, "needed", "within", "available", "share"], [
        [text, f"{getattr(planned, name):,}",
         f"{100 * planned.errors[name]:.0f} %" if name in planned.errors else "exact",
         f"{available[name]:,}",
         f"{100 * getattr(planned, name) / available[name]:.0f} %" if available[name] else "-"]
        for name, text in RESOURCES.items()])
    print_facts({
        "MAC/cycle": str(config.macs_per_cycle),
        "peak": f"{peak:.1f} GOPS at the {board.target_mhz:g} MHz wanted",
    })
    if not lacking:
        click.echo(f"\nIt fits. Next: systolith build {options}")
        return
    amounts = ", ".join(f"{getattr(planned, name) - available[name]:,} {RESOURCES[name]}"
                        for name in lacking)
    click.echo(f"\nIt does not fit: {amounts} too many." if planned.certain else
               f"\nIt may not fit: {amounts} too many, which may be the estimate's error.")
