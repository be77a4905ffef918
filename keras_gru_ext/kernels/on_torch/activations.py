"""The activation table of `kernels/README.md` as PyTorch runs it: in place, and slopes by single operators."""

import torch
from torch.nn import functional

aten = torch.ops.aten

ACTIVATION_ = {
    "tanh": torch.Tensor.tanh_,
    "sigmoid": torch.Tensor.sigmoid_,
    # 0.2 x + 0.5 = (1.2 x) / 6 + 0.5; the product with the weights carries the 1.2, see `SCALE`.
    "legacy_hard_sigmoid": lambda x: functional.hardsigmoid(x, inplace=True),
    "hard_sigmoid": lambda x: functional.hardsigmoid(x, inplace=True),
    "relu": torch.Tensor.relu_,
    "linear": lambda x: x,
    "softsign": lambda x: x.div_(x.abs().add_(1)),
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x), out=x),
    "elu": lambda x: functional.elu(x, inplace=True),
}
"""Name -> activation in place, after the pre-activation was multiplied by `SCALE`."""

SCALE = {"legacy_hard_sigmoid": 1.2}
"""Name -> factor of the pre-activation, 1 where absent."""


def _operator_slope(operator, *bounds, scale=1):
    """The slope that PyTorch has an operator for, apart from a scale."""

    def slope(d, y, into=None):
        if scale != 1:
            d = torch.mul(d, scale, out=into)
        return operator(d, y, *bounds) if into is None else operator.grad_input(d, y, *bounds, grad_input=into)

    return slope


SLOPE = {
    "tanh": _operator_slope(aten.tanh_backward),
    "sigmoid": _operator_slope(aten.sigmoid_backward),
    "legacy_hard_sigmoid": _operator_slope(aten.hardtanh_backward, 0, 1, scale=0.2),
    "hard_sigmoid": _operator_slope(aten.hardtanh_backward, 0, 1, scale=1 / 6),
    "relu": _operator_slope(aten.threshold_backward, 0),
    "linear": lambda d, y, into=None: d if into is None else into.copy_(d),
    "softsign": lambda d, y, into=None: torch.mul(d, (1 - y.abs()) ** 2, out=into),
    "softplus": lambda d, y, into=None: torch.mul(d, -torch.expm1(-y), out=into),
    "elu": lambda d, y, into=None: torch.mul(d, y.clamp(max=0) + 1, out=into),
}
"""Name -> d times the derivative of the activation in terms of its OUTPUT y; into an array, which may be d, or as a new
one, which autograd follows."""
