"""Names that Keras 3 or PyTorch would refuse."""

from keras_gru_ext.legacy.upgrade.names import accepted_name, with_accepted_names


def named(*names):
    return [{"class_name": "GRU", "config": {"name": accepted_name(name), "units": 3}} for name in names]


def test_other_names_stay():
    layers = named("gru_1", "A-1 b", "über_2")
    assert with_accepted_names(layers, ["gru_1", "A-1 b", "über_2"]) == layers


def test_slashes_and_dots_become_underscores_and_the_name_in_the_file_is_kept():
    [layer] = with_accepted_names(named("part/gru.1"), ["part/gru.1"])
    assert layer["config"] == {"name": "part_gru_1", "units": 3}
    assert layer["name"] == "part/gru.1"


def test_no_two_layers_get_the_same_name():
    written = ["a/b", "a.b", "a_b", "a_b_1"]
    layers = with_accepted_names(named(*written), written)
    assert [layer["config"]["name"] for layer in layers] == ["a_b_2", "a_b_3", "a_b", "a_b_1"]
