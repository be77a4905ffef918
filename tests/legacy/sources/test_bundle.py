"""TensorFlow's checkpoints, read without TensorFlow: those that it wrote, and those that somebody else did."""

import pathlib
import random
import shutil

import numpy as np
import pytest

from keras_gru_ext.errors import FileFormatError
from keras_gru_ext.legacy.build.sizes import numbers_in
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.record import LegacyModel
from keras_gru_ext.legacy.sources import bundle, protobuf, saved_model
from keras_gru_ext.legacy.sources import crc32c as crc32c_module
from keras_gru_ext.legacy.sources.bundle import Bundle
from keras_gru_ext.legacy.sources.crc32c import crc32c, masked_crc32c
from keras_gru_ext.legacy.sources.saved_model import read_checkpoint, read_saved_model
from tests.legacy.bundles import TEXT, block, entry, field, table, text_entry, varint
from tests.legacy.sources.test_containers import FOLDERS

pytestmark = pytest.mark.no_backend

FOLDER = FOLDERS["tf.keras-2.4.4-nested_and_frozen"]
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def slowly(content):
    """The definition: one bit after the other."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_checksum():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    chance = random.Random(0)
    for length in (0, 1, 255, 256, 257, 511, 512, 768, 5 * 256 + 3, 20_000):
        content = chance.randbytes(length)
        assert crc32c(content) == slowly(content), length


def test_the_checksum_of_several_blocks(monkeypatch):
    monkeypatch.setattr(crc32c_module, "_BLOCK", 1024)
    content = random.Random(1).randbytes(5 * 1024 + 300)
    assert crc32c(memoryview(content)) == slowly(content)


def written(folder, entries, data=b"", header=None):
    """A checkpoint with entries as they are given, in the order of their keys."""
    header = field(1, 1) if header is None else header
    (folder / "made.index").write_bytes(table([(b"", header), *sorted(entries.items())]))
    (folder / "made.data-00000-of-00001").write_bytes(data)
    return str(folder / "made")


def graph(nodes):
    """The entry and the bytes of an object graph: for each object its children, by name, and its key if it has one."""
    messages = []
    for children, key in nodes:
        told = b"".join(field(1, field(1, child) + field(2, name.encode())) for name, child in children)
        messages.append(field(1, told + (field(2, field(3, key)) if key else b"")))
    return text_entry(b"".join(messages))


def test_arrays_are_those_that_were_written(tmp_path):
    numbers = np.arange(12, dtype="f4")
    short = np.arange(3, dtype="u2")
    data = numbers.tobytes() + short.tobytes()
    made = Bundle(
        written(
            tmp_path,
            {
                b"a": entry(data[:48], (3, 4)),
                b"b": entry(data[48:], (3,), dtype=17, offset=48),
                b"c": entry(data[48:], (3,), dtype=14, offset=48),
            }
            | {b"d": entry(b"", (0, 10**15))},
            data + bytes(6),
        )
    )
    np.testing.assert_array_equal(made.array("a"), numbers.reshape(3, 4))
    np.testing.assert_array_equal(made.array("b"), short)
    assert made.array("a") is made.array("a")
    # The upper half of a float32.
    np.testing.assert_array_equal(made.array("c"), (short.astype("u4") << 16).view("f4"))
    assert np.asarray(made.array("d")).shape == (0, 10**15)


BAD = {
    "another shape": ({b"a": entry(bytes(8), (3,))}, bytes(8), r"declares the shape \(3,\), but 8 bytes"),
    "a huge shape": ({b"a": entry(bytes(8), (10**18, 10**18))}, bytes(8), "declares the shape"),
    "many axes": ({b"a": entry(bytes(8), (2,) * 65)}, bytes(8), "declares 65 axes"),
    "a negative length": ({b"a": entry(bytes(8), (2**64 - 2,))}, bytes(8), "declares the shape"),
    "another checksum": ({b"a": entry(bytes(8), (2,), checksum=1)}, bytes(8), "has another checksum"),
    "other numbers": ({b"a": entry(bytes(8), (2,))}, b"\1" * 8, "has another checksum"),
    "too much": ({b"a": entry(bytes(8), (2,))}, bytes(7), "declare 8 bytes, but the data files hold only 7"),
    "one place twice": ({b"a": entry(bytes(8), (2,)), b"b": entry(bytes(8), (2,))}, bytes(8), "declare 16 bytes"),
    "behind the end": ({b"a": entry(bytes(8), (2,), offset=4)}, bytes(8), "ends behind the end of the file"),
    "far behind": ({b"a": entry(bytes(8), (2,), offset=2**63)}, bytes(8), "ends behind the end of the file"),
    "texts": ({b"a": entry(bytes(8), (10**18,), dtype=TEXT)}, bytes(8), "holds no numbers"),
    "an unknown dtype": ({b"a": entry(bytes(8), (2,), dtype=99)}, bytes(8), "holds no numbers"),
    "another file": ({b"a": entry(bytes(8), (2,)) + field(3, 1)}, bytes(8), "there is no such file"),
    "pieces": ({b"a": entry(bytes(8), (2,)) + field(7, b"")}, bytes(8), "is in pieces"),
}


@pytest.mark.parametrize(("entries", "data", "told"), BAD.values(), ids=BAD)
def test_bad_arrays(entries, data, told, tmp_path):
    prefix = written(tmp_path, entries, data)
    with pytest.raises(FileFormatError, match=told) as raised:
        np.asarray(Bundle(prefix).array("a"))
    assert prefix in str(raised.value)
    for name in entries:
        assert numbers_told(prefix, name.decode()) <= len(data)


def numbers_told(prefix, key):
    """How many numbers the file seems to hold: what the sizes of a config are measured by."""
    try:
        return Bundle(prefix).array(key).size
    except FileFormatError:
        return 0


TABLES = {
    "empty": (b"", "not the index of a TensorFlow checkpoint"),
    "noise": (bytes(range(256)), "not the index of a TensorFlow checkpoint"),
    "no header": (table([(b"a", b"")]), "its header says 0 data files"),
    "many files": (table([(b"", field(1, 10**6))]), "its header says 1000000 data files"),
    "the other order": (table([(b"", field(1, 1) + field(2, 1))]), "numbers in another order"),
    "a key twice": (table([(b"", field(1, 1)), (b"a", b""), (b"a", b"")]), "its keys do not rise"),
    "falling keys": (table([(b"b", b"")], [(b"a", b"")]), "its keys do not rise"),
    "a key that is no text": (table([(b"", field(1, 1)), (b"\xff", b"")]), "not UTF-8"),
    "a broken entry": (table([(b"", field(1, 1)), (b"a", b"\x0a\xff")]), "ends within"),
}


@pytest.mark.parametrize(("content", "told"), TABLES.values(), ids=TABLES)
def test_bad_tables(content, told, tmp_path):
    (tmp_path / "made.index").write_bytes(content)
    with pytest.raises(FileFormatError, match=told) as raised:
        read_checkpoint(str(tmp_path / "made"))
    assert str(tmp_path / "made") in str(raised.value)


def test_one_block_many_times(tmp_path):
    """The index of a table may point to one block as often as it likes."""
    one = block([(b"", field(1, 1))])
    handles = block([(b"x", varint(0) + varint(len(one) - 5))] * 2)
    footer = varint(0) + varint(0) + varint(len(one)) + varint(len(handles) - 5)
    magic = bundle._MAGIC.to_bytes(8, "little")
    (tmp_path / "made.index").write_bytes(one + handles + footer.ljust(40, b"\0") + magic)
    with pytest.raises(FileFormatError, match="its blocks overlap"):
        Bundle(str(tmp_path / "made"))


def test_keys_that_grow(tmp_path):
    """Each key begins with all of the one before it: a few bytes in the file, many in memory."""
    content, long = b"", b"k" * 2**20
    for number in range(200):
        shared = 0 if not number else 2**20 + number - 1
        added = long if not number else b"k"
        content += varint(shared) + varint(len(added)) + varint(0) + added
    content += bytes(4) + (1).to_bytes(4, "little") + b"\0"
    made = content + masked_crc32c(content).to_bytes(4, "little")
    handle = block([(b"x", varint(0) + varint(len(made) - 5))])
    footer = varint(0) + varint(0) + varint(len(made)) + varint(len(handle) - 5)
    magic = bundle._MAGIC.to_bytes(8, "little")
    (tmp_path / "made.index").write_bytes(made + handle + footer.ljust(40, b"\0") + magic)
    with pytest.raises(FileFormatError, match="its keys are longer than any model's"):
        Bundle(str(tmp_path / "made"))


def test_an_object_in_many_places(tmp_path):
    """Two ways from each object to the next: a walk through all places of such a tree would never end."""
    depth = 38
    nodes = [([("a", number + 1), ("b", number + 1)], None) for number in range(depth)]
    numbers = np.zeros(3, "f4").tobytes()
    told, text = graph([*nodes, ([("kernel", depth + 1)], None), ([], b"numbers")])
    prefix = written(
        tmp_path,
        {GRAPH.encode(): told, b"numbers": entry(numbers, (3,), offset=len(text))},
        text + numbers,
    )
    objects, _ = read_checkpoint(prefix)
    record = LegacyModel(prefix, recognize({}, "2.4.0", "tensorflow"), {}, None, (), objects)
    assert numbers_in(record) == 3
    assert not objects.is_labelled
    assert not objects.is_empty


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([([("a", 7)], None)], "broken at object 7"),
        ([([("a", number + 1)], None) for number in range(60)], "broken at object 41"),
        ([([("a", 1)], None), ([], b"none")], "lacks the array 'none'"),
    ],
)
def test_broken_object_graphs(nodes, told, tmp_path):
    message, text = graph(nodes)
    with pytest.raises(FileFormatError, match=told) as raised:
        read_checkpoint(written(tmp_path, {GRAPH.encode(): message}, text))
    assert str(tmp_path) in str(raised.value)


def test_an_object_graph_is_bounded(tmp_path, monkeypatch):
    told, text = graph([([(f"child {number}", 1) for number in range(20)], None), ([], None)])
    prefix = written(tmp_path, {GRAPH.encode(): told}, text)
    read_checkpoint(prefix)
    monkeypatch.setattr(saved_model, "_MOST_REFERENCES", 19)
    with pytest.raises(FileFormatError, match="more than 19 references"):
        read_checkpoint(prefix)


def test_an_optimizer_has_few_kinds_of_slots(tmp_path):
    """Each kind is a tree of its own."""
    root = field(1, field(1, field(1, 1) + field(2, b"optimizer")))
    optimizer = field(
        1,
        field(1, field(1, 2) + field(2, b"iter"))
        + b"".join(field(3, field(1, 2) + field(2, b"kind %d" % kind) + field(3, 2)) for kind in range(50)),
    )
    told, text = text_entry(root + optimizer + field(1, field(2, field(3, b"numbers"))))
    entries = {GRAPH.encode(): told, b"numbers": entry(bytes(4), (), offset=len(text))}
    with pytest.raises(FileFormatError, match="50 kinds of slots"):
        read_checkpoint(written(tmp_path, entries, text + bytes(4)))


def test_an_object_that_holds_itself(tmp_path):
    message, text = graph([([("a", 1)], None), ([("b", 0)], None)])
    objects, optimizer = read_checkpoint(written(tmp_path, {GRAPH.encode(): message}, text))
    assert objects.children["a"].children["b"].is_empty
    assert optimizer is None


def test_a_checkpoint_by_name(tmp_path):
    with pytest.raises(FileFormatError, match="does not say which layer"):
        read_checkpoint(written(tmp_path, {b"dense/kernel": entry(bytes(8), (2,))}, bytes(8)))


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
def test_every_flipped_byte_is_noticed(suffix, tmp_path):
    """Of the index all, of the numbers those of the arrays."""
    shutil.copytree(FOLDER, tmp_path / "copy")
    path = tmp_path / "copy" / f"checkpoint.{suffix}"
    content = path.read_bytes()
    chance, noticed, whole = random.Random(0), 0, arrays_of(FOLDER / "checkpoint")
    for place in chance.sample(range(len(content)), 150):
        flipped = bytearray(content)
        flipped[place] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        noticed += arrays_of(tmp_path / "copy" / "checkpoint") != whole
    # What is not: the padding of the footer, and the checksum of an empty block.
    assert noticed >= 130


def arrays_of(prefix):
    """All arrays by their places; an error of ours, which names the file, in their stead."""
    try:
        objects, _ = read_checkpoint(str(prefix))
        return sorted((name, np.asarray(one).tobytes()) for name, one in everything(objects))
    except FileFormatError as error:
        return str(prefix) in str(error)


def everything(node, around=""):
    for name, array in node.arrays.items():
        yield f"{around}/{name}", array
    for name, child in node.children.items():
        yield from everything(child, f"{around}/{name}")


def test_nothing_but_the_description_is_read_of_a_large_graph(tmp_path, monkeypatch):
    source = FOLDERS["tf.keras-2.4.4-rnn_of_cell"] / "saved_model"
    shutil.copytree(source, tmp_path / "model")
    large = tmp_path / "model" / "saved_model.pb"
    content = pathlib.Path(large).read_bytes()
    with open(large, "wb") as file:
        # A field that nobody asks for, in front, of a gigabyte without a byte on the disk.
        file.write(field(15, b"")[:1] + varint(2**30))
        file.seek(2**30, 1)
        file.write(content)
    assert read_saved_model(str(tmp_path / "model")).config == read_saved_model(str(source)).config
    monkeypatch.setattr(protobuf, "_MOST_FIELDS", 1)
    with pytest.raises(FileFormatError, match="more than 1 fields"):
        read_saved_model(str(tmp_path / "model"))
