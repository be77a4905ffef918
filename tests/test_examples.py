"""Every example runs, on less data or for fewer epochs than it does for a reader, and reaches what it promises."""

import importlib.util
import json
import pathlib
import runpy

import numpy as np
import pytest

import keras_gru_ext
from tests.helpers import BACKEND

pytestmark = pytest.mark.in_turn

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def run(trains, tmp_path):
    """Runs an example with arguments and its picture, if matplotlib is there, and returns what its `main` returns."""

    def run_example(name, *arguments):
        picture = tmp_path / f"{name}.png"
        draws = importlib.util.find_spec("matplotlib") is not None
        names = runpy.run_path(str(EXAMPLES / f"{name}.py"))
        result = names["main"]([*map(str, arguments), *(["--picture", str(picture)] if draws else [])])
        assert picture.exists() == draws
        return result

    return run_example


@pytest.mark.full
def test_legacy_model(run, capsys):
    differences, before, after = run("legacy_model", "--epochs", 3)
    assert differences["keras_gru_ext"] < 1e-5
    assert differences["converted file"] == differences["keras_gru_ext"]
    assert differences["Keras 3 alone"] > 0.1
    assert after[0] < before[0] / 2
    assert after[1] > before[1]
    assert f"after training:  loss {after[0]:.3f}" in capsys.readouterr().out


@pytest.mark.in_turn("torch")
def test_training_goes_on(run, capsys):
    differences = run("training_goes_on")
    assert max(differences["goes on"], differences["converted"]) < 5e-6
    assert differences["starts afresh"] > 1e-2
    assert "kept by convert: Nadam after 6 steps" in capsys.readouterr().out


def test_hard_sigmoid(run, capsys):
    apart, differences = run("hard_sigmoid")
    assert apart == pytest.approx(1 / 12, abs=1e-3)  # at x = 2.5, where one is 1 and the other is not yet
    assert differences["keras_gru_ext"] < 1e-5 < 0.1 < differences["Keras 3 alone"]
    assert "the two functions differ by up to 0.083" in capsys.readouterr().out


@pytest.mark.in_turn("jax", always=True)
@pytest.mark.full
def test_forecast(run, capsys):
    errors = run("forecast", "--epochs", 8, "--series", 1000)
    assert errors["GRU"] < errors["last value"] / 2
    assert f"mean absolute error, GRU: {errors['GRU']:.3f}" in capsys.readouterr().out


def test_histories_of_the_forecast_are_ragged_and_end_where_the_forecast_starts(rng):
    names = runpy.run_path(str(EXAMPLES / "forecast.py"))
    series = names["make_series"](50, rng)
    histories, lengths, future = names["with_ragged_histories"](series, rng)
    assert len(set(lengths)) > 10
    for whole, history, length, next_day in zip(series, histories[..., 0], lengths, future, strict=True):
        np.testing.assert_array_equal(np.concatenate([history[:length], next_day]), whole[-length - names["DAY"] :])
        assert np.all(history[length:] == names["PADDING"])


@pytest.mark.in_turn("tensorflow", always=True)
@pytest.mark.full
def test_encoder_decoder(run, capsys):
    share = run("encoder_decoder", "--epochs", 5, "--dates", 6000)
    assert share > 0.1  # guessing all but the day would give one in thirty
    assert f"right in every character: {share:.1%}" in capsys.readouterr().out


def test_decoding_step_by_step_is_what_the_decoder_computes(rng):
    names = runpy.run_path(str(EXAMPLES / "encoder_decoder.py"))
    translator = names["Translator"](units=4)
    texts, _ = names["make_pairs"](20, rng)
    numbers = np.array([list(map(names["SYMBOLS"].index, "2024-11-03"))] * len(texts)) + 2
    source = names["numbers_of"](texts, names["LONGEST"])
    # A bias that favours digits, for scores of new layers are those of padding as likely as not.
    kernel, bias = translator.scores.get_weights()
    translator.scores.set_weights([kernel, np.where(np.arange(len(bias)) < 2, -100.0, bias)])
    translated = names["numbers_of"](translator.translate(texts), names["TARGET_LENGTH"])
    assert translated.shape == numbers.shape
    so_far = np.concatenate([np.full((len(texts), 1), names["START"]), translated[:, :-1]], axis=1)
    scores = translator.model.predict([source, so_far], verbose=0)
    np.testing.assert_array_equal(scores.argmax(-1), translated)


@pytest.mark.in_turn("tensorflow")
def test_character_model(run, capsys):
    bits, written = run("character_model", "--epochs", 10)
    assert bits["GRU that remembers"] < bits["GRU that forgets between pieces"]
    assert bits["GRU that remembers"] < 0.8 * bits["frequencies of characters"]
    assert written.startswith((ROOT / "README.md").read_text(encoding="utf-8")[:20])
    assert f"GRU that remembers: {bits['GRU that remembers']:.2f}" in capsys.readouterr().out


