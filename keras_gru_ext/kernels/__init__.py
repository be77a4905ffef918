"""Fast GRU recurrences, one for each framework, and the reference that they are tested against.

`README.md` beside this file derives the maths. `why_not` says whether there is a kernel for a recurrence,
`kernel_for` gives it. Only the framework that is asked for gets imported.
"""

from functools import partial
from importlib import import_module
from typing import Any

from keras_gru_ext.errors import ArgumentError
from keras_gru_ext.kernels.plan import Plan, of_kernel
from keras_gru_ext.kernels.spec import ACTIVATIONS, GRUSpec

__all__ = ["GRUSpec", "Plan", "batch_major_for", "kernel_for", "load", "plan_of", "why_not", "why_not_now", "zeros"]

_MODULES = {"jax": "on_jax", "numpy": "on_numpy", "tensorflow": "on_tensorflow", "torch": "on_torch"}
"""Keras backend -> module of this package with its kernel."""

_LOADED: dict = {}


def why_not(spec, backend):
    """Returns why there is no kernel for `spec` on `backend`, as text for a user, or `None` if there is one.

    Imports no framework. A kernel's own file lists the transformations that it works under; `why_not_now`
    asks about the one in progress.
    """
    if backend not in _MODULES:
        return f"the {backend!r} backend has no kernel; there is one for {_listed(_MODULES)}"
    for argument in ("activation", "recurrent_activation"):
        name = getattr(spec, argument)
        if name not in ACTIVATIONS:
            return f"no kernel knows {argument}={name!r}; kernels know {_listed(ACTIVATIONS)}"
    return None


def why_not_now(backend):
    """Returns why the kernel of `backend` cannot be used in what is going on right now, or `None`.

    To be asked at every call: exporting a model rules a kernel out (on PyTorch), and so does the lack of Numba (on
    NumPy).
    """
    return _module(backend).why_not_now()


def kernel_for(spec, backend):
    """Returns the function that runs `spec` on `backend`: `gru` of its module, the same for every backend.

    `gru(spec, inputs, kernel, bias, recurrent_kernel, recurrent_bias, initial_state, mask, input_masks,
    recurrent_masks)`, where T is time, B batch, F features, U units, and gates are in the order z | r | candidate, has

    - inputs: (T, B, F), T >= 1. Finite, at masked steps as well.
    - kernel: (F, 3U).
    - bias: (3U,) or `None`. Input bias.
    - recurrent_kernel: (U, 3U).
    - recurrent_bias: (3U,), or `None` unless `spec.has_recurrent_bias`.
    - initial_state: (B, U).
    - mask: (T, B) bool, `True` where the step counts; `None` unless `spec.masked`.
    - input_masks: `None`, (B, F) or (3, B, F), as `spec.input_dropout` says.
    - recurrent_masks: `None`, (B, U) or (3, B, U), as `spec.recurrent_dropout` says.

    All but the mask are of one floating dtype. The first six may be differentiated, where the backend has gradients. It
    returns `(outputs, last_output, final_state)`: (T, B, U), or `None` without `spec.return_sequences`; (B, U); (B, U).

    Raises:
        ArgumentError: There is no kernel; the message is the one of `why_not`.
    """
    reason = why_not(spec, backend)
    if reason is not None:
        raise ArgumentError(f"No fast GRU kernel: {reason}.")
    return _module(backend).gru


def batch_major_for(spec, backend):
    """Returns the same for inputs (B, T, F), a mask (B, T) and outputs (B, T, U); it takes no argument by its name."""
    kernel = kernel_for(spec, backend)
    return getattr(_module(backend), "gru_batch_major", None) or partial(_turning, kernel)


def both_for(backend, inputs, *layers):
    """Returns the function that predicts for two layers at the same time, or `None`; `on_torch.gru_both` says how."""
    module: Any = _module(backend) if backend in _MODULES else None
    return module.gru_both if hasattr(module, "gru_both") and module.may_run_both(inputs, *layers) else None


def zeros(backend, shape, dtype):
    """Returns zeros by a function of the kernel's that takes less time than Keras', or `None`."""
    own = getattr(_module(backend), "zeros", None) if backend in _MODULES else None
    return None if own is None else own(shape, dtype)


def _turning(kernel, spec, inputs, *arrays):
    *before, mask, input_masks, recurrent_masks = arrays
    mask = None if mask is None else mask.swapaxes(0, 1)
    outputs, last_output, state = kernel(spec, inputs.swapaxes(0, 1), *before, mask, input_masks, recurrent_masks)
    return None if outputs is None else outputs.swapaxes(0, 1), last_output, state


def plan_of(backend, dtype, device):
    """Returns the `Plan` by which the kernel of `backend` runs a call that it can serve.

    Args:
        backend: The name of a backend of Keras that has a kernel.
        dtype: The name of the arrays' dtype.
        device: Where they are: "cpu", or the name of another device.
    """
    return of_kernel(_module(backend).why_not_compiled(dtype), device)


def load(backend):
    """Imports the kernel of `backend`, if there is one, so that no later call has to: compilers follow no imports."""
    if backend in _MODULES:
        _module(backend)


def _module(backend):
    if backend not in _LOADED:
        _LOADED[backend] = import_module(f"{__name__}.{_MODULES[backend]}")
    return _LOADED[backend]


def _listed(names):
    return ", ".join(map(repr, names))
