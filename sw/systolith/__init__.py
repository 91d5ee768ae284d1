"""Compiler, bit-exact model and device interface of Systolith."""

from .assembly import assemble, disassemble
from .compiler.compile import compile_model as compile  # a module's own would hide Python's
from .compiler.network import Network
from .device import Device, ModelDevice, open_device
from .errors import CoreError
from .gemm import gemm, plan_gemm
from .image import Image, Segment, Tensor
from .layers import Linear, compile_layers
from .program import Program, Slot
from .quantise import activation_scale, quantise, quantise_multiplier, quantise_weights

__all__ = [
    "CoreError", "Device", "Image", "Linear", "ModelDevice", "Network", "Program", "Segment",
    "Slot", "Tensor", "activation_scale", "assemble", "compile", "compile_layers", "disassemble",
    "gemm", "open_device", "plan_gemm", "quantise", "quantise_multiplier", "quantise_weights",
]
