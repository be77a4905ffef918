"""What an HDF5 file holds, as plain objects. libhdf5 never touches the file in this process.

`hdf5_child.py` reads the file in a process with limits, and describes it. Nearly always the numbers of an array lie in
the file as they are; then they are read from there, when they are needed. Compressed ones come from that process.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, ClassVar, NoReturn

import numpy as np

from keras_gru_ext.errors import FileFormatError, MissingDependencyError, UnsafeContentError
from keras_gru_ext.legacy.record import StoredArray

# How long libhdf5 may take, from the moment when it is imported.
SECONDS = 10.0
BYTES_PER_SECOND = 20e6
_SECONDS_TO_START = 120.0
_SECONDS_OF_REST = 20.0

# Deflate cannot expand a byte into more than this many.
_LARGEST_EXPANSION = 1032
_LARGEST_CHUNK = 2**20
_BLOCK = 2**20
_LARGEST_FRAME = 128 * 2**20

# Whether the name of an open file can be removed.
_LETS_GO_OF_NAMES = os.name == "posix"

_SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hdf5_child.py")
# No plug-ins for filters, no locks on file systems that have none, one thread.
_ENVIRONMENT = {"HDF5_PLUGIN_PRELOAD": "::", "HDF5_USE_FILE_LOCKING": "FALSE", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Group:
    """A group of an HDF5 file.

    Attributes:
        name: Its path in the file.
        attributes: Texts, numbers, and lists of them, by name; `None` for anything else.
        children: Groups, arrays, and for what is neither a text that says what it is.
    """

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    children: Mapping[str, Group | Array | str] = field(default_factory=dict)

    def arrays(self) -> Iterator[Array]:
        """Yields all arrays in it and below it."""
        for child in self.children.values():
            if isinstance(child, Array):
                yield child
            elif isinstance(child, Group):
                yield from child.arrays()


def read_tree(path: str, where: str | None = None, temporary: bool = False) -> Group:
    """Reads what an HDF5 file holds, without the numbers of its arrays.

    Args:
        path: The file.
        where: Its name, for messages; `path` by default.
        temporary: Whether to delete the file when it is no longer needed.

    Returns:
        Its root group. The file stays open as long as any of its arrays is referred to.

    Raises:
        FileFormatError: if it is missing, not HDF5, or damaged.
        UnsafeContentError: if a link or an array in it refers to another place.
    """
    return _File(path, where or path, temporary).root()


class Array:
    """An array of an HDF5 file.

    Attributes:
        name: Its path in the file.
        dtype: NumPy's dtype; of the kind "V" for numbers that NumPy does not know, such as bfloat16.
        attributes: As of a group.
        stored: The array for a record, to be read when it is needed.
    """

    def __init__(self, file: _File, name: str, names: tuple[str, ...], described: Mapping[str, Any], again: bool):
        self.name = name
        self.dtype = np.dtype(described["dtype"])
        self.attributes = _attributes(described)
        self.stored = StoredArray(tuple(described["shape"]), self.dtype.str, self._read, again)
        self._file, self._names, self._described = file, names, described

    @property
    def is_packed(self) -> bool:
        """Whether libhdf5 has to unpack its numbers."""
        return "offset" not in self._described

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers that NumPy knows."""
        return self.dtype.kind in "fiub"

    @property
    def nbytes(self) -> int:
        """How many bytes it takes in memory."""
        return self.stored.size * self.dtype.itemsize

    def check_size(self) -> None:
        """Raises `FileFormatError` if it declares more than can be made of what the file holds for it."""
        held, chunk = self._described["held"], self._described["chunk"]
        largest = held * _LARGEST_EXPANSION if chunk else held
        if self.nbytes > largest or chunk > max(largest, _LARGEST_CHUNK):
            raise FileFormatError(
                f"{self._file.where}: the array {self.name!r} declares shape {self.stored.shape} ({self.nbytes} "
                f"bytes), but the file holds only {held} bytes for it. The file is damaged."
            )

    def _read(self) -> np.ndarray:
        self.check_size()
        array = np.empty(self.stored.shape, self.dtype)
        content = array.reshape(-1).view("u1").data
        if content.nbytes and self.is_packed:
            self._file.unpack(self._names, content)
        elif content.nbytes and self._file.read(self._described["offset"], content) != content.nbytes:
            raise FileFormatError(
                f"{self._file.where}: the array {self.name!r} ends behind the end of the file. The file is damaged."
            )
        return array


