"""A plan is a random model as plain data that JSON holds; `build` makes the model of it with an old library.

    {"make": "layers.GRU", "with": {"units": 3}}        an object of the library
    {"chain": [layer, ...], "first": {...}, "data": ...}  a Sequential; `first` are arguments of its first layer
    {"steps": [step, ...], "outputs": [reference, ...]}   a Functional model

A step makes one or more tensors, and a reference `[step, index]` names one of them:

    {"input": {"shape": [5, 2]}, "data": {"kind": "padded", "shape": [5, 2], "seed": 7}}
    {"layer": layer, "of": [reference, ...]}              a layer, or a whole model, called on tensors
    {"again": step, "of": [reference, ...]}               the layer of an earlier step
    {"operation": "last step", "of": [reference]}         an operation of TensorFlow

and may say how the layer is called: `"call"` is "one", "list" or "each" (tensors as arguments of their own),
`"states"` are references for `initial_state`, and `"options"` further arguments of the call.
"""


class Done(object):
    """What a step left: its layer (or none) and its tensors."""

    def __init__(self, layer, tensors):
        self.layer = layer
        self.tensors = tensors


def build(library, described):
    """The object that a description, or a list or dict of descriptions, stands for."""
    if isinstance(described, list):
        # Sizes and shapes are tuples in calls and lists in JSON.
        sizes = all(item is None or isinstance(item, int) for item in described)
        return tuple(described) if sizes else [build(library, item) for item in described]
    if not isinstance(described, dict):
        return described
    if "chain" in described:
        return _chain(library, described)
    if "steps" in described:
        return _graph(library, described)
    options = {name: build(library, value) for name, value in described["with"].items()}
    return library.make(described["make"], options)


def data_of(model):
    """The descriptions of the arrays that a described model takes."""
    if "steps" in model:
        return [step["data"] for step in model["steps"] if "input" in step]
    return [model["data"]] if "data" in model else data_of(model["chain"][0])


def run(library, step, done, live=None):
    """Does one step of a graph after those that are done; `live` is the step's layer, if it is there."""
    if "input" in step:
        return Done(None, [library.input(**build_values(step["input"]))])
    tensors = [done[at].tensors[index] for at, index in step["of"]]
    if "operation" in step:
        return Done(None, [library.operate(step["operation"], tensors)])
    layer = done[step["again"]].layer if "again" in step else live
    if layer is None:
        layer = build(library, step["layer"])
    options = dict(step.get("options", {}))
    if "states" in step:
        states = [done[at].tensors[index] for at, index in step["states"]]
        options["initial_state"] = states if len(states) > 1 else states[0]
    how = step.get("call", "one" if len(tensors) == 1 else "list")
    outputs = layer(*tensors, **options) if how in ("one", "each") else layer(tensors, **options)
    return Done(layer, flat(outputs))


def build_values(options):
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def flat(value):
    """The tensors in a tensor, in a dict, or in lists of these."""
    if isinstance(value, dict):
        value = [value[name] for name in sorted(value)]
    return [item for one in value for item in flat(one)] if isinstance(value, (list, tuple)) else [value]


def _chain(library, described):
    name = {"name": described["name"]} if "name" in described else {}
    model = library.keras.models.Sequential(**name)
    for index, one in enumerate(described["chain"]):
        model.add(build(library, one if index or "first" not in described else sized(one, described["first"])))
    return frozen(model, described)


def sized(layer, size):
    """A described layer with arguments that tell the size of its input."""
    return dict(layer, **{"with": dict(layer["with"], **size)})


def _graph(library, described):
    done = []
    for step in described["steps"]:
        done.append(run(library, step, done))
    return finished(library, described, done)


def finished(library, described, done):
    """The model of a graph whose steps are done."""
    inputs = [one.tensors[0] for one, step in zip(done, described["steps"]) if "input" in step]
    outputs = [done[at].tensors[index] for at, index in described["outputs"]]
    if described.get("dicts"):
        inputs = {"in_%d" % index: tensor for index, tensor in enumerate(inputs)}
        outputs = {"out_%d" % index: tensor for index, tensor in enumerate(outputs)}
    elif not described.get("lists"):
        inputs, outputs = (one if len(one) > 1 else one[0] for one in (inputs, outputs))
    name = {"name": described["name"]} if "name" in described else {}
    return frozen(library.keras.models.Model(inputs, outputs, **name), described)


def frozen(model, described):
    if described.get("trainable") is False:
        model.trainable = False
    return model
