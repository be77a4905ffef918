"""`convert` writes all or nothing, and `verify` can tell different numbers."""

import json
import os
import warnings
import weakref
import zipfile

import keras
import numpy as np
import pytest

from keras_gru_ext.comparison import predict, random_inputs
from keras_gru_ext.errors import ArgumentError, FileFormatError, UnsafeContentError, VerificationError
from keras_gru_ext.legacy import load_model
from keras_gru_ext.legacy.build import handover
from keras_gru_ext.tools import backends, conversion, rereading
from keras_gru_ext.tools.conversion import convert
from keras_gru_ext.tools.references import verify
from tests.helpers import short
from tests.legacy.test_fixtures import named

pytestmark = pytest.mark.in_turn(always=True)

FIXTURE = named("keras-2.2.4-tensorflow", "embedding_masked")
REFERENCE = FIXTURE.model.replace(".h5", ".npz")


@pytest.fixture
def target(tmp_path):
    return str(tmp_path / "new.keras")


def files(target):
    return os.listdir(os.path.dirname(target))


def test_convert(target):
    made = convert(FIXTURE.model, target, against=REFERENCE)
    assert made.difference <= 1e-5
    assert files(target) == ["new.keras"]
    assert verify(keras.saving.load_model(target), REFERENCE) == made.difference


def test_nothing_is_replaced_unless_asked_for(target):
    with open(target, "w") as file:
        file.write("precious")
    with pytest.raises(ArgumentError, match=r"exists.*--force"):
        convert(FIXTURE.model, target)
    with open(target) as file:
        assert file.read() == "precious"
    convert(FIXTURE.model, target, force=True)
    verify(keras.saving.load_model(target), REFERENCE)


def test_the_name_of_the_target():
    with pytest.raises(ArgumentError, match=r"must end in '\.keras', '\.h5', '\.weights\.h5' or '\.onnx'"):
        convert(FIXTURE.model, "new.pb")


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
@pytest.mark.parametrize("stock", [False, True])
def test_the_other_formats(tmp_path, suffix, stock):
    target = str(tmp_path / f"new{suffix}")
    fixture = named("keras-2.2.4-tensorflow", "nested_and_frozen")
    made = convert(fixture.model, target, stock=stock, against=fixture.model.replace(".h5", ".npz"))
    assert made.difference <= 1e-5
    assert files(target) == [f"new{suffix}"]
    if suffix == ".h5":
        again = keras.saving.load_model(target, compile=False)
        assert verify(again, fixture.model.replace(".h5", ".npz")) == made.difference


def test_what_keras_cannot_read_back_is_not_kept(tmp_path, monkeypatch):
    def refuse(path, **options):
        raise ValueError("no such mask")

    monkeypatch.setattr(conversion.keras.saving, "load_model", refuse)
    with pytest.raises(VerificationError, match=r"cannot read back what it wrote .* no such mask\. A '\.keras' file"):
        convert(FIXTURE.model, tmp_path / "new.h5")
    assert os.listdir(tmp_path) == []


def test_stock_is_checked_before_it_is_kept(target, monkeypatch):
    monkeypatch.setattr(conversion, "to_stock", lambda model: keras.models.clone_model(model))
    with pytest.raises(VerificationError, match="with stock layers: output 0 on random input differs"):
        convert(FIXTURE.model, target, stock=True)
    assert files(target) == []


@pytest.mark.parametrize("stock", [False, True])
def test_the_first_model_makes_room_for_what_is_read_again(target, monkeypatch, stock):
    """Two large models side by side would take more memory than a conversion may."""
    made = []
    load, rewrite, read = conversion.load_model, conversion.to_stock, conversion.read_again
    monkeypatch.setattr(handover, "_MANY", 0)
    monkeypatch.setattr(conversion, "load_model", lambda *args, **options: remembered(made, load(*args, **options)))
    monkeypatch.setattr(conversion, "to_stock", lambda model: remembered(made, rewrite(model)))

    def alone(*args):
        assert [one() for one in made] == [None] * (2 if stock else 1)
        return read(*args)

    monkeypatch.setattr(conversion, "read_again", alone)
    convert(FIXTURE.model, target, stock=stock, against=REFERENCE)
    assert files(target) == ["new.keras"]


def remembered(made, model):
    made.append(weakref.ref(model))
    return model


no_comparison = pytest.mark.skipif(
    keras.backend.backend() == "numpy", reason="NumPy is none of the backends to compare"
)


