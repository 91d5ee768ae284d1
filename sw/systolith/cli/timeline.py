"""``systolith timeline``."""

from pathlib import Path

import click

from ..picture import draw_timeline, load_timeline
from .output import write_file

__all__ = ["timeline"]


@click.command(epilog="""
\b
Example:
  systolith timeline gemm.json -o gemm.svg --first 0 --last 2000
where gemm.json comes from
  systolith gemm --device rtl --trace gemm.json
""")
@click.argument("file")
@click.option("-o", "--output", metavar="FILE", required=True, help="Picture to write, as SVG.")
@click.option("--first", type=int, default=0, show_default=True, help="First cycle to show.")
@click.option("--last", type=int, help="Cycle after the last one to show (default: all).")
def timeline(file: str, output: str, first: int, last: int | None):
    """Draw what the engines did, from a file that --trace FILE.json wrote.

    ui.perfetto.dev shows the same file with every command and cycle.
    """
    picture = draw_timeline(load_timeline(file), first=first, last=last)
    write_file(Path(output), picture.encode())
