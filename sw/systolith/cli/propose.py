"""What ``systolith plan --model`` prints."""

from typing import Any

import click
from systolith_hw.config import CoreConfig

from ..models.graph import Graph
from .output import Steps, print_facts, print_json, print_table

__all__ = ["print_proposals"]


def print_proposals(graph: Graph, board: Any, config: CoreConfig, options: str, steps: Steps, *,
                    best: int, as_json: bool) -> None:
    """Search configurations for a model on a board, and print the best that fit.

    Parameters
    ----------
    board : systolith_boards.boards.Board
    config : CoreConfig
        What is changed.
    options : str
        Of ``systolith build``, for that configuration.
    """
    from systolith_boards.propose import propose

    found = propose(graph, board, config, count=best, progress=steps.say)
    facts = [_facts(proposal, board.target_mhz, options) for proposal in found]
    if as_json:
        print_json({"board": board.name, "chip": board.device, "model": graph.name,
                    "target_mhz": board.target_mhz, "proposals": facts})
        return
    if not found:
        click.echo(f"Nothing that was tried fits {board.name} with this model.")
        return
    print_table(["array", "lanes", "activations", "weights", "sums", "bus", "cycles",
                 "inferences/s", "LUTs", "DSPs", "block RAMs"], [
        [f"{fact['rows']} x {fact['cols']}", str(fact["lanes"]),
         *(f"{fact[f'{name}_bytes'] / 1024:g} KiB" for name in ("act", "wgt", "acc")),
         f"{fact['bus_bits']} bit", f"{fact['cycles']:,}", f"{fact['per_second']:,.0f}",
         f"{fact['luts']:,}", f"{fact['dsps']:,}", f"{fact['brams']:,}"] for fact in facts])
    print_facts({
        "board": f"{board.name}, at the {board.target_mhz:g} MHz wanted",
        "host": ", ".join(facts[0]["host_ops"]) or "nothing but conversion",
        "multiplications": f"{facts[0]['macs']:,} on the core",
    })
    click.echo("\nThe first:")
    click.echo(f"  {facts[0]['build']}")


def _facts(proposal: Any, mhz: float, options: str) -> dict[str, Any]:
    config, memory = proposal.config, proposal.config.memory
    network = proposal.network
    changes = "".join(f" --set {change}" for change in proposal.changes)
    return {
        "rows": config.array.rows, "cols": config.array.cols,
        "weights": list(config.array.weights), "lanes": config.vector.lanes,
        "bus_bits": config.bus.data_bits, "act_bytes": memory.act_rows * config.act_row_bytes,
        "wgt_bytes": memory.wgt_rows * config.wgt_row_bytes,
        "acc_bytes": 4 * memory.acc_rows * config.array.cols,
        "cycles": proposal.cycles, "per_second": 1e6 * mhz / proposal.cycles,
        "macs": sum(layer.macs for layer in network.layers if not layer.host),
        "memory_bytes": network.memory_bytes, "host_ops": network.host_ops,
        **{name: getattr(proposal.plan, name) for name in ("luts", "ffs", "dsps", "brams")},
        "changes": list(proposal.changes), "build": f"systolith build {options}{changes}"}
