"""The compiled loop on PyTorch's tensors, whose memory it shares: on processors, in float32 and float64."""

import functools
import pathlib

import torch

from keras_gru_ext.kernels import compiled


class Loop:
    """The same two functions as `framework_loop.Loop` has; all tensors contiguous but `mask` and `d_states`."""

    def __init__(self, spec, recurrent_kernel, recurrent_bias, recurrent_masks, steps):
        self._spec, self._steps = spec, steps
        self._U, self._c, self._m = map(_array, (recurrent_kernel, recurrent_bias, recurrent_masks))

    # Put in order once for all blocks of steps.

    @functools.cached_property
    def _weights(self):
        return compiled.in_order(self._U, self._steps)

    @functools.cached_property
    def _transposed_weights(self):
        return compiled.in_order(self._U, transposed=True)

    def forward(self, gates, h, mask, states, products):
        """F1 to F4."""
        _, h, _ = compiled.forward(
            self._spec,
            _array(gates),
            self._weights,
            self._c,
            _array(h),
            _array(mask),
            self._m,
            torch.get_num_threads(),
            keep=products is not None,
            states=_array(states),
            q=_array(products),
            openmp=_openmp(),
        )
        return torch.from_numpy(h)

    def backward(self, gates, products, states, h, mask, d_states, carry, das, dqs):
        """B1 to B5."""
        das.copy_(gates)
        if self._spec.reset_after:
            dqs.copy_(products)
        carry = compiled.backward(
            self._spec,
            _array(das),
            _array(dqs),
            _array(states),
            self._transposed_weights,
            _array(h),
            _array(mask),
            self._m,
            _array(d_states),
            _array(carry),
            torch.get_num_threads(),
            _openmp(),
        )
        return torch.from_numpy(carry)


@functools.cache
def _openmp():
    """The threads that PyTorch's own operations use, or `None`."""
    folder = pathlib.Path(torch.__file__).parent / "lib"
    return next((compiled.openmp(str(path)) for path in sorted(folder.glob("lib*omp*"))), None)


def _array(tensor):
    return None if tensor is None else tensor.detach().numpy()
