"""Reads an HDF5 file in a process of its own, so that a damaged file takes nothing else along.

libhdf5 is C code that a damaged file can send into an endless loop, into a crash, or after gigabytes of memory. So it
only ever runs here: `hdf5_tree.py` starts this script, limits its time, and gets a plain description of the file and,
where they are not plain bytes in the file, the numbers of single arrays. The script imports nothing of this package.

What is said on stdout is a sequence of frames, eight bytes of length and then JSON: first `{"ready": true}`; for each
`{"open": path}` on stdin `{"tree": ...}`; for each list of names on stdin, which leads to an array in the file that was
opened last, its numbers in pieces, each `{"size": ...}` and that many bytes. `{"error": ..., "kind": ...}` ends it.

In the tree, a group has "attributes", "children" and an "address"; an array has "attributes", "shape", "dtype", "held"
(the bytes that the file has for it), "chunk" (how many bytes libhdf5 unpacks at once), "address" and, where its numbers
lie in the file as they are, "offset"; a link that is not a hard one, and an array that is stored elsewhere, has
"outside" and nothing else; what is neither has "other".
"""

import json
import os
import sys

# Room for libhdf5's own caches and for a large config, beyond what an array needs.
_SPARE = 512 * 2**20
# How much of an array is read at once: the process that asks has room for all of it, and needs no second one here.
_PIECE = 8 * 2**20
_MOST_OBJECTS = 100_000
# At one place; to find them, libhdf5 takes a time that follows from the square of their number.
_MOST_ATTRIBUTES = 250
_DEEPEST = 40
_MOST_TEXTS = 100_000
_LONGEST_TEXTS = 16 * 2**20
_LINKS = {1: "soft link", 64: "external link"}
_LAYOUTS = {0: "compact", 1: "contiguous", 2: "chunked", 3: "virtual"}


class _RefusedError(Exception):
    """What is in the file is not allowed."""


def _send(message, content=b""):
    text = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    out = sys.stdout.buffer
    out.write(len(text).to_bytes(8, "little") + text)
    out.write(content)
    out.flush()


