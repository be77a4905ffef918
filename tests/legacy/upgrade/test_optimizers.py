"""Legacy optimizer configs become those of optimizers that take the same steps; nothing of Keras is needed."""

import copy

import pytest

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.upgrade.optimizers import upgrade_optimizer

pytestmark = pytest.mark.no_backend

KERAS_1, KERAS_2, KERAS_2_3, TF_2_4, TF_2_15 = (
    recognize({}, version, "tensorflow") for version in ("1.2.2", "2.2.4", "2.3.1", "2.4.0", "2.15.0")
)


def upgraded(name, dialect, /, **config):
    written = {"class_name": name, "config": config}
    before = copy.deepcopy(written)
    found = upgrade_optimizer(written, dialect)
    assert written == before
    return found


@pytest.mark.parametrize(
    ("dialect", "name", "config", "wanted"),
    [
        (KERAS_2, "RMSprop", {}, "keras_gru_ext>LegacyRMSprop"),
        (TF_2_4, "RMSprop", {"momentum": 0.0}, "keras_gru_ext>LegacyRMSprop"),
        (TF_2_4, "RMSprop", {"momentum": 0.5}, "RMSprop"),
        (TF_2_15, "Custom>RMSprop", {"jit_compile": True}, "RMSprop"),
        (KERAS_1, "Adagrad", {}, "keras_gru_ext>LegacyAdagrad"),
        (TF_2_15, "Adagrad", {"use_ema": False}, "Adagrad"),
        (TF_2_4, "Nadam", {}, "keras_gru_ext>LegacyNadam"),
        (TF_2_15, "Custom>Nadam", {"jit_compile": True}, "Nadam"),
        (TF_2_15, "Custom>AdamW", {"jit_compile": True, "weight_decay": 0.1}, "AdamW"),
        (TF_2_15, "RMSprop", {"is_legacy_optimizer": True}, "keras_gru_ext>LegacyRMSprop"),
        (KERAS_1, "adam", {}, "Adam"),
    ],
)
def test_the_class_with_the_same_equations(dialect, name, config, wanted):
    assert upgraded(name, dialect, learning_rate=0.1, **config).config["class_name"] == wanted


@pytest.mark.parametrize("key", ["lr", "learning_rate"])
def test_decay_is_a_schedule(key):
    found = upgraded("SGD", KERAS_2_3, **{key: 0.1, "decay": 0.05}).config["config"]["learning_rate"]
    assert found["class_name"] == "InverseTimeDecay"
    assert found["config"] == {"initial_learning_rate": 0.1, "decay_steps": 1.0, "decay_rate": 0.05}


def test_the_decay_of_nadam_is_that_of_its_momentum():
    found = upgraded("Nadam", TF_2_4, learning_rate=0.1, decay=0.01)
    assert found.config["config"]["learning_rate"] == 0.1
    assert found.config["config"]["schedule_decay"] == 0.01
    assert found.product_base == pytest.approx(0.96**0.01)


def test_a_schedule_loses_its_name():
    """Keras 3 refuses slashes in names."""
    schedule = {
        "class_name": "ExponentialDecay",
        "config": {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.7, "name": "a/b", "staircase": True},
    }
    found = upgraded("Adam", TF_2_4, learning_rate=schedule, name="training/Adam").config["config"]
    assert found["learning_rate"]["config"] == {
        "initial_learning_rate": 0.1,
        "decay_steps": 3,
        "decay_rate": 0.7,
        "staircase": True,
    }
    assert found["name"] == "training_Adam"


@pytest.mark.parametrize(
    ("dialect", "written", "wanted", "notes"),
    [
        (KERAS_2, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}, 0),
        (KERAS_2, {"clipnorm": 0.0}, {}, 0),
        (TF_2_4, {"clipnorm": 1.0}, {"clipnorm": 1.0}, 0),
        (TF_2_4, {"clipnorm": 1.0, "clipvalue": 0.5}, {"clipnorm": 1.0}, 1),
        (TF_2_15, {"use_ema": False, "clipnorm": 1.0, "clipvalue": 0.5}, {"clipnorm": 1.0}, 0),
    ],
)
def test_clipping(dialect, written, wanted, notes):
    found = upgraded("Adam", dialect, learning_rate=0.1, **written)
    clipped = {key: value for key, value in found.config["config"].items() if "clip" in key}
    assert (clipped, len(found.notes)) == (wanted, notes)


@pytest.mark.parametrize(
    ("dialect", "name", "config", "scalars", "groups"),
    [
        (KERAS_2, "RMSprop", {}, (), (("velocity",),)),
        (KERAS_2_3, "RMSprop", {}, ("iterations",), (("velocity",),)),
        (KERAS_2, "SGD", {"momentum": 0.0}, ("iterations",), (("",),)),
        (TF_2_4, "SGD", {"momentum": 0.0}, ("iterations",), ()),
        (KERAS_2, "Adam", {}, ("iterations",), (("momentum",), ("velocity",), ("",))),
        (TF_2_4, "Adam", {}, ("iterations",), (("momentum",), ("velocity",))),
        (TF_2_4, "Adam", {"amsgrad": True}, ("iterations",), (("momentum",), ("velocity",), ("velocity_hat",))),
        (TF_2_15, "Adam", {"use_ema": True}, ("iterations",), (("average",), ("momentum", "velocity"))),
        (TF_2_4, "Nadam", {}, ("iterations", "product"), (("momentum",), ("velocity",))),
        (TF_2_4, "Ftrl", {}, ("iterations",), (("accumulator", "linear"),)),
    ],
)
def test_the_order_of_the_arrays(dialect, name, config, scalars, groups):
    layout = upgraded(name, dialect, learning_rate=0.1, **config).layout
    assert (layout.scalars, layout.groups) == (scalars, groups)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (None, "is not one of"),
        ({"class_name": "TFOptimizer", "config": {}}, "is not one of"),
        ({"class_name": "Adam", "config": {"learning_rate": "fast"}}, "learning rate must be a finite number"),
        ({"class_name": "Adam", "config": {"learning_rate": float("nan")}}, "must be a finite number"),
        ({"class_name": "Adam", "config": {"learning_rate": 0.1, "beta_1": [0.9]}}, "beta_1 must be a finite number"),
        ({"class_name": "Adam", "config": {"learning_rate": {"class_name": "Warmup", "config": {}}}}, "Pass the class"),
        (
            {
                "class_name": "Adam",
                "config": {"learning_rate": {"class_name": "ExponentialDecay", "config": {"decay_rate": {}}}},
            },
            "decay_rate must be a finite number",
        ),
    ],
)
def test_what_is_refused(written, message):
    with pytest.raises(ConfigError, match=message):
        upgrade_optimizer(written, TF_2_4)
