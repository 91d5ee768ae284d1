"""``python -m systolith_sim.random_programs --count N --seed S --configs C``."""

import sys
import time

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .run import Case, Failure, check, draw_case, random_config, shrink


@click.command()
@click.option("--count", type=click.IntRange(1), default=300, show_default=True,
              help="Programs in all.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of the first program; the next has the next.")
@click.option("--configs", type=click.IntRange(1), default=8, show_default=True,
              help="Random configurations, from 0 on; each is built once.")
@click.option("--config", "only", type=click.IntRange(0), help="This configuration only.")
@click.option("--assertions/--no-assertions", default=True, show_default=True)
@click.option("--shrink/--no-shrink", "shrinking", default=True, show_default=True,
              help="Make a failing program small.")
def main(count: int, seed: int, configs: int, only: int | None, assertions: bool,
         shrinking: bool) -> None:
    """Run random programs on the model and on the Verilog of random cores."""
    console = Console(stderr=True)
    start, cycles, commands = time.monotonic(), 0, 0
    numbers = range(configs) if only is None else [only]
    with Progress(TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn(),
                  console=console) as progress:
        task = progress.add_task("random programs", total=count)
        for position, number in enumerate(numbers):
            config = random_config(number)
            progress.update(task, description=f"configuration {number}: {config.array.rows} x "
                                              f"{config.array.cols}")
            for program in range(seed + position, seed + count, len(numbers)):
                case = draw_case(config, program)
                try:
                    cycles += check(case, assertions=assertions)
                except Failure as failure:
                    progress.stop()
                    print(f"FAIL: configuration {number}, seed {program}", flush=True)
                    print(_small(case, assertions) if shrinking else failure)
                    sys.exit(1)
                commands += len(case.steps)
                progress.advance(task)
    print(f"{count} programs on {len(numbers)} configurations from seed {seed}: {commands} "
          f"commands, {cycles} cycles, all equal ({time.monotonic() - start:.0f} s)")


def _small(case: Case, assertions: bool) -> str:
    text = ""

    def fails(candidate: Case) -> bool:
        nonlocal text
        try:
            check(candidate, assertions=assertions)
        except Failure as failure:
            text = str(failure)
            return True
        return False

    fails(case)
    small = shrink(case, fails)
    return f"{text}{len(small.steps)} of {len(case.steps)} commands are left\n"


if __name__ == "__main__":
    main()
