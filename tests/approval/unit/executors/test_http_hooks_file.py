"""The file that lists the hooks that may be called."""

from pathlib import Path

import pytest

from approval.executors.registry import load_executors
from servicekit.process.settings import SettingsError

GOOD = '[hooks.pager]\nurl = "https://example.org/hooks"\nsecret_file = "secret"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("a secret of enough characters")
    (tmp_path / "short").write_text("private-detail")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "rotation").write_text("whsec_private-detail a secret of enough characters")
    return tmp_path


def refusal(folder: Path, content: str) -> str:
    """The error when the executor is made."""
    path = folder / "hooks.toml"
    path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load_executors(["http"], {"APPROVAL_HTTP_HOOKS_FILE": str(path)})
    variable, _, reason = str(caught.value).partition(": ")
    assert variable == "APPROVAL_HTTP_HOOKS_FILE"
    assert "private-detail" not in reason
    return reason


def with_line(line: str) -> str:
    """The good file with one line in place of the one that sets the same."""
    key = line.partition(" ")[0]
    kept = [each for each in GOOD.splitlines() if not each.startswith(f"{key} ")]
    return "\n".join([*kept, line])


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('timeout = "30s"', id="a timeout"),
        pytest.param('url = "http://127.0.0.1:8080/hooks"', id="this machine without TLS"),
        pytest.param('url = "http://[::1]:8080/hooks"', id="this machine by IPv6"),
        pytest.param('headers = { Authorization = "Bearer abc" }', id="a header"),
    ],
)
def test_a_valid_file_is_accepted(folder: Path, line: str) -> None:
    path = folder / "hooks.toml"
    path.write_text(with_line(line))
    assert load_executors(["http"], {"APPROVAL_HTTP_HOOKS_FILE": str(path)}).kinds == {"HTTP"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param("private-detail", "is not TOML", id="not TOML"),
        pytest.param("", "hooks: Field required", id="empty"),
        pytest.param("[hooks]", "hooks: there is no hook", id="no hook"),
        pytest.param(
            GOOD.replace("pager", "Pager"),
            "hooks: 'Pager' is not the name of a hook: a-z, 0-9 and -, at most 63 characters",
            id="a name that no action can have",
        ),
        pytest.param(
            GOOD + '[hook.b]\nurl = "private-detail"',
            "hook: Extra inputs are not permitted",
            id="a wrong table",
        ),
        pytest.param(
            with_line('retries = "private-detail"'),
            "hooks.pager.retries: Extra inputs are not permitted",
            id="an unknown key",
        ),
        pytest.param(
            with_line('url = "private-detail"'),
            "hooks.pager.url: expected a URL such as https://example.org/hooks/restart-batch",
            id="no URL",
        ),
        pytest.param(
            with_line('url = "https://example.org:port/private-detail"'),
            "hooks.pager.url: expected a URL such as https://example.org/hooks/restart-batch",
            id="a bad port",
        ),
        pytest.param(
            with_line('url = "http://example.org/private-detail"'),
            "hooks.pager.url: without TLS, every host on the network path can read it: use https://, or insecure = true",
            id="another machine without TLS",
        ),
        pytest.param(
            with_line('timeout = "soon"'),
            "hooks.pager.timeout: expected a duration such as 500ms, 30s, 30m, 24h or a number of seconds",
            id="no duration",
        ),
        pytest.param(
            with_line('timeout = "0s"'),
            "hooks.pager.timeout: Input should be greater than 0 seconds",
            id="no time",
        ),
        pytest.param(
            with_line('headers = { idempotency-key = "private-detail" }'),
            "hooks.pager.headers: the header idempotency-key is set by the service",
            id="a header of the service",
        ),
        pytest.param(
            with_line('headers = { A = "private-detail\\r\\nB: c" }'),
            "hooks.pager.headers: expected names and values of HTTP headers, in printable ASCII",
            id="a header that would be two",
        ),
        pytest.param(
            with_line('secret_file = "nowhere"'),
            "hooks.pager.secret_file: the secret file cannot be read: there is no such file",
            id="no secret",
        ),
        pytest.param(
            with_line('secret_file = "short"'),
            "hooks.pager.secret_file: the secret file cannot be used: expected at least 16 characters",
            id="a short secret",
        ),
        pytest.param(
            with_line('secret_file = "empty"'),
            "hooks.pager.secret_file: the secret file is empty",
            id="an empty secret",
        ),
        pytest.param(
            with_line('secret_file = "rotation"'),
            "hooks.pager.secret_file: the secret file cannot be used: "
            "expected whsec_ and the base64 of 24 to 64 bytes",
            id="a secret that is not base64",
        ),
        pytest.param(
            with_line('url = "https://ü..example/private-detail"'),
            "hooks.pager.url: not a URL",
            id="an invalid internationalised host",
        ),
    ],
)
def test_a_problem_of_the_file_is_named_and_no_value_is_quoted(
    folder: Path, content: str, reason: str
) -> None:
    assert refusal(folder, content) == reason


def test_insecure_allows_another_machine_without_tls(folder: Path) -> None:
    path = folder / "hooks.toml"
    path.write_text(GOOD.replace("https:", "http:") + "insecure = true")
    assert load_executors(["http"], {"APPROVAL_HTTP_HOOKS_FILE": str(path)}).kinds == {"HTTP"}


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        pytest.param({}, "required by the executor http", id="not set"),
        pytest.param(
            {"APPROVAL_HTTP_HOOKS_FILE": "/nowhere"}, "/nowhere: there is no such file", id="missing"
        ),
    ],
)
def test_the_file_is_required(variables: dict[str, str], reason: str) -> None:
    with pytest.raises(SettingsError, match=f"^APPROVAL_HTTP_HOOKS_FILE: {reason}$"):
        load_executors(["http"], variables)
