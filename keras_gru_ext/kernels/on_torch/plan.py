"""Which of the two loops runs a call."""

import functools

from keras_gru_ext.kernels import compiled
from keras_gru_ext.kernels.on_torch import compiled_loop, framework_loop
from keras_gru_ext.kernels.plan import of_kernel

LOOPS = {"compiled": compiled_loop.Loop, "framework": framework_loop.Loop}
"""Way of a `Plan` -> the class that runs a block of steps."""


@functools.lru_cache(maxsize=64)
def plan(dtype, device):
    """Returns the `Plan` of a call with arrays of a `torch.dtype` on a kind of device, "cpu" or another."""
    return of_kernel(compiled.why_not(str(dtype).removeprefix("torch.")), device)
