"""The checksum of TensorFlow's checkpoints, beside known values and a slow loop."""

import numpy as np

from checksum import crc32c


def bit_by_bit(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (crc & 1) * 0x82F63B78
    return crc ^ 0xFFFFFFFF


def test_checksums_are_castagnolis():
    assert crc32c(b"") == 0
    assert crc32c(b"123456789") == 0xE3069283  # the customary check value
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_parts_side_by_side_have_the_checksum_of_the_whole_at_every_length():
    data = np.random.default_rng(0).bytes(700)
    for n in range(len(data)):
        assert crc32c(data[:n]) == bit_by_bit(data[:n]), n
