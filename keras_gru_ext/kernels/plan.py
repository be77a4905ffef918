"""Which way a call of a GRU goes, and why no better one, as a value for people to read."""

from dataclasses import dataclass

WAYS = {
    "cudnn": "Keras' own fused path (cuDNN)",
    "compiled": "this package's kernel, the compiled loop",
    "framework": "this package's kernel, a loop in the framework's operations",
    "cell": "Keras' loop over the cell, step by step",
}
"""Name -> what it is, from the fastest, each where it can serve."""


@dataclass(frozen=True)
class Plan:
    """The way that a call goes, and what stands in the way of better ones.

    Attributes:
        way: A key of `WAYS`.
        obstacles: Pairs of what would be better and why the call goes without, as text for a user.
    """

    way: str
    obstacles: tuple[tuple[str, str], ...] = ()

    def __str__(self):
        return "\n".join([WAYS[self.way], *(f"  no {what}: {why}" for what, why in self.obstacles)])


def of_kernel(reason, device):
    """Returns the `Plan` of a kernel.

    Args:
        reason: Why it has no compiled loop for the arrays' dtype, or `None`.
        device: Where they are: "cpu", or the name of another device.
    """
    if device != "cpu":
        reason = f"it runs on processors, and the arrays are on {device!r}"
    return Plan("compiled") if reason is None else Plan("framework", (("compiled loop", reason),))
