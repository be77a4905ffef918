"""Descriptions of recurrent layers: GRU and its relatives, cells, stacks of cells, and Bidirectional around them."""
from settings import layer, weights

GRU_ACTIVATIONS = ("relu", "tanh", "linear", "elu", "softsign", "hard_sigmoid", "selu", "exponential", None)
SHORT = 8  # Steps up to which a loop is unrolled.


def gru_cell(chance):
    return dict(weights(chance, "kernel", "recurrent", "bias"), **chance.options(
        activation=(0.5,) + GRU_ACTIVATIONS,
        recurrent_activation=(0.6, "sigmoid", "hard_sigmoid", "relu", "tanh"),
        reset_after=(0.7, True, False),
        implementation=(0.5, 1, 2),
        dropout=(0.3, 0.3),
        recurrent_dropout=(0.2, 0.2),
    ))


def lstm_cell(chance):
    return dict(weights(chance, "kernel", "recurrent", "bias"), **chance.options(
        activation=(0.4, "relu", "tanh", "linear", "elu", "softsign", "hard_sigmoid"),
        recurrent_activation=(0.5, "sigmoid", "hard_sigmoid", "tanh"),
        implementation=(0.3, 1, 2),
        unit_forget_bias=(0.2, False),
        dropout=(0.2, 0.3),
    ))


def simple_cell(chance):
    return dict(weights(chance, "kernel", "recurrent", "bias"), **chance.options(
        activation=(0.4, "relu", "tanh", "linear", "elu", "hard_sigmoid"),
        recurrent_dropout=(0.2, 0.3),
    ))


CELLS = {"GRU": gru_cell, "LSTM": lstm_cell, "SimpleRNN": simple_cell}


def loop(chance, return_sequences, stateful=None):
    """The arguments that every recurrent layer has."""
    options = {"return_sequences": return_sequences}
    options.update(chance.options(go_backwards=(0.3, True), zero_output_for_mask=(0.03, True)))
    if chance.steps <= SHORT:
        options.update(chance.options(unroll=(0.25, True)))
    if chance.stateful if stateful is None else stateful:
        options["stateful"] = True
    return options


def cell(chance, units=None, kind=None):
    kind = kind or chance.one_of("GRU", "GRU", "GRU", "LSTM", "SimpleRNN")
    return layer(kind + "Cell", CELLS[kind](chance), {"units": units or chance.between(2, 4)})


def stack(chance, units=None):
    """Cells on top of each other, as a list or in a StackedRNNCells."""
    cells = [cell(chance) for _ in range(chance.between(1, 2))] + [cell(chance, units)]
    return cells if chance.maybe(0.3) else layer("StackedRNNCells", {"cells": cells})


def recurrent(chance, return_sequences, kind=None, units=None, **more):
    """A recurrent layer of a kind (GRU, LSTM, SimpleRNN, cell, stack), or mostly a GRU."""
    kind = kind or chance.one_of(*["GRU"] * 5 + ["LSTM", "SimpleRNN", "cell", "stack"])
    stateful = more.pop("stateful", None)
    options = [loop(chance, return_sequences, stateful), chance.name(), more]
    if kind == "cell":
        return layer("RNN", {"cell": cell(chance, units)}, *options)
    if kind == "stack":
        return layer("RNN", {"cell": stack(chance, units)}, *options)
    return layer(kind, CELLS[kind](chance), {"units": units or chance.between(2, 5)}, *options)


def bidirectional(chance, return_sequences, kind=None, units=None, merge_mode=(), **more):
    """A Bidirectional; now and then with a backward layer of its own, where the library has those."""
    kind = kind or chance.one_of("GRU", "GRU", "GRU", "GRU", "LSTM", "SimpleRNN", "cell", "stack")
    inner = recurrent(chance, return_sequences, kind, units, **more)
    options = dict({"layer": inner}, **chance.name())
    options["merge_mode"] = chance.one_of("concat", "concat", "sum", "mul", "ave") if merge_mode == () else merge_mode
    if kind == "GRU" and chance.maybe(0.05):
        backward = recurrent(chance, return_sequences, kind, inner["with"]["units"], **more)
        backward["with"]["go_backwards"] = not inner["with"].get("go_backwards", False)
        options["backward_layer"] = backward
    if chance.frozen and chance.maybe(0.2):
        inner["with"]["trainable"] = False
    return layer("Bidirectional", options)


def convolutional(chance, return_sequences=None, **more):
    """A ConvLSTM2D over (time, height, width, channels)."""
    options = chance.options(
        go_backwards=(0.3, True), use_bias=(0.3, False), recurrent_activation=(0.4, "sigmoid", "hard_sigmoid"),
        activation=(0.4, "relu", "tanh", "hard_sigmoid"),
    )
    options.update(
        filters=chance.between(1, 3), kernel_size=chance.one_of([2, 2], [1, 2]), padding=chance.one_of("same", "valid"),
        return_sequences=chance.maybe(0.6) if return_sequences is None else return_sequences)
    if chance.stateful:
        options["stateful"] = True
    return layer("ConvLSTM2D", options, more)
