"""Trained models: reading them, what they are as a graph, and what they compute."""

from .graph import Graph, Node, Quantisation, Tensor
from .read import read_model

__all__ = ["Graph", "Node", "Quantisation", "Tensor", "read_model"]
