"""In which order a Functional model runs its calls, which stateful layers that are called several times depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Node = tuple[str, int]
"""The name of a layer or operation, and the number of its call."""


def in_order(ends: Sequence[Node], parents: Mapping[Node, Sequence[Node]]) -> list[Node]:
    """Sorts the calls of a graph as Keras does: by their distance from the outputs, for a layer by its largest so far.

    Args:
        ends: The calls that the outputs come from, in their order.
        parents: For each call those that it takes tensors of.

    Returns:
        The calls that the outputs need, what is first to run first.

    Source: `map_graph` of Keras 3.15.
    """
    found: dict[Node, None] = {}
    for end in ends:
        waiting = [(end, iter(parents[end]))]
        open_nodes = {end}
        while waiting:
            node, others = waiting[-1]
            other = next((one for one in others if one not in found and one not in open_nodes), None)
            if node in found or other is None:
                found.setdefault(node)
                waiting.pop()
            else:
                open_nodes.add(other)
                waiting.append((other, iter(parents[other])))
    depths: dict[Node, int] = {}
    of_layers: dict[str, int] = {}
    for node in reversed(found):
        name, _ = node
        depths[node] = of_layers[name] = max(depths.get(node, 0), of_layers.get(name, 0))
        for parent in parents[node]:
            depths[parent] = max(depths[node] + 1, depths.get(parent, 0))
    return sorted(depths, key=lambda node: -depths[node])
