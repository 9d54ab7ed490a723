"""The pictures of the page in docs/images: `python -m tests.metrics_gateway.integration.page.screenshots`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from metrics_gateway.page.handler import PageTemplate
from metrics_gateway.page.view import view
from metrics_gateway.sources.reading import Reading
from tests.metrics_gateway.integration.page.chromium import PHONE_WIDTH, Browser, chromium
from tests.metrics_gateway.page_responses import (
    NOW,
    approvals_stuck,
    approvals_well,
    incidents_stuck,
    incidents_well,
)

IMAGES = Path(__file__).parents[4] / "docs/images"
_UP_SECONDS = 11_000


@dataclass(frozen=True)
class Picture:
    """One picture: the responses of the sources, and the screen."""

    name: str
    responses: tuple[GetFlywheelStatsResponse, GetFlywheelStatsResponse]
    width: int
    height: int
    dark: bool


def _pictures() -> list[Picture]:
    stuck = (incidents_stuck(), approvals_stuck())
    return [
        Picture("page-well-light", (incidents_well(), approvals_well()), 1_080, 1_150, dark=False),
        Picture("page-stuck-dark", stuck, 1_080, 620, dark=True),
        Picture("page-stuck-phone", stuck, PHONE_WIDTH, 780, dark=False),
    ]


def _html(picture: Picture) -> str:
    now = NOW.timestamp()
    readings = [
        Reading(name, response, 0.004, now, {}, None, now - _UP_SECONDS)
        for name, response in zip(("incident", "approval"), picture.responses, strict=True)
    ]
    return PageTemplate(version="0.1.0").render(view(readings, NOW), refreshes=True)


def take(browser: Browser, directory: Path) -> None:
    """Write all pictures. They always show the same stats at the same time."""
    with tempfile.TemporaryDirectory() as scratch:
        for picture in _pictures():
            html = Path(scratch) / f"{picture.name}.html"
            html.write_text(_html(picture), encoding="utf-8")
            browser.open(html.as_uri(), width=picture.width, height=picture.height, dark=picture.dark)
            (directory / f"{picture.name}.png").write_bytes(browser.picture())


def main() -> None:
    """Take the pictures into docs/images."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        take(browser, IMAGES)


if __name__ == "__main__":
    main()
