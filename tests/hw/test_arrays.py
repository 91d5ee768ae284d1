"""The array of a configuration, of every strategy."""

import pytest
from systolith_hw.arrays import array_of
from systolith_hw.formats import STRATEGIES, check_family
from systolith_hw.latency import array_latency
from systolith_hw.parts import ArrayConfig

ALL = ("int8", "int4", "ternary")


def arrays():
    for strategy, forms in STRATEGIES.items():
        for pairs, cells in ((False, forms.cells), (True, forms.pairs)):
            for cell in cells:
                for weights in (ALL, (cell,)):
                    if not pairs or weights == ALL:
                        yield {"strategy": strategy, "cell": cell, "pairs": pairs,
                               "weights": weights}


@pytest.mark.parametrize("array", list(arrays()), ids=str)
@pytest.mark.parametrize("rows, cols, fanout", [(1, 1, 1), (5, 7, 2), (16, 9, 4), (64, 64, 64)])
def test_an_array_is_what_the_compiler_counts_on(array, rows, cols, fanout):
    config = ArrayConfig(rows=rows, cols=cols, fanout=fanout, **array)
    component = array_of(config)
    assert component.latency == array_latency(config)
    assert len(component.sums) == config.sum_cols
    assert len(component.weights) == cols
    assert len(component.weights[0]) == config.weight_bits


@pytest.mark.parametrize("array, text", [
    ({"strategy": "magic"},
     "array.strategy must be one of generic, ecp5, ice40, soft, soft_ecp5, not 'magic'"),
    ({"strategy": "soft"},
     "array.strategy must be one of generic, ecp5, ice40 for int8 cells, not 'soft'"),
    ({"strategy": "ecp5", "cell": "ternary"},
     "array.strategy must be one of generic, soft, soft_ecp5 for ternary cells, not 'ecp5'"),
    ({"strategy": "ice40", "pairs": True, "weights": ALL},
     "array.strategy must be one of generic, ecp5, soft for pairs of int8 cells, not 'ice40'"),
])
def test_a_strategy_without_such_cells_is_refused(array, text):
    with pytest.raises(ValueError) as caught:
        ArrayConfig(**array)
    assert str(caught.value) == text


def test_a_strategy_on_the_wrong_chip_is_refused():
    with pytest.raises(ValueError) as caught:
        check_family("ice40", "ecp5")
    assert str(caught.value) == ("array.strategy must be one of generic, ecp5, soft, soft_ecp5 for "
                                 "ecp5, not 'ice40'")
    check_family("soft", "xilinx")
