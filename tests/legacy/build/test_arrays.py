"""Stored arrays become the arrays of Keras 3 layers; each layout has an inverse here that writes it."""

import numpy as np
import pytest

from keras_gru_ext.errors import WeightsError
from keras_gru_ext.legacy.build.arrays import (
    Leaf,
    distribute,
    gather_gates,
    gru_from_cudnn,
    lstm_from_cudnn,
    names_of_leaves,
    not_finite,
)
from keras_gru_ext.legacy.record import StoredArray

pytestmark = pytest.mark.no_backend

F, U = 3, 4


def per_gate(kernel, recurrent, bias):
    """What Keras 1 stored."""
    gates = [np.split(array, 3, axis=-1) for array in (kernel, recurrent, bias)]
    return [gates[part][gate] for gate in range(3) for part in range(3)]


def as_cudnn(kernel, recurrent, bias, gates=3):
    """What CuDNN layers store."""
    inputs = [block.T.reshape(block.shape) for block in np.split(kernel, gates, axis=1)]
    states = [block.T for block in np.split(recurrent, gates, axis=1)]
    return [np.concatenate(inputs, axis=1), np.concatenate(states, axis=1), bias.reshape(-1)]


def gru_arrays(rng, reset_after=False):
    shapes = [(F, 3 * U), (U, 3 * U), (2, 3 * U) if reset_after else (3 * U,)]
    return [rng.standard_normal(shape) for shape in shapes]


def assert_same(got, wanted):
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def gru_leaf(path="gru", reset_after=False, **more):
    shapes = ((F, 3 * U), (U, 3 * U), (2, 3 * U) if reset_after else (3 * U,))
    return Leaf(path, "GRU", shapes, **more)


def test_nine_arrays_of_keras_1(rng):
    wanted = gru_arrays(rng)
    assert_same(gather_gates(per_gate(*wanted)), wanted)


def test_cudnn_gru(rng):
    wanted = gru_arrays(rng, reset_after=True)
    assert_same(gru_from_cudnn(as_cudnn(*wanted)), wanted)
    assert not np.array_equal(as_cudnn(*wanted)[0], wanted[0])


def test_cudnn_lstm(rng):
    kernel, recurrent = rng.standard_normal((F, 4 * U)), rng.standard_normal((U, 4 * U))
    halves = rng.standard_normal((2, 4 * U))
    got = lstm_from_cudnn(as_cudnn(kernel, recurrent, halves, gates=4))
    assert_same(got, [kernel, recurrent, halves.sum(axis=0)])


def test_distribute_recognizes_cudnn_by_its_bias(rng):
    wanted = gru_arrays(rng, reset_after=True)
    [got] = distribute(as_cudnn(*wanted), [gru_leaf(reset_after=True)], "file")
    assert_same(got, wanted)


def test_distribute_takes_nine_arrays_where_the_leaf_says_so(rng):
    wanted = gru_arrays(rng)
    plain = Leaf("dense", "Dense", ((2, 1),))
    last = rng.standard_normal((2, 1))
    got = distribute([*per_gate(*wanted), last], [gru_leaf(per_gate=True), plain], "file")
    assert_same(got[0], wanted)
    assert_same(got[1], [last])


def numbered(*shapes):
    return [np.full(shape, index, "float32") for index, shape in enumerate(shapes)]


def test_trainable_arrays_come_first_and_frozen_layers_last():
    """The order that every Keras 2 wrote: BatchNormalization's statistics and frozen layers after all the rest."""
    leaves = [
        Leaf("norm", "BatchNormalization", ((2,), (2,), (2,), (2,))),
        Leaf("frozen", "Dense", ((2, 2), (2,)), frozen=("frozen",)),
        Leaf("dense", "Dense", ((2, 3), (3,))),
    ]
    arrays = numbered((2,), (2,), (2, 3), (3,), (2,), (2,), (2, 2), (2,))
    got = distribute(arrays, leaves, "file")
    assert [[int(array.flat[0]) for array in part] for part in got] == [[0, 1, 4, 5], [6, 7], [2, 3]]


def test_what_a_frozen_layer_holds_stands_together():
    """A frozen model between two layers: its kernels, then its statistics, all among what is not trained."""
    leaves = [
        Leaf("norm", "BatchNormalization", ((2,), (2,), (2,), (2,))),
        Leaf("model > norm", "BatchNormalization", ((2,), (2,), (2,), (2,)), frozen=("model",)),
        Leaf("model > dense", "Dense", ((2, 2),), frozen=("model",)),
        Leaf("last", "BatchNormalization", ((2,), (2,), (2,), (2,))),
    ]
    arrays = numbered(*[(2,)] * 8, (2, 2), *[(2,)] * 4)
    got = distribute(arrays, leaves, "file")
    numbers = [[int(array.flat[0]) for array in part] for part in got]
    assert numbers == [[0, 1, 4, 5], [6, 7, 9, 10], [8], [2, 3, 11, 12]]


def test_a_normalization_without_scale_has_fewer_trainable_arrays():
    leaves = [Leaf("norm", "BatchNormalization", ((2,), (2,), (2,))), Leaf("dense", "Dense", ((2, 3),))]
    got = distribute(numbered((2,), (2, 3), (2,), (2,)), leaves, "file")
    assert [[int(array.flat[0]) for array in part] for part in got] == [[0, 2, 3], [1]]


