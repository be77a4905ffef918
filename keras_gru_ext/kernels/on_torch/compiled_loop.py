"""The compiled loop on PyTorch's tensors, whose memory it shares: on processors, in float32 and float64."""

import functools
import pathlib

import numpy as np
import torch

from keras_gru_ext.kernels import compiled


class Loop:
    """The same two functions as `framework_loop.Loop` has; all tensors contiguous but `mask` and `d_states`."""

    def __init__(self, spec, recurrent_kernel, recurrent_bias, recurrent_masks, steps):
        self._spec, self._steps = spec, steps
        self._U, self._c, self._m = recurrent_kernel, _contiguous(recurrent_bias), _contiguous(recurrent_masks)
        self._dtype = _DTYPES[recurrent_kernel.dtype]
        self._weights: compiled.Weights | None = None  # Put in order once for all blocks of steps.

    def forward(self, gates, h, mask, states, products):
        """F1 to F4."""
        if self._weights is None:
            self._weights = compiled.in_order(self._U.detach().numpy(), self._steps)
        h, mask, scratch = h.clone(memory_format=torch.contiguous_format), _contiguous(mask), torch.empty_like(h)
        self._run(
            "forward",
            gates,
            state=h.data_ptr(),
            mask=_address(mask),
            states=_address(states),
            products=_address(products),
            bias=_address(self._c),
            scratch=scratch.data_ptr(),
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
            das,
            state=h.data_ptr(),
            mask=_address(mask),
            states=states.data_ptr(),
            products=dqs.data_ptr(),
            carry=carry.data_ptr(),
            d_states=_address(d_states),
            d_states_strides=strides,
        )
        return carry

    def _run(self, name, gates, **arrays):
        steps, batch, wide = gates.shape
        compiled.run(
            name,
            self._spec,
            self._dtype,
            (steps, batch, wide // 3),
            torch.get_num_threads(),
            _openmp(),
            self._weights,
            gates=gates.data_ptr(),
            masks=_address(self._m),
            masks_per_gate=self._m is not None and self._m.dim() == 3,
            **arrays,
        )


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
