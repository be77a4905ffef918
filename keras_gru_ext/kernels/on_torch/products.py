"""The matrix products that the loops repeat at every step, and the blocks of steps that they go through time in."""

import torch

_ROWS = 512
"""How many rows (steps times batch) a block has at least, so that its matrix products are efficient."""

_LARGE = 2**14
"""The least product of the batch and a weight's rows where it pays to pack the weight, with what follows."""

_PACKED = 384, 8
"""The least rows of a weight, and the least steps, where it pays to pack it: it is too large for a core's own cache."""

_DIVIDED = 2**18, 50
"""The least size of a weight, and the least steps, where it pays to divide its product with one row among the cores."""


def block_length(steps, batch):
    return min(steps, -(-_ROWS // max(batch, 1)))


def per_gate(m):
    """The masks of z, r and the candidate: the same object three times where there is one or none."""
    return (m, m, m) if m is None or m.dim() == 2 else m.unbind(0)


class Product:
    """The product with a weight that a loop repeats: `x @ weight` for x (batch, .)."""

    def __init__(self, weight, steps, batch, scale=1):
        self._weight, self._scale, self._packed, self._parts = weight, scale, None, _parts(weight, steps, batch)
        if packs(weight, steps, batch):
            # In the order that oneDNN reads fastest; it would be brought into that at every step otherwise.
            packed = torch.ops.mkldnn._reorder_linear_weight((weight * scale).t().contiguous(), batch)
            self._packed = lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        elif self._parts > 1:
            self._weight = torch.stack(weight.chunk(self._parts, 1))

    def into(self, out, x):
        """Returns `x @ weight`, which may or may not be in `out`; only where the scale is 1."""
        if self._packed is not None:
            return self._packed(x)
        if self._parts == 1:
            return torch.mm(x, self._weight, out=out)
        torch.bmm(x.expand(self._parts, -1, -1), self._weight, out=out.view(self._parts, 1, -1))
        return out

    def add_to(self, out, x):
        """Replaces out by `scale * (out + x @ weight)`."""
        if self._packed is not None:
            torch.add(self._packed(x), out, alpha=self._scale, out=out)
        elif self._parts == 1:
            out.addmm_(x, self._weight, beta=self._scale, alpha=self._scale)
        else:
            x = x.expand(self._parts, -1, -1)
            out.view(self._parts, 1, -1).baddbmm_(x, self._weight, beta=self._scale, alpha=self._scale)


def _parts(weight, steps, batch):
    """Into how many parts the columns of a weight are divided: a product with one row takes a core for each part."""
    if batch != 1 or weight.device.type != "cpu" or weight.numel() < _DIVIDED[0] or steps < _DIVIDED[1]:
        return 1
    return max(parts for parts in range(1, torch.get_num_threads() + 1) if weight.shape[1] % parts == 0)


def packs(weight, steps, batch):
    """Whether packing a weight is possible and pays."""
    return weight.shape[0] >= _PACKED[0] and steps >= _PACKED[1] and can_pack(weight, batch)


def can_pack(weight, batch):
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and batch * weight.shape[0] >= _LARGE
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
