"""The ways to run a layer's recurrence: by a kernel, by the cell in Keras' loop, or by Keras' own fused path.

All take batch-major sequences (B, T, F) whose masked steps hold zeros, and return what `GRU.inner_loop` returns.
"""

import dataclasses
import threading
import types

import keras
from keras import ops

from keras_gru_ext import activations, kernels


def why_not_kernel(layer, spec):
    """Returns why a call whose `spec_of` this is cannot go by a kernel, or `None`."""
    backend = keras.backend.backend()
    if layer.fused is False:
        return "the layer has fused=False"
    if layer.unroll:
        return "unroll=True asks for the loop to be laid out step by step"
    return kernels.why_not(spec, backend) or kernels.why_not_now(backend)


def run_kernel(spec, layer, sequences, state, mask, input_mask, recurrent_mask):
    """Runs the recurrence by the backend's kernel."""
    outputs, last_output, state = kernels.batch_major_for(spec, keras.backend.backend())(
        spec,
        sequences,
        *layer.cell.all_weights(),
        state,
        mask,
        *(ops.stack(m) if isinstance(m, (list, tuple)) else m for m in (input_mask, recurrent_mask)),
    )
    return last_output, outputs, [state]


def run_both(layers, sequences):
    """Predicts by two `GRU` layers at the same time, without a call of either, from inputs without a mask.

    Args:
        layers: Both of them, built.
        sequences: Tensor of shape (B, T, F).

    Returns:
        List of what the call of each returns; `None` if nothing does that here, or what a call does beside it matters.
    """
    plain = (
        all(
            not (layer.stateful or layer.time_major or layer.activity_regularizer or layer.use_cudnn is True)
            and layer.built
            and layer.compute_dtype == layer.variable_dtype == keras.backend.standardize_dtype(sequences.dtype)
            for layer in layers
        )
        and not CALLS
        and [layer.units for layer in layers] == [layers[0].units] * 2
        and sequences.shape[2:] == layers[0].cell.kernel.shape[:1]
        and sequences.shape[1]
    )
    run = kernels.both_for(keras.backend.backend(), sequences, *layers) if plain else None
    if run is None:
        return None
    spec, other = (spec_of(layer, False, False) for layer in layers)
    same = dataclasses.replace(other, go_backwards=spec.go_backwards) == spec
    if not same or any(why_not_kernel(layer, spec) for layer in layers):
        return None
    described = [
        (layer.go_backwards, sequences, *layer.cell.all_weights(), layer._starting_state(None, sequences))
        for layer in layers
    ]
    results = []
    for layer, (outputs, last, state) in zip(layers, run(spec, *described), strict=True):
        result = outputs if layer.return_sequences else last
        results.append((result, state) if layer.return_state else result)
    return results


def run_cell(layer, sequences, state, mask, input_mask, recurrent_mask):
    """Runs the recurrence by the cell, step after step: the path that every backend has."""
    cell = layer.cell
    weights = cell.recurrent_weights()
    projected = cell.project(sequences, _along_time(input_mask))

    def step(projected, states):
        h = cell.step(projected, states[0], recurrent_mask, weights)
        return h, [h]

    def masked_step(projected_and_mask, states):
        h, output = states
        counts = projected_and_mask[:, -1:] > 0
        # A masked step computes from a state of zero: a product that overflows would meet a gradient of zero later.
        seen = ops.where(counts, h, ops.zeros_like(h))
        h = ops.where(counts, cell.step(projected_and_mask[:, :-1], seen, recurrent_mask, weights), h)
        output = ops.where(counts, h, ops.zeros_like(h) if layer.zero_output_for_mask else output)
        return output, [h, output]

    if mask is None:
        return loop(layer, step, projected, [state])
    # The loop slices one tensor, so the mask travels as its last column.
    projected = ops.concatenate([projected, ops.cast(ops.expand_dims(mask, -1), projected.dtype)], axis=-1)
    last_output, outputs, [state, _] = loop(layer, masked_step, projected, [state, ops.zeros_like(state)])
    return last_output, outputs, [state]


def loop(layer, step, sequences, states):
    """Runs `step` over time by the loop of `keras.layers.RNN`, which reads no more than these attributes.

    The loop is given no mask: its treatment of masks differs between backends, and ours is part of `step`.
    """
    settings = types.SimpleNamespace(
        cell=step,
        return_sequences=layer.return_sequences,
        go_backwards=layer.go_backwards,
        # PyTorch has no loop of its own, and Keras' loop for it counts the sequences of a batch as it begins, which a
        # graph that is exported keeps as a number; laid out, the same steps leave the batch open.
        unroll=layer.unroll or keras.backend.backend() == "torch",
        stateful=False,
        zero_output_for_mask=False,
    )
    last_output, outputs, states = keras.layers.RNN.inner_loop(settings, sequences, states, mask=None)
    return last_output, outputs, list(states)


