"""SPIFFE ids: which URIs are one, and whose certificate the other side has shown."""

import pytest

from servicekit.identity.spiffe import SpiffeError, SpiffeId, parse_spiffe_id, peer_spiffe_id

PEM = {"x509_pem_cert": [b"-----BEGIN CERTIFICATE-----"]}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("spiffe://awoooi/approval", SpiffeId("awoooi", "/approval")),
        (
            "spiffe://prod.example.com/ns/flywheel/sa/approval",
            SpiffeId("prod.example.com", "/ns/flywheel/sa/approval"),
        ),
        ("spiffe://awoooi", SpiffeId("awoooi", "")),
        ("spiffe://awoooi/...", SpiffeId("awoooi", "/...")),
    ],
)
def test_spiffe_ids(uri: str, expected: SpiffeId) -> None:
    assert parse_spiffe_id(uri) == expected
    assert str(expected) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://awoooi/approval",
        "SPIFFE://awoooi/approval",
        "spiffe:///approval",
        "spiffe://awoooi/",
        "spiffe://awoooi/approval/",
        "spiffe://awoooi//approval",
        "spiffe://Awoooi/approval",
        "spiffe://awoooi:443/approval",
        "spiffe://alice@awoooi/approval",
        "spiffe://awoooi/approval?a=b",
        "spiffe://awoooi/approval#a",
        "spiffe://awoooi/%61pproval",
        "spiffe://awoooi/../approval",
        "spiffe://awoooi/./approval",
        "spiffe://awoooi/approval/..",
        "spiffe://awoooi/approval\n",
        "spiffe://awoooi/approval\0",
        "spiffe://awoooi/аpproval",  # noqa: RUF001 - a look-alike
        "spiffe://awoooi/" + "a" * 2_048,
    ],
)
def test_what_is_no_spiffe_id(uri: str) -> None:
    with pytest.raises(SpiffeError):
        parse_spiffe_id(uri)


def test_a_peer_with_one_uri_is_the_service_of_that_name() -> None:
    context = PEM | {"peer_uri": [b"spiffe://awoooi/approval"]}
    assert peer_spiffe_id(context, trust_domain="awoooi") == SpiffeId("awoooi", "/approval")


@pytest.mark.parametrize("context", [{}, {"transport_security_type": [b"ssl"]}])
def test_a_peer_without_a_certificate_is_no_service(context: dict[str, list[bytes]]) -> None:
    assert peer_spiffe_id(context, trust_domain="awoooi") is None


@pytest.mark.parametrize(
    "uris",
    [
        [],
        [b"spiffe://awoooi/approval", b"spiffe://awoooi/gateway"],
        [b"spiffe://awoooi/approval", b"https://example.org"],
        [b"spiffe://other/approval"],
        [b"spiffe://awoooi.example.org/approval"],
        [b"spiffe://awoooi"],
        [b"https://example.org"],
        [b"spiffe://awoooi/\xd0\xb0pproval"],
    ],
)
def test_a_certificate_that_names_no_one_service_is_refused(uris: list[bytes]) -> None:
    with pytest.raises(SpiffeError):
        peer_spiffe_id(PEM | {"peer_uri": uris}, trust_domain="awoooi")
