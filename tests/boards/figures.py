"""Trained models on boards: the table of ``docs/models.md``.

``python tests/boards/figures.py --document docs/models.md``, with ``systolith`` importable,
compiles each model for what each board runs, and writes it between its two marks: cycles as
predicted with the board's memory, inferences at the clock that the board is meant to reach
(``target_mhz``), bytes of system memory, and how many of the test data are named right.
"""

import sys
from functools import cache
from pathlib import Path

import click

sys.path += [str(Path(__file__).resolve().parents[1] / name) for name in (".", "sw")]

import references
from interpreters import keywords, pictures
from systolith.compiler.compile import compile_model
from systolith.compiler.lower import TooLarge
from systolith.models.evaluate import evaluate
from systolith.models.quantiser import quantised_model
from systolith.models.read import read_model
from systolith_boards.boards import BOARDS
from systolith_boards.propose import board_bus
from systolith_boards.report import check_marks, markdown, rewrite
from trained import labelled_digits, labelled_keywords, labelled_pictures, trained

MARKS = ("<!-- figures -->\n", "<!-- end of figures -->\n")
COLUMNS = ("board", "model", "named right", "cycles", "MHz", "inferences/s", "bytes", "on the host")
CHOSEN = ("icebreaker", "ulx3s_25f", "ulx3s_45f", "ulx3s_85f", "orangecrab_r0_2_25f",
          "orangecrab_r0_2_85f", "ecpix5_45f", "ecpix5_85f")


def of_file(*parts):
    return read_model(references.stored(*parts))


def digits(count):
    """A model on int8 of one of real numbers, with its test data."""
    graph, inputs, labels, data = trained("digits")
    return quantised_model(graph, data), next(iter(inputs.values()))[:count], labels[:count]


# Each with inputs and labels, at most as many as are asked for.
MODELS = {
    "keyword spotting int8": lambda count: (
        of_file("mlperf_tiny", "kws_ref_model.tflite"), keywords(count),
        labelled_keywords()[1][:count]),
    "ResNet-8 int8": lambda count: (
        of_file("mlperf_tiny", "pretrainedResnet_quant.tflite"), pictures(count),
        labelled_pictures()[1][:count]),
    "TFC ternary": lambda count: (of_file("qonnx", "TFC_2W2A.onnx"),
                                  *(part[:count] for part in labelled_digits())),
    "opt-mnist int8": digits}


@cache
def known(name, count):
    """A model, and how many of its test data it names right, which the core does as the graph."""
    graph, x, labels = MODELS[name](count)
    found, = evaluate(graph, {graph.inputs[0]: x}).values()
    right = int((found.reshape(len(x), -1).argmax(1) == labels).sum())
    return graph, f"{right:,} of {len(x):,}"


def row(name, model, count):
    """Cells of a model on a board."""
    board = BOARDS[name]
    graph, right = known(model, count)
    try:
        network = compile_model(graph, config=board.config, bus=board_bus(board, board.config),
                                memory_bytes=board.memory_bytes)
    except TooLarge as error:
        return (name, model, right, "-", "-", "-", f"more than {error.needed:,}",
                f"does not fit: the board has {board.memory_bytes:,} bytes")
    except ValueError as error:
        return name, model, right, *["-"] * 4, str(error)
    needs = network.memory_bytes
    if needs > board.memory_bytes:
        return name, model, right, "-", "-", "-", f"{needs:,}", (
            f"does not fit: the board has {board.memory_bytes:,} bytes")
    return (name, model, right, f"{network.cycles:,}", f"{board.target_mhz:g}",
            f"{1e6 * board.target_mhz / network.cycles:,.0f}", f"{needs:,}",
            ", ".join(network.host_ops) or "nothing")


@click.command()
@click.option("--board", "boards", multiple=True, type=click.Choice(list(BOARDS)), default=CHOSEN,
              show_default=True, help="Only this one; may be repeated.")
@click.option("--count", type=click.IntRange(min=1), default=10_000, help="Most test data.")
@click.option("--document", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="File whose table, between its two marks, is replaced.")
def main(boards, count, document):
    """Print the table."""
    if document is not None:
        check_marks(document, MARKS)
    rows = []
    for name in boards:
        for model in MODELS:
            rows.append(row(name, model, count))
            click.echo(" | ".join(rows[-1]), err=True)
    text = markdown(COLUMNS, rows, texts=(0, 1, 7))
    click.echo(text, nl=False)
    if document is not None:
        rewrite(document, MARKS, text)


if __name__ == "__main__":
    main()
