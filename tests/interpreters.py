"""What TFLite's own interpreter makes of models, and inputs for the trained ones."""

import numpy as np
import pytest
import references


def interpret(data, x):
    """What TFLite's reference kernels make of inputs, one after the other."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(
        model_content=data, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    inputs, found = interpreter.get_input_details(), []
    for number in range(len(x[0])):
        for detail, values in zip(inputs, x, strict=True):
            interpreter.set_tensor(detail["index"], values[number:number + 1])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(found)


def keywords(count):
    features = np.load(references.stored("kws01", "kws01_mfcc_1000.npz"))["x_int8_10x49"][:count]
    real = features.transpose(0, 2, 1) * 0.33674
    return np.clip(np.rint(real / 0.58470333) + 83, -128, 127).astype(np.int8)[..., None]


def pictures(count):
    images = np.load(references.stored("cifar10", "cifar10_test_jpeg_1000.npz"))["x"][:count]
    return (images.astype(np.int16) - 128).astype(np.int8)
