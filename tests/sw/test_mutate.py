"""Damaged model files are graphs or are refused, in a pool of processes that outlives them."""

import deadly
import numpy as np
import pytest
from int8_graphs import CASES
from onnx_cases import FLOATS, model
from systolith.compiler.exact import rounded_even
from systolith.models import mutate
from systolith.models.mutate import case, main, mutated, mutations
from tflite_models import tflite_bytes


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A TFLite and two ONNX models."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(1)
    contents = {"conv.tflite": tflite_bytes(CASES["conv"](rng)),
                "conv.onnx": model(*FLOATS["conv"](rng)).SerializeToString(),
                "gemm.onnx": model(*FLOATS["gemm"](rng)).SerializeToString()}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in contents]


def test_300_mutations_are_graphs_or_are_refused(files):
    found = list(mutations(files, range(300), jobs=2))
    assert sorted(outcome.seed for outcome in found) == list(range(300))
    assert [outcome for outcome in found if not outcome.good] == []
    kinds = {outcome.kind for outcome in found}
    assert kinds == {"graph", "refused"}
    assert all(outcome.text for outcome in found if outcome.kind == "refused")


@pytest.mark.full
def test_what_can_be_read_is_compiled_or_refused(files):
    found = list(mutations(files, range(300), jobs=1, preset="demo", seconds=60))
    assert [outcome for outcome in found if not outcome.good] == []


def test_a_seed_makes_the_same_damage_each_time(files):
    for path in files:
        data = path.read_bytes()
        made = [mutated(data, path.suffix, seed) for seed in range(40)]
        assert made == [mutated(data, path.suffix, seed) for seed in range(40)]
        assert len(set(made) - {data}) > 30


def test_a_process_that_dies_or_hangs_is_named_and_followed_by_another(monkeypatch):
    monkeypatch.setattr(mutate, "_work", deadly.work)
    found = {outcome.seed: outcome for outcome in mutations([], range(8), jobs=2, seconds=3)}
    assert sorted(found) == list(range(8))
    assert {seed: outcome.kind for seed, outcome in found.items() if not outcome.good} == {
        3: "died", 5: "time"}
    assert found[3].text == "exit code 7"


@pytest.mark.parametrize("error, kind", [
    (KeyError("x"), "exception"), (RecursionError(), "exception"), (MemoryError(), "memory"),
    (ValueError("two\nlines"), "exception"), (ValueError(), "exception"),
    (ValueError("one line"), "refused"),
])
def test_what_a_reader_raises_is_judged(monkeypatch, files, error, kind):
    def read(data, name):
        raise error
    monkeypatch.setitem(mutate.READERS, ".tflite", read)
    outcome = case(files[0], files[0].read_bytes(), 1)
    assert (outcome.kind, outcome.good) == (kind, kind == "refused")


def test_a_worker_has_no_more_memory_than_it_may(files):
    found = list(mutations(files[:1], range(2), jobs=1, memory_bytes=1 << 20, seconds=20))
    assert not any(outcome.good for outcome in found)


def test_the_command_counts_and_repeats_a_case(files, capsys, monkeypatch):
    assert main([str(files[0]), "--count", "20", "--jobs", "1"]) == 0
    counted = dict(part.split()[::-1] for part in capsys.readouterr().out.strip().split(", "))
    assert sum(map(int, counted.values())) == 20
    monkeypatch.setattr(mutate, "_work", deadly.work)
    assert main([str(files[0]), "--seed", "3", "--count", "1", "--jobs", "1"]) == 1
    assert "conv.tflite, seed 3: died: exit code 7" in capsys.readouterr().out


@pytest.mark.parametrize("options, says", [
    (["none.onnx"], "MODEL must be a file that ends in .onnx, .tflite, not 'none.onnx'"),
    (["FILE", "--count", "0"], "must be above 0"),
])
def test_the_command_refuses_what_it_cannot_do(files, capsys, options, says):
    with pytest.raises(SystemExit) as ended:
        main([str(files[0]) if option == "FILE" else option for option in options])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_scale_that_leaves_nothing_of_any_sum_has_a_multiplier_that_does_too():
    multiplier, shift = rounded_even(np.array([1e-30]), bias=np.array([0]),
                                     whole=np.array([[100]]), clamp=(-128, 127))
    assert 0 < multiplier[0] <= 3 and shift[0] == 0