def test_onnx(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    target = tmp_path / "new.onnx"
    made = convert(FIXTURE.model, target, against=REFERENCE)
    assert 0 <= made.difference <= 1e-5
    assert files(target) == ["new.onnx"]
    session = runtime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    [got] = session.run(None, {session.get_inputs()[0].name: FIXTURE.arrays("x")[0].astype("float32")})
    assert np.abs(got - FIXTURE.arrays("y")[0]).max() <= 1e-5


def test_onnx_is_not_kept_unless_it_is_right(tmp_path):
    pytest.importorskip("onnxruntime")
    wrong = named("tf.keras-2.4.4", "embedding_masked").model.replace(".h5", ".npz")
    with pytest.raises(VerificationError, match=r"output 0 differs by"):
        convert(FIXTURE.model, tmp_path / "new.onnx", against=wrong)
    with pytest.raises(ArgumentError, match=r"new\.onnx: an ONNX file holds no layers of Keras"):
        convert(FIXTURE.model, tmp_path / "new.onnx", stock=True)
    assert os.listdir(tmp_path) == []


@no_comparison
@pytest.mark.full
def test_onnx_and_backends(tmp_path):
    pytest.importorskip("onnxruntime")
    [result] = convert(FIXTURE.model, tmp_path / "new.onnx", backends=[keras.backend.backend()]).backends
    assert result.difference <= 1e-5


@no_comparison
@pytest.mark.in_turn("torch", always=True)
@pytest.mark.parametrize("name", short(["new.keras", "new.weights.h5"], 0))
def test_backends(tmp_path, name):
    made = convert(FIXTURE.model, tmp_path / name, backends=[keras.backend.backend()], stock=True)
    [result] = made.backends
    assert result.backend == keras.backend.backend()
    assert result.difference <= 1e-5


@no_comparison
def test_backends_that_differ(target, monkeypatch):
    # What another process would do, in this one.
    monkeypatch.setattr(backends, "_run", lambda backend, recipe, name: backends._work(json.loads(recipe)))
    for room in (conversion, rereading):
        monkeypatch.setattr(room, "predict", lambda model, inputs: [array + 1 for array in predict(model, inputs)])
    with pytest.raises(VerificationError, match=f"on {keras.backend.backend()} the predictions differ by 0"):
        convert(FIXTURE.model, target, backends=[keras.backend.backend()])
    assert files(target) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backends": ["mxnet"]}, r"Unknown backends \['mxnet'\]"),
        ({"backends": ["jax"], "custom_objects": {"A": keras.layers.Dense}}, "cannot be combined"),
    ],
)
def test_bad_backends(target, options, message):
    with pytest.raises(ArgumentError, match=message):
        convert(FIXTURE.model, target, **options)


def test_nothing_is_left_behind_when_the_file_is_bad(target):
    with pytest.raises(FileFormatError, match="no such file"):
        convert("none.h5", target)
    assert files(target) == []


def test_nothing_is_left_behind_when_the_reference_differs(target, tmp_path):
    wrong = shifted(tmp_path / "wrong.npz", 1e-3)
    with pytest.raises(VerificationError, match=r"differs by 0\.001"):
        convert(FIXTURE.model, target, against=wrong)
    assert files(target) == ["wrong.npz"]


@pytest.mark.parametrize("what", ["weight", "output"])
def test_what_was_written_wrong_is_noticed(target, monkeypatch, what):
    """The comparison after writing is proven on a reader that gives another model."""
    load = keras.saving.load_model

    def broken(path, **options):
        model = load(path, **options)
        if what == "weight":
            model.layers[-1].set_weights([array + 1e-6 for array in model.layers[-1].get_weights()])
        else:
            model.layers[-1].activation = keras.activations.tanh
        return model

    monkeypatch.setattr(conversion.keras.saving, "load_model", broken)
    with pytest.raises(VerificationError, match=what):
        convert(FIXTURE.model, target)
    assert files(target) == []


def shifted(path, by):
    stored = dict(np.load(REFERENCE))
    stored["y0"] = stored["y0"] + np.float32(by)
    np.savez(path, **stored)
    return str(path)


def test_verify_notices_a_small_difference(tmp_path):
    model = load_model(FIXTURE.model)
    assert verify(model, REFERENCE) <= 1e-6
    path = shifted(tmp_path / "near.npz", 5e-5)
    with pytest.raises(VerificationError, match=r"near.npz: output 0 differs by 5e-05 at index \(\d, 0\)"):
        verify(model, path)
    assert verify(model, path, tolerance=1e-4) == pytest.approx(5e-5, rel=0.1)


def nan_at_a_place(arrays):
    arrays["y0"] = np.where(np.arange(3)[:, None] == 1, np.nan, arrays["y0"])


