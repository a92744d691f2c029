"""Decodes the records of a database file: variable-length integers, serial types, values. Pure; any bytes may come in.

Format: https://sqlite.org/fileformat2.html#record_format.
"""

import struct
from typing import NamedTuple

Value = int | float | str | bytes | None


class RawText(bytes):
    """A text that is no valid text of the database's encoding: its bytes are kept as they are."""


class Record(NamedTuple):
    """A decoded record. `size`: the bytes that its header says it has; `whole`: they are all there."""

    values: tuple[Value, ...]
    size: int
    whole: bool


# SQLite allows no more (SQLITE_MAX_COLUMN can be raised to it at compile time).
MAX_COLUMNS = 32767

_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
_DOUBLE = struct.Struct(">d")


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The variable-length integer at a position, and the position after it. Raises IndexError beyond the end."""
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value = byte & 0x7F
    for index in range(position + 1, position + 8):
        byte = data[index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, index + 1
    return value << 8 | data[position + 8], position + 9


def read_signed_varint(data: bytes, position: int) -> tuple[int, int]:
    """Like `read_varint`, for a rowid: 64 bits in two's complement."""
    value, after = read_varint(data, position)
    return (value - (1 << 64) if value >= 1 << 63 else value), after


def decode_record(payload: bytes, encoding: str) -> Record | None:
    """The record in a payload; `encoding` is Python's name of the text encoding. None when its header is impossible.

    Where the payload ends too early, the record has the values before that and is not whole.
    """
    try:
        types, position = _read_serial_types(payload)
    except IndexError:
        return None
    if types is None:
        return None
    values: list[Value] = []
    end = len(payload)
    for serial_type in types:
        after = position + _byte_length(serial_type)
        if after > end:
            return Record(tuple(values), 0, whole=False)
        values.append(_decode_value(payload, position, after, serial_type, encoding))
        position = after
    return Record(tuple(values), position, whole=True)


def _read_serial_types(payload: bytes) -> tuple[list[int] | None, int]:
    header_size, position = read_varint(payload, 0)
    if header_size > len(payload) or header_size < position:
        return None, 0
    types = []
    while position < header_size:
        byte = payload[position]
        if byte < 0x80:
            serial_type = byte
            position += 1
        else:
            serial_type, position = read_varint(payload, position)
        if serial_type in (10, 11):  # reserved for SQLite itself, never in a file
            return None, 0
        types.append(serial_type)
    if position != header_size or len(types) > MAX_COLUMNS:
        return None, 0
    return types, position


def _byte_length(serial_type: int) -> int:
    if serial_type >= 12:
        return (serial_type - 12) >> 1
    if serial_type <= 6:
        return _INTEGER_BYTES[serial_type]
    return 8 if serial_type == 7 else 0


def _decode_value(payload: bytes, start: int, end: int, serial_type: int, encoding: str) -> Value:
    if serial_type >= 12:
        content = payload[start:end]
        return _decode_text(content, encoding) if serial_type & 1 else content
    if serial_type == 0:
        return None
    if serial_type <= 6:
        return int.from_bytes(payload[start:end], "big", signed=True)
    if serial_type == 7:
        return float(_DOUBLE.unpack_from(payload, start)[0])
    return serial_type - 8


def _decode_text(content: bytes, encoding: str) -> str | RawText:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return RawText(content)
