"""From claims to roles."""

from typing import Any

import pytest

from servicekit.identity.roles import ROLES_BY_NAME, claim_values, parse_role_mapping
from servicekit.identity.watched_file import FileProblemError


@pytest.mark.parametrize(
    ("claims", "path", "values"),
    [
        ({"roles": ["a", "b c"]}, "roles", {"a", "b c"}),
        ({"scope": "a b"}, "scope", {"a", "b"}),
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", {"a"}),
        ({"https://example.com/roles": ["a"]}, "https://example.com/roles", {"a"}),
        ({}, "roles", set()),
        ({"roles": {"a": 1}}, "roles", set()),
        ({"roles": [1, None, ["a"]]}, "roles", set()),
        ({"realm_access": "x"}, "realm_access.roles", set()),
    ],
)
def test_the_values_of_a_claim(claims: dict[str, Any], path: str, values: set[str]) -> None:
    assert set(claim_values(claims, path)) == values


def test_without_a_file_values_are_the_roles_own_names_and_no_service_is_among_them() -> None:
    assert ROLES_BY_NAME.roles(["approver", "service:approval", "Operator", "admin"]) == {"approver"}


def test_a_mapping_gives_the_roles_of_every_value_and_its_file_alone_counts() -> None:
    mapping = parse_role_mapping(b'[roles]\napprover = ["sre", "leads"]\nviewer = ["sre"]\n')
    assert mapping.roles(["sre"]) == {"approver", "viewer"}
    assert mapping.roles(["leads", "x"]) == {"approver"}
    assert mapping.roles(["approver"]) == frozenset()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'[roles]\nadmin = ["x"]', "no role 'admin'"),
        (b'[roles]\n"service:approval" = ["x"]', "no role"),
        (b'[roles]\nviewer = "x"', "a table"),
        (b"[other]", "a table"),
        (b"", "a table"),
        (b"roles =", "not TOML"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(content: bytes, problem: str) -> None:
    with pytest.raises(FileProblemError, match=problem):
        parse_role_mapping(content)
