"""The weights of `torch.nn.GRU`, in the order and form of a Keras GRU, and back.

    torch.nn.GRU                       here
    weight_ih_l0 (3U, F), r | z | n    kernel (F, 3U), z | r | candidate
    weight_hh_l0 (3U, U)               recurrent_kernel (U, 3U)
    bias_ih_l0, bias_hh_l0 (3U,)       bias (2, 3U)
    h' = (1 - z) n + z h               the same

So it is the convention `reset_after=True` with tanh and sigmoid, and nothing but an order of blocks is in between.
PyTorch itself is imported only to make a module of its own.
"""

import importlib

import numpy as np

from keras_gru_ext.errors import ArgumentError, MissingDependencyError

_BLOCKS = (1, 0, 2)
"""z | r | candidate from r | z | n, and the other way round."""


def arrays_of(module, layer, reverse, where):
    """Reads one layer and direction of a module.

    Args:
        module: A `torch.nn.GRU`.
        layer: Which of its layers, from 0.
        reverse: Whether to read the direction that runs backwards.
        where: Who asks, for messages.

    Returns:
        The arrays of a Keras GRU: kernel, recurrent kernel and, if the module has biases, bias.

    Raises:
        ArgumentError: if it is no `torch.nn.GRU`, or has no such layer or direction.
    """
    if not hasattr(module, "weight_ih_l0") or getattr(module, "mode", None) != "GRU":
        raise ArgumentError(f"{where} takes the weights of a torch.nn.GRU. Received: {type(module).__name__}.")
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < module.num_layers:
        raise ArgumentError(
            f"`layer` of {where} must be an integer from 0 to {module.num_layers - 1}, since the module has "
            f"{module.num_layers} layers. Received: layer={layer!r}."
        )
    if reverse and not module.bidirectional:
        raise ArgumentError(f"{where} needs a module with bidirectional=True. Use `GRU.from_torch` for this one.")
    end = f"_l{layer}" + ("_reverse" if reverse else "")
    kernel, recurrent_kernel = (_reordered(_array(module, name + end)).T for name in ("weight_ih", "weight_hh"))
    if not module.bias:
        return [kernel, recurrent_kernel]
    biases = [_reordered(_array(module, name + end)) for name in ("bias_ih", "bias_hh")]
    return [kernel, recurrent_kernel, np.stack(biases)]


def module_of(stack):
    """Makes a `torch.nn.GRU` with the weights of Keras layers.

    Args:
        stack: For each layer of the module, from the first to the last, a list with one GRU layer, or with two for
            both directions.

    Returns:
        The module; it is `batch_first` unless the layers are `time_major`.

    Raises:
        ArgumentError: if a layer is not built or computes something that the module does not, or if they do not fit
            each other.
        MissingDependencyError: without PyTorch.
    """
    torch = _torch()
    every = [layer for directions in stack for layer in directions]
    for directions in stack:
        for index, layer in enumerate(directions):
            _check(layer, backwards=index == 1)
    first = every[0]
    common = {"units": first.units, "use_bias": first.use_bias, "time_major": first.time_major}
    for layer in every:
        for name, value in common.items():
            if getattr(layer, name) != value:
                raise ArgumentError(
                    f"The layers of one torch.nn.GRU have the same `{name}`. GRU {layer.name!r} has "
                    f"{getattr(layer, name)!r}, GRU {first.name!r} has {value!r}. Make a module of each."
                )
    if len({len(directions) for directions in stack}) > 1:
        raise ArgumentError("The layers of one torch.nn.GRU have one direction or two, all the same. Make several.")
    width = len(stack[0]) * first.units
    for directions in stack[1:]:
        if directions[0].cell.kernel.shape[0] != width:
            raise ArgumentError(
                f"GRU {directions[0].name!r} takes {directions[0].cell.kernel.shape[0]} features, but the layer below "
                f"it in a torch.nn.GRU returns {width}."
            )
    kernel, *_ = first.get_weights()
    module = torch.nn.GRU(
        kernel.shape[0],
        first.units,
        num_layers=len(stack),
        bias=first.use_bias,
        batch_first=not first.time_major,
        bidirectional=len(stack[0]) == 2,
        dtype=getattr(torch, kernel.dtype.name),
    )
    values = {}
    for level, directions in enumerate(stack):
        for index, layer in enumerate(directions):
            kernel, recurrent_kernel, *bias = layer.get_weights()
            end = f"_l{level}" + ("_reverse" if index else "")
            values[f"weight_ih{end}"], values[f"weight_hh{end}"] = _reordered(kernel.T), _reordered(recurrent_kernel.T)
            if bias:
                values[f"bias_ih{end}"], values[f"bias_hh{end}"] = (_reordered(row) for row in bias[0])
    module.load_state_dict({name: torch.tensor(np.ascontiguousarray(value)) for name, value in values.items()})
    return module


def _check(layer, backwards):
    name = f"GRU {layer.name!r}"
    if not layer.cell.built:
        raise ArgumentError(f"{name} has no weights yet. Build it, or call it once.")
    computed = {
        "reset_after": (layer.reset_after, True),
        "activation": (_name(layer.activation), "tanh"),
        "recurrent_activation": (_name(layer.recurrent_activation), "sigmoid"),
        "go_backwards": (layer.go_backwards, backwards),
    }
    for argument, (value, wanted) in computed.items():
        if value != wanted:
            both = argument == "go_backwards"
            raise ArgumentError(
                f"{name} has {argument}={value!r}, and torch.nn.GRU computes {argument}={wanted!r} only"
                + (", or both directions, which `Bidirectional.to_torch` writes." if both else ".")
            )


def _name(activation):
    return getattr(activation, "__name__", activation)


def _reordered(rows):
    """Swaps the blocks of the gates along the first axis."""
    blocks = np.split(rows, 3)
    return np.concatenate([blocks[index] for index in _BLOCKS])


def _array(module, name):
    return getattr(module, name).detach().cpu().numpy()


def _torch():
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise MissingDependencyError(
            "Making a torch.nn.GRU needs PyTorch, on whichever backend of Keras. Install it: "
            "pip install 'keras-gru-ext[torch]'."
        ) from error
