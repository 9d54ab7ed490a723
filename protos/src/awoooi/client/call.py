"""The description of a call, for async and sync clients: a call, a listing, a stream."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError

from awoooi.client.errors import InvalidResponseError
from awoooi.client.options import CallOptions

Result = TypeVar("Result")
Item = TypeVar("Item")


class Request(Protocol):
    """A request message."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return the message's bytes."""


class PageRequest(Request, Protocol):
    """A request for one page."""

    page_token: str


class ResumableRequest(Request, Protocol):
    """A request for a stream that a token continues."""

    resume_token: str


class PageResponse(Protocol):
    """One page; an empty token marks the last."""

    @property
    def next_page_token(self) -> str:
        """Where the next page begins."""


class ResumableResponse(Protocol):
    """One response of a stream, and where the stream continues after it."""

    @property
    def resume_token(self) -> str:
        """The place behind this response."""


Page = TypeVar("Page", bound=PageResponse)
Response = TypeVar("Response", bound=ResumableResponse)


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """A unary call."""

    # `package.Service/Method`
    method: str
    request: Request
    # From the response's bytes to what the caller gets. The channel carries bytes: of a response that cannot be parsed
    # grpc.aio makes None with the status OK and grpc makes INTERNAL, and both are to be one error here.
    read: Callable[[bytes], Result]
    options: CallOptions
    # False: may take effect twice when it is sent twice, so it is never retried.
    idempotent: bool = True

    def result(self, response: bytes) -> Result:
        """Parse the response. Raises InvalidResponseError."""
        return _parse(self.method, self.read, response)


@dataclass(frozen=True, slots=True)
class Listing(Generic[Page, Item]):
    """A list, page by page."""

    method: str
    request: PageRequest
    read: Callable[[bytes], Page]
    items: Callable[[Page], Sequence[Item]]
    options: CallOptions

    def first(self) -> Call[Page]:
        """Return the call for the page of the request."""
        return Call(self.method, self.request, self.read, self.options)

    def after(self, page: Page) -> Call[Page] | None:
        """Return the call for the page after this one; None after the last."""
        if not page.next_page_token:
            return None
        request = deepcopy(self.request)
        request.page_token = page.next_page_token
        return Call(self.method, request, self.read, self.options)


@dataclass(frozen=True, slots=True)
class Stream(Generic[Response]):
    """A stream of responses that a token continues."""

    method: str
    request: ResumableRequest
    read: Callable[[bytes], Response]
    # Whether a response carries nothing but a token.
    is_heartbeat: Callable[[Response], bool]
    # Whether those are for the caller, too.
    heartbeats: bool
    options: CallOptions

    def response(self, response: bytes) -> Response:
        """Parse the response. Raises InvalidResponseError."""
        return _parse(self.method, self.read, response)


def _parse(method: str, read: Callable[[bytes], Result], response: bytes) -> Result:
    try:
        return read(response)
    except DecodeError as exc:
        raise InvalidResponseError(method, grpc.StatusCode.INTERNAL, "the response cannot be parsed") from exc
