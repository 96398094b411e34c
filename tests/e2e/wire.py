"""Frames made by hand, for peers that mean harm. The layout is in common/frame.h."""

import struct

MAGIC = 0x31534647
VERSION = 1
HEADER_BYTES = 40
HELLO, PING, LOOKUP, REGISTER, DELETE_CHUNKS, PUSH, READ = 1, 2, 100, 140, 162, 200, 203
SET_VERSION, GRANT_LEASE, WRITE, APPLY = 160, 161, 201, 202
FLAG_REPLY, FLAG_ERROR = 1, 2
ROLE_CLIENT, ROLE_CHUNKSERVER, ROLE_MASTER = 1, 2, 3


def make_crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = make_crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """One protobuf field: an int as varint, bytes as a length-delimited one."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def frame(kind, message=b"", payload=b"", flags=0, request=1, magic=MAGIC, version=VERSION,
          message_bytes=None, payload_bytes=None, bad_crc=False):
    head = struct.pack("<IHHQHHIIII", magic, version, kind, request, flags, 0,
                       len(message) if message_bytes is None else message_bytes,
                       len(payload) if payload_bytes is None else payload_bytes, 5000, 0)
    crc = crc32c(head + message) ^ (1 if bad_crc else 0)
    return head + struct.pack("<I", crc) + message + payload


def hello(role=ROLE_CLIENT, cluster=b""):
    return frame(HELLO, field(1, VERSION) + field(2, VERSION) + field(4, cluster) + field(5, role) +
                 field(6, bytes(range(16))))


def read_frame(sock):
    """(type, flags, message, payload), or None when the peer closed."""
    def exactly(count):
        data = b""
        while len(data) < count:
            piece = sock.recv(count - len(data))
            if not piece:
                return None
            data += piece
        return data
    head = exactly(HEADER_BYTES)
    if head is None:
        return None
    _, _, kind, _, flags, _, message_bytes, payload_bytes, _, _, _ = struct.unpack(
        "<IHHQHHIIIII", head)
    return kind, flags, exactly(message_bytes), exactly(payload_bytes)