def fewer_rows(arrays):
    arrays["y0"] = arrays["y0"][:-1]


def other_input(arrays):
    arrays["x0"] = arrays["x0"][..., None]


def one_more_input(arrays):
    arrays["x1"] = arrays["x0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan_at_a_place, r"differs by nan at index \(1, 0\)"),
        (fewer_rows, "has the shape"),
        (other_input, r"x0 has the shape \(3, 7, 1\)"),
        (one_more_input, "holds 2 inputs and 1 outputs; the model has 1 and 1"),
    ],
)
def test_verify_notices_everything_else(tmp_path, change, message):
    arrays = dict(np.load(REFERENCE))
    change(arrays)
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(VerificationError, match=message):
        verify(load_model(FIXTURE.model), tmp_path / "wrong.npz")


@pytest.mark.parametrize("content", [b"", b"not zip", None], ids=["empty", "other", "without arrays"])
def test_references_that_are_none(tmp_path, content):
    path = tmp_path / "reference.npz"
    if content is None:
        np.savez(path, z=np.ones(3))
    else:
        path.write_bytes(content)
    told = "x0, x1" if content is None else r"not an \.npz file, but something else\. Write it with numpy\.savez"
    with pytest.raises(FileFormatError, match=rf"reference\.npz: .*{told}"):
        verify(load_model(FIXTURE.model), path)


def test_a_reference_that_holds_code_is_not_run(tmp_path):
    path = tmp_path / "reference.npz"
    np.savez(path, x0=np.array([print], dtype=object), y0=np.ones(1))
    with pytest.raises(FileFormatError, match="plain arrays"):
        verify(load_model(FIXTURE.model), path)


def bomb(path):
    """A quarter of a gigabyte of zeros in a quarter of a megabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x0.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**26,)})
        for _ in range(256):
            file.write(bytes(2**20))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y0.npy", b"")


def lie(path):
    """Eight bytes that call themselves an exabyte."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x0.npy", "y0.npy"):
            with archive.open(name, "w") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**57,)})
                file.write(bytes(8))


def twice(path):
    np.savez(path, x0=np.ones(3), y0=np.ones(3))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("x0.npy", b"")


@pytest.mark.parametrize(
    ("make", "kind", "told"),
    [
        (bomb, FileFormatError, r"its x0\.npy declares \d+ bytes, from \d+ in the archive"),
        (lie, FileFormatError, r"x0\.npy: it declares the shape \(144115188075855872,\) of float64, and holds 8 bytes"),
        (twice, UnsafeContentError, r"two members named 'x0\.npy'"),
    ],
)
def test_references_of_strangers(tmp_path, make, kind, told):
    path = tmp_path / "reference.npz"
    make(path)
    with pytest.raises(kind, match=told) as raised:
        verify(load_model(FIXTURE.model), path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("order", "CF")
def test_references_in_any_order(tmp_path, order):
    arrays = {name: np.asarray(array, order=order) for name, array in np.load(REFERENCE).items()}
    np.savez_compressed(tmp_path / "reference.npz", **arrays)
    assert verify(load_model(FIXTURE.model), tmp_path / "reference.npz") < 1e-5


def test_random_inputs_of_an_embedding_are_words_it_knows():
    [words] = random_inputs(load_model(FIXTURE.model))
    assert words.shape == (3, 5)
    assert words.dtype == np.int32
    assert words.max() < 11


@pytest.mark.parametrize("within", [False, True])
def test_predictions_begin_without_states(within, rng):
    inputs = keras.Input(batch_shape=(2, 3, 5, 4) if within else (2, 3, 4))
    layer = keras.layers.RNN([keras.layers.GRUCell(2), keras.layers.LSTMCell(3)], stateful=True)
    model = keras.Model(inputs, (keras.layers.TimeDistributed(layer) if within else layer)(inputs))
    x = [rng.standard_normal(inputs.shape).astype("float32")]
    np.testing.assert_array_equal(predict(model, x)[0], predict(model, x)[0])


def test_random_inputs_have_the_fixed_batch_of_a_stateful_model():
    [x] = random_inputs(load_model(named("keras-2.2.4-tensorflow", "stateful").model))
    assert x.shape == (3, 7, 4)


def test_random_inputs_of_a_masking_layer_have_masked_steps():
    [x] = random_inputs(load_model(named("keras-2.2.4-tensorflow", "masking_sequences").model))
    masked = (x == x[0, 0]).all(axis=-1)
    assert masked.sum(axis=1).tolist() == [1, 1, 1]
    assert masked.argmax(axis=1).tolist() == [0, x.shape[1] // 2, x.shape[1] - 1]
