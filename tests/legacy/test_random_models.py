"""Random models that old libraries wrote: those that once failed load right, and the tools that found them work."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from tests.legacy.fuzz.judge import Verdict, folders, judge
from tests.legacy.fuzz.shrink import readable, smallest
from tests.legacy.fuzz.smaller import needed_inputs, smaller_plans

ROOT = pathlib.Path(__file__).parents[2] / "serialization_fixtures" / "random_models"
MODELS = folders(ROOT)
SOME = MODELS[0]


def plan_of(folder):
    return json.loads((folder / "plan.json").read_text(encoding="utf-8"))


def cases():
    for folder in MODELS:
        marks = [pytest.mark.float64] if plan_of(folder)["float64"] else []
        yield pytest.param(folder, id=f"{folder.parent.name}-{folder.name}", marks=marks)


@pytest.mark.in_turn
@pytest.mark.parametrize("folder", list(cases()))
def test_same_numbers_as_the_library_that_wrote_it(folder, request):
    plan = plan_of(folder)
    if plan["float64"]:
        request.getfixturevalue("float64")
    verdicts = list(judge(folder))
    assert [verdict.container for verdict in verdicts] == plan["files"]
    assert [verdict for verdict in verdicts if verdict.said != "right"] == [], plan.get("cause")
    if plan["float64"]:
        assert max(verdict.difference for verdict in verdicts) < 1e-10, plan.get("cause")


def test_other_numbers_are_noticed(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(SOME, folder)
    stored = dict(np.load(folder / "reference.npz"))
    stored["y0"] = stored["y0"] + 1e-3
    np.savez(folder / "reference.npz", **stored)
    [verdict] = judge(folder, [plan_of(folder)["files"][0]])
    assert verdict.said == "wrong"
    assert 1e-4 < verdict.difference < 2e-3


def test_a_file_that_cannot_be_read_is_refused_not_wrong(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(SOME, folder)
    container = plan_of(folder)["files"][0]
    (folder / container).write_bytes(b"nothing")
    [verdict] = judge(folder, [container])
    assert verdict.said == "refused"


def test_messages_that_differ_in_names_and_numbers_only_are_of_one_kind():
    first = Verdict("a", "model.h5", "refused", message="/x/a.h5: the model > gru_1 (GRU): it has 3 units, not 'tanh'")
    other = Verdict("b", "model.h5", "refused", message="/y/b.h5: the model > gru_2 (GRU): it has 5 units, not 'relu'")
    assert first.kind == other.kind


def test_an_input_that_only_an_earlier_call_of_a_layer_takes_is_not_needed():
    inputs = {"input": {"shape": [4, 2]}}
    made, called = {"layer": layer("Dense", units=2), "of": [[0, 0]]}, {"again": 2, "of": [[1, 0]]}
    model = {"steps": [inputs, inputs, made, called], "outputs": [[3, 0]]}
    assert needed_inputs(model) == [False, True]
    assert needed_inputs({**model, "outputs": [[3, 0], [2, 0]]}) == [True, True]


def layer(name, **arguments):
    return {"make": f"layers.{name}", "with": arguments}


def test_the_smallest_model_keeps_what_makes_it_fail_and_nothing_else():
    """A rule stands in for the old library: a model fails if a Masking layer reaches a Multiply layer."""
    inner = {
        "chain": [layer("Masking"), layer("Dense", units=2), layer("Dropout", rate=0.1)],
        "first": {"input_shape": [4, 2]},
    }
    steps = [
        {"input": {"shape": [4, 2]}, "data": {"kind": "padded", "shape": [4, 2], "seed": 1}},
        {"input": {"shape": [4, 2]}, "data": {"kind": "plain", "shape": [4, 2], "seed": 2}},
        {"layer": inner, "of": [[0, 0]]},
        {"layer": layer("GRU", units=3, return_state=True, dropout=0.1), "of": [[1, 0]]},
        {"again": 2, "of": [[1, 0]]},
        {"layer": layer("Multiply"), "of": [[2, 0], [4, 0]]},
        {"layer": layer("GRU", units=3), "of": [[5, 0]], "states": [[3, 1]]},
    ]
    model = {"steps": steps, "outputs": [[6, 0], [3, 0]], "name": "odd"}
    plan = {"model": model, "float64": True, "optimizer": "adam", "stateful": False}

    def fails(plan):
        text = json.dumps(plan["model"])
        return "Masking" in text and "Multiply" in text

    found = smallest(plan, fails)
    assert not found["float64"]
    assert found["optimizer"] is None
    assert readable(found["model"]).split("\n") == [
        "Model",
        "    0: Input({'shape': [4, 2]}) plain",
        "    1: Masking() on 0",
        "    2: Multiply() on 1, 1",
        "    outputs 2",
    ]


def test_every_smaller_plan_is_whole():
    """References name tensors of earlier steps, and a layer that is used again is there."""
    for folder in MODELS:
        plan = plan_of(folder)
        for smaller in smaller_plans(plan):
            assert len(json.dumps(smaller)) < len(json.dumps(plan)) + 10
            check_references(smaller["model"])


def check_references(model):
    for at, step in enumerate(model.get("steps", [])):
        for reference in [*step.get("of", []), *step.get("states", [])]:
            assert reference[0] < at
        if "again" in step:
            assert "layer" in model["steps"][step["again"]]
