"""What serialized recurrent layers do with masks and states, and whether a stock layer does the same."""

from __future__ import annotations

from collections.abc import Mapping

from keras_gru_ext.tools.stock import graphs

_CONVOLUTIONAL = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")

KINDS = ("Bidirectional", "GRU", "LegacyMaskGRU", "LSTM", "RNN", "SimpleRNN", *_CONVOLUTIONAL)

# The layers of this package that put zeros at masked steps by the mask as given, if their loop is unrolled.
_BY_THE_MASK_AS_GIVEN = ("LegacyMaskGRU", "LSTM", "RNN", "SimpleRNN")


def directions(entry: Mapping) -> list[Mapping]:
    """The two layers of a serialized `Bidirectional`; any other recurrent layer itself."""
    if entry["class_name"] != "Bidirectional":
        return [entry]
    return [entry["config"][key] for key in ("layer", "backward_layer")]


def cells_apart(direction: Mapping) -> list[Mapping]:
    """The cells of a stack that needs a layer for each of them under masks, else none."""
    config = direction["config"]
    cell = config.get("cell") or {}
    is_by_the_first = config.get("masked_output") == "first_cell" and not config.get("zero_output_for_mask")
    cells = cell["config"]["cells"] if cell.get("class_name") == "StackedRNNCells" and is_by_the_first else ()
    return list(cells) if len(cells) > 1 else []


def needs_layers_of_its_own(entry: Mapping, masked: bool) -> bool:
    """Whether a serialized recurrent layer does what no single stock layer does, though nothing around it be known."""
    if entry["class_name"] not in KINDS:
        return False
    if any(map(is_time_major, directions(entry))) or _fails_as_stock(entry):
        return True
    return masked and (
        has_zeros_as_given(entry) or any(map(cells_apart, directions(entry))) or _needs_directions_apart(entry)
    )


def _needs_directions_apart(entry: Mapping) -> bool:
    if entry["class_name"] != "Bidirectional" or not _is_own(entry):
        return False
    return outputs_zeros(entry) != returns_sequences(entry) or starts_elsewhere(entry)


def needs_writing_out(entry: Mapping, masked: bool) -> bool:
    """Whether other layers have to stand around the stock class, or in its place.

    Args:
        entry: The serialized layer with its calls.
        masked: Whether there are masks.
    """
    if entry["class_name"] not in KINDS:
        return False
    if prefers_a_kept_state(entry) or any(map(is_time_major, directions(entry))) or _fails_as_stock(entry):
        return True
    starts = is_started(entry) or starts_elsewhere(entry)
    return masked and (needs_layers_of_its_own(entry, masked) or (_is_own(entry) and starts))


def outputs_zeros(entry: Mapping) -> bool:
    """Whether a serialized recurrent layer outputs zeros at masked steps."""
    is_stock = entry["class_name"] == "Bidirectional" and "zero_output_for_mask" not in entry["config"]
    return returns_sequences(entry) if is_stock else bool(entry["config"].get("zero_output_for_mask"))


def has_zeros_as_given(entry: Mapping) -> bool:
    """Whether a recurrent layer outputs zeros by a mask in the other direction than its own."""
    return outputs_zeros(entry) and any(map(_is_unrolled_backwards, directions(entry)))


def _is_unrolled_backwards(direction: Mapping) -> bool:
    own = (direction.get("registered_name") or "").removeprefix("keras_gru_ext>")
    config = direction["config"]
    return own in _BY_THE_MASK_AS_GIVEN and bool(config.get("unroll") and config.get("go_backwards"))


def outputs_the_start(entry: Mapping) -> bool:
    """Whether a serialized recurrent layer outputs its first state at masked steps before the first that counts."""
    rules = {one["config"].get("masked_output", "repeat") for one in directions(entry)}
    return starts_elsewhere(entry) and rules != {"repeat"}


def is_started(entry: Mapping) -> bool:
    """Whether any call gives a serialized layer an initial state."""
    return any(graphs.states_of(call) is not None for call in entry.get("inbound_nodes") or ())


def keeps_states(entry: Mapping) -> bool:
    """Whether a serialized recurrent layer is stateful."""
    return any(one["config"].get("stateful") for one in directions(entry))


def prefers_a_kept_state(entry: Mapping) -> bool:
    """Whether the state that a serialized layer keeps comes before one that a call gives it."""
    prefers = any(one["config"].get("prefers_kept_state") for one in directions(entry))
    return prefers and keeps_states(entry) and is_started(entry)


def _fails_as_stock(entry: Mapping) -> bool:
    # Of what keeps its states and returns them, too, keras.layers.Bidirectional fails to compute the masks.
    returned = [one["config"].get("return_state") for one in directions(entry)]
    return entry["class_name"] == "Bidirectional" and keeps_states(entry) and any(returned)


def is_time_major(direction: Mapping) -> bool:
    """Whether a serialized layer has the time before the batch."""
    return bool(direction["config"].get("time_major"))


def turns_batch(entry: Mapping) -> bool:
    """Whether a serialized `Bidirectional` turns the sequences of its second direction along the batch."""
    return bool(entry["config"].get("turns_batch")) and is_time_major(directions(entry)[0])


def starts_elsewhere(entry: Mapping) -> bool:
    """Whether a layer has an output before the first step that counts, and may have a state there that is not zero."""
    is_convolutional = directions(entry)[0]["class_name"] in _CONVOLUTIONAL  # zeros stand there, stock or not
    return (is_started(entry) or keeps_states(entry)) and not outputs_zeros(entry) and not is_convolutional


def _is_own(entry: Mapping) -> bool:
    # Within Keras' own Bidirectional, too, layers of this package find the mask of their input.
    own = [one.get("registered_name") or "" for one in (entry, entry["config"].get("layer") or {})]
    return any(name.startswith("keras_gru_ext>") for name in own)


def returns_sequences(entry: Mapping) -> bool:
    """Whether a serialized recurrent layer returns sequences."""
    return bool(directions(entry)[0]["config"].get("return_sequences"))


def stands_alone(entry: Mapping, masked: bool) -> bool:
    """Whether nothing comes after the one stock layer where a serialized layer `needs_writing_out`."""
    needs_more = masked and (returns_sequences(entry) or starts_elsewhere(entry) or has_zeros_as_given(entry))
    is_swapped = returns_sequences(entry) and any(map(is_time_major, directions(entry)))
    are_several = len(directions(entry)) > 1 or (masked and any(map(cells_apart, directions(entry))))
    return not (needs_more or is_swapped or are_several or prefers_a_kept_state(entry))