def test_what_is_given_back_is_new(rng):
    arrays = gru_arrays(rng)
    before = [array.copy() for array in arrays]
    [got] = distribute(arrays, [gru_leaf()], "file")
    for array in got:
        array += 1
    assert_same(arrays, before)


def test_numbers_of_another_byte_order(rng):
    arrays = gru_arrays(rng)
    [got] = distribute([array.astype(">f4") for array in arrays], [gru_leaf()], "file")
    assert all(array.dtype == np.dtype("f4") and array.dtype.isnative for array in got)
    assert_same(got, [array.astype("f4") for array in arrays])


def test_what_was_read_is_not_copied(rng):
    read = gru_arrays(rng)
    stored = [StoredArray(array.shape, array.dtype.str, lambda array=array: array) for array in read]
    [got] = distribute(stored, [gru_leaf()], "file")
    assert all(one is array for one, array in zip(got, read, strict=True))


def test_a_wrong_count_names_both_sides(rng):
    with pytest.raises(WeightsError, match=r"file: the file holds 2 arrays .* the model needs 3 \(gru \(GRU\): 3\)"):
        distribute(gru_arrays(rng)[:2], [gru_leaf()], "file")


def test_a_wrong_shape_names_both_sides(rng):
    arrays = [array[:-1] for array in gru_arrays(rng)]
    with pytest.raises(WeightsError, match=r"file: gru \(GRU\) has arrays of shapes .*\(3, 12\).* gives .*\(2, 12\)"):
        distribute(arrays, [gru_leaf()], "file")


@pytest.mark.parametrize("stored", [True, False])
def test_the_other_reset_convention_is_named(rng, stored):
    message = f"belongs to reset_after={stored}, but the config says reset_after={not stored}"
    with pytest.raises(WeightsError, match=message):
        distribute(gru_arrays(rng, stored), [gru_leaf(reset_after=not stored)], "file")


def test_twelve_arrays_of_keras_1(rng):
    """Keras 1 stored the gates of an LSTM in the order input, candidate, forget, output."""
    wanted = [rng.standard_normal(shape) for shape in ((F, 4 * U), (U, 4 * U), (4 * U,))]
    gates = [np.split(array, 4, axis=-1) for array in wanted]
    stored = [gates[part][gate] for gate in (0, 2, 1, 3) for part in range(3)]
    leaf = Leaf("lstm", "LSTM", tuple(array.shape for array in wanted), per_gate=True)
    [got] = distribute(stored, [leaf], "file")
    assert_same(got, wanted)


def test_weights_of_keras_2_fit_an_architecture_of_keras_1(rng):
    wanted = gru_arrays(rng)
    [got] = distribute(wanted, [gru_leaf(per_gate=True)], "file")
    assert_same(got, wanted)


KERNELS = {
    "Theano": ("Conv1D", {}, True, lambda k: k[::-1]),
    "Theano, two axes": ("Conv2D", {}, True, lambda k: k[::-1, ::-1]),
    "Keras 1": ("Conv1D", {}, False, lambda k: k[:, None]),
    "Keras 1.0": ("Conv1D", {}, False, lambda k: k[:, None].transpose(3, 2, 0, 1)),
    "Keras 1, filters first": ("Conv2D", {"filters_first": True}, False, lambda k: k.transpose(3, 2, 0, 1)),
    "Keras 1, transposed": ("Conv2DTranspose", {}, False, lambda k: k.transpose(0, 1, 3, 2)),
}


@pytest.mark.parametrize(("class_name", "options", "flip", "store"), KERNELS.values(), ids=KERNELS)
def test_kernels_of_convolutions(rng, class_name, options, flip, store):
    kernel = rng.standard_normal((3, 2, 5) if class_name == "Conv1D" else (3, 4, 2, 5))
    bias = rng.standard_normal(5)
    leaf = Leaf("conv", class_name, (kernel.shape, bias.shape), **options)
    [got] = distribute([store(kernel), bias], [leaf], "file", flip)
    assert_same(got, [kernel, bias])


def test_only_convolutions_are_flipped(rng):
    arrays = [rng.standard_normal((2, 3)), rng.standard_normal(3)]
    [got] = distribute(arrays, [Leaf("dense", "Dense", ((2, 3), (3,)))], "file", flip=True)
    assert_same(got, arrays)


def test_not_finite():
    named = [("good", np.ones(3)), ("bad", np.array([[1, np.nan], [np.inf, 0]])), ("integers", np.arange(3))]
    assert not_finite(named) == ["bad (2 of 4)"]


def test_names_of_arrays_say_which_models_were_frozen():
    """Standalone Keras writes no such thing into a config, and all shapes fit either way."""
    shapes = ((2, 2), (2,))
    inner = ("model > inner",)
    leaves = [
        Leaf("model > dense_1", "Dense", shapes),
        Leaf("model > inner > dense_2", "Dense", shapes, models=inner),
        Leaf("model > dense_3", "Dense", shapes),
    ]
    arrays = numbered(*shapes * 3)
    for order in ((1, 2, 3), (1, 3, 2)):
        names = [f"dense_{number}/{name}:0" for number in order for name in ("kernel", "bias")]
        got = distribute(arrays, leaves, "file", names=names)
        given = dict(zip((1, 2, 3), got, strict=True))
        assert [int(array.flat[0]) for number in order for array in given[number]] == [0, 1, 2, 3, 4, 5]
        assert names_of_leaves(names, leaves)[1] == ["dense_2/kernel:0", "dense_2/bias:0"]
