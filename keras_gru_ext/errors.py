"""The exceptions that this package raises.

Each message says what was wrong, where, what was expected and what to do. Every class also derives from the
built-in exception that Keras or Python would raise for the same mistake, so `except ValueError` keeps working.
"""


class KerasGruExtError(Exception):
    """Base class of every error that this package raises on purpose."""

    # Keras puts the arguments of a layer's call, and codes for terminals, around the message of what a layer raises,
    # unless it has this mark. These messages say what was received where it matters.
    _keras_call_info_injected = True


class ArgumentError(KerasGruExtError, ValueError):
    """An argument of a layer, a cell or a function has a value that is not allowed."""


class ConfigError(KerasGruExtError, ValueError):
    """A layer or model config cannot be understood, or contradicts itself."""


class FileFormatError(KerasGruExtError, ValueError):
    """A file is missing, truncated, not of the format that its name says, or lacks a part that it must have."""


class WeightsError(KerasGruExtError, ValueError):
    """Arrays do not fit the model: a count, a shape or a dtype differs, or arrays are missing."""


class UnsafeContentError(KerasGruExtError, ValueError):
    """A file holds code or reaches outside itself, and the caller did not allow that."""


class VerificationError(KerasGruExtError, ValueError):
    """Numbers that must agree do not agree."""


class MissingDependencyError(KerasGruExtError, ImportError):
    """An optional package is needed for this, and it is not installed."""
