"""CRC-32C, the checksum in TensorFlow's checkpoints: hundreds of megabytes a second, in NumPy.

(RFC 3720, B.4; masked as in crc32c.h of TensorFlow)
"""

import functools
import math

import numpy as np

CASTAGNOLI = np.uint32(0x82F63B78)  # the polynomial, its highest power in the lowest bit
ALL_ONES = b"Td\x1fd"  # four bytes whose remainder is 0xFFFFFFFF


def masked_crc32c(data):  # bytes -> 4 bytes
    """The CRC-32C of data, masked as TensorFlow stores it."""
    crc = crc32c(data)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return masked.to_bytes(4, "little")


def crc32c(data):  # bytes -> int
    """The CRC-32C checksum: the data, read as one long polynomial, modulo Castagnoli's polynomial.

    The remainder of the whole is the sum (xor) of the remainders of its parts, each followed by zeros in
    place of the later parts. So NumPy divides n parts of n words (of four bytes) side by side, then adds up
    the remainders. Zeros before the data, which fill up the first parts, change nothing. The division must
    begin with the remainder 0xFFFFFFFF: ALL_ONES, put before the data, leaves exactly that.
    """
    n = math.isqrt((len(data) + 3) // 4) + 1
    remainders = divide(np.zeros(n, dtype=np.uint32), side_by_side(data, n))
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    carried = divide(bits, np.zeros(n, dtype=np.uint32))  # what becomes of each bit, n words of zeros later
    crc = np.uint32(0)
    for remainder in remainders:
        crc = np.bitwise_xor.reduce(carried[(crc & bits) != 0]) ^ remainder
    return int(crc) ^ 0xFFFFFFFF


def side_by_side(data, n):  # bytes -> [n words, n parts], of uint32
    """Zeros, ALL_ONES and the data, cut into n parts of n words."""
    whole = np.zeros(4 * n * n, dtype=np.uint8)
    start = len(whole) - len(data)
    whole[start - 4 : start] = np.frombuffer(ALL_ONES, np.uint8)
    whole[start:] = np.frombuffer(data, np.uint8)
    return np.ascontiguousarray(whole.view("<u4").reshape(n, n).T)


def divide(remainders, words):  # [n_parts], [n_words, ...], of uint32 -> [n_parts]
    """Continue the divisions of many parts side by side, one word of each at a time."""
    low, high = word_remainders()
    for row in words:
        words_now = remainders ^ row
        remainders = low[words_now & 0xFFFF] ^ high[words_now >> 16]
    return remainders


@functools.cache
def word_remainders():  # -> two of [2 ** 16], of uint32
    """The remainder of each value of a word's lower half, and of its upper half; a word has their sum."""
    byte = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        byte = (byte >> 1) ^ (byte & 1) * CASTAGNOLI
    place = [byte]  # the remainder of each byte, followed by 0, 1, 2, 3 zero bytes
    for _ in range(3):
        place.append(byte[place[-1] & 255] ^ (place[-1] >> 8))
    low = place[3] ^ place[2][:, None]
    high = place[1] ^ place[0][:, None]
    return low.ravel(), high.ravel()
