"""The forms of whole models: `plan_for(library, seed)` draws a plan that the library can build."""
from chance import Chance
from graphs import KINDS, inner_model
from growth import BATCH, TRIES, Growth, Nothing, Row
from plan import finished
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
    """A plan, the model and what is done with it before it is saved; and the model itself."""
    chance = Chance(seed)
    library.reset(chance.float64)
    described, model = chance.pick(FORMS)(chance, library)
    plan = {"seed": seed, "model": described, "stateful": chance.stateful, "float64": chance.float64}
    if chance.maybe(0.25):
        plan["optimizer"] = chance.one_of("adam", "sgd", "rmsprop")
    return plan, model


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


@form(30)
def chain(chance, library, length=None):
    """A Sequential."""
    for _ in range(TRIES):
        first, size, data = first_layer(chance)
        row = Row(library, chance)
        try:
            row.add(first, size)
            break
        except library.REFUSALS:
            pass
    else:
        raise Nothing()
    for _ in range(length or chance.between(1, 5)):
        row.next_layer()
    return row.described(first=size, data=data), row.model


@form(4)
def film(chance, library):
    """A Sequential over images in time."""
    shape = [3, 4, 4, 2]
    size = size_arguments(chance, *shape)
    row = Row(library, chance)
    row.add(convolutional(chance, True, padding="same"), size)
    for _ in range(chance.between(1, 3)):
        if len(row.shape()) not in (2, 4):
            break
        row.next_layer()
    if len(row.shape()) == 4:
        row.add(layer("TimeDistributed", {"layer": layer("Flatten")}))
        row.add(recurrent(chance, True, "GRU"))
    return row.described(first=size, data={"kind": "plain", "shape": shape, "seed": chance.seed()}), row.model


@form(10)
def chain_of_models(chance, library):
    """A Sequential whose layers are models, too."""
    row = Row(library, chance)
    first, model = chain(chance, library, length=chance.between(1, 2))
    row.add(first, live=model)
    for _ in range(chance.between(1, 2)):
        here = row.shape()
        if len(here) == 2 and here[-1] is not None and chance.maybe(0.7):
            inner, model = inner_model(chance, library, here)
            row.add(inner, live=model)
        else:
            row.next_layer()
    return row.described(), row.model


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
    described = dict({"steps": growth.steps, "outputs": outputs}, **dict(options, **chance.name()))
    return described, finished(library, described, growth.done)


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