def plan_of(layer, is_masked, training, dtype, device):
    """Returns the `kernels.Plan` by which a call of the layer goes: what `GRU.inner_loop` decides, as a value.

    Args:
        layer: The `GRU`.
        is_masked: Whether the call has a mask.
        training: Whether it trains.
        dtype: The name of the dtype that it computes in.
        device: Where its arrays are: "cpu", or the name of another device.
    """
    backend = keras.backend.backend()
    reason = why_not_cudnn(layer, is_masked, training)
    has_cudnn = backend == "torch" and device.startswith("cuda")
    if reason is None and (layer.use_cudnn is True or has_cudnn):
        return kernels.Plan("cudnn")
    obstacles = (("cuDNN", reason),) if has_cudnn else ()
    reason = why_not_kernel(layer, spec_of(layer, is_masked, training))
    if reason is not None:
        return kernels.Plan("cell", (*obstacles, ("kernel", reason)))
    plan = kernels.plan_of(backend, dtype, device)
    return kernels.Plan(plan.way, (*obstacles, *plan.obstacles))


CALLS: dict[int, list] = {}
"""Where `explain` has calls noted while it runs a model, by its thread: (layer, shape, whether masked, device).

Not a `contextvars.ContextVar`, which PyTorch's compiler does not follow.
"""


def note(layer, sequences, mask):
    """Notes a call for `explain`, if it is that which runs the model."""
    if (calls := CALLS.get(threading.get_ident())) is not None:
        device = str(getattr(sequences, "device", "cpu")).lower()
        calls.append((layer, tuple(sequences.shape), mask is not None, "cpu" if "cpu" in device else device))


def why_not_cudnn(layer, is_masked, training):
    """Returns why Keras' own fused path would not compute what this call means, or `None`."""
    cell = layer.cell
    if layer.use_cudnn is False:
        return "the layer has use_cudnn=False"
    if not (cell.reset_after and cell.use_bias):
        return "it computes the reset-after maths with biases only"
    if (cell.activation, cell.recurrent_activation) != (keras.activations.tanh, keras.activations.sigmoid):
        return "it computes tanh and sigmoid only"
    if is_masked:
        return "it treats masked steps in its own way"
    if training and (layer.dropout or layer.recurrent_dropout):
        return "it does not follow this layer's dropout rules"
    if layer.unroll:
        return "it cannot be unrolled"
    if layer.compute_dtype == "float64":
        return "it may compute float64 in float32"
    return None


def is_on_cudnn(tensor):
    """Whether Keras' fused path would be cuDNN's and is worth it.

    Never on TensorFlow, where the layer would lose XLA for it unasked, nor on JAX, where Keras has a plain scan.
    """
    if keras.backend.backend() != "torch" or tensor.device.type != "cuda":
        return False
    import torch

    return not torch.compiler.is_compiling()  # While compiling, Keras lays the loop out instead.


def spec_of(layer, is_masked, training):
    """Describes the recurrence of a call to the kernels."""
    cell = layer.cell
    return kernels.GRUSpec(
        reset_after=cell.reset_after,
        activation=activations.kernel_name(cell.activation),
        recurrent_activation=activations.kernel_name(cell.recurrent_activation),
        has_recurrent_bias=cell.use_bias and cell.reset_after,
        masked=is_masked,
        input_dropout=_kind_of_dropout(layer.dropout, cell, training),
        recurrent_dropout=_kind_of_dropout(layer.recurrent_dropout, cell, training),
        return_sequences=layer.return_sequences,
        zero_output_for_mask=bool(layer.zero_output_for_mask) and is_masked,
        go_backwards=layer.go_backwards,
        training=bool(training),
    )


def _kind_of_dropout(rate, cell, training):
    if not drops(rate, training):
        return "none"
    return "shared" if cell.implementation == 2 else "per_gate"


def drops(rate, training):
    """Whether a call draws a dropout mask: a rate of exactly 1 drops nothing, as in every version of Keras."""
    return bool(training) and 0.0 < rate < 1.0


def _along_time(mask):
    """Makes a dropout mask (B, F), each of a list of them, or `None`, broadcast along the time axis."""
    if isinstance(mask, (list, tuple)):
        return [ops.expand_dims(m, 1) for m in mask]
    return None if mask is None else ops.expand_dims(mask, 1)
