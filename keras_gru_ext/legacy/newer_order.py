"""The order of layers in graphs that Keras 3 wrote.

Keras goes through a graph again and again until every call is made. Of one that lists its layers backwards each time
makes one call, and thousands of layers take minutes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from keras_gru_ext.legacy.upgrade.graph_view import tensors_in


def in_order(config: Any) -> Any:
    """Puts every layer of a graph behind those that it is called on.

    Args:
        config: A config of Keras 3, with any graphs in it.

    Returns:
        The config, with other lists of layers where they were in another order.
    """
    if isinstance(config, list):
        return [in_order(one) for one in config]
    if not isinstance(config, Mapping):
        return config
    new = {key: in_order(value) for key, value in config.items()}
    layers = new.get("layers")
    if isinstance(layers, list) and all(
        isinstance(one, Mapping) and isinstance(one.get("name"), str) for one in layers
    ):
        new["layers"] = _ordered(layers)
    return new


def _ordered(layers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    entries = {one["name"]: one for one in layers}
    if len(entries) < len(layers):
        return list(layers)
    needs = {name: _needs(one.get("inbound_nodes"), entries) for name, one in entries.items()}
    done: dict[str, None] = {}
    for name in entries:
        _finish(name, needs, done)
    return [entries[name] for name in done]


def _needs(calls: Any, names: Collection[str]) -> list[str]:
    """What a layer is called on first; what it is called on later may need the layer itself."""
    first = calls[:1] if isinstance(calls, list) else ()
    return list(dict.fromkeys(tensor.layer for tensor in tensors_in(first, names)))


def _finish(name: str, needs: Mapping[str, list[str]], done: dict[str, None]) -> None:
    """Adds a layer to those that are done, after all that it needs."""
    met = {name}
    way: list[tuple[str, Iterator[str]]] = [(name, iter(needs[name]))]
    while way:
        layer, left = way[-1]
        following = next((one for one in left if one not in done and one not in met), None)
        if following is None:
            done.setdefault(layer)
            way.pop()
        else:
            met.add(following)
            way.append((following, iter(needs[following])))
