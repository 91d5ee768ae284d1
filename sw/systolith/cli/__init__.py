"""The command line: ``systolith``.

The only place that may reach into hardware, simulation and boards; the latter two are imported by
the commands that need them, when they are run.
"""

from importlib import metadata

import click

from .assembly import asm, disasm
from .bench import bench
from .bench_vector import bench_vector
from .boards import boards
from .build import build
from .compile import compile_
from .completion import completion
from .demo import demo
from .diff import diff
from .doctor import doctor
from .gemm import gemm
from .generate import generate
from .group import Commands
from .inspect import inspect
from .plan import plan
from .presets import presets
from .program import program
from .run import evaluate, run
from .timeline import timeline

__all__ = ["main"]


SETTINGS = {"help_option_names": ["-h", "--help"]}


@click.group("systolith", cls=Commands, context_settings=SETTINGS, epilog="""
\b
First steps:
  systolith doctor                              is everything there?
  systolith demo                                train, compile, run on the emitted Verilog
  systolith generate --preset demo -o build/demo
  systolith gemm -m 100 -n 70 -k 300 --device rtl
  systolith build --board ulx3s_25f             a bitstream; systolith boards lists others
  systolith COMMAND -h                          options and an example of every command
""")
@click.version_option(metadata.version("systolith"), prog_name="systolith")
def main():
    """Generate systolic neural-network accelerators, and run programs on them.

    One configuration gives Verilog, compiler, bit-exact model and simulation that agree in every
    byte.
    """


bench.add_command(bench_vector)
for command in (generate, presets, gemm, bench, demo, inspect, compile_, run, evaluate, diff,
                timeline, boards, plan, build, program, asm, disasm, doctor, completion):
    main.add_command(command)
