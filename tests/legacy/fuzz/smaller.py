"""Smaller plans: every way to leave one thing out of a random model, large cuts first.

A plan is plain data; `serialization_fixtures/generate/random_models/plan.py` says what it holds.
"""

import copy
import itertools
from collections.abc import Iterator

# Arguments without which nothing can be built, so that leaving them out is not tried.
SIZES = ("units", "input_dim", "output_dim", "n", "dims", "target_shape", "axes", "filters", "kernel_size", "num_heads")
NEEDED = frozenset((*SIZES, "layer", "cell", "cells", "rate", "stddev", "key_dim", "equation", "output_shape"))


def smaller_plans(plan: dict) -> Iterator[dict]:
    """Yields plans with one thing less. Not all of them can be built."""
    for model in smaller_models(plan["model"]):
        yield {**plan, "model": model}
    if plan["float64"]:
        yield {**plan, "float64": False}
    if plan.get("optimizer"):
        yield {**plan, "optimizer": None}


def smaller_models(model: dict) -> Iterator[dict]:
    """Yields smaller models of a described model."""
    yield from _shorter_chains(model) if "chain" in model else _smaller_graphs(model)
    for name in ("name", "trainable", "dicts", "lists"):
        if name in model:
            yield _without(model, name)


def _shorter_chains(model):
    chain = model["chain"]
    for index in reversed(range(len(chain))):
        rest = chain[:index] + chain[index + 1 :]
        # A chain whose first layer is a model takes the size of its input, and the data, from that.
        if rest and ("first" not in model or "make" in rest[0]) and ("first" in model or index):
            yield {**model, "chain": rest}
    if len(chain) == 1 and "make" not in chain[0]:
        yield chain[0]
    for index, layer in enumerate(chain):
        for other in smaller_layers(layer):
            yield {**model, "chain": [*chain[:index], other, *chain[index + 1 :]]}


def _smaller_graphs(model):
    steps, outputs = model["steps"], model["outputs"]
    if len(outputs) > 1:
        for output in outputs:
            yield pruned({**model, "outputs": [output]})
        for index in range(len(outputs)):
            yield pruned({**model, "outputs": outputs[:index] + outputs[index + 1 :]})
    for at in reversed(range(len(steps))):
        yield from _without_step(model, at)
    for at, step in enumerate(steps):
        for sources in _fewer(step.get("of", [])):
            yield pruned(_with_step(model, at, {**step, "of": sources}))
        if "states" in step:
            yield pruned(_with_step(model, at, _without(step, "states")))
        if "options" in step:
            yield _with_step(model, at, _without(step, "options"))
        if "layer" in step:
            for layer in smaller_layers(step["layer"]):
                yield _with_step(model, at, {**step, "layer": layer})
        if step.get("data", {}).get("kind") == "padded":
            yield _with_step(model, at, {**step, "data": {**step["data"], "kind": "plain"}})


def _without_step(model, at):
    """Models in which what took the tensors of a step takes one of the step's own inputs instead."""
    step = model["steps"][at]
    if "input" in step:
        if not any([at, 0] in used for used in [model["outputs"], *(_taken(other) for other in model["steps"])]):
            yield pruned(model, keep_inputs=False, drop=at)
        return
    for source in step["of"]:
        changed = copy.deepcopy(model)
        layers = [later for later in changed["steps"] if later.get("again") == at]
        # The next step with the same layer has it to itself.
        for first, later in enumerate(layers):
            if first == 0:
                del later["again"]
                later["layer"] = step["layer"]
            else:
                later["again"] = changed["steps"].index(layers[0])

        def moved(reference, source=source):
            return source if reference[0] == at else reference

        for later in changed["steps"]:
            for name in ("of", "states"):
                if name in later:
                    later[name] = [moved(one) for one in later[name]]
        changed["outputs"] = [moved(one) for one in changed["outputs"]]
        yield pruned(changed)


def pruned(model: dict, keep_inputs: bool = True, drop: int | None = None) -> dict:
    """Leaves out the steps that no output needs, and numbers the others anew."""
    steps = model["steps"]
    needed = needed_steps(model)
    if keep_inputs or drop is not None:
        needed |= {at for at, step in enumerate(steps) if "input" in step and at != drop}
    new = {old: index for index, old in enumerate(sorted(needed))}
    kept = []
    for old in sorted(needed):
        step = copy.deepcopy(steps[old])
        for name in ("of", "states"):
            if name in step:
                step[name] = [[new[at], index] for at, index in step[name]]
        if "again" in step:
            step["again"] = new[step["again"]]
        kept.append(step)
    return {**model, "steps": kept, "outputs": [[new[at], index] for at, index in model["outputs"]]}


def needed_steps(model: dict, makers: bool = True) -> set[int]:
    """The steps that the outputs of a graph need; with `makers` also those of layers called again."""
    needed = {at for at, _ in model["outputs"]}
    for at in reversed(range(len(model["steps"]))):
        if at in needed:
            needed |= {one for one, _ in _taken(model["steps"][at])}
            if makers and "again" in model["steps"][at]:
                needed.add(model["steps"][at]["again"])
    return needed


def needed_inputs(model: dict) -> list[bool]:
    """Whether the outputs of a model need each of its inputs. Old versions leave out of a file what they do not."""
    if "steps" not in model:
        return [True]
    needed = needed_steps(model, makers=False)
    return [at in needed for at, step in enumerate(model["steps"]) if "input" in step]


def smaller_layers(layer: dict) -> Iterator[dict]:
    """Yields a wrapper's layer, and a layer with one argument less or with a smaller one."""
    if "make" not in layer:
        yield from layer.get("chain") or [step["layer"] for step in layer["steps"] if "layer" in step]
        yield from smaller_models(layer)
        return
    arguments = layer["with"]
    if "layer" in arguments:
        yield arguments["layer"]
    for name in arguments:
        if name not in NEEDED:
            yield {**layer, "with": _without(arguments, name)}
    for name, value in arguments.items():
        for other in _smaller_values(value):
            yield {**layer, "with": {**arguments, name: other}}


def _smaller_values(value):
    if isinstance(value, dict) and ("make" in value or "chain" in value or "steps" in value):
        yield from smaller_layers(value)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            if len(value) > 1:
                yield value[:index] + value[index + 1 :]
            for other in smaller_layers(item):
                yield [*value[:index], other, *value[index + 1 :]]


def _fewer(sources):
    """Of three or more, one less; of two different ones, one of them twice."""
    if len(sources) > 2:
        yield from (sources[:index] + sources[index + 1 :] for index in range(len(sources)))
    elif len(sources) == 2 and sources[0] != sources[1]:
        yield from ([one, one] for one in sources)


def _taken(step):
    return itertools.chain(step.get("of", []), step.get("states", []))


def _with_step(model, at, step):
    return {**model, "steps": [*model["steps"][:at], step, *model["steps"][at + 1 :]]}


def _without(values, name):
    return {key: value for key, value in values.items() if key != name}
