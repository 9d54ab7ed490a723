"""Files that are not JSON Lines in UTF-8, known by their first bytes: each is one problem, not one a line."""

from collections.abc import Mapping

# UTF-32 before UTF-16, whose byte order mark it begins with.
_SIGNATURES: Mapping[bytes, str] = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    # Without a byte order mark: the object of the first line.
    b"{\0\0\0": "UTF-32",
    b"\0\0\0{": "UTF-32",
    b"{\0": "UTF-16",
    b"\0{": "UTF-16",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"(\xb5/\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_DOCUMENT = (b"[", b"{")


def foreign_format(first_line: bytes) -> str | None:
    """Return what is wrong with a file as a whole, by its first line; None when nothing is seen there."""
    for signature, name in _SIGNATURES.items():
        if first_line.startswith(signature):
            remedy = "convert" if name.startswith("UTF") else "unpack"
            return f"the file is {name}, not UTF-8: {remedy} it first"
    if first_line.strip() in _DOCUMENT:
        return "the file is not JSON Lines: its first object or list goes over several lines"
    return None
