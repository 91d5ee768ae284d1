"""``python -m systolith_sim.random_programs --count N --seed S --configs C``."""

import json
import sys
import time

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..tools import ToolError
from .coverage import Coverage
from .run import Case, Failure, check, draw_case, random_config, shrink


@click.command()
@click.option("--count", type=click.IntRange(1), default=300, show_default=True,
              help="Programs in all.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of the first program; the next has the next.")
@click.option("--configs", type=click.IntRange(1), default=8, show_default=True,
              help="Random configurations, from 0 on; each is built once.")
@click.option("--config", "only", type=click.IntRange(0), help="This configuration only.")
@click.option("--assertions/--no-assertions", default=True, show_default=True,
              help="Check the assertions in the Verilog, and start registers at random.")
@click.option("--shrink/--no-shrink", "shrinking", default=True, show_default=True,
              help="Make a failing program small.")
@click.option("--coverage", "covering", is_flag=True,
              help="Do not run them on Verilog, but count what is in them and around them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def main(count: int, seed: int, configs: int, only: int | None, assertions: bool,
         shrinking: bool, covering: bool, as_json: bool) -> None:
    """Run random programs on the model and on the Verilog of random cores.

    Ends with code 1 and the program, made small, where the two differ.
    """
    numbers = list(range(configs)) if only is None else [only]
    seeds = {number: range(seed + position, seed + count, len(numbers))
             for position, number in enumerate(numbers)}
    if covering:
        _cover(seeds, count, as_json)
        return
    start, cycles, commands = time.monotonic(), 0, 0
    with _progress() as progress:
        task = progress.add_task("random programs", total=count)
        for number, programs in seeds.items():
            config = random_config(number)
            progress.update(task, description=f"configuration {number}: {config.array.rows} x "
                                              f"{config.array.cols}")
            for program in programs:
                case = draw_case(config, program)
                try:
                    cycles += check(case, assertions=assertions)
                except Failure as failure:
                    progress.stop()
                    text = _small(case, assertions) if shrinking else str(failure)
                    print(json.dumps({"equal": False, "configuration": number, "seed": program,
                                      "failure": text}) if as_json else
                          f"FAIL: configuration {number}, seed {program}\n{text}")
                    sys.exit(1)
                except ToolError as error:
                    progress.stop()
                    click.echo(f"random_programs: {error}", err=True)
                    sys.exit(2)
                commands += len(case.steps)
                progress.advance(task)
    seconds = time.monotonic() - start
    print(json.dumps({"equal": True, "programs": count, "configurations": len(numbers),
                      "seed": seed, "commands": commands, "cycles": cycles,
                      "seconds": round(seconds, 1)}) if as_json else
          f"{count} programs on {len(numbers)} configurations from seed {seed}: {commands} "
          f"commands, {cycles} cycles, all equal ({seconds:.0f} s)")


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn(),
                    console=Console(stderr=True))


def _cover(seeds: dict[int, range], count: int, as_json: bool) -> None:
    coverage = Coverage()
    with _progress() as progress:
        task = progress.add_task("counting", total=count)
        for number, programs in seeds.items():
            config = random_config(number)
            for program in programs:
                coverage.add([draw_case(config, program)])
                progress.advance(task)
    missing = coverage.missing()
    if as_json:
        print(json.dumps({"programs": count, "commands": coverage.commands, "items": [
            [*item, coverage.counts[item]] for item in coverage.wanted()]}))
        return
    console = Console()
    for table in coverage.tables():
        console.print(table)
    console.print(f"{len(coverage.wanted()) - len(missing)} of {len(coverage.wanted())} items "
                  f"occur in {count} programs")
    for item in missing:
        console.print("missing:", ", ".join(item))


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
