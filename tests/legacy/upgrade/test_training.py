"""Legacy losses and metrics become objects of Keras 3 with the same settings; nothing of Keras is needed."""

import pytest

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.upgrade.training import upgrade_training

pytestmark = pytest.mark.no_backend

DIALECT = recognize({}, "2.4.0", "tensorflow")
OPTIMIZER = {"class_name": "SGD", "config": {"learning_rate": 0.1}}


def upgraded(custom=(), outputs=(), **training):
    return upgrade_training({"optimizer_config": OPTIMIZER, **training}, DIALECT, custom, outputs)


def described(value):
    """The class and the settings of what Keras 3 is to make."""
    return value["class_name"], value["config"]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("mse", ("MeanSquaredError", {"reduction": "sum_over_batch_size"})),
        ("logcosh", ("LogCosh", {"reduction": "sum_over_batch_size"})),
        ("cosine_proximity", ("CosineSimilarity", {"reduction": "sum_over_batch_size"})),
        (
            {
                "class_name": "BinaryCrossentropy",
                "config": {"reduction": "sum", "name": "bce", "from_logits": True, "label_smoothing": 0.2, "fn": None},
            },
            ("BinaryCrossentropy", {"reduction": "sum", "name": "bce", "from_logits": True, "label_smoothing": 0.2}),
        ),
        (
            {"class_name": "function", "module": "builtins", "config": "mean_absolute_error"},
            ("MeanAbsoluteError", {"reduction": "sum_over_batch_size"}),
        ),
        (
            {"class_name": "LossFunctionWrapper", "config": {"reduction": "auto", "name": "mae", "fn": "mae"}},
            ("MeanAbsoluteError", {"reduction": "sum_over_batch_size", "name": "mae"}),
        ),
    ],
)
def test_losses(written, wanted):
    assert described(upgraded(loss=written).loss) == wanted


def test_losses_of_several_outputs():
    found = upgraded(loss={"a": "mse", "b": None}, loss_weights={"a": 2.0})
    assert (described(found.loss["a"])[0], found.loss["b"], found.loss_weights) == (
        "MeanSquaredError",
        None,
        {"a": 2.0},
    )
    assert [described(one)[0] for one in upgraded(loss=["mse", "mae"]).loss] == [
        "MeanSquaredError",
        "MeanAbsoluteError",
    ]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("mae", ("MeanAbsoluteError", {"name": "mae"})),
        (
            {
                "class_name": "MeanMetricWrapper",
                "config": {"name": "accuracy", "dtype": "float32", "fn": "binary_accuracy"},
            },
            ("BinaryAccuracy", {"name": "accuracy"}),
        ),
        (
            {"class_name": "BinaryAccuracy", "config": {"name": "right", "dtype": "float32", "threshold": 0.3}},
            ("BinaryAccuracy", {"name": "right", "threshold": 0.3}),
        ),
        (
            {"class_name": "Custom>AUC", "config": {"name": "auc", "num_thresholds": 50, "curve": "PR"}},
            ("AUC", {"name": "auc", "num_thresholds": 50, "curve": "PR"}),
        ),
    ],
)
def test_metrics(written, wanted):
    [found] = upgraded(metrics=[written], loss="mse").metrics
    assert described(found) == wanted


def test_names_that_keras_3_looks_up_by_the_shapes_stay():
    assert upgraded(metrics=["accuracy", "acc"]).metrics == ["accuracy", "acc"]
    assert upgraded(metrics=[]).metrics is None


def test_names_of_outputs_are_not_written_twice():
    metric = {"class_name": "MeanMetricWrapper", "config": {"name": "a_mse", "fn": "mean_squared_error"}}
    found = upgraded(metrics=[[metric], ["mae"]], outputs=["a", "b"]).metrics
    assert [described(one)[1]["name"] for [one] in found] == ["mse", "mae"]


def test_what_the_caller_supplies():
    found = upgraded(loss="mine", metrics=[{"class_name": "Mine", "config": {"a": 1}}], custom=["mine", "Mine"])
    assert (found.loss["class_name"], found.loss["config"]) == ("function", "mine")
    assert found.metrics == [{"class_name": "Mine", "config": {"a": 1}}]


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"loss": "mine"}, r"The loss 'mine' is not one .* custom_objects=\{'mine': \.\.\.\}"),
        ({"loss": {"class_name": "__lambda__", "config": {"value": "4wEA"}}}, "The loss '__lambda__' is not one"),
        ({"loss": {"class_name": "Huber", "config": {"reduction": "most"}}}, "the reduction 'most'"),
        ({"loss": 3}, "names 3 as a loss or a metric"),
        ({"metrics": ["mine"]}, "The metric 'mine' is not one"),
        ({"metrics": [{"class_name": "AUC", "config": {"num_thresholds": 10**9}}]}, "Expected at most 10000"),
        ({"metrics": [{"class_name": "MeanMetricWrapper", "config": {"fn": {"module": "a"}}}]}, "The metric '' is not"),
        ({"metrics": [[[[[[[[[[[["mse"]]]]]]]]]]]]}, "nested too deeply"),
    ],
)
def test_what_is_refused(training, message):
    with pytest.raises(ConfigError, match=message):
        upgraded(**training)
