"""Outputs that cannot be written."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress


@contextmanager
def full_disk() -> Iterator[int]:
    """A descriptor on which every write fails for want of space."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def closed_pipe() -> Iterator[int]:
    """A descriptor whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@contextmanager
def stopped_reader() -> Iterator[int]:
    """A descriptor whose reader has stopped, and that has no room left."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    try:
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


Unwritable = Callable[[], AbstractContextManager[int]]
UNWRITABLE: Mapping[str, Unwritable] = {
    "full disk": full_disk,
    "closed pipe": closed_pipe,
    "stopped reader": stopped_reader,
}
