"""Configurations that are proposed for a model on a board."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import systolith
from systolith.cycles import predict_cycles
from systolith.models.evaluate import evaluate
from systolith.program import decode_program
from systolith_boards import propose as module
from systolith_boards.boards import BOARDS
from systolith_boards.plan import Plan
from systolith_boards.propose import array_bound, board_bus, propose, shapes

sys.path.append(str(Path(__file__).resolve().parents[1] / "sw"))    # small networks

from networks import residual

BOARD = BOARDS["ulx3s_85f"]


@pytest.fixture
def foreseen(monkeypatch):
    """What the planner says: one multiplier a product, and as many block RAMs as ``brams`` says."""
    def say(brams=lambda config: 60):
        monkeypatch.setattr(module, "top_of", lambda board, config: config)
        monkeypatch.setattr(module, "plan", lambda top, config, board: Plan(
            board=board, luts=1000, ffs=1000, brams=brams(config), errors={},
            dsps=config.array.multipliers + 5 * config.vector.lanes))
        monkeypatch.setattr(module, "SHAPES", 3)
        monkeypatch.setattr(module, "TUNED", 1)
    return say


@pytest.mark.parametrize("rows, cols", [(8, 8), (16, 8), (4, 32), (9, 12)])
@pytest.mark.parametrize("channels", [3, 16, 40])
def test_no_array_is_faster_than_its_bound(rows, cols, channels):
    graph = residual(1, size=(12, 11), channels=channels)
    config = BOARD.config.overridden([f"array.rows={rows}", f"array.cols={cols}"])
    network = systolith.compile(graph, config=config)
    assert network.host_ops == []
    assert 0 < array_bound(graph, rows, cols) <= network.cycles


def test_shapes_use_at_least_half_of_the_multipliers_and_at_most_all():
    found = shapes(BOARD, BOARD.config, 20)
    assert (16, 8) in found and (12, 12) not in found and (4, 8) not in found
    assert all(68 <= rows * cols <= 136 for rows, cols in found)


def test_the_fastest_that_fit_come_first_each_of_another_shape(foreseen):
    foreseen()
    graph, said = residual(2, size=(12, 11), channels=24), []
    found = propose(graph, BOARD, BOARD.config, progress=said.append)
    assert [each.cycles for each in found] == sorted(each.cycles for each in found)
    assert len({(each.config.array.rows, each.config.array.cols) for each in found}) == len(found)
    assert len(said) > 5
    for each in found:
        assert BOARD.config.overridden(list(each.changes)) == each.config
        assert each.plan is not None and not each.plan.lacking
        assert each.cycles == sum(predict_cycles(
            decode_program(image.program), config=each.config,
            bus=board_bus(BOARD, each.config)) or 0 for image in each.network.images)
    x = np.random.default_rng(0).integers(-128, 128, graph.tensors["x"].shape).astype(np.int8)
    wanted, = evaluate(graph, {"x": x}).values()
    assert np.array_equal(found[0].network(x, integers=True), wanted)


def test_what_the_planner_says_does_not_fit_is_dropped(foreseen):
    graph = residual(2, size=(12, 11), channels=24)
    foreseen()
    best = propose(graph, BOARD, BOARD.config, count=1)[0].config.array
    foreseen(lambda config: 500 if config.array == best else 60)
    found = propose(graph, BOARD, BOARD.config)
    assert found and best not in [each.config.array for each in found]
    foreseen(lambda config: 500)
    assert propose(graph, BOARD, BOARD.config) == []


def test_memory_that_nothing_is_gained_by_is_given_back(foreseen):
    foreseen()
    first = propose(residual(2, size=(6, 6), channels=8), BOARD, BOARD.config, count=1)[0]
    assert first.config.memory.act_rows < BOARD.config.memory.act_rows


def test_a_board_with_sdram_is_slower_than_one_with_block_ram():
    assert board_bus(BOARD, BOARD.config).words == pytest.approx(0.24)
    board = BOARDS["ecpix5_85f"]
    assert board_bus(board, board.config).words == 1


def test_a_model_too_large_for_the_boards_memory_is_refused_in_a_sentence(foreseen):
    foreseen()
    board = replace(BOARD, memory_bytes=4096)
    with pytest.raises(ValueError, match=r"model must fit the 4,096 bytes of system memory of "
                                         r"ulx3s_85f, not need [\d,]+ or more$"):
        propose(residual(2, channels=64), board, BOARD.config)
