"""Kinds of steps in a graph. Each adds to a `Growth`, or raises, and then nothing is added."""
from growth import BATCH, TRIES, Growth, Nothing, Row
from other_layers import layer_for
from plan import finished, frozen
from recurrent import bidirectional, cell, recurrent
from settings import layer

KINDS = []
DEEPEST = 3


def kind(weight):
    def register(add):
        KINDS.append((weight, add))
        return add
    return register


@kind(5)
def layer_on(chance, growth):
    growth.next_layer(growth.some(1, 2, 3))


@kind(1.2)
def shared_layer(chance, growth):
    """The layer of an earlier step on another tensor."""
    # In one graph it is chance which call of a stateful layer reads its state, or writes it, first.
    if chance.stateful and not growth.library.is_tensorflow_2:
        raise Nothing()
    steps = [at for at, step in enumerate(growth.steps) if "layer" in step and len(step["of"]) == 1]
    if not steps:
        raise Nothing()
    at = chance.one_of(*steps)
    growth.apply(None, growth.some(like=growth.shape(growth.steps[at]["of"][0])), again=at)


@kind(1.2)
def merge(chance, growth):
    first = growth.some()
    names = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
    others = [growth.some(like=growth.shape(first)) for _ in range(chance.one_of(1, 1, 1, 2))]
    name = chance.one_of(*names)
    growth.apply(layer(name, chance.name()), first, *(others[:1] if name == "Subtract" else others))


@kind(0.5)
def concatenate(chance, growth):
    """Along time, or along the features of tensors with different numbers of these."""
    first = growth.some(2)
    axis = chance.one_of(1, -1)
    kept = 1 if axis == 1 else 0
    fitting = [one for one in growth.references(2) if growth.shape(one)[kept] == growth.shape(first)[kept]]
    growth.apply(layer("Concatenate", {"axis": axis}, chance.name()), first, chance.one_of(*fitting))


@kind(0.4)
def dot(chance, growth):
    options = chance.one_of({"axes": 2}, {"axes": -1, "normalize": True}, {"axes": [1, 1]}, {"axes": 1, "normalize": True})
    growth.apply(layer("Dot", options), growth.some(2), growth.some(2))


@kind(0.6)
def highway(chance, growth):
    """A gated block as residual networks over sequences have."""
    inputs = growth.some(2)
    units = growth.shape(inputs)[-1]
    [gate] = growth.apply(layer("Dense", {"units": units, "activation": "hard_sigmoid"}), inputs)
    inner = layer("Dense", {"units": units, "activation": "tanh"})
    [value] = growth.apply(layer("TimeDistributed", {"layer": inner}), inputs)
    [gated] = growth.apply(layer("Multiply"), gate, value)
    growth.apply(layer("Add"), gated, inputs)


@kind(0.5)
def attention_by_hand(chance, growth):
    """Scores of each step, softmax over time, a weighted sum: how attention was written before there was a layer."""
    inputs = growth.some(2)
    [scores] = growth.apply(layer("TimeDistributed", {"layer": layer("Dense", {"units": 1})}), inputs)
    [flat] = growth.apply(layer("Flatten"), scores)
    [weights] = growth.apply(layer("Activation", {"activation": "softmax"}), flat)
    if chance.maybe(0.5):
        growth.apply(layer("Dot", {"axes": 1}), weights, inputs)
        return
    [repeated] = growth.apply(layer("RepeatVector", {"n": growth.shape(inputs)[-1]}), weights)
    [turned] = growth.apply(layer("Permute", {"dims": [2, 1]}), repeated)
    growth.apply(layer("Multiply"), inputs, turned)


def start(chance, growth, decoder, inputs, states):
    """Calls a decoder from states, given by name or in a list with its inputs."""
    if chance.maybe(0.4):
        growth.apply(decoder, inputs, *states)
    else:
        growth.apply(decoder, inputs, states=states)


@kind(1)
def encoder_decoder(chance, growth):
    """The states of one recurrent layer start another."""
    units = chance.between(2, 4)
    kind = chance.one_of("GRU", "GRU", "LSTM", "SimpleRNN")
    encoder = recurrent(chance, chance.maybe(0.5), kind, units, return_state=True)
    _, *states = growth.apply(encoder, growth.some(2))
    start(chance, growth, recurrent(chance, chance.maybe(0.8), kind, units), growth.some(2), states)


@kind(0.5)
def encoder_decoder_of_cells(chance, growth):
    """The same with one cell, or with several of different sizes."""
    kinds = [chance.one_of("GRU", "GRU", "LSTM", "SimpleRNN") for _ in range(chance.one_of(1, 2, 3))]
    sizes = [chance.between(2, 4) for _ in kinds]

    def layers(**options):
        cells = [cell(chance, units, kind) for kind, units in zip(kinds, sizes)]
        return layer("RNN", {"cell": cells if len(cells) > 1 else cells[0]}, options)

    backwards = chance.options(go_backwards=(0.3, True))
    _, *states = growth.apply(
        layers(return_state=True, return_sequences=chance.maybe(0.5), **backwards), growth.some(2))
    start(chance, growth, layers(return_sequences=chance.maybe(0.8)), growth.some(2), states)


