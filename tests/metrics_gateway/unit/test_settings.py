from datetime import timedelta

import pytest

from metrics_gateway.settings import GatewaySettings, SourceAddress
from servicekit.process.settings import SettingsError


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in GatewaySettings.model_fields:
        monkeypatch.delenv(f"GATEWAY_{field.upper()}", raising=False)


def test_the_default_sources_are_both_services_on_this_machine() -> None:
    settings = GatewaySettings.from_environment()
    assert settings.listen == "127.0.0.1:9464"
    assert settings.sources == (
        SourceAddress("incident", "127.0.0.1:50051"),
        SourceAddress("approval", "127.0.0.1:50052"),
    )
    assert settings.source_timeout == timedelta(seconds=2)
    assert not settings.insecure


@pytest.mark.parametrize(
    ("written", "sources"),
    [
        pytest.param("incident=incident:50051", [("incident", "incident:50051")], id="one"),
        pytest.param("a=h:1,b=h:2", [("a", "h:1"), ("b", "h:2")], id="two, in order"),
        pytest.param(" b = h:2 , a = h:1 ", [("b", "h:2"), ("a", "h:1")], id="spaces around"),
        pytest.param("eu-west_1=[::1]:50051", [("eu-west_1", "[::1]:50051")], id="IPv6"),
    ],
)
def test_sources_are_read_in_order(
    monkeypatch: pytest.MonkeyPatch, written: str, sources: list[tuple[str, str]]
) -> None:
    monkeypatch.setenv("GATEWAY_SOURCES", written)
    assert list(GatewaySettings.from_environment().sources) == [SourceAddress(*each) for each in sources]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        pytest.param("", "expected at least one source", id="empty"),
        pytest.param("   ", "expected at least one source", id="blank"),
        pytest.param("incident", "entry 1: expected name=host:port", id="no target"),
        pytest.param("a=h:1,", "entry 2: expected name=host:port", id="comma at the end"),
        pytest.param("a=h:1,,b=h:2", "entry 2: expected name=host:port", id="two commas"),
        pytest.param("incident=", "entry 1 (incident): expected host:port", id="empty target"),
        pytest.param("incident=h", "entry 1 (incident): expected host:port", id="no port"),
        pytest.param("incident=h:99999", "entry 1 (incident): expected host:port", id="port out of range"),
        pytest.param("incident=h:0", "entry 1 (incident): port 0 cannot be called", id="port 0"),
        pytest.param("a=h:1,a=h:2", "entry 2: the name a is given twice", id="duplicate name"),
        pytest.param("=h:1", "entry 1: a name is", id="no name"),
        pytest.param("Incident=h:1", "entry 1: a name is", id="upper case"),
        pytest.param("1a=h:1", "entry 1: a name is", id="digit first"),
        pytest.param('a"b=h:1', "entry 1: a name is", id="quote in the name"),
        pytest.param(f"{'a' * 33}=h:1", "entry 1: a name is", id="name too long"),
    ],
)
def test_an_invalid_list_of_sources_names_the_variable_and_the_entry(
    monkeypatch: pytest.MonkeyPatch, written: str, message: str
) -> None:
    monkeypatch.setenv("GATEWAY_SOURCES", written)
    with pytest.raises(SettingsError) as refused:
        GatewaySettings.from_environment()
    assert str(refused.value).startswith(f"GATEWAY_SOURCES: {message}")


@pytest.mark.parametrize(
    ("variable", "written"),
    [
        pytest.param("GATEWAY_LISTEN", "9464", id="listen without a host"),
        pytest.param("GATEWAY_SOURCE_TIMEOUT", "soon", id="no duration"),
        pytest.param("GATEWAY_SOURCE_TIMEOUT", "0", id="no time at all"),
        pytest.param("GATEWAY_LONGEST_SOURCE_TIMEOUT", "0s", id="no longest time"),
        pytest.param("GATEWAY_SCRAPE_MARGIN", "-1s", id="negative margin"),
        pytest.param("GATEWAY_INSECURE", "perhaps", id="neither yes nor no"),
        pytest.param("GATEWAY_LOG_LEVEL", "LOUD", id="unknown level"),
    ],
)
def test_an_invalid_value_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, written: str
) -> None:
    monkeypatch.setenv(variable, written)
    with pytest.raises(SettingsError, match=f"^{variable}: "):
        GatewaySettings.from_environment()
