"""Examples of trained models run from beginning to end."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import references

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *options):
    return subprocess.run([sys.executable, EXAMPLES / name, *map(str, options)], check=False,
                          capture_output=True, text=True)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_an_onnx_model_keeps_its_accuracy(tmp_path, weights):
    result = run("onnx_model.py", "--weights", weights, "--output", tmp_path / "digits.onnx")
    assert result.returncode == 0, result.stderr
    real, made = map(int, re.search(r"right of 450: (\d+) in real numbers, (\d+) with",
                                    result.stdout).groups())
    assert real >= 410 and made >= real - 5, result.stdout
    assert (tmp_path / "digits.slith").is_file()


def test_a_tflite_model_equals_its_reference(tmp_path):
    result = run("tflite_model.py",
                 references.stored("mlperf_tiny", "kws_ref_model.tflite"))
    assert result.returncode == 0, result.stderr
    assert "bit-exact model: equal to the reference in every byte" in result.stdout
    assert "2,656,768 multiplications" in result.stdout


def test_without_a_tflite_model_it_says_which_to_give(tmp_path):
    result = run("tflite_model.py", tmp_path / "none.tflite")
    assert result.returncode == 2
    assert "MODEL must be a .tflite file, such as MLPerf Tiny's" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_torch_it_says_what_to_install(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')")
    result = subprocess.run(
        [sys.executable, EXAMPLES / "pytorch_model.py"], check=False, capture_output=True,
        text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ":".join(
            [str(tmp_path), *sys.path])})
    assert result.returncode == 1
    assert result.stderr.startswith("torch must be installed for this example: pip install torch")


def exported(path):
    """What PyTorch's export makes of the example's model, with random constants."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    shapes = {"0.weight": (16, 1, 3, 3), "0.bias": (16,), "3.weight": (16, 16, 3, 3),
              "3.bias": (16,), "7.weight": (10, 256), "7.bias": (10,)}
    conv = {"dilations": [1, 1], "group": 1, "kernel_shape": [3, 3], "pads": [1, 1, 1, 1],
            "strides": [1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "0.weight", "0.bias"], ["/0/a"], **conv),
        helper.make_node("Relu", ["/0/a"], ["/2/a"]),
        helper.make_node("Conv", ["/2/a", "3.weight", "3.bias"], ["/3/a"], **conv),
        helper.make_node("Relu", ["/3/a"], ["/4/a"]),
        helper.make_node("MaxPool", ["/4/a"], ["/5/a"], ceil_mode=0, dilations=[1, 1],
                         kernel_shape=[2, 2], pads=[0, 0, 0, 0], strides=[2, 2]),
        helper.make_node("Flatten", ["/5/a"], ["/6/a"], axis=1),
        helper.make_node("Gemm", ["/6/a", "7.weight", "7.bias"], ["scores"], alpha=1.0, beta=1.0,
                         transB=1)]
    graph = helper.make_graph(
        nodes, "main_graph", [helper.make_tensor_value_info("image", TensorProto.FLOAT,
                                                            [1, 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(rng.normal(0, 0.2, shape).astype(np.float32), name)
         for name, shape in shapes.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def test_what_torch_exports_is_compiled(tmp_path, monkeypatch, capsys):
    """torch is no dependency: in its place stands what only exports."""
    torch = MagicMock(Tensor=type("Tensor", (), {}))
    torch.onnx.export.side_effect = lambda model, inputs, path, **options: exported(path)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytorch_model.py"])
    runpy.run_path(str(EXAMPLES / "pytorch_model.py"), run_name="__main__")
    real, made = map(int, re.search(r"right of 450: (\d+) in real numbers, (\d+) on int8",
                                    capsys.readouterr().out).groups())
    assert abs(real - made) < 25    # of random weights
    assert torch.onnx.export.call_args.kwargs["opset_version"] == 17
