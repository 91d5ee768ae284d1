"""ONNX files: the standard's own cases, those that are refused, and damaged ones."""

import random
import re
import time
import warnings

import numpy as np
import onnx
import pytest
from damaged import check_refused_or_graph
from onnx import numpy_helper
from onnx_cases import FLOATS, WHOLE, linear_operators, residual
from onnx_models import Quantised, computed, model, node, real
from systolith.models import Graph
from systolith.models.onnx import read_onnx
from systolith.models.onnx_extremes import EXTREMES
from systolith.models.onnx_operators import OPERATORS
from systolith.models.onnx_quantised import QUANTISED
from systolith.models.onnx_transposed import TRANSPOSED

# The cases of package onnx.

# Inputs that a case's operator takes while the model runs; the others are its constants.
RUNNING = {"Add": 2, "Sub": 2, "Mul": 2, "Concat": 9, "Max": 9, "Min": 9}
# Cases that are refused, and what the sentence says: the first that a name matches.
REFUSED = [
    ("test_(max|min)_float(16|64)", "must be of type"),
    ("test_identity_(sequence|opt)", "must be of type"),
    ("test_(?!qlinear).*_u?int(8|16|32|64).*", "must be of type|have a scale|integers must"),
    ("test_(de)?quantizelinear_(e4m3|e5m2|float4|u?int[24]).*",
     "must be of type|must be whole|integers must be"),
    ("test_(de)?quantizelinear_blocked.*", "not of blocks|zero point must be there"),
    ("test_(edge|reflect|wrap)_pad", "must be of type"),
    ("test_constant_pad.*", "what is padded must be 0"),
    ("test_.*dropout.*mask.*|test_batchnorm_.*_training_mode|test_maxpool_with_argmax.*",
     "nothing may take its output"),
    ("test_training_dropout.*", "must be that of inference"),
    ("test_convtranspose_(1d|3d)", "images must have 2 dimensions"),
    (".*pool_[13]d.*", "images must have 2 dimensions"),
    (".*pool_2d_dilations", "dilations must be 1"),
    ("test_averagepool_2d_ceil_last_window_starts_on_pad", "count_include_pad must be 0"),
    ("test_matmul_(3d|4d|bcast|1d_3d)|test_qlinearmatmul_3D.*", "must be one matrix"),
    ("test_matmul_1d_1d", "must have a dimension"),
    ("test_reduce_mean.*", "along the two dimensions of an image"),
    ("test_reshape_allowzero_reordered", "as many elements"),
    ("test_shape.*", "must be real numbers"),
    ("test_constant", "must be for one number of runs")]


def test_cases_of_the_standard_pass_or_are_refused_for_a_reason():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_node_model_tests
        cases = [case for case in load_node_model_tests() if len(case.model.graph.node) == 1]
    known = {*OPERATORS, *EXTREMES, *TRANSPOSED, *QUANTISED, "Shape"} - {"Cast"}
    passed = refused = 0
    for case in cases:
        kind = case.model.graph.node[0].op_type
        if kind not in known:
            continue
        says = next((says for name, says in REFUSED if re.fullmatch(name, case.name)), None)
        try:
            found, judged = case_of(case, kind)
        except ValueError as error:
            assert says is not None and re.search(says, str(error)), f"{case.name}: {error}"
            refused += 1
            continue
        assert says is None, case.name
        assert found.dtype == judged.dtype and found.shape == judged.shape, case.name
        if found.dtype.kind == "f":
            assert np.allclose(found, judged, rtol=1e-5, atol=1e-5), case.name
        else:
            assert np.array_equal(found, judged), case.name
        passed += 1
    print(f"{passed} pass, {refused} are refused")
    assert passed > 100 and refused > 50


def case_of(case, kind):
    """What is computed and what is expected of a case of package onnx."""
    inputs, expected = case.data_sets[0]
    inputs, expected = ([numpy_helper.to_array(one) if isinstance(one, onnx.TensorProto) else one
                         for one in values] for values in (inputs, expected))
    made = onnx.ModelProto()
    made.CopyFrom(case.model)
    names = [value.name for value in made.graph.input]
    running = RUNNING.get(kind, 1)
    made.graph.initializer.extend(numpy_helper.from_array(one, name) for name, one in zip(
        names[running:], inputs[running:], strict=True))
    del made.graph.input[running:]
    _, found = computed(made, dict(zip(names[:running], inputs, strict=False)))
    return found[0], expected[0]


# Files that are none.

def small(**changes):
    """A model with one convolution, changed."""
    rng = np.random.default_rng(0)
    parts = {"nodes": [node("Conv", "x w", "y")], "inputs": {"x": (1, 2, 5, 5)},
             "constants": {"w": real(rng, 3, 2, 3, 3)}, **changes}
    return model(**parts)


def outside():
    """A constant in another file."""
    made = small()
    made.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    made.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    return made


def emptied():
    """A constant with a vast shape and no numbers."""
    made = small()
    made.graph.initializer[0].dims[:] = [1 << 30, 1 << 30, 3, 3]
    return made


