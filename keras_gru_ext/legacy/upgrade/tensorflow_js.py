"""What TensorFlow.js writes otherwise than Keras 2: from plain dicts to new plain dicts, standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_gru_ext.legacy.upgrade.layer_rules import GATES


def translate(class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Turns the config of a layer into what Keras 2 would have written.

    | before | after |
    |---|---|
    | `implementation` null | 2: TensorFlow.js always joins the products, and shares a dropout mask among the gates |
    | a cell's `activity_regularizer` | nothing: no cell ever applied one |
    | an RNN with `cell` and, once more, `cells` | `cell` |

    Args:
        class_name: The class, as in Keras.
        config: Its config.

    Returns:
        A new config.

    Source: `GRUCell.call` and `RNN.getConfig` of TensorFlow.js 4.22.
    """
    new = dict(config)
    if class_name in GATES:
        new["implementation"] = 2
    if class_name.endswith("Cell"):
        new.pop("activity_regularizer", None)
    if class_name == "RNN" and "cell" in new:
        new.pop("cells", None)
    return new
