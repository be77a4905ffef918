"""Lambda layers: named functions are not code, code is run only if it is of this Python, and only when asked for."""

import base64
import marshal

import pytest

from keras_gru_ext.errors import ConfigError, UnsafeContentError
from keras_gru_ext.legacy.upgrade.lambdas import function_of, named_function, upgrade_lambda

pytestmark = pytest.mark.no_backend


def written(function):
    return base64.b64encode(marshal.dumps(function.__code__)).decode("ascii")


def test_a_function_by_name():
    config = {"name": "l", "function": "loss", "function_type": "function", "arguments": {"a": 1}}
    assert named_function(config) == "loss"
    new = upgrade_lambda(config, {"loss"}, "here")
    assert new == {"name": "l", "function": {"named": "loss"}, "arguments": {"a": 1}}
    assert function_of(new["function"], {"loss": max}, "here") is max
    with pytest.raises(ConfigError, match=r"here: .*'loss'.*custom_objects=\{'loss': loss\}"):
        upgrade_lambda(config, (), "here")


FORMS = {
    "Keras 2": lambda code: [code, [2], None],
    "tf.keras 2.13": lambda code: {
        "class_name": "__lambda__",
        "config": {"code": code, "defaults": [2], "closure": None},
    },
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_code_of_this_python(form):
    code = written(eval("lambda x, factor: x * factor + base"))
    config = {"function": form(code), "function_type": "lambda"}
    assert named_function(config) is None
    made = function_of(upgrade_lambda(config, (), "here")["function"], {"base": 10}, "here")
    assert (made(3), made(3, 4)) == (16, 22)


def test_code_as_keras_1_wrote_it():
    text = marshal.dumps((lambda x: x + 1).__code__).decode("raw_unicode_escape")
    assert function_of({"code": text, "defaults": None, "closure": None}, {}, "here")(1) == 2


def test_a_closure():
    def outer(size):
        return lambda x: x + size

    function = {"code": written(outer(5)), "defaults": None, "closure": [7]}
    assert function_of(function, {}, "here")(1) == 8


# A code object of Python 3.6: `lambda x: x`.
OF_PYTHON_3_6 = (
    "4wEAAAAAAAAAAQAAAAEAAABDAAAAcwQAAAB8AFMAKQFOqQApAdoBeHIBAAAAcgEAAADaCDxzdHJpbmc+2gg8bGFtYmRhPgEAAABzAAAAAA=="
)
BAD = {
    "of Python 3.6": OF_PYTHON_3_6,
    "nothing": "",
    "not code": base64.b64encode(marshal.dumps(3)).decode(),
    "text": "x" * 40,
}


@pytest.mark.parametrize("code", BAD.values(), ids=BAD)
def test_code_of_another_python(code):
    with pytest.raises(UnsafeContentError, match=r"here: .*bytecode of another Python.*outputs="):
        function_of({"code": code, "defaults": None, "closure": None}, {}, "here")


@pytest.mark.parametrize("function", [None, 3, ["code"], {"class_name": "__lambda__", "config": {}}])
def test_unreadable(function):
    with pytest.raises(ConfigError, match="here: the function of a Lambda layer cannot be read"):
        upgrade_lambda({"function": function}, (), "here")