@pytest.mark.parametrize("made, says", [
    (small(nodes=[node("Erf", "x", "y")]),
     "node '0:erf' must be an operator that is known, not Erf"),
    (small(nodes=[node("Conv", "z w", "y")]),
     "node '0:conv' must take what is made before it, not 'z'"),
    (small(nodes=[node("Conv", "x w", "x")]),
     "node '0:conv' must make what is not there yet, not 'x'"),
    (small(nodes=[node("Conv", "x", "y")]), "node '0:conv' must have 2 inputs"),
    (small(nodes=[node("Conv", "x w", "y", strides=[0, 1])]),
     "node '0:conv': stride, dilation and kernel must be at least 1"),
    (small(nodes=[node("Conv", "x w", "y", strides="ab")]),
     "node '0:conv': strides must be whole numbers, not b'ab'"),
    (small(nodes=[node("Conv", "x w", "y", auto_pad="ALL")]),
     "node '0:conv': auto_pad must be NOTSET, .* not 'ALL'"),
    (small(nodes=[node("Conv", "x w", "y", group=2)]), "node '0:conv': weights must be"),
    (small(constants={"w": np.full((3, 2, 3, 3), np.nan, np.float32)}),
     "constant '0:conv.* must be finite numbers"),
    (small(nodes=[node("QuantizeLinear", "w s", "y")], constants={
        "w": np.full(3, np.nan, np.float32), "s": np.array(1, np.float32)}),
     "node '0:quantizelinear': what it makes integers must be finite"),
    (small(inputs={"x": (1, 2, "height", 5)}),
     "dimension 2 of input 'x' must be of one size, not 'height'"),
    (small(outputs=["z"]), "output 'z' must be made by a node"),
    (small(dtype="int8"), "node '0:conv': input 0 must be real numbers or have a scale"),
    (small(opset=6), "opset 7 to [0-9]+, not 6"), (small(opset=99), "not 99"),
    (outside(), "constant 'w' must lie in the model's file"),
    (emptied(), "constant 'w' must have as many numbers as its shape says"),
    (small(nodes=[node("Reshape", "x s", "y")], constants={"s": np.array([7, -1])}),
     "node '0:reshape': .* must have as many elements"),
    (small(nodes=[node("Add", "a b", "c"), node("Mul", "x c", "y")], constants={
        "a": np.zeros((1 << 14, 1), np.float32), "b": np.zeros((1, 1 << 14), np.float32)}),
     "node '0:add': constants that are computed must have fewer than"),
    (small(nodes=[node("Pad", "x p", "y")],
           constants={"p": np.array([0, 0, 0, 0, 1 << 40, 1 << 40, 0, 0])}),
     r"fewer than 2\^31 elements")])
def test_what_is_no_model_of_these_operators_is_refused(made, says):
    with pytest.raises(ValueError, match=says) as refusal:
        read_onnx(made.SerializeToString(), "model.onnx")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["Conv", "Relu", "Reshape", "Identity", "Add"])
def test_a_file_of_many_operators_takes_no_more_than_its_share(kind):
    """Each of them would take a copy of the weights, a walk over all others, or a longer name."""
    inputs, attributes = {"Conv": ("w", {"pads": [1, 1, 1, 1]}), "Reshape": ("s", {}),
                          "Add": ("t0", {})}.get(kind, ("", {}))
    nodes = [node("Relu", "x", "t0"), *(
        node(kind, f"t{number} {inputs}", f"t{number + 1}", **attributes)
        for number in range(5_000)), node("Relu", "t5000", "y")]
    made = small(nodes=nodes, inputs={"x": (1, 256, 5, 5)}, constants={
        "w": np.zeros((256, 256, 3, 3), np.float32), "s": np.array([0, 256, 5, 5])})
    started = time.process_time()
    try:
        assert isinstance(read_onnx(made.SerializeToString(), "model.onnx"), Graph)
    except ValueError as error:
        assert kind == "Conv" and "constants must have at most" in str(error)
    assert time.process_time() - started < 60


def test_files_of_other_kinds_are_refused():
    for data in (b"", b"text", b"\xff" * 100):
        with pytest.raises(ValueError, match="model.onnx must be"):
            read_onnx(data, "model.onnx")


def whole(rng):
    """A model to be damaged."""
    kind = rng.integers(0, 4)
    if kind == 0:
        case = FLOATS[str(rng.choice(list(FLOATS)))]
        return model(*case(rng))
    if kind == 1:
        return residual(rng)
    if kind == 2:
        return linear_operators(rng, str(rng.choice(["QLinearConv", "QLinearMatMul"])), "uint8")[0]
    q = Quantised(rng, "int8")
    return q.model((1, 3, 6, 5), WHOLE[str(rng.choice(list(WHOLE)))][0](q, q.both("x")))


@pytest.mark.parametrize("seed", range(300))
def test_damaged_files_are_refused_or_are_graphs(seed):
    choice = random.Random(seed)
    data = bytearray(whole(np.random.default_rng(seed)).SerializeToString())
    # Names, types and shapes lie about the weights, which take most of the bytes.
    for _ in range(choice.randint(1, 12)):
        place = choice.choice([choice.randrange(len(data)), choice.randrange(min(len(data), 300)),
                               len(data) - 1 - choice.randrange(min(len(data), 120))])
        data[place] = choice.choice([choice.randrange(256), data[place] ^ 1, data[place] ^ 16])
    del data[choice.choice([len(data), len(data), choice.randrange(8, len(data))]):]
    check_refused_or_graph(read_onnx, bytes(data), "damaged.onnx")
