"""systolith inspect."""

import references


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
