"""Lambda layers: what their configs hold, and the functions in them once the caller allows that. Standard library only.

Keras 1 and 2 stored a lambda as marshalled bytecode, which only the Python that wrote it can run; a named function they
stored by its name alone, so such a layer holds no code at all.
"""

from __future__ import annotations

import binascii
import codecs
import dis
import marshal
import sys
import types
from collections.abc import Collection, Mapping
from typing import Any

from keras_gru_ext.errors import ConfigError, UnsafeContentError


def named_function(config: Mapping[str, Any]) -> str | None:
    """Returns the name of the function of a Lambda layer that is stored by name, or `None` if it is stored as code.

    Args:
        config: The layer's legacy config.
    """
    function = config.get("function")
    if config.get("function_type") == "function" and isinstance(function, str):
        return function
    if isinstance(function, Mapping) and function.get("class_name") == "function":
        return str(function.get("registered_name") or function.get("config"))
    return None


def upgrade_lambda(config: Mapping[str, Any], custom: Collection[str], where: str) -> dict[str, Any]:
    """Spells the config of a Lambda layer in one form.

    Args:
        config: The layer's legacy config.
        custom: Names that the caller supplies.
        where: The path of the layer, for messages.

    Returns:
        `name` and `trainable` where given, `arguments`, and `function`: either `{"named": name}` or
        `{"code", "defaults", "closure"}`.

    Raises:
        ConfigError: for a named function that the caller does not supply.
    """
    kept = {key: config[key] for key in ("name", "trainable") if config.get(key) is not None}
    name = named_function(config)
    if name is not None:
        if name not in custom:
            raise ConfigError(
                f"{where}: the Lambda layer calls the function {name!r}, which is not in the file. Pass it: "
                f"custom_objects={{{name!r}: {name}}}."
            )
        function: dict[str, Any] = {"named": name}
    else:
        function = _code(config.get("function"), where)
    return {**kept, "function": function, "arguments": dict(config.get("arguments") or {})}


def _code(written: Any, where: str) -> dict[str, Any]:
    if isinstance(written, Mapping) and set(written) in ({"code", "defaults", "closure"}, {"named"}):
        return dict(written)
    if isinstance(written, Mapping) and isinstance(written.get("config"), Mapping):
        settings = written["config"]
        written = [settings.get("code"), settings.get("defaults"), settings.get("closure")]
    if not isinstance(written, (list, tuple)) or len(written) != 3 or not isinstance(written[0], str):
        raise ConfigError(f"{where}: the function of a Lambda layer cannot be read: {written!r:.200}.")
    return dict(zip(("code", "defaults", "closure"), written, strict=True))


def function_of(written: Mapping[str, Any], names: Mapping[str, Any], where: str) -> Any:
    """Makes the function of a Lambda layer. This trusts the file: the code runs when the layer is called.

    Args:
        written: What `upgrade_lambda` returned under `function`.
        names: What the code finds as its global names; a named function is taken from here, too.
        where: The file and the path of the layer, for messages.

    Returns:
        The function.

    Raises:
        UnsafeContentError: if the code is not of the Python that runs.
    """
    if "named" in written:
        return names[written["named"]]
    code = _unmarshalled(written["code"])
    if code is None:
        version = ".".join(str(number) for number in sys.version_info[:2])
        raise UnsafeContentError(
            f"{where}: the Lambda layer holds bytecode of another Python, which Python {version} cannot run. Load the "
            "part of the model before it by outputs=[...], or rebuild the layer from its source."
        )
    defaults = tuple(written["defaults"]) if written["defaults"] else None
    cells = tuple(types.CellType(value) for value in written["closure"] or ())
    return types.FunctionType(code, dict(names), "legacy_lambda", defaults, cells)


def _unmarshalled(text: str) -> types.CodeType | None:
    """The code object in a text, or `None` if there is none that this Python could run."""
    for decode in (_from_base64, _from_escaped):
        try:
            code = marshal.loads(decode(text))
        except (ValueError, TypeError, EOFError, UnicodeError, binascii.Error, MemoryError):
            continue
        if isinstance(code, types.CodeType) and _is_of_this_python(code):
            return code
    return None


def _from_base64(text: str) -> bytes:
    return codecs.decode(text.encode("ascii"), "base64")


def _from_escaped(text: str) -> bytes:
    return text.encode("raw_unicode_escape")


def _is_of_this_python(code: types.CodeType) -> bool:
    """Bytecode carries no version, but since Python 3.11 every function resumes once, by a number that has moved."""
    try:
        instructions = list(dis.get_instructions(code))
    except (IndexError, ValueError, KeyError):
        return False
    known = all(not one.opname.startswith("<") for one in instructions)
    return known and sum(one.opname == "RESUME" for one in instructions[: len(code.co_freevars) + 3]) == 1
