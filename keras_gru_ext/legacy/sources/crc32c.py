"""The checksum that TensorFlow's files carry, at the speed of NumPy: CRC-32C (Castagnoli).

A block is cut into lanes that are summed up side by side, 16 bits at a time. Two sums make the sum of what they were
made of, one behind the other: the first is moved along by the length of the second, which is a linear map of its bits.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF
_LANE = 256
_BLOCK = 2**20
_MASK = 0xA282EAD8


def masked_crc32c(content: bytes | memoryview | np.ndarray) -> int:
    """Returns the checksum of bytes, turned and shifted as TensorFlow stores it.

    Args:
        content: The bytes.

    Source: `crc32c.h` of TensorFlow 2.15; RFC 3720, section 12.1.
    """
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + _MASK) & _ONES


def crc32c(content: bytes | memoryview | np.ndarray) -> int:
    """Returns the CRC-32C of bytes."""
    numbers = np.frombuffer(content, "u1")
    crc: Any = np.uint32(_ONES)
    whole = len(numbers) // _LANE * _LANE
    for start in range(0, whole, _BLOCK):
        block = numbers[start : min(start + _BLOCK, whole)]
        crc = _moved(crc, _map_of(block.size)) ^ _sum_of(block)
    table = _table(8)
    for byte in numbers[whole:].tolist():
        crc = table[(int(crc) ^ byte) & 0xFF] ^ (crc >> np.uint32(8))
    return int(crc) ^ _ONES


def _sum_of(block: np.ndarray) -> np.uint32:
    """The sum of whole lanes, as if it had begun at zero."""
    lanes = np.ascontiguousarray(block.reshape(-1, _LANE).view("<u2").T)
    sums, table = np.zeros(lanes.shape[1], "u4"), _table(16)
    for pair in lanes:
        sums = table[(sums ^ pair) & 0xFFFF] ^ (sums >> 16)
    length = _LANE
    while len(sums) > 1:
        if len(sums) % 2:
            # A lane of zeros in front changes nothing.
            sums = np.concatenate([np.zeros(1, "u4"), sums])
        sums = _moved(sums[::2], _map_of(length)) ^ sums[1::2]
        length *= 2
    return sums[0]


@functools.cache
def _table(bits: int) -> np.ndarray:
    """What a number of so many bits at the low end becomes when it has been shifted out."""
    sums = np.arange(2**bits, dtype="u4")
    for _ in range(bits):
        sums = (sums >> 1) ^ np.where(sums & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return sums


@functools.lru_cache(maxsize=512)
def _map_of(length: int) -> np.ndarray:
    """Where so many bytes of zeros take each bit of a sum: the images of the 32 bits, by its four bytes."""
    if length == 1:
        images = np.uint32(1) << np.arange(32, dtype="u4")
        images = _table(8)[images & 0xFF] ^ (images >> 8)
    else:
        half = _map_of(length // 2)
        images = _moved(_moved(np.uint32(1) << np.arange(32, dtype="u4"), half), half)
        if length % 2:
            images = _moved(images, _map_of(1))
    tables = np.zeros((4, 256), "u4")
    for bit, image in enumerate(images):
        chosen = np.arange(256) >> bit % 8 & 1 == 1
        tables[bit // 8, chosen] ^= image
    return tables


def _moved(sums: np.ndarray | np.uint32, tables: np.ndarray) -> np.ndarray:
    low, high = tables[0][sums & 0xFF] ^ tables[1][sums >> 8 & 0xFF], tables[2][sums >> 16 & 0xFF]
    return low ^ high ^ tables[3][sums >> 24]
