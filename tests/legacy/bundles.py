"""Writes the files of TensorFlow's checkpoints, right or wrong: with checksums that fit whatever is in them."""

from keras_gru_ext.legacy.sources.crc32c import masked_crc32c

FLOAT, TEXT = 1, 7
MAGIC = 0xDB4775248B80FB57


def varint(number):
    parts = []
    while number >= 128:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(content, shape=(), dtype=FLOAT, offset=0, size=None, checksum=None):
    dimensions = b"".join(field(2, field(1, length)) for length in shape)
    checksum = masked_crc32c(content) if checksum is None else checksum
    size = len(content) if size is None else size
    told = field(1, dtype) + field(2, dimensions) + field(4, offset) + field(5, size)
    return told + varint(6 << 3 | 5) + checksum.to_bytes(4, "little")


def block(pairs):
    content = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in pairs)
    content += bytes(4) + (1).to_bytes(4, "little") + b"\0"
    return content + masked_crc32c(content).to_bytes(4, "little")


def table(*blocks):
    content, handles = b"", []
    for pairs in blocks:
        made = block(pairs)
        handles.append((b"x", varint(len(content)) + varint(len(made) - 5)))
        content += made
    made = block(handles)
    footer = varint(0) + varint(0) + varint(len(content)) + varint(len(made) - 5)
    return content + made + footer.ljust(40, b"\0") + MAGIC.to_bytes(8, "little")


def text_entry(message, offset=0):
    """The entry and the bytes of an array that is one text."""
    length = len(message).to_bytes(4, "little")
    content = masked_crc32c(length).to_bytes(4, "little") + message
    whole = varint(len(message)) + content
    return entry(whole, dtype=TEXT, offset=offset, checksum=masked_crc32c(length + content)), whole