@kind(0.5)
def encoder_decoder_both_ways(chance, growth):
    units = chance.between(2, 4)
    kind = chance.one_of("GRU", "GRU", "LSTM")
    encoder = bidirectional(chance, chance.maybe(0.5), kind, units, "concat", return_state=True)
    _, *states = growth.apply(encoder, growth.some(2))
    if kind == "GRU" and chance.maybe(0.5):
        states = growth.apply(layer("Concatenate"), *states)
        decoder = recurrent(chance, chance.maybe(0.8), kind, 2 * units)
    else:
        decoder = bidirectional(chance, chance.maybe(0.8), kind, units)
    start(chance, growth, decoder, growth.some(2), states)


@kind(0.4)
def state_of_a_vector(chance, growth):
    """What a caption generator does: a vector starts the loop."""
    units = chance.between(2, 4)
    states = growth.apply(layer("Dense", {"units": units}), growth.some(1))
    start(chance, growth, recurrent(chance, chance.maybe(0.8), "GRU", units), growth.some(2), states)


@kind(0.4)
def both_ways_apart(chance, growth):
    """Bidirectional without a merge."""
    pair = growth.apply(bidirectional(chance, chance.maybe(0.8), merge_mode=None), growth.some(2))
    if chance.maybe(0.7):
        growth.apply(layer(chance.one_of("Concatenate", "Add", "Multiply")), *pair)


@kind(0.6)
def attention(chance, growth):
    query, value = growth.some(2), growth.some(2)
    how = chance.one_of("Attention", "AdditiveAttention", "MultiHeadAttention", "MultiHeadAttention")
    options = chance.options(use_causal_mask=(0.2, True))
    if how == "MultiHeadAttention":
        settings = chance.options(value_dim=(0.3, 3), use_bias=(0.3, False), output_shape=(0.2, 4))
        growth.apply(layer(how, {"num_heads": 2, "key_dim": 2}, settings), query, value, call="each", options=options)
        return
    tensors = [query, value, value] if chance.maybe(0.3) else [query, value]
    growth.apply(layer(how, chance.options(use_scale=(0.5, True))), *tensors, options=options)


@kind(0.6)
def operation(chance, growth):
    """Arithmetic on tensors, which tf.keras 2.4 and later turn into layers."""
    name = chance.one_of("last step", "turn around", "twice", "sum", "beside", "mean over time", "as image")
    first = growth.some(2)
    both = [first, growth.some(like=growth.shape(first))] if name in ("sum", "beside") else [first]
    growth.add({"operation": name, "of": both})


@kind(1.2)
def nested(chance, growth):
    """A model as a layer, sometimes used twice."""
    inputs = growth.some(2)
    if growth.shape(inputs)[-1] is None:
        raise Nothing()
    inner, model = inner_model(chance, growth.library, growth.shape(inputs))
    growth.apply(inner, inputs, live=model)
    if chance.maybe(0.4):
        growth.apply(None, growth.some(like=growth.shape(inputs)), again=len(growth.steps) - 1)


@kind(0.4)
def nested_with_two_inputs(chance, growth):
    first = growth.some(2)
    shape = growth.shape(first)
    second = growth.some(like=shape)
    inner = Growth(growth.library, chance)
    inputs = [inner.input(shape=shape), inner.input(shape=shape)]
    outputs = [inner.next_layer(one) for one in inputs]
    described = dict({"steps": inner.steps, "outputs": outputs}, **chance.name())
    growth.apply(described, first, second, live=finished(growth.library, described, inner.done))
    if chance.maybe(0.4):
        growth.apply(None, second, first, again=len(growth.steps) - 1)


def inner_model(chance, library, shape, depth=1):
    """A model for inputs of this shape, described and made: a chain or a graph, whose layers may be models again."""
    described, model = (_inner_chain if chance.maybe(0.5) else _inner_graph)(chance, library, shape, depth)
    if chance.frozen and chance.maybe(0.3):
        described["trainable"] = False
    return described, frozen(model, described)


def _inner_chain(chance, library, shape, depth):
    size = {"batch_input_shape": [BATCH] + shape} if chance.stateful else {"input_shape": shape}
    for _ in range(TRIES):
        row = Row(library, chance)
        try:
            row.add(layer_for(chance, shape), size)
            break
        except library.REFUSALS:
            pass
    else:
        raise Nothing()
    for _ in range(chance.between(0, 2)):
        here = row.shape()
        if _goes_deeper(chance, here, depth):
            inner, model = inner_model(chance, library, here, depth + 1)
            row.add(inner, live=model)
        else:
            row.next_layer()
    return row.described(first=size), row.model


def _inner_graph(chance, library, shape, depth):
    growth = Growth(library, chance)
    at = growth.input(shape=shape)
    for _ in range(chance.between(1, 3)):
        here = growth.shape(at)
        if _goes_deeper(chance, here, depth):
            inner, model = inner_model(chance, library, here, depth + 1)
            [at] = growth.apply(inner, at, live=model)
        else:
            at = growth.next_layer(at)
    described = dict({"steps": growth.steps, "outputs": [at]}, **chance.name())
    return described, finished(library, described, growth.done)


def _goes_deeper(chance, shape, depth):
    return depth < DEEPEST and len(shape) == 2 and shape[-1] is not None and chance.maybe(0.25)
