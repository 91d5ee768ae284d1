"""Blocks of a transformer, each one program: attention, and a perceptron of two layers."""

from .quantised import Block, compile_attention, compile_perceptron
from .reals import Attention, Perceptron

__all__ = ["Attention", "Block", "Perceptron", "compile_attention", "compile_perceptron"]
