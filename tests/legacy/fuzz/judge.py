"""Loads one random model from every container it was written in, and says how its numbers compare."""

import json
import os
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

import keras_gru_ext
from keras_gru_ext.errors import ConfigError, KerasGruExtError
from tests.legacy.fuzz.smaller import needed_inputs

# Libraries sum in different orders.
TOLERANCE = 1e-5
# Stock layers of Keras 3 take products of float64 in float32 on PyTorch and JAX, and limits of ReLU on TensorFlow.
TOLERANCE_IN_FLOAT64 = 1e-6
# How many times the effect of rounding every weight once (`rounding` in a plan) a difference may be.
ROUNDINGS = 20


@dataclass(frozen=True)
class Verdict:
    """What came of one container of one model.

    `said` is "right", "wrong" (other numbers, or shapes), "refused" (an error of this package on loading), or
    "raised" (any other error, on loading or on calling).
    """

    model: str
    container: str
    said: str
    difference: float | None = None
    message: str = ""

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def kind(self) -> str:
        """The message without what is special to one model, so that models that fail alike have the same."""
        text = re.sub(r"\x1b\[\d*m", "", self.message)
        # Of the config that Keras refused, messages show the first 500 characters.
        text = re.sub(r"refused its config (.{500}|\{.*\}): ", "refused: ", text, flags=re.DOTALL)
        text = re.sub(r"Error when deserializing class .*Exception encountered: ", "", text, flags=re.DOTALL)
        text = re.sub(r"'[^']*'|\"[^\"]*\"|\{.*?\}|\[.*?\]|\S*\d\S*|\S*/\S*|the model > .*?(?= is of|:|\()", "_", text)
        return f"{self.said}: {' '.join(text.split())[:160]}"


def judge(folder: Path, containers=None, compiled=False):
    """Yields a verdict for each container, or for those that are named; `_called` says what `compiled` does."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    stored = dict(np.load(folder / "reference.npz"))
    name = f"{plan['producer']}/{folder.name}"
    known = []
    for container in plan["files"]:
        if containers is not None and container not in containers:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = _load(folder, container, plan)
        except KerasGruExtError as error:
            yield Verdict(name, container, "refused", message=str(error))
            continue
        except Exception as error:
            yield Verdict(name, container, "raised", message=f"{type(error).__name__} on loading: {error}")
            continue
        # The containers of a model mostly hold the same: then what one predicts, the others predict.
        same = next((seen for seen in known if _equal(seen[0], model)), None)
        said = same[1] if same else _compare(model, stored, plan, compiled)
        known.append((model, said))
        yield Verdict(name, container, **said)


def _load(folder, container, plan):
    if container in ("model.weights.h5", "checkpoint.index"):
        model = _load(folder, "model.h5" if "model.h5" in plan["files"] else "model.keras", plan)
        for weight in model.weights:
            if weight.dtype.startswith("float"):
                weight.assign(np.zeros(weight.shape, weight.dtype))
        keras_gru_ext.load_weights(model, folder / container)
        return model
    more = {"weights": folder / "plain.h5"} if container in ("model.json", "model.yaml") else {}
    try:
        return keras_gru_ext.load_model(folder / container, **more)
    except ConfigError as error:
        if "batch_shape=" not in str(error):
            raise
        # What the error asks for: the file does not hold it.
        shape = plan["model"]["first"].get("batch_input_shape") or [None, *plan["model"]["first"]["input_shape"]]
        return keras_gru_ext.load_model(folder / container, batch_shape=shape, **more)


def _equal(one, other):
    arrays = [(np.asarray(keras.ops.convert_to_numpy(w)) for w in model.weights) for model in (one, other)]
    return (
        len(one.weights) == len(other.weights)
        and one.to_json() == other.to_json()
        and all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))
    )


def _compare(model, stored, plan, compiled):
    """What the model says to the stored inputs, called twice if it is stateful."""
    inputs = _numbered(stored, "x")
    needed = needed_inputs(plan["model"])
    allowed = max(TOLERANCE_IN_FLOAT64 if plan["float64"] else TOLERANCE, ROUNDINGS * plan["rounding"])
    largest = 0.0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for letter in ("y", "then") if plan["stateful"] else ("y",):
                got = _called(model, _fed(model, inputs, needed), compiled)
                got = [keras.ops.convert_to_numpy(array) for array in keras.tree.flatten(got)]
                wanted = _numbered(stored, letter)
                if [array.shape for array in got] != [array.shape for array in wanted]:
                    shapes = [array.shape for array in got], [array.shape for array in wanted]
                    return {"said": "wrong", "message": "shapes {} instead of {}".format(*shapes)}
                largest = max([largest, *(_difference(a, b) for a, b in zip(got, wanted, strict=True))])
    except Exception as error:
        return {"said": "raised", "message": f"{type(error).__name__} on calling: {error}"}
    if not largest <= allowed:
        return {"said": "wrong", "difference": largest, "message": f"allowed {allowed:.1e}"}
    return {"said": "right", "difference": largest}


def _called(model, inputs, compiled):
    """What a model returns. JAX traces it as a whole, as `predict` does, and compiles it so only if `compiled`."""
    if keras.backend.backend() != "jax":
        return model(inputs, training=False)
    import jax

    from tests.legacy.fuzz.tracing import traced_values

    def run(values, inputs):
        return model.stateless_call(*values, inputs, training=False)

    values = [[one.value for one in some] for some in (model.trainable_variables, model.non_trainable_variables)]
    outputs, others = jax.jit(run)(values, inputs) if compiled else traced_values(run, values, inputs)
    for variable, value in zip(model.non_trainable_variables, others, strict=True):
        variable.assign(value)
    return outputs


def _fed(model, inputs, needed):
    """The inputs as the model takes them: all, or those that its outputs need if the file knows no others."""
    if isinstance(model, keras.Sequential):
        return inputs[0]
    named = {f"in_{index}": array for index, array in enumerate(inputs)}
    if isinstance(model.input, dict):
        return {name: named[name] for name in model.input}
    if len(model.inputs) < len(inputs):
        inputs = [array for array, is_needed in zip(inputs, needed, strict=True) if is_needed]
    return inputs if len(inputs) > 1 else inputs[0]


def _difference(got, wanted):
    """The largest difference, relative to numbers above one; infinite where something is not a number."""
    if not got.size:
        return 0.0
    difference = np.abs(got.astype("float64") - wanted.astype("float64")).max() / max(1.0, np.abs(wanted).max())
    return float(difference) if np.isfinite(difference) else float("inf")


def _numbered(arrays, letter):
    found = []
    while f"{letter}{len(found)}" in arrays:
        found.append(arrays[f"{letter}{len(found)}"])
    return found


def folders(root):
    """The folders of all complete models below a folder, by name."""
    return sorted(path.parent for path in Path(os.fspath(root)).glob("**/plan.json"))
