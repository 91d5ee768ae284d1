"""From a model to a network: what the core does, what the host does, and what it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from systolith_hw.config import CoreConfig

from ..contents import moved_bytes
from ..cycles import Bus, predict_ends
from ..models.graph import PRODUCTS, Graph, Node, Tensor
from ..models.quantiser import quantised_model
from ..models.read import read_model
from ..presets import named_bus, named_config
from ..program import decode_program
from .lower import Lowered, Refused, lower
from .network import CoreStep, HostStep, Layer, Network, Port

__all__ = ["compile_model"]

MOST_IMAGES = 1024      # of a tensor: commands are written for each
ENDS = "conversion of an input or output"


def compile_model(model: Graph | str | Path, *, config: CoreConfig | None = None,
                  preset: str | None = None, exact: bool = True,
                  bus: Bus | None = None,
                  calibrate: Mapping[str, np.ndarray] | None = None,
                  weights: str = "int8", memory_bytes: int | None = None) -> Network:
    """A network that computes a model on one configuration; ``systolith.compile``.

    Operators that the core cannot do run on the host, and say why (``Layer.host``).

    Parameters
    ----------
    model : Graph, or path of a model file
    config : CoreConfig or None
    preset : str or None
        Name of a preset or a board, in place of ``config``.
    exact : bool
        Whether the answers are the model's in every byte. Otherwise operators run on the core also
        where its results are only within one unit: softmax, some averages.
    bus : Bus or None
        The memory that it is compiled for; None: that of the board which ``preset`` names, or one
        that gives a word every cycle.
    calibrate : mapping of str to array, or None
        Of a float model: what its inputs may be, by which it becomes one of int8
        (``quantised_model``).
    weights : str
        Format of the weights of such a model: ``int8``, ``int4``, ``ternary`` or ``auto``.
    memory_bytes : int or None
        Of system memory: a model whose program alone takes more is refused as soon as that is
        known.

    Raises
    ------
    TooLarge
    TypeError, ValueError
        Not one of ``config`` and ``preset`` is given, or an unknown preset; the model cannot be
        read or quantised, or is one for too many images at a time; the core has too few semaphores.
    """
    if (config is None) == (preset is None):
        raise TypeError(f"config or preset must be given, and not both, not {config!r} and "
                        f"{preset!r}")
    if calibrate is None and weights != "int8":
        raise ValueError(f"calibrate must be given for weights of another format, not for "
                         f"{weights!r} alone")
    if config is None:
        config, bus = named_config(str(preset)), bus or named_bus(str(preset))
    graph = model if isinstance(model, Graph) else read_model(model)
    if calibrate is not None:
        graph = quantised_model(graph, calibrate, weights=weights)
    _check_images(graph)
    hosts = {node.name: ENDS for node in graph.nodes if _is_end(graph, node)}
    while True:
        try:
            steps, lowered = _steps(graph, config, hosts, exact, bus, memory_bytes)
            break
        except Refused as error:
            hosts[error.node] = error.reason
    layers = {node.name: _layer(graph, node, hosts) for node in graph.nodes}
    for found in lowered:
        layers |= _predicted(found, config, bus, layers)
    return Network(
        name=graph.name, config=config.to_dict(), steps=tuple(steps),
        inputs=tuple(_port(graph.tensors[name]) for name in graph.inputs),
        outputs=tuple(_port(graph.tensors[name]) for name in graph.outputs),
        layers=tuple(layers.values()))


def _check_images(graph: Graph) -> None:
    for node in graph.nodes:
        made = graph.output(node)
        if len(made.shape) == 4 and made.shape[0] > MOST_IMAGES:
            raise ValueError(f"node {node.name!r} must make at most {MOST_IMAGES} images at a "
                             f"time, not {made.shape[0]!r}: a network of one takes any number, "
                             f"one after the other")


def _is_end(graph: Graph, node: Node) -> bool:
    """Whether a node makes integers of an input, or an output of integers."""
    kinds = graph.of(node, 0).dtype, graph.output(node).dtype
    return node.op == "convert" and any(kind.startswith("float") for kind in kinds)


def _port(tensor: Tensor) -> Port:
    q = tensor.quantisation
    shape = tensor.shape or (1,)
    if q is None:
        return Port(name=tensor.name, shape=shape, dtype=tensor.dtype)
    return Port(name=tensor.name, shape=shape, dtype=tensor.dtype, scale=tensor.scale,
                zero_point=tensor.zero_point)


def _steps(graph: Graph, config: CoreConfig, hosts: dict[str, str], exact: bool,
           bus: Bus | None, memory_bytes: int | None) -> tuple[
        list[CoreStep | HostStep], list[Lowered]]:
    """Stretches of nodes that one program, or the host, does one after the other."""
    steps: list[CoreStep | HostStep] = []
    lowered = []
    stretches = _stretches(graph.nodes, hosts)
    alone = [on_host for on_host, _ in stretches].count(False) == 1
    for on_host, nodes in stretches:
        part = _part(graph, nodes)
        if on_host:
            steps.append(HostStep(graph=part))
            continue
        found = lower(part, config, exact=exact, bus=bus, stay=alone, memory_bytes=memory_bytes)
        lowered.append(found)
        steps.append(CoreStep(image=found.image, inputs=tuple(part.inputs),
                              outputs=tuple(part.outputs)))
    return steps, lowered


def _stretches(nodes: Sequence[Node], hosts: dict[str, str]) -> list[tuple[bool, list[Node]]]:
    found: list[tuple[bool, list[Node]]] = []
    for node in nodes:
        on_host = node.name in hosts
        if not found or found[-1][0] != on_host:
            found.append((on_host, []))
        found[-1][1].append(node)
    return found


def _part(graph: Graph, nodes: Sequence[Node]) -> Graph:
    """Some nodes as a graph: what comes in from others, what others or the model's user take."""
    made = {node.output for node in nodes}
    taken = {name for node in nodes for name in node.inputs}
    inside = {node.name for node in nodes}
    later = {name for node in graph.nodes if node.name not in inside for name in node.inputs}
    later |= set(graph.outputs)
    inputs = [name for name in graph.tensors
              if name in taken - made and graph.tensors[name].data is None]
    outputs = [node.output for node in nodes if node.output in later]
    return replace(graph, nodes=list(nodes), inputs=inputs, outputs=outputs)


def _layer(graph: Graph, node: Node, hosts: dict[str, str]) -> Layer:
    weights = graph.of(node, 1).dtype if node.op in PRODUCTS else ""
    return Layer(name=node.name, op=node.op, shape=graph.output(node).shape, weights=weights,
                 macs=graph.macs(node), host=hosts.get(node.name, ""))


def _predicted(found: Lowered, config: CoreConfig, bus: Bus | None, layers: dict[str, Layer]
               ) -> dict[str, Layer]:
    """Layers with their cycles and bytes: how much later each ends than the one before."""
    if not len(found.draft):
        return {}
    commands = decode_program(found.image.program)
    ends = predict_ends(commands, config=config, bus=bus) or [0] * (len(commands) + 1)
    ends_of = found.layer_ends(ends)
    result, before = {}, 0
    for part in found.parts:
        if part.node in ends_of:
            result[part.node] = replace(
                layers[part.node], cycles=ends_of[part.node] - before,
                left_out=layers[part.node].macs - found.macs[part.node] + part.left_out,
                moved_bytes=sum(map(moved_bytes, found.draft.commands[part.first:part.end])))
            before = ends_of[part.node]
    return result