def _limit_memory(needed):
    """Allows this process what it has now, some spare room, and what an array needs; where the system can."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = used + _SPARE + 2 * needed
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


class _Reader:
    def __init__(self, h5py, numpy, file, size):
        self._h5py = h5py
        self._numpy = numpy
        self._root = file
        self._left = _MOST_OBJECTS
        self._text_left = min(size, _LONGEST_TEXTS)

    def tree(self):
        return self._group(self._root, [])

    def _group(self, group, around):
        address = self._h5py.h5o.get_info(group.id).addr
        if address in around or len(around) > _DEEPEST:
            raise _RefusedError("its groups are cyclic, or nested deeper than any model's")
        children = {}
        for name in group.id:
            self._count(1)
            text = name.decode("utf-8", "surrogateescape")
            children[text] = self._child(group, name, [*around, address])
        return {"attributes": self._attributes(group), "children": children, "address": address}

    def _count(self, objects):
        self._left -= objects
        if self._left < 0:
            raise _RefusedError(f"it holds more than {_MOST_OBJECTS} groups, arrays and attributes")

    def _child(self, group, name, around):
        h5o = self._h5py.h5o
        link = group.id.links.get_info(name).type
        if link != self._h5py.h5l.TYPE_HARD:
            return {"outside": _LINKS.get(link, "user-defined link")}
        kind = h5o.get_info(group.id, name).type
        if kind == h5o.TYPE_GROUP:
            return self._group(self._h5py.Group(self._h5py.h5g.open(group.id, name)), around)
        if kind == h5o.TYPE_DATASET:
            return self._array(self._h5py.h5d.open(group.id, name))
        return {"other": "named type"}

    def _array(self, dataset):
        plan = dataset.get_create_plist()
        layout = _LAYOUTS.get(plan.get_layout(), "unknown")
        if layout == "virtual":
            return {"outside": "virtual dataset"}
        if plan.get_external_count():
            return {"outside": "dataset with external storage"}
        stored = dataset.get_type()
        space = dataset.get_space().get_simple_extent_type()
        if space == self._h5py.h5s.NULL:
            return {"other": "empty dataset"}
        if isinstance(stored, (self._h5py.h5t.TypeStringID, self._h5py.h5t.TypeVlenID, self._h5py.h5t.TypeReferenceID)):
            return {"other": "text or references"}
        dtype = stored.dtype
        if dtype.kind not in "fiubV" or dtype.fields or dtype.subdtype:
            return {"other": f"dtype {dtype}"}
        found = {
            "shape": [int(length) for length in dataset.shape],
            "dtype": dtype.str,
            "held": int(dataset.get_storage_size()),
            "chunk": 0,
            "address": self._h5py.h5o.get_info(dataset).addr,
            "attributes": self._attributes(self._h5py.Dataset(dataset)),
        }
        if layout == "chunked":
            found["chunk"] = dtype.itemsize
            for length in plan.get_chunk():
                found["chunk"] *= int(length)
        offset = dataset.get_offset() if layout == "contiguous" else None
        as_it_is = dtype.kind == "V" or stored == self._h5py.h5t.py_create(dtype)
        if offset is not None and as_it_is and stored.get_size() == dtype.itemsize:
            found["offset"] = int(offset)
        return found

    def _attributes(self, owner):
        count = self._h5py.h5a.get_num_attrs(owner.id)
        if count > _MOST_ATTRIBUTES:
            raise _RefusedError(f"it holds {count} attributes at one place, {owner.name!r}")
        self._count(count)
        found = {}
        for name in owner.attrs:
            attribute = self._h5py.h5a.open(owner.id, name.encode("utf-8", "surrogateescape"))
            count = attribute.get_space().get_simple_extent_npoints()
            if count * attribute.get_type().get_size() > self._text_left or count > _MOST_TEXTS:
                raise _RefusedError(f"its attribute {name!r} holds more than the file, or than any model's")
            value = self._value(owner.attrs[name])
            self._text_left -= len(value[1]) if isinstance(value[1], str) else 0
            self._text_left -= sum(map(len, value[1])) if value[0] == "texts" else 0
            if self._text_left < 0:
                raise _RefusedError("its attributes hold more than the file, or than any model's")
            found[name] = value
        return found

    def _value(self, value):
        numpy = self._numpy
        if isinstance(value, numpy.ndarray) and value.ndim == 0:
            value = value[()]
        if isinstance(value, (bytes, str)):
            return ["text", _text(value)]
        if isinstance(value, (bool, numpy.bool_)):
            return ["number", bool(value)]
        if isinstance(value, (int, numpy.integer)):
            return ["number", int(value)]
        if isinstance(value, (float, numpy.floating)):
            return ["number", float(value)]
        if isinstance(value, numpy.ndarray) and value.dtype.kind in "SUO":
            texts = value.ravel().tolist()
            if all(isinstance(one, (bytes, str)) for one in texts):
                return ["texts", [_text(one) for one in texts]]
        if isinstance(value, numpy.ndarray) and value.dtype.kind in "fiub":
            return ["numbers", value.ravel().tolist()]
        return ["other", type(value).__name__]

    def read(self, names):
        """Yields the numbers of one array, piece by piece, as bytes in its own dtype."""
        place = self._root
        for name in names:
            place = place[name]
        _limit_memory(place.nbytes)
        for piece in _pieces(place.shape, place.dtype.itemsize, place.chunks):
            yield memoryview(self._numpy.ascontiguousarray(place[piece]).reshape(-1).view("u1"))


def _pieces(shape, itemsize, chunks):
    """Cuts an array along its first axis; no chunk is cut, as libhdf5 would unpack it for each of its parts."""
    if not shape:
        yield ()
        return
    row = itemsize
    for length in shape[1:]:
        row *= length
    together = chunks[0] if chunks else 1
    rows = max(_PIECE // max(row * together, 1), 1) * together
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def _text(value):
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def main(search_path):
    """Answers questions until there are no more.

    Args:
        search_path: Where Python looks for modules, as a JSON list.
    """
    sys.path[:] = json.loads(search_path)
    try:
        import h5py
        import numpy
    except ImportError as error:
        _send({"error": str(error), "kind": "import"})
        return
    _send({"ready": True})
    file = reader = None
    try:
        for line in sys.stdin.buffer:
            question = json.loads(line)
            if reader is not None and isinstance(question, list):
                for content in reader.read(question):
                    _send({"size": len(content)}, content)
                continue
            if file is not None:
                file.close()
            _limit_memory(0)
            file = h5py.File(question["open"], "r")
            reader = _Reader(h5py, numpy, file, os.path.getsize(question["open"]))
            _send({"tree": reader.tree()})
    except _RefusedError as error:
        _send({"error": str(error), "kind": "refused"})
    except Exception as error:
        # Whatever libhdf5 does not like comes as one of many types; the process that asked wants to know which.
        _send({"error": f"{error}" or type(error).__name__, "kind": "damaged"})


if __name__ == "__main__":
    main(*sys.argv[1:])
