"""Files that are damaged."""

from systolith.models import Graph


def check_refused_or_graph(read, data, name):
    """``read`` makes a graph of a damaged file, or refuses it in one sentence."""
    try:
        graph = read(data, name)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(graph, Graph)
