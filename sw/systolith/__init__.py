"""Compiler, bit-exact model and device interface of Systolith."""

from .assembly import assemble, disassemble
from .device import Device, ModelDevice, open_device
from .errors import CoreError
from .gemm import gemm, plan_gemm
from .image import Image, Segment, Tensor
from .layers import Linear, compile_layers
from .program import Program, Slot
from .quantise import activation_scale, quantise, quantise_multiplier, quantise_weights

__all__ = [
    "CoreError", "Device", "Image", "Linear", "ModelDevice", "Program", "Segment", "Slot",
    "Tensor", "activation_scale", "assemble", "compile_layers", "disassemble", "gemm",
    "open_device", "plan_gemm", "quantise", "quantise_multiplier", "quantise_weights",
]
