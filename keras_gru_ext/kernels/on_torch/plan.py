"""Which of the two loops runs a call."""

import functools

from keras_gru_ext.kernels import compiled
from keras_gru_ext.kernels.on_torch import compiled_loop, framework_loop
from keras_gru_ext.kernels.plan import Plan

LOOPS = {"compiled": compiled_loop.Loop, "framework": framework_loop.Loop}
"""Way of a `Plan` -> the class that runs a block of steps."""


@functools.lru_cache(maxsize=64)
def plan(dtype, device):
    """Returns the `Plan` of a call.

    Args:
        dtype: The `torch.dtype` of the arrays.
        device: Its kind, "cpu" or another.
    """
    reason = compiled.why_not(str(dtype).removeprefix("torch."))
    if device != "cpu":
        reason = f"the compiled loop runs on processors, and the arrays are on {device!r}"
    return Plan("compiled") if reason is None else Plan("framework", (("compiled", reason),))
