"""Every operation keeps within the error that it states."""

import pytest
from systolith import ModelDevice
from systolith.vector.errors import cases, main, measure
from systolith_hw.config import PRESETS

CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_errors_are_within_their_bounds(case):
    with ModelDevice(PRESETS["bench16"]) as device:
        largest, mean = measure(case, device)
    assert mean <= largest <= case.bound


def test_the_table_names_every_case(capsys):
    main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(CASES)
    assert lines[0].split() == ["operation", "largest", "mean", "bound"]
