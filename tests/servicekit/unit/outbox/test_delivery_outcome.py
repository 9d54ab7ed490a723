"""What a peer's status means for a delivery."""

import grpc
import pytest
import structlog

from servicekit.outbox.delivery_outcome import delivery_error
from servicekit.outbox.handler import PermanentError


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
@pytest.mark.parametrize("numeric", [False, True], ids=["code", "number"])
def test_which_codes_of_a_peer_park_a_delivery(code: grpc.StatusCode, numeric: bool) -> None:
    parks = {"INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "OUT_OF_RANGE"}
    with structlog.testing.capture_logs() as log:
        error = delivery_error(code.value[0] if numeric else code, "said the peer")
    assert isinstance(error, PermanentError) == (code.name in parks)
    assert str(error) == f"{code.name}: said the peer"
    alarming = {"PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED"}
    assert [line["log_level"] for line in log] == (["error"] if code.name in alarming else [])


def test_an_unknown_code_is_retried() -> None:
    assert not isinstance(delivery_error(99, "?"), PermanentError)
