"""Which way a call of a GRU goes, as a value that the layer follows and people read."""

from dataclasses import dataclass

WAYS = {
    "cudnn": "Keras' own fused path",
    "compiled": "the compiled loop",
    "framework": "this package's kernel, in the framework's own operations",
    "cell": "the cell, step by step, in Keras' loop",
}
"""Name -> what it is called, from the fastest, each where it can serve."""


@dataclass(frozen=True)
class Plan:
    """The way that a call goes, and what stands in the way of better ones.

    Attributes:
        way: A key of `WAYS`.
        obstacles: Pairs of a better way and why the call does not go by it, as text for a user.
    """

    way: str
    obstacles: tuple[tuple[str, str], ...] = ()

    def __str__(self):
        return "\n".join([WAYS[self.way], *(f"not {WAYS[way]}: {reason}" for way, reason in self.obstacles)])
