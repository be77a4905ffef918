"""The forms of whole models: `plan_for(library, seed)` draws a plan that the library can build."""
from chance import Chance
from graphs import KINDS, inner_model
from growth import BATCH, TRIES, Growth, Nothing
from recurrent import bidirectional, convolutional, recurrent
from settings import layer

WORDS = 7
FORMS = []


def form(weight):
    def register(draw):
        FORMS.append((weight, draw))
        return draw
    return register


def plan_for(library, seed):
    """A plan: the model and what is done with it before it is saved.

    Also what its steps left while it was drawn, if the model can be made of that; else `None`.
    """
    chance = Chance(seed)
    library.reset(chance.float64)
    model, done = chance.pick(FORMS)(chance, library)
    plan = {"seed": seed, "model": model, "stateful": chance.stateful, "float64": chance.float64}
    if chance.maybe(0.25):
        plan["optimizer"] = chance.one_of("adam", "sgd", "rmsprop")
    return plan, done


def padded(chance, size):
    """Sequences with masked steps at the start, inside, and at the end; `data.py` makes them."""
    return {"kind": "padded", "shape": [chance.steps, size], "seed": chance.seed()}


def plain(chance, *shape):
    return {"kind": "padded" if chance.maybe(0.3) else "plain", "shape": list(shape), "seed": chance.seed()}


def words(chance):
    return {"kind": "words", "shape": [chance.steps], "words": WORDS, "seed": chance.seed()}


def size_arguments(chance, *shape):
    """How the first layer of a chain is told its input's size."""
    if chance.stateful:
        return {"batch_input_shape": [BATCH] + list(shape)}
    return {"input_shape": [None if chance.maybe(0.2) else shape[0]] + list(shape[1:])}


def first_layer(chance):
    """The first layer of a chain, the arguments that tell its input's size, and the data."""
    steps, features = chance.steps, chance.between(2, 4)
    kind = chance.one_of("Embedding", "Embedding", "Masking", "Masking", "GRU", "Bidirectional", "InputLayer",
                         "TimeDistributed", "Conv1D")
    if kind == "Embedding":
        options = {"input_dim": WORDS, "output_dim": features}
        options.update(chance.options(mask_zero=(0.6, True)))
        if chance.maybe(0.3) and not chance.stateful:
            return layer(kind, options, chance.name()), {"input_length": steps}, words(chance)
        return layer(kind, options, chance.name()), size_arguments(chance, steps), words(chance)
    size = size_arguments(chance, steps, features)
    if kind == "Masking":
        return layer(kind, chance.options(mask_value=(0.3, 0.0))), size, padded(chance, features)
    if kind == "TimeDistributed":
        rows = chance.between(2, 3)
        inner = recurrent(chance, chance.maybe(0.5), "GRU", stateful=False)
        size = size_arguments(chance, rows, steps, features)
        return layer(kind, {"layer": inner}), size, plain(chance, rows, steps, features)
    make = {
        "GRU": lambda: recurrent(chance, chance.maybe(0.8)),
        "Bidirectional": lambda: bidirectional(chance, chance.maybe(0.8)),
        "InputLayer": lambda: layer("InputLayer"),
        "Conv1D": lambda: layer("Conv1D", {"filters": 3, "kernel_size": 2, "padding": "causal"}),
    }
    return make[kind](), size, plain(chance, steps, features)


def start(growth, first, size, data):
    """Puts the first layer of a chain, or a chain, into a graph."""
    shape = size.get("batch_input_shape", [None])[1:] or size.get("input_shape") or [size["input_length"]]
    at = growth.input(shape=list(shape), **({"dtype": "int32"} if data["kind"] == "words" else {}))
    return at if first.get("make") == "layers.InputLayer" else growth.apply(first, at)[0]


