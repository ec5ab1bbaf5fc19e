"""Integers in as many bytes as they need: groups of seven bits, the lowest first (LEB128)."""


def varint(number: int) -> bytes:
    """A number of at least 0."""
    if number < 0x80:
        return number.to_bytes()
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and where it ends. Raises IndexError for one that is cut."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return value | data[at] << shift, at + 1
