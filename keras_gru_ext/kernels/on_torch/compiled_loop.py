"""The compiled loop on PyTorch's tensors, whose memory it shares: on processors, in float32 and float64."""

import functools
import pathlib

import numpy as np
import torch

from keras_gru_ext.kernels import compiled


class Loop:
    """The same functions as `framework_loop.Loop` has; all tensors contiguous but `mask` and `d_states`."""

    def __init__(self, spec, recurrent_kernel, recurrent_bias, recurrent_masks, steps):
        self._spec, self._steps = spec, steps
        self._U, self._c, self._m = recurrent_kernel, _contiguous(recurrent_bias), _contiguous(recurrent_masks)
        self._dtype = _DTYPES[recurrent_kernel.dtype]
        self._weights: compiled.Weights | None = None  # Put in order once for all blocks of steps.

    def projects(self, x, m_x):
        """Whether `forward` makes F0 itself."""
        return m_x is None and compiled.projects(x.shape[2], self._U.shape[0], self._dtype)

    def forward(self, gates, h, mask, states, products, inputs=None, later=None):
        """F1 to F4; F0 as well from `inputs`, which are x (T, B, F), W and b: then `gates` may be `None`.

        Returns:
            (B, U): the state after the last step, which shares no memory. With `later`, a `compiled.Calls` that takes
            calls with `inputs`, the results may be there only when those have run.
        """
        if self._weights is None:
            self._weights = compiled.in_order(self._U.detach().numpy(), self._steps)
        h, mask = h.clone(memory_format=torch.contiguous_format), _contiguous(mask)
        of_inputs = None
        if inputs is not None:
            x, W, b = inputs
            x, W, b = x if x.stride(2) == 1 else x.contiguous(), W.contiguous(), _contiguous(b)
            time, batch = (x.stride(axis) * x.itemsize for axis in range(2))
            if later is not None:
                later.alive += [self, x, W, b, mask]
            of_inputs = compiled.Inputs(x.data_ptr(), time, batch, x.shape[2], W.data_ptr(), _address(b))
        self._run(
            "forward",
            ((x if gates is None else gates).shape[0], *h.shape),
            gates=_address(gates),
            state=h.data_ptr(),
            mask=_address(mask),
            states=_address(states),
            products=_address(products),
            bias=_address(self._c),
            inputs=of_inputs,
            later=later,
        )
        return h

    def backward(self, gates, products, states, h, mask, d_states, carry, das, dqs):
        """B1 to B5."""
        if self._weights is None:
            self._weights = compiled.in_order(self._U.detach().numpy(), transposed=True)
        das.copy_(gates)
        if self._spec.reset_after:
            dqs.copy_(products)
        carry = torch.zeros_like(h) if carry is None else carry.clone(memory_format=torch.contiguous_format)
        h, mask = h.contiguous(), _contiguous(mask)
        strides = (0, 0, 0) if d_states is None else [stride * d_states.itemsize for stride in d_states.stride()]
        self._run(
            "backward",
            das.shape[:2] + h.shape[1:],
            gates=das.data_ptr(),
            state=h.data_ptr(),
            mask=_address(mask),
            states=states.data_ptr(),
            products=dqs.data_ptr(),
            carry=carry.data_ptr(),
            d_states=_address(d_states),
            d_states_strides=strides,
        )
        return carry

    def _run(self, name, sizes, **arrays):
        compiled.run(
            name,
            self._spec,
            self._dtype,
            sizes,
            torch.get_num_threads(),
            _openmp(),
            self._weights,
            masks=_address(self._m),
            masks_per_gate=self._m is not None and self._m.dim() == 3,
            **arrays,
        )


def calls(dtype):
    """Returns `compiled.Calls` for tensors of a `torch.dtype` that the compiled loop has."""
    return compiled.Calls(_DTYPES[dtype], torch.get_num_threads(), _openmp())


_DTYPES = {torch.float32: np.dtype("float32"), torch.float64: np.dtype("float64")}


def _openmp():
    """The threads that PyTorch's own operations use, or `None`."""
    path = _path_of_openmp()
    return None if path is None else compiled.openmp(path)


@functools.cache
def _path_of_openmp():
    folder = pathlib.Path(torch.__file__).parent / "lib"
    return next((str(path) for path in sorted(folder.glob("lib*omp*"))), None)


def _contiguous(tensor):
    return None if tensor is None else tensor.contiguous()


def _address(tensor):
    return 0 if tensor is None else tensor.data_ptr()