class _File:
    """An open file and, as long as compressed arrays may be wanted, the process that reads those."""

    def __init__(self, path: str, where: str, temporary: bool):
        if not os.path.isfile(path):
            raise FileFormatError(f"{where}: no such file.")
        try:
            self.plain = open(path, "rb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise FileFormatError(f"{where}: it cannot be read: {error}") from error
        # Closed with the last array that may need it; until then, some systems do not let go of its name.
        self._discarded = weakref.finalize(self, _discard, self.plain, path if temporary else None)
        self._is_nameless = temporary and _LETS_GO_OF_NAMES
        self._path, self.where = path, where
        self._state = _state_of(os.fstat(self.plain.fileno()))
        self._size = os.path.getsize(path)
        self._lock = threading.Lock()
        self._counted: set[int] = set()
        self._packs = False
        self._child: _Child | None = None

    def root(self) -> Group:
        child = _Child.ready(self.where)
        try:
            described = child.tree(self._path, self.where, SECONDS + self._size / BYTES_PER_SECOND)
            # What was opened here is what the process opened, if the name still stands for the same file.
            self._check_unchanged(os.stat(self._path))
            root = self._group(described, "/", ())
        except BaseException:
            child.end()
            self._discarded()
            raise
        if self._is_nameless:
            os.remove(self._path)
        if self._packs:
            self._child = child
        else:
            child.rest()
        return root

    def _check_unchanged(self, now: os.stat_result) -> None:
        if _state_of(now) != self._state:
            raise FileFormatError(f"{self.where}: the file changed while it was read. Load it again.")

    def _group(self, described: Mapping[str, Any], name: str, names: tuple[str, ...]) -> Group:
        children = {
            key: self._child_of(child, f"{name.rstrip('/')}/{key}", (*names, key))
            for key, child in described["children"].items()
        }
        return Group(name, _attributes(described), children)

    def _child_of(self, described: Mapping[str, Any], name: str, names: tuple[str, ...]) -> Group | Array | str:
        if outside := described.get("outside"):
            article = "an" if outside.startswith("e") else "a"
            raise UnsafeContentError(
                f"{self.where}: {name!r} is {article} {outside}. A model file must hold its own arrays; links are not "
                "followed, and nothing stored outside the file is read."
            )
        if "children" in described:
            return self._group(described, name, names)
        if "other" in described:
            return str(described["other"])
        return self._array(described, name, names)

    def _array(self, described: Mapping[str, Any], name: str, names: tuple[str, ...]) -> Array:
        array = Array(self, name, names, described, described["address"] in self._counted)
        self._packs = self._packs or array.is_packed
        self._counted.add(described["address"])
        return array

    def read(self, offset: int, content: memoryview) -> int:
        """Reads bytes of the file, and returns how many there were."""
        with self._lock:
            self._check_unchanged(os.fstat(self.plain.fileno()))
            self.plain.seek(offset)
            return self.plain.readinto(content)

    def unpack(self, names: tuple[str, ...], content: memoryview) -> None:
        """Lets the process read an array."""
        with self._lock:
            assert self._child is not None
            self._child.array(names, content)


class _Child:
    """The process that runs libhdf5, and the time that it has for each answer."""

    # One that has nothing to do waits for the next file; to start another takes longer than to read a small file.
    _resting: ClassVar[list[_Child]] = []

    def __init__(self, where: str):
        self._where, self._seconds = where, _SECONDS_TO_START
        self._owner = os.getpid()
        search_path = json.dumps([os.path.abspath(one) for one in sys.path])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", _SCRIPT, search_path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError) as error:
            raise FileFormatError(
                f"{where}: HDF5 files are read in a process of their own, and {sys.executable!r} cannot be started "
                f"for that: {error}"
            ) from error
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        self._questions, self._answers = stdin, stdout
        self.end = weakref.finalize(self, _end, self._process, stdin, stdout, self._owner)
        with self._limited(_SECONDS_TO_START):
            self._frame("ready")

    @classmethod
    def ready(cls, where: str) -> _Child:
        """Returns a process that has nothing to do."""
        try:
            child = cls._resting.pop()
        except IndexError:
            return cls(where)
        # A forked process must not talk to the process of the one that it was forked from.
        return child if child._owner == os.getpid() and child._process.poll() is None else cls(where)

    def rest(self) -> None:
        """Lets the process wait for the next file, for a while."""
        self._resting.append(self)
        timer = threading.Timer(_SECONDS_OF_REST, self._leave)
        timer.daemon = True
        timer.start()

    def _leave(self) -> None:
        if self in self._resting:
            with contextlib.suppress(ValueError):
                self._resting.remove(self)
                self.end()

    def tree(self, path: str, where: str, seconds: float) -> Mapping[str, Any]:
        """Opens a file, and returns what is in it."""
        self._where, self._seconds = where, seconds
        with self._limited(seconds):
            self._ask({"open": os.path.abspath(path)})
            return self._frame("tree")

    def array(self, names: Sequence[str], content: memoryview) -> None:
        """Reads the numbers of an array."""
        with self._limited(self._seconds + content.nbytes / BYTES_PER_SECOND):
            self._ask(list(names))
            place = 0
            while place < content.nbytes:
                size = self._frame("size")
                if not 0 < size <= content.nbytes - place or not self._filled(content[place : place + size]):
                    self._give_up("an array has other numbers than it declares")
                place += size

    def _ask(self, question: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._questions.write(json.dumps(question).encode("ascii") + b"\n")
            self._questions.flush()

    def _filled(self, content: memoryview) -> bool:
        place = 0
        while place < content.nbytes:
            part = self._answers.read(min(_BLOCK, content.nbytes - place))
            if not part:
                return False
            content[place : place + len(part)] = part
            place += len(part)
        return True

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[None]:
        """Kills the process if it does not answer in time."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        except FileFormatError as error:
            if late.is_set():
                raise FileFormatError(
                    f"{self._where}: the HDF5 file is damaged: reading it did not end within {seconds:.0f} seconds."
                ) from error
            raise
        finally:
            timer.cancel()

    def _frame(self, wanted: str) -> Any:
        """Returns the part that is wanted of the next answer."""
        try:
            length = int.from_bytes(self._answers.read(8), "little")
            text = self._answers.read(length) if 0 < length <= _LARGEST_FRAME else b"{}"
            message = json.loads(text.decode("utf-8", "surrogatepass"))
        except (ValueError, OSError):
            message = {}
        if wanted in message:
            return message[wanted]
        kind, reason = message.get("kind"), message.get("error")
        if kind == "import":
            raise MissingDependencyError(
                f"{self._where}: reading HDF5 files needs h5py, which cannot be used: {reason}"
            )
        if kind == "refused":
            raise FileFormatError(f"{self._where}: {reason}. No model needs that.")
        self._give_up(reason or f"libhdf5 ended with the code {self._process.wait()} on it")

    def _give_up(self, reason: str) -> NoReturn:
        self.end()
        raise FileFormatError(
            f"{self._where}: not a readable HDF5 file: {reason}. It may be truncated, damaged, or of another format "
            "under this name."
        )


def _end(process: subprocess.Popen, questions: IO[bytes], answers: IO[bytes], owner: int) -> None:
    for pipe in (questions, answers):
        with contextlib.suppress(OSError):
            pipe.close()
    if owner == os.getpid():
        process.kill()
        process.wait()


def _discard(plain: IO[bytes], path: str | None) -> None:
    plain.close()
    if path is not None and os.path.exists(path):
        os.remove(path)


def _state_of(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _attributes(described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if kind == "other" else value for name, (kind, value) in described["attributes"].items()}