def test_a_batch_of_one_continues_as_the_batch_of_streams_does(rng):
    names = runpy.run_path(str(EXAMPLES / "character_model.py"))
    numbers = rng.integers(0, 7, 1 + 2 * names["STREAMS"] * names["PIECE"])
    pieces, following = names["make_pieces"](numbers)
    np.testing.assert_array_equal(pieces[0], numbers[: names["PIECE"]])
    np.testing.assert_array_equal(pieces[names["STREAMS"]], numbers[names["PIECE"] : 2 * names["PIECE"]])
    np.testing.assert_array_equal(following[:, :-1], pieces[:, 1:])
    streams = names["make_model"](7, names["STREAMS"], names["PIECE"], units=4)
    scores = [streams.predict_on_batch(batch)[3] for batch in np.split(pieces, 2)]
    one = names["make_model"](7, 1, 1, units=4)
    one.set_weights(streams.get_weights())
    of_one_stream = np.concatenate([pieces[3], pieces[names["STREAMS"] + 3]])
    alone = [one.predict_on_batch(np.array([[number]], "int32"))[0, 0] for number in of_one_stream]
    np.testing.assert_allclose(np.stack(alone), np.concatenate(scores), atol=1e-6)


@pytest.mark.full
@pytest.mark.skipif(BACKEND != "torch", reason="it starts a process for every backend, so once is enough")
def test_any_backend(run, monkeypatch, capsys):
    installed = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
    if len(installed) < 2:
        pytest.skip("needs two backends to compare")
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(keras_gru_ext.__file__).parents[1]))
    differences = run("any_backend", "--steps", 5)
    assert len(differences) == len(installed) * (len(installed) - 1) / 2
    for pair, values in differences.items():
        assert len(values) == 6
        assert np.max(values) < 1e-5, pair
    assert "largest difference" in capsys.readouterr().out


def test_any_backend_says_that_there_is_nothing_to_compare(monkeypatch):
    names = runpy.run_path(str(EXAMPLES / "any_backend.py"))
    monkeypatch.setitem(names["main"].__globals__, "BACKENDS", ())
    with pytest.raises(SystemExit, match="Nothing to compare"):
        names["main"]([])


@pytest.mark.full
def test_benchmark_of_single_layers(trains, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("matplotlib")
    take_turns = runpy.run_path(str(EXAMPLES / "benchmark_gru.py"))["take_turns"]
    names = runpy.run_path(str(EXAMPLES / "benchmark_layer.py"))
    maths = {"reset-after": {"reset_after": True, "recurrent_activation": "sigmoid"}}
    cases = [("layer", (2, 5, 3, 4), False), ("bidirectional", (1, 5, 3, 4), False), ("one step", (1, 1, 3, 4), True)]
    rows = names["time_layers"](maths, take_turns, 1, True, cases)
    assert [row["kind"] for row in rows] == ["layer", "bidirectional", "one step"]
    for row in rows[:2]:
        assert {"keras_gru_ext", "Keras", "ONNX Runtime, 1 thread", "ONNX Runtime, 2 threads"} <= row["predict"].keys()
        assert {"keras_gru_ext", "Keras"} <= row["train"].keys()
    assert ("torch.nn.GRU" in rows[0]["train"]) == (BACKEND == "torch")
    lines = "\n".join(names["tables"](BACKEND, rows))
    assert "| layer | reset-after | B = 2 to 16 | predict | ONNX Runtime |" in lines
    assert "| one step, stateful | reset-after | B = 1 | predict | Keras |" in lines
    names["plot"]({"backends": {BACKEND: {"layers": rows}}}, tmp_path / "layers.png")
    assert (tmp_path / "layers.png").exists()


@pytest.mark.full
def test_benchmark(trains, tmp_path):
    """It compares before it times; how long anything takes is not asked."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("matplotlib")
    names = runpy.run_path(str(EXAMPLES / "benchmark_gru.py"))
    figures, picture = tmp_path / "figures.json", tmp_path / "picture.png"
    arguments = ["--backend", BACKEND, "--shape", "2,5,3,4", "--rounds", "1", "--quick"]
    arguments += ["--variant", "plain", "mask + recurrent dropout", "--json", str(figures), "--plot", str(picture)]
    names["main"](arguments)
    [(backend, measured)] = json.loads(figures.read_text(encoding="utf-8"))["backends"].items()
    cases = measured["times"]["cases"]
    assert (backend, len(cases)) == (BACKEND, 4)
    for case in cases:
        assert {"keras_gru_ext", "Keras"} <= case["train"].keys()
        assert max(case["training_error"].values()) < 1e-3
        assert ("ONNX Runtime" in case["predict"]) == (case["variant"] == "plain")
    assert picture.exists()
