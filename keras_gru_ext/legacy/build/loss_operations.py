"""What TensorFlow's losses compute where they stand between layers, in operations of Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from keras import ops

from keras_gru_ext.legacy.build.values import alike, constant, tensor

_SMALL = 1e-7


def _softplus_of_minus(x: Any) -> Any:
    """log(1 + exp(-|x|))"""
    return ops.log1p(ops.exp(ops.negative(ops.absolute(x))))


def _sigmoid_cross_entropy(labels: Any, logits: Any) -> Any:
    labels, logits = alike([labels, logits])
    linear = ops.subtract(ops.relu(logits), ops.multiply(logits, labels))
    return ops.add(linear, _softplus_of_minus(logits))


def _weighted_cross_entropy(labels: Any, logits: Any, pos_weight: Any) -> Any:
    labels, logits, weight = alike([labels, logits, pos_weight])
    share = ops.add(1, ops.multiply(ops.subtract(weight, 1), labels))
    curved = ops.add(_softplus_of_minus(logits), ops.relu(ops.negative(logits)))
    return ops.add(ops.multiply(ops.subtract(1, labels), logits), ops.multiply(share, curved))


def _softmax_cross_entropy(labels: Any, logits: Any, axis: Any) -> Any:
    labels, logits = alike([labels, logits])
    return ops.negative(ops.sum(ops.multiply(labels, ops.log_softmax(logits, axis=axis)), axis=axis))


def _sparse_cross_entropy(labels: Any, logits: Any) -> Any:
    return _softmax_cross_entropy(ops.one_hot(tensor(labels), logits.shape[-1]), logits, -1)


def _clipped(x: Any) -> Any:
    # tf.keras knows no other epsilon in a file; 1 - 1e-7 is rounded as TensorFlow rounds it.
    return ops.minimum(ops.maximum(x, _SMALL), float(np.float32(1) - np.float32(_SMALL)))


def _shares(output: Any, axis: int) -> Any:
    return _clipped(ops.divide(output, ops.sum(output, axis=axis, keepdims=True)))


def _binary(target: Any, output: Any, from_logits: bool) -> Any:
    if from_logits:
        return _sigmoid_cross_entropy(target, output)
    target, output = alike([target, output])
    output = _clipped(output)
    hit = ops.multiply(target, ops.log(ops.add(output, _SMALL)))
    missed = ops.multiply(ops.subtract(1, target), ops.log(ops.add(ops.subtract(1, output), _SMALL)))
    return ops.negative(ops.add(hit, missed))


def _categorical(target: Any, output: Any, from_logits: bool, axis: int) -> Any:
    if from_logits:
        return _softmax_cross_entropy(target, output, axis)
    target, output = alike([target, output])
    return ops.negative(ops.sum(ops.multiply(target, ops.log(_shares(output, axis))), axis=axis))


def _sparse_categorical(target: Any, output: Any, from_logits: bool, axis: int) -> Any:
    logits = output if from_logits else ops.log(_clipped(output))
    logits = ops.moveaxis(logits, axis, -1) if axis % len(logits.shape) != len(logits.shape) - 1 else logits
    return _sparse_cross_entropy(ops.cast(tensor(target), "int32"), logits)


def _in_top_k(targets: Any, predictions: Any, k: Any) -> Any:
    """Whether fewer than k predictions are larger than that of the target, which is finite."""
    hot = ops.one_hot(tensor(targets), predictions.shape[-1])
    own = ops.sum(ops.where(ops.equal(hot, 1), predictions, ops.zeros_like(predictions)), axis=-1, keepdims=True)
    larger = ops.sum(ops.cast(ops.greater(predictions, own), "int32"), axis=-1)
    return ops.logical_and(ops.less(larger, int(constant(k))), ops.isfinite(ops.squeeze(own, -1)))


def _ctc(
    labels: Any, logits: Any, label_length: Any, logit_length: Any, logits_time_major: bool, blank_index: Any
) -> Any:
    logits = ops.transpose(logits, (1, 0, 2)) if logits_time_major else logits
    blank = int(blank_index or 0) % logits.shape[-1]
    return ops.ctc_loss(tensor(labels), logits, tensor(label_length), tensor(logit_length), mask_index=blank)


LOSSES: Mapping[str, Callable] = MappingProxyType(
    {
        "binary_cross_entropy": _binary,
        "categorical_cross_entropy": _categorical,
        "ctc_loss": _ctc,
        "in_top_k": _in_top_k,
        "sigmoid_cross_entropy": _sigmoid_cross_entropy,
        "softmax_cross_entropy": _softmax_cross_entropy,
        "sparse_categorical_cross_entropy": _sparse_categorical,
        "sparse_softmax_cross_entropy": _sparse_cross_entropy,
        "weighted_cross_entropy": _weighted_cross_entropy,
    }
)
