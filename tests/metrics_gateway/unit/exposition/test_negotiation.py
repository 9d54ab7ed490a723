"""Content negotiation: the header of a request selects one of a closed set of formats."""

import pytest
from prometheus_client import CollectorRegistry

from metrics_gateway.exposition.negotiation import accepts_gzip, choose_format
from metrics_gateway.exposition.registry import encode

TEXT = "text/plain; version=0.0.4; charset=utf-8"
NEWER_TEXT = "text/plain; version=1.0.0; charset=utf-8; escaping={}"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping={}"
UNDERSCORES = OPENMETRICS.format("underscores")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        pytest.param("", TEXT, id="no header"),
        pytest.param("*/*", TEXT, id="anything"),
        pytest.param("text/html", TEXT, id="a browser"),
        pytest.param("text/plain", TEXT, id="text of any version"),
        pytest.param("application/openmetrics-text", UNDERSCORES, id="OpenMetrics of any version"),
        pytest.param(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            UNDERSCORES,
            id="as Prometheus 2 sends it",
        ),
        pytest.param(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OPENMETRICS.format("allow-utf-8"),
            id="as Prometheus 3 sends it",
        ),
        pytest.param("text/plain;version=1.0.0;escaping=dots", NEWER_TEXT.format("dots"), id="newer text"),
        pytest.param('APPLICATION/OpenMetrics-Text; Version="1.0.0"', UNDERSCORES, id="case and quotes"),
        pytest.param("application/openmetrics-text; version=abc", TEXT, id="an invalid version"),
        pytest.param("application/openmetrics-text; version=9.9.9", TEXT, id="an unknown version"),
        pytest.param(
            "application/openmetrics-text; version=1.0.0-x; a=b", TEXT, id="a version with a suffix"
        ),
        pytest.param("text/plain; version=2.7.1", TEXT, id="an unknown version of text"),
        pytest.param("application/openmetrics-text; escaping=evil", UNDERSCORES, id="an unknown escaping"),
        pytest.param("application/openmetrics-text;q=0, text/plain", TEXT, id="OpenMetrics refused"),
        pytest.param("application/openmetrics-text;q=0", TEXT, id="only OpenMetrics refused"),
        pytest.param("application/openmetrics-text; Q=0.000", TEXT, id="refused with three digits"),
        pytest.param("application/openmetrics-text;q=0, */*", TEXT, id="refused among all"),
        pytest.param("text/plain;q=0", UNDERSCORES, id="text refused"),
        pytest.param("text/*;q=0, */*;q=0.1", UNDERSCORES, id="all texts refused"),
        pytest.param("*/*;q=0, text/plain;version=0.0.4", TEXT, id="all others refused"),
        pytest.param("application/openmetrics-text;q=0.4, text/plain;q=0.5", TEXT, id="the greatest weight"),
        pytest.param("text/plain;q=0.5, application/openmetrics-text;q=0.5", TEXT, id="the first of equals"),
        pytest.param("*/*, application/openmetrics-text", UNDERSCORES, id="the more exact of equals"),
        pytest.param("application/openmetrics-text;q=2, text/plain", TEXT, id="a malformed weight"),
        pytest.param(";;==,;version=", TEXT, id="malformed"),
    ],
)
def test_the_accept_header_selects_the_format(accept: str, content_type: str) -> None:
    chosen = choose_format(accept)
    assert chosen is not None
    assert encode(CollectorRegistry(), chosen)[1] == content_type


@pytest.mark.parametrize("accept", ["*/*;q=0", "text/plain;q=0, application/*;q=0.0"])
def test_a_client_that_refuses_every_format_gets_none(accept: str) -> None:
    assert choose_format(accept) is None


@pytest.mark.parametrize(
    ("accept_encoding", "accepted"),
    [
        ("", False),
        ("identity", False),
        ("br", False),
        ("gzip", True),
        ("X-GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, *", False),
        ("*;q=0", False),
        ("*;q=0, gzip", True),
        ("gzip;q=0.5, identity", False),
        ("gzip;q=high", False),
    ],
)
def test_gzip_is_accepted_by_its_weight(accept_encoding: str, accepted: bool) -> None:
    assert accepts_gzip(accept_encoding) is accepted
