"""How the API of a monitoring system is reached: credentials, TLS, and settings that cannot be used."""

import asyncio
from pathlib import Path

import pytest

from approval.verifiers.http_api import HttpApi, HttpSettings
from approval.verifiers.protocol import CannotTellError
from tests.approval.unit.verifiers.repaired import answer, answering
from tests.receiver import Answer, endless_body, free_port, status


async def _interim(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
        await writer.drain()


async def header(variables: dict[str, str]) -> str | None:
    async with answering(answer([])) as (api, environment):
        asked = HttpApi(HttpSettings.from_environment({**environment, **variables}))
        await asked.get("/")
        await asked.close()
        return api.requests[0].headers.get("authorization")


async def test_credentials_are_those_of_the_files(tmp_path: Path) -> None:
    token, password = tmp_path / "token", tmp_path / "password"
    token.write_text("t0ken\n")
    password.write_text("pass:word\n")
    assert await header({}) is None
    assert await header({"APPROVAL_VERIFIER_TOKEN_FILE": str(token)}) == "Bearer t0ken"
    basic = {"APPROVAL_VERIFIER_USERNAME": "me", "APPROVAL_VERIFIER_PASSWORD_FILE": str(password)}
    assert await header(basic) == "Basic bWU6cGFzczp3b3Jk"


async def test_a_token_is_read_again_and_one_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    async with answering(answer([]), answer([])) as (api, environment):
        asked = HttpApi(
            HttpSettings.from_environment({**environment, "APPROVAL_VERIFIER_TOKEN_FILE": str(token)})
        )
        await asked.get("/")
        token.write_text("second")
        await asked.get("/")
        token.unlink()
        with pytest.raises(CannotTellError, match="APPROVAL_VERIFIER_TOKEN_FILE: "):
            await asked.get("/")
        await asked.close()
        sent = [request.headers["authorization"] for request in api.requests]
    assert sent == ["Bearer first", "Bearer second"]


async def test_a_redirect_is_not_followed_and_nothing_is_decompressed() -> None:
    async with answering() as (other, elsewhere), answering() as (api, environment):
        url = elsewhere["APPROVAL_VERIFIER_URL"]
        api.answers.append(status(307, headers={"Location": url}))
        asked = HttpApi(HttpSettings.from_environment(environment))
        with pytest.raises(CannotTellError, match="answered 307; redirects are not followed"):
            await asked.get("/")
        await asked.close()
        assert api.requests[0].headers["accept-encoding"] == "identity"
        assert not other.requests


@pytest.mark.parametrize(
    "endless", [pytest.param(endless_body(200), id="a body"), pytest.param(_interim, id="interim responses")]
)
async def test_an_answer_without_end_is_cut_off(endless: Answer) -> None:
    async with answering(endless) as (_, environment):
        asked = HttpApi(HttpSettings.from_environment(environment), max_response_bytes=1 << 20)
        with pytest.raises(CannotTellError, match="the connection failed: RemoteProtocolError"):
            await asked.get("/")
        await asked.close()


@pytest.mark.parametrize("room", [1 << 20, 4 << 20], ids=["too long", "not too long"])
async def test_an_answer_is_read_up_to_a_limit(room: int) -> None:
    content = "x" * (2 << 20)
    async with answering(answer(content)) as (_, environment):
        asked = HttpApi(HttpSettings.from_environment(environment), max_response_bytes=room)
        if room > len(content):
            assert (await asked.get("/")).content == content
        else:
            with pytest.raises(CannotTellError, match="the connection failed: RemoteProtocolError"):
                await asked.get("/")
        await asked.close()


async def test_no_text_quotes_the_address() -> None:
    port = await free_port()
    asked = HttpApi(HttpSettings(f"http://user:secret@127.0.0.1:{port}/token"))
    with pytest.raises(CannotTellError) as caught:
        await asked.get("/")
    await asked.close()
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        pytest.param({"URL": ""}, "URL: expected a URL", id="no URL"),
        pytest.param({"URL": "http://alertmanager:9093"}, "URL: without TLS", id="no TLS"),
        pytest.param({"INSECURE": "yes"}, "INSECURE: expected", id="insecure"),
        pytest.param({"TOKEN_FILE": "/no/such/file"}, "TOKEN_FILE: ", id="no token"),
        pytest.param({"USERNAME": "me"}, "set both or none", id="half of basic"),
        pytest.param({"TLS_CERT_FILE": "/no"}, "set both or none", id="half of a certificate"),
        pytest.param({"TLS_CA_FILE": "/no/such/file"}, "TLS_CA_FILE: cannot be used", id="no authority"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(variables: dict[str, str], reason: str) -> None:
    environment = {"APPROVAL_VERIFIER_URL": "http://127.0.0.1:9093"}
    environment |= {f"APPROVAL_VERIFIER_{name}": value for name, value in variables.items()}
    with pytest.raises(ValueError, match=reason):
        HttpSettings.from_environment(environment)


def test_an_address_in_the_network_without_tls_needs_a_setting() -> None:
    HttpSettings.from_environment(
        {"APPROVAL_VERIFIER_URL": "http://alertmanager:9093", "APPROVAL_VERIFIER_INSECURE": "true"}
    )
