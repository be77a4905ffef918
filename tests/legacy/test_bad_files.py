"""Whatever is in a file: only this package's errors come out, soon, without much memory, and nothing is executed."""

import copy
import json
import pathlib
import warnings

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_gru_ext.errors import ConfigError, FileFormatError, KerasGruExtError, UnsafeContentError, WeightsError
from keras_gru_ext.legacy import load_model, load_weights
from keras_gru_ext.legacy.build import budget
from tests.legacy.memory import memory_of
from tests.legacy.test_fixtures import named

pytestmark = pytest.mark.in_turn(always=True)

PRODUCER = "keras-2.2.4-tensorflow"
CASES = ("single", "shared_layer", "rnn_of_stacked_cells", "nested_and_frozen", "embedding_masked")
CONTENT = {case: pathlib.Path(named(PRODUCER, case).model).read_bytes() for case in CASES}
LARGE = 10**12

fuzzed = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def config_of(case):
    with h5py.File(named(PRODUCER, case).model) as file:
        return json.loads(file.attrs["model_config"])


CONFIGS = {case: config_of(case) for case in CASES}


def with_config(path, case, config):
    path.write_bytes(CONTENT[case])
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    return path


def loads_or_is_refused(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load_model(path)
            said = str(path)
        except KerasGruExtError as error:
            said = str(error)
    assert str(path) in said


def places(value, around=()):
    """The path of every value inside a config."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*around, key)
        yield from places(inner, (*around, key))


ODD_VALUES = st.sampled_from(
    [
        *(None, True, -1, 0, 3, LARGE, 1e308, float("nan"), "", "tanh", "gru_1", "x" * 50),
        *([], [None], [[]], [1, 2, 3], {}, {"class_name": ["GRU"]}),
        {"class_name": "GRU", "config": {}},
        {"class_name": "Sequential", "config": []},
    ]
)


@pytest.mark.in_turn("numpy", always=True)
@fuzzed
@given(data=st.data())
def test_changed_configs(data, tmp_path):
    case = data.draw(st.sampled_from(CASES))
    config = copy.deepcopy(CONFIGS[case])
    for _ in range(data.draw(st.integers(1, 2))):
        *around, last = data.draw(st.sampled_from(list(places(config))))
        holder = config
        for key in around:
            holder = holder[key]
        change = data.draw(st.sampled_from(["replace", "replace", "drop", "repeat"]))
        if change == "drop":
            del holder[last]
        elif change == "repeat" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            holder[last] = data.draw(ODD_VALUES)
    loads_or_is_refused(with_config(tmp_path / "model.h5", case, config))


@pytest.mark.in_turn("numpy", always=True)
@fuzzed
@given(data=st.data())
def test_flipped_bytes(data, tmp_path):
    case = data.draw(st.sampled_from(CASES))
    content = bytearray(CONTENT[case])
    for _ in range(data.draw(st.sampled_from([1, 4, 20]))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    loads_or_is_refused(path)


@pytest.mark.no_backend
@settings(fuzzed, max_examples=30)
@given(content=st.binary(max_size=300), suffix=st.sampled_from([".h5", ".keras", ".json", ".yaml", ".hdf5"]))
def test_any_bytes(content, suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(KerasGruExtError, match=str(path)):
        load_model(path, weights=path)


def layer(config, number=0):
    body = config["config"]
    return (body["layers"] if isinstance(body, dict) else body)[number]


def huge_units(config):
    layer(config)["config"]["units"] = 200_000


def huge_features(config):
    layer(config)["config"]["batch_input_shape"] = [None, 7, LARGE]


def huge_batch(config):
    layer(config)["config"]["batch_input_shape"] = [LARGE, 7, 4]


def huge_loop(config):
    layer(config)["config"].update(unroll=True, batch_input_shape=[None, 10**6, 4])


def deep(config):
    inner = layer(config)
    for _ in range(60):
        inner = {"class_name": "TimeDistributed", "config": {"layer": inner}}
    config["config"]["layers"] = [inner]


def nested_lists(config):
    value = 1
    for _ in range(400):
        value = [value]
    layer(config)["config"]["activation"] = value


def many_axes(config):
    layer(config)["config"]["batch_input_shape"] = [7] * 400_000


def many_windows(config):
    config["config"]["layers"].append(
        {"class_name": "Conv1D", "config": {"name": "wide", "filters": 3, "kernel_size": [7] * 400_000}}
    )


def many_layers(config):
    config["config"]["layers"] += [
        {"class_name": "Dense", "config": {"name": f"d{n}", "units": 1}} for n in range(3000)
    ]


ABSURD = {
    "layers": (many_layers, "3001 layers; no model needs more"),
    "axes": (many_axes, "'batch_input_shape' has 400000 axes"),
    "windows": (many_windows, "'kernel_size' has 400000 axes"),
    "units": (huge_units, r"call for an array of \d+ numbers, but the file holds 150 numbers in all"),
    "features": (huge_features, "call for an array of"),
    "batch": (huge_batch, "no model needs that"),
    "loop": (huge_loop, "too many to unroll"),
    "deep": (deep, "nested more than"),
    "nested lists": (nested_lists, "nested more than"),
}


@pytest.mark.parametrize(("change", "message"), ABSURD.values(), ids=ABSURD)
def test_absurd_configs(change, message, tmp_path):
    config = copy.deepcopy(CONFIGS["single"])
    change(config)
    path = with_config(tmp_path / "model.h5", "single", config)
    with pytest.raises(ConfigError, match=message) as raised:
        load_model(path)
    assert str(path) in str(raised.value)


def test_a_layer_that_flattens_to_a_huge_size(tmp_path):
    config = copy.deepcopy(CONFIGS["single"])
    dense = {"class_name": "Dense", "config": {"name": "wide", "units": 3}}
    config["config"]["layers"] += [
        {"class_name": "RepeatVector", "config": {"n": 10**9}},
        {"class_name": "Flatten", "config": {}},
    ]
    config["config"]["layers"].append(dense)
    with pytest.raises(ConfigError, match=r"wide \(Dense\): its config and its input .* call for"):
        load_model(with_config(tmp_path / "model.h5", "single", config))


def test_many_layers_that_only_together_are_too_large(tmp_path, monkeypatch):
    """Each of them could be filled by the file."""
    monkeypatch.setattr(budget, "_SPARE", 0)
    config = copy.deepcopy(CONFIGS["single"])
    config["config"]["layers"] += [
        {"class_name": "Dense", "config": {"name": f"dense_{number}", "units": 5 if number % 2 else 30}}
        for number in range(4)
    ]
    with pytest.raises(ConfigError, match=r"'dense_\d' \(Dense\) calls for an array .* holds 150 numbers in all"):
        load_model(with_config(tmp_path / "model.h5", "single", config))


@pytest.mark.in_turn("numpy", always=True)
def test_huge_units_take_little_memory(tmp_path):
    config = copy.deepcopy(CONFIGS["single"])
    huge_units(config)
    path = with_config(tmp_path / "model.h5", "single", config)
    kilobytes, outcomes = memory_of(named(PRODUCER, "single").model, path)
    assert outcomes == ["ConfigError"]
    assert kilobytes < 200_000


def test_a_group_that_contains_itself(tmp_path):
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_group("layers/gru")
        file["layers/gru/again"] = file["layers"]
        file["layers/gru/other"] = file["layers"]
    model = load_model(named(PRODUCER, "single").model)
    with pytest.raises(FileFormatError, match="cyclic"):
        load_weights(model, path)


def test_a_pickle_is_not_opened(tmp_path):
    marker = tmp_path / "marker"
    path = tmp_path / "model.h5"
    path.write_bytes(f"cposix\nsystem\n(S'touch {marker}'\ntR.".encode())
    with pytest.raises(FileFormatError, match="not a readable HDF5 file"):
        load_model(path)
    assert not marker.exists()


def test_a_lambda_is_not_run(tmp_path):
    config = copy.deepcopy(CONFIGS["single"])
    config["config"]["layers"].append(
        {"class_name": "Lambda", "config": {"name": "evil", "function": ["4wAAAA==", None]}}
    )
    with pytest.raises(UnsafeContentError, match="evil"):
        load_model(with_config(tmp_path / "model.h5", "single", config))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_named(tmp_path, value):
    path = tmp_path / "model.h5"
    path.write_bytes(CONTENT["single"])
    with h5py.File(path, "r+") as file:
        file["model_weights/gru_1/gru_1/bias:0"][3] = value
    with pytest.warns(UserWarning, match=r"NaN or infinite.*gru_1/bias:0 \(1 of 15\)"):
        load_model(path)


def test_wrong_weights_leave_nothing_assigned():
    with pytest.raises(WeightsError, match="another architecture"):
        load_model(named(PRODUCER, "single").model, weights=named(PRODUCER, "nested_and_frozen").model)
