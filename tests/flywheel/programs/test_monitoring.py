"""Where Prometheus and Alertmanager come from."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from flywheel.errors import FlywheelError
from flywheel.programs import debian
from flywheel.programs.monitoring import MonitoringPrograms, find_monitoring


def program(folder: Path, name: str, text: str = "") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def found(
    prometheus: Path | None = None, alertmanager: Path | None = None, downloads: list[str] | None = None
) -> MonitoringPrograms:
    def working(text: str) -> AbstractContextManager[None]:
        (downloads if downloads is not None else []).append(text)
        return nullcontext()

    return find_monitoring(prometheus=prometheus, alertmanager=alertmanager, working=working)


@pytest.mark.parametrize("name", ["alertmanager", "prometheus-alertmanager"])
def test_both_are_found_on_the_path_under_debians_names_as_well(on_path: Path, name: str) -> None:
    prometheus, alertmanager = program(on_path, "prometheus"), program(on_path, name)
    assert found() == (str(prometheus), str(alertmanager))


def test_a_named_program_comes_before_that_on_the_path(on_path: Path, tmp_path: Path) -> None:
    program(on_path, "prometheus")
    program(on_path, "alertmanager")
    named = program(tmp_path, "mine")
    assert found(prometheus=named).prometheus == str(named)


def test_a_named_program_that_cannot_be_run_is_refused(on_path: Path, tmp_path: Path) -> None:
    (tmp_path / "text").touch(mode=0o600)
    for path in (tmp_path / "nowhere", tmp_path / "text", on_path):
        with pytest.raises(FlywheelError, match=f"--alertmanager {path}: no such program") as refused:
            found(alertmanager=path)
        assert refused.value.exit_status == 2


def test_without_programs_and_without_apt_the_error_says_what_to_install(on_path: Path) -> None:
    program(on_path, "prometheus")
    with pytest.raises(
        FlywheelError, match=r"^alertmanager: not on the PATH, .*: apt is not available\n"
    ) as missing:
        found()
    assert missing.value.exit_status == 2
    for part in (
        "apt-get install prometheus prometheus-alertmanager",
        "https://prometheus.io/download",
        "--alertmanager PATH",
    ):
        assert part in missing.value.advice
    assert "--prometheus" not in missing.value.advice


def test_a_mirror_out_of_reach_is_named_once_and_leaves_nothing(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "FOLDER", tmp_path / "debian")
    program(
        on_path,
        "apt-get",
        'case "$1" in\n'
        "  indextargets) echo http://mirror.invalid/debian/ ;;\n"
        '  *) echo "E: Failed to fetch http://mirror.invalid" >&2; exit 100 ;;\nesac',
    )
    program(on_path, "dpkg-deb")
    downloads: list[str] = []
    with pytest.raises(FlywheelError, match="prometheus and alertmanager: ") as missing:
        found(downloads=downloads)
    assert [text.partition(" ")[0] for text in downloads] == ["prometheus", "alertmanager"]
    assert missing.value.message.count("E: Failed to fetch http://mirror.invalid") == 1
    assert [path.suffix for path in (tmp_path / "debian").iterdir()] == [".lock", ".lock"]


def test_what_is_unpacked_is_found_without_a_download(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "FOLDER", tmp_path / "debian")
    for name in ("prometheus-3", "prometheus-alertmanager-0"):
        (tmp_path / "debian" / name).mkdir(parents=True)
    for name in ("apt-get", "dpkg-deb"):
        program(on_path, name, "exit 1")
    downloads: list[str] = []
    assert found(downloads=downloads) == (
        f"{tmp_path}/debian/prometheus-3/usr/bin/prometheus",
        f"{tmp_path}/debian/prometheus-alertmanager-0/usr/bin/prometheus-alertmanager",
    )
    assert downloads == []


def test_the_working_directory_is_that_of_unpacked_templates_only(tmp_path: Path) -> None:
    unpacked = tmp_path / "prometheus-alertmanager-0"
    (unpacked / "usr" / "bin").mkdir(parents=True)
    (unpacked / ".usr").symlink_to("usr")
    assert debian.working_folder(str(unpacked / "usr" / "bin" / "prometheus-alertmanager")) == unpacked
    for other in (tmp_path / "go" / "bin" / "alertmanager", Path("/alertmanager")):
        assert debian.working_folder(str(other)) is None
