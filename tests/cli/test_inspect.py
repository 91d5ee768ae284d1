"""systolith inspect."""

import numpy as np
import references
from systolith import Linear, compile_layers
from systolith_hw.config import CoreConfig


def test_a_line_for_each_operator_and_what_they_add_up_to(run, run_json):
    path = references.stored("mlperf_tiny", "kws_ref_model.tflite")
    report = run_json("inspect", path)
    assert report["macs"] == sum(node["macs"] for node in report["nodes"]) == 2_656_768
    assert [node["op"] for node in report["nodes"]] == [
        "conv"] * 9 + ["average_pool", "reshape", "linear", "softmax"]
    assert report["nodes"][0]["weight_bytes"] == 64 * 10 * 4 + 64 * 4
    text = run("inspect", path).stdout
    assert text.count("depthwise_conv_2d") == 4
    assert "multiplications     2,656,768" in text


def test_an_onnx_model_is_shown_as_others_are(run_json):
    report = run_json("inspect", references.stored("onnx", "opt-mnist.onnx"))
    assert [node["op"] for node in report["nodes"]] == [
        "reshape", "conv", "max_pool", "conv", "max_pool", "reshape", "linear"]
    assert report["macs"] == 28 * 28 * 25 * 8 + 14 * 14 * 25 * 8 * 16 + 256 * 10


def test_what_is_no_model_is_refused_in_a_sentence(refuse, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"no model")
    assert refuse("inspect", path) == "model.tflite must be a TFLite model of version 3"
    unknown = references.models_path() / "kwt1" / "kwt1_non_stream.tflite"
    if unknown.exists():
        assert refuse("inspect", unknown) == (
            "node '0:strided_slice' must be an operator that is known, not STRIDED_SLICE")


def test_a_compiled_network_shows_what_compile_printed_and_what_is_in_it(run, run_json):
    model = references.stored("mlperf_tiny", "kws_ref_model.tflite")
    few = "vector.functions=256"    # entries: none for the softmax's tables
    printed = run("compile", model, "--preset", "bench16", "--set", few, "-o", "kws.slith").stdout
    report = run_json("inspect", "kws.slith")
    config = CoreConfig.preset("bench16").overridden([few])
    assert (report["core"], report["fingerprint"], report["version"]) == (
        "bench16", f"{config.fingerprint:016x}", 4)
    assert report["host_ops"] == ["12:softmax"]
    assert [layer["layer"] for layer in report["layers"] if layer["host"]] == ["12:softmax"]
    assert [step["on"] for step in report["steps"]] == ["core", "host"]
    port, = report["inputs"]
    assert (port["shape"], port["dtype"], port["zero_point"]) == ([1, 49, 10, 1], "int8", 83)
    core, host = report["steps"]
    assert sum(core["bytes"].values()) == core["memory_bytes"]
    assert core["bytes"]["commands"] == 64 * sum(core["commands"].values())
    assert core["bytes"]["weights"] >= 22_604    # those of the model; depthwise ones with zeros
    assert host["operators"] == ["12:softmax"]
    text = run("inspect", "kws.slith").stdout
    table = printed.partition("cycles, predicted")[0]
    assert table in text and "12:softmax runs on the host: " in table
    assert f"bench16 (16 x 16), fingerprint {config.fingerprint:016x}" in text


def test_an_image_of_one_program_is_shown(run, run_json, tmp_path):
    rng = np.random.default_rng(0)
    layer = Linear(weights=rng.integers(-128, 128, (40, 24), dtype=np.int8), multiplier=1 << 30,
                   shift=-8)
    image = compile_layers([layer], config=CoreConfig.preset("demo"), rows=8)
    image.save(tmp_path / "one.slith")
    report = run_json("inspect", "one.slith")
    assert (report["kind"], report["core"]) == ("image", "demo")
    assert sum(report["bytes"].values()) == report["memory_bytes"] == image.memory_bytes
    assert report["bytes"]["weights"] >= 40 * 24
    assert report["bytes"]["outputs"] == 8 * 24
    assert sum(report["commands"].values()) == image.commands
    text = run("inspect", "one.slith").stdout
    assert "demo, fingerprint" in text and "int8 8 x 40 at" in text


def test_a_damaged_compiled_file_is_refused(refuse, tmp_path):
    (tmp_path / "no.slith").write_bytes(b"nothing at all")
    assert "must start with the header of a .slith file" in refuse("inspect", "no.slith")
