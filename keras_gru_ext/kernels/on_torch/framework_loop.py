"""The loops over the steps of a block in PyTorch's operations: on GPUs, in half precision, and without Numba.

`compiled_loop.py` has the same functions.
"""

import torch

from keras_gru_ext.kernels.on_torch.activations import ACTIVATION_, SCALE, SLOPE


class Loop:
    """F1 to F4 and B1 to B5 of `kernels/README.md` for a block of steps.

    Args:
        spec: A `GRUSpec`; of it, the maths counts.
        recurrent_kernel: (U, 3U).
        recurrent_bias: (3U,) or `None`.
        recurrent_masks: `None`, (B, U) or (3, B, U).
        steps: The steps of all blocks together.
    """

    def __init__(self, spec, recurrent_kernel, recurrent_bias, recurrent_masks, steps):
        self._after = spec.reset_after
        self._names = spec.activation, spec.recurrent_activation
        self._U, self._c, self._m = recurrent_kernel, recurrent_bias, recurrent_masks

    def projects(self, x, m_x):
        """Whether `forward` makes F0 itself: never."""
        return False

    def forward(self, gates, h, mask, states, products):
        """F1 to F4.

        Args:
            gates: (T, B, 3U). P of F0; afterwards z | r | g.
            h: (B, U). The state before the first step.
            mask: (T, B) bool or `None`.
            states: (T, B, U) to write the states to, or `None`.
            products: (T, B, U) to write q to, or `None`.

        Returns:
            (B, U): the state after the last step.
        """
        a_, s_ = (ACTIVATION_[name] for name in self._names)
        scale_a, scale_s = (SCALE.get(name, 1) for name in self._names)
        units = h.shape[1]
        m_z, m_r, m_h = per_gate(self._m)
        U_z, U_r, U_h = self._U.chunk(3, 1)
        U_zr = self._U[:, : 2 * units]
        c_h = gates.new_zeros(units)
        if self._c is not None:
            c_h = self._c[2 * units :]
            gates[..., : 2 * units].add_(self._c[: 2 * units])
        one_mask = m_z is m_r
        # Views are cut before the loop, and what a step makes goes into buffers that are there.
        zr_at, z_at, r_at, g_at = (part.unbind(0) for part in (gates[..., : 2 * units], *gates.chunk(3, -1)))
        state_at = gates.new_empty((2, *h.shape)).unbind(0) * len(gates) if states is None else states.unbind(0)
        q_at = gates.new_empty((1, *h.shape)).unbind(0) * len(gates) if products is None else products.unbind(0)
        k = None if mask is None else mask.unsqueeze(-1).unbind(0)
        new, scratch = gates.new_empty((2, *h.shape)).unbind(0)
        for t, (zr, z, r, g) in enumerate(zip(zr_at, z_at, r_at, g_at, strict=True)):
            hm = h if m_h is None else torch.mul(h, m_h, out=scratch)
            if one_mask:
                zr.addmm_(hm, U_zr, beta=scale_s, alpha=scale_s)  # F1
            else:
                z.addmm_(h * m_z, U_z, beta=scale_s, alpha=scale_s)  # F1
                r.addmm_(h * m_r, U_r, beta=scale_s, alpha=scale_s)  # F1
            s_(zr)  # F1
            if self._after:
                q = torch.addmm(c_h, hm, U_h, out=q_at[t])  # F2
                g.addcmul_(r, q)  # F2
                if scale_a != 1:
                    g.mul_(scale_a)
            else:
                g.addmm_(torch.mul(r, hm, out=scratch), U_h, beta=scale_a, alpha=scale_a)  # F2
            a_(g)  # F2
            if k is None:
                h = torch.lerp(g, h, z, out=state_at[t])  # F3
            else:
                torch.lerp(g, h, z, out=new)  # F3
                h = torch.where(k[t], new, h, out=state_at[t])  # F4
        return h

    def backward(self, gates, products, states, h, mask, d_states, carry, das, dqs):
        """B1 to B5.

        Args:
            gates: (T, B, 3U). z | r | g of `forward`.
            products: (T, B, U). With `reset_after`, q of `forward`.
            states: (T, B, U). The states after each step.
            h: (B, U). The state before the first step.
            mask: (T, B) bool or `None`.
            d_states: (T, B, U) or `None`. The gradient of the states.
            carry: (B, U) or `None`. The gradient of the last state, besides that.
            das: (T, B, 3U) to write da_z | da_r | da_h to; zero at masked steps.
            dqs: (T, B, U) to write what makes dU_h to: dq with `reset_after`, else r h m_h.

        Returns:
            (B, U): the gradient of `h`.
        """
        slope_a, slope_s = (SLOPE[name] for name in self._names)
        steps, batch, units = states.shape
        m_z, m_r, m_h = per_gate(self._m)
        one_mask = m_z is m_r
        U_t = self._U.t()
        Ut_z, Ut_r, Ut_h = U_t.chunk(3)
        Ut_zr = U_t[: 2 * units]
        z, r, g = gates.chunk(3, -1)
        F_z, F_r, F_h = das.chunk(3, -1)
        previous = torch.cat([h.unsqueeze(0), states[:-1]])
        # Chosen, not multiplied: what a masked step computed may have overflowed.
        skipped = None if mask is None else ~mask.unsqueeze(-1)

        # What does not depend on the gradient, for all steps at once.
        slope_s(torch.sub(previous, g, out=F_z), z, into=F_z)  # B2
        through_g = 1 - z
        slope_a(through_g, g, into=through_g)  # B3
        keep = z
        if skipped is not None:
            through_g.masked_fill_(skipped, 0)  # B1
            keep = torch.where(skipped, 1, z)  # B5
            r = torch.where(skipped, 0, r)
        if self._after:
            torch.mul(through_g, r, out=F_h)  # B4
            slope_s(torch.mul(through_g, products, out=F_r), r, into=F_r)  # B4
        else:
            F_h.copy_(through_g)
            seen = previous if m_h is None else previous * m_h
            torch.mul(r, seen, out=dqs)
            slope_s(F_r.copy_(seen), r, into=F_r)  # B4
        if mask is not None:
            das.masked_fill_(skipped, 0)  # B1

        zr_at, z_at, r_at, h_at = (part.unbind(0) for part in (das[..., : 2 * units], F_z, F_r, F_h))
        by_gate = das.view(steps, batch, 3, units)
        times_d_at = (by_gate if self._after else by_gate[:, :, ::2]).unbind(0)
        d_at = gates.new_empty((steps, batch, units))
        e = gates.new_empty((batch, units))
        carry = h.new_zeros((batch, units)) if carry is None else carry.clone()
        for t in reversed(range(steps)):
            d = d_at[t].copy_(carry) if d_states is None else torch.add(d_states[t], carry, out=d_at[t])
            torch.mul(d, keep[t], out=carry)  # B5
            times_d_at[t].mul_(d.unsqueeze(1))  # B2, B3, with `reset_after` B4
            if self._after and self._m is None:
                carry.addmm_(das[t], U_t)  # B4, B5
                continue
            torch.mm(h_at[t], Ut_h, out=e)  # B4
            if not self._after:
                r_at[t].mul_(e)  # B4
                e.mul_(r[t])  # B5
            carry.add_(e) if m_h is None else carry.addcmul_(e, m_h)  # B5
            if self._m is None:
                carry.addmm_(zr_at[t], Ut_zr)  # B5
            elif one_mask:
                carry.addcmul_(torch.mm(zr_at[t], Ut_zr), self._m)  # B5
            else:
                carry.addcmul_(torch.mm(z_at[t], Ut_z), m_z)  # B5
                carry.addcmul_(torch.mm(r_at[t], Ut_r), m_r)  # B5
        if self._after:
            dqs.copy_(F_h)
            torch.mul(through_g, d_at, out=F_h)  # B3
        return carry


def per_gate(m):
    """The masks of z, r and the candidate: the same object three times where there is one or none."""
    return (m, m, m) if m is None or m.dim() == 2 else m.unbind(0)
