"""Fast GRU recurrences, one for each framework, and the reference that they are tested against.

`README.md` beside this file derives the maths. `why_not` says whether there is a kernel for a recurrence,
`kernel_for` gives it. Only the framework that is asked for gets imported.
"""

from importlib import import_module

from keras_gru_ext.errors import ArgumentError
from keras_gru_ext.kernels.plan import Plan, of_kernel
from keras_gru_ext.kernels.spec import ACTIVATIONS, GRUSpec

__all__ = ["GRUSpec", "Plan", "kernel_for", "load", "plan_of", "why_not", "why_not_now"]

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
    """Returns the function that runs `spec` on `backend`.

    Its signature is the same for every backend: `gru(spec, inputs, kernel, bias, recurrent_kernel,
    recurrent_bias, initial_state, mask, input_masks, recurrent_masks) -> (outputs, last_output, final_state)`,
    as documented in each kernel's file and in `reference.py`.

    Raises:
        ArgumentError: There is no kernel; the message is the one of `why_not`.
    """
    reason = why_not(spec, backend)
    if reason is not None:
        raise ArgumentError(f"No fast GRU kernel: {reason}.")
    return _module(backend).gru


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