@form(30)
def chain(chance, library, length=None):
    """A Sequential."""
    growth = Growth(library, chance)
    for _ in range(TRIES):
        first, size, data = first_layer(chance)
        try:
            at = start(growth, first, size, data)
            break
        except library.REFUSALS:
            growth = Growth(library, chance)
    else:
        raise Nothing()
    layers = [first]
    for _ in range(length or chance.between(1, 5)):
        at = growth.next_layer(at)
        layers.append(growth.steps[-1]["layer"])
    return dict({"chain": layers, "first": size, "data": data}, **chance.name()), None


@form(4)
def film(chance, library):
    """A Sequential over images in time."""
    shape = [3, 4, 4, 2]
    first = convolutional(chance, True, padding="same")
    growth = Growth(library, chance)
    [at] = growth.apply(first, growth.input(shape=shape))
    layers = [first]
    flat = layer("TimeDistributed", {"layer": layer("Flatten")})
    for _ in range(chance.between(1, 3)):
        if len(growth.shape(at)) not in (2, 4):
            break
        at = growth.next_layer(at)
        layers.append(growth.steps[-1]["layer"])
    if len(growth.shape(at)) == 4:
        [at] = growth.apply(flat, at)
        layers += [flat, recurrent(chance, True, "GRU")]
    data = {"kind": "plain", "shape": shape, "seed": chance.seed()}
    return {"chain": layers, "first": size_arguments(chance, *shape), "data": data}, None


@form(10)
def chain_of_models(chance, library):
    """A Sequential whose layers are models, too."""
    first, _ = chain(chance, library, length=chance.between(1, 2))
    growth = Growth(library, chance)
    at = start(growth, first, first["first"], first["data"])
    layers = [first]
    for _ in range(chance.between(1, 2)):
        here = growth.shape(at)
        if len(here) == 2 and here[-1] is not None and chance.maybe(0.7):
            outputs = growth.apply(inner_model(chance, library, here), at)
            at = outputs[0]
        else:
            at = growth.next_layer(at)
        layers.append(growth.steps[-1]["layer"])
    return dict({"chain": layers}, **chance.name()), None


@form(55)
def graph(chance, library):
    """A Functional model of several kinds of steps."""
    growth = Growth(library, chance)
    for _ in range(chance.one_of(1, 1, 1, 2, 2, 3)):
        _source(chance, growth)
    for _ in range(chance.between(2, 7)):
        growth.attempt(chance.pick(KINDS))
    if not any(done.layer is not None and done.layer.weights for done in growth.done):
        growth.apply(recurrent(chance, chance.maybe(0.5)), growth.some(2))
    outputs = growth.unused()
    chance.random.shuffle(outputs)
    outputs = outputs[:3]
    if not outputs:
        raise Nothing()
    if chance.maybe(0.1):
        outputs.append(growth.some())
    # Standalone Keras knows no dicts.
    options = chance.options(lists=(0.3, True), dicts=(0.05 if library.is_tensorflow_2 else 0.0, True))
    return dict({"steps": growth.steps, "outputs": outputs}, **dict(options, **chance.name())), growth.done


def _source(chance, growth):
    """An input, and what stands behind inputs of its kind: an Embedding, a Masking layer, or nothing."""
    steps = None if chance.maybe(0.15) else chance.steps
    features = chance.between(2, 4)
    kind = chance.one_of("words", "plain", "plain", "padded", "padded")
    name = chance.name()
    if kind == "words":
        dtype = chance.one_of("int32", "int32", "float32")
        at = growth.input(words(chance), [steps], dtype=dtype, **name)
        embedding = layer("Embedding", {"input_dim": WORDS, "output_dim": features}, chance.options(mask_zero=(0.7, True)))
        growth.apply(embedding, at)
    elif kind == "padded":
        at = growth.input(padded(chance, features), [steps, features], **name)
        growth.apply(layer("Masking", chance.name()), at)
    else:
        growth.input(plain(chance, chance.steps, features), [steps, features], **name)
