"""Wraps a method of Keras for a time, where Keras has no hook."""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# One for all methods: two threads that take several, each in its own order, would wait for each other.
_one_at_a_time = threading.RLock()


@contextmanager
def wrapped(
    owner: type, name: str, wrapping: Callable[[Any], Any], meant: contextvars.ContextVar[Any], value: Any
) -> Iterator[None]:
    """While it lasts, a method is another one; whoever else does this waits.

    Args:
        owner: The class.
        name: The name of the method.
        wrapping: Makes the other one of what stands in the class, which is a `classmethod` or a function.
        meant: Tells the other method whether it is called in this thread: it has a value here, and its default in
            other threads, for which it has to call what it wraps.
        value: That value.
    """
    with _one_at_a_time:
        # Not what `getattr` gives: a bound method, put back, would forget which subclass it is called on.
        original = inspect.getattr_static(owner, name)
        setattr(owner, name, wrapping(original))
        token = meant.set(value)
        try:
            yield
        finally:
            meant.reset(token)
            setattr(owner, name, original)
