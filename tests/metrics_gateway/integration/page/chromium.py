"""A real browser, headless."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

from tests.debian_packages import require_programs
from tests.services import TIMEOUT_SECONDS

Value = TypeVar("Value")

PHONE_WIDTH = 360
DESKTOP_WIDTH = 1_200

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it does not start as root otherwise
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_SCRIPTS = Path(__file__).parent / "page_checks.js"


class Browser:
    """One browser with one page."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def open(
        self,
        url: str,
        *,
        width: int = DESKTOP_WIDTH,
        height: int = 800,
        dark: bool = False,
        scripts: bool = True,
    ) -> None:
        """Open a page with this viewport, in the light or dark scheme, with or without scripts."""
        driver = self._driver
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width == PHONE_WIDTH}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        driver.get(url)

    @property
    def title(self) -> str:
        """The title of the page."""
        return self._driver.title

    def ask(self, expression: str) -> Any:
        """Evaluate a JavaScript expression on the page; the page's content security policy does not apply to it."""
        parameters = {"expression": f"({expression})", "returnByValue": True}
        response = self._driver.execute_cdp_cmd("Runtime.evaluate", parameters)
        assert "exceptionDetails" not in response, response
        return response["result"].get("value")

    def check(self, function: str) -> Any:
        """Return the result of a function of page_checks.js."""
        return self.ask(f"(() => {{ {_SCRIPTS.read_text(encoding='utf-8')}\nreturn {function}(); }})()")

    def text(self, selector: str) -> str:
        """Return the text of the first element that a CSS selector finds, as rendered."""
        return str(self.ask(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that a CSS selector finds, as rendered."""
        return list(
            self.ask(f"[...document.querySelectorAll({json.dumps(selector)})].map(each => each.innerText)")
        )

    def until(self, condition: Callable[["Browser"], Value]) -> Value:
        """Wait until the condition holds."""
        return WebDriverWait(self._driver, TIMEOUT_SECONDS, poll_frequency=0.05).until(
            lambda _: condition(self)
        )

    def requests(self) -> Sequence[str]:
        """Return the URLs that the browser requested since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def console_lines(self) -> Sequence[str]:
        """Return the lines of the browser's console since the last call, such as policy violations."""
        return [entry["message"] for entry in self._log("browser")]

    def _log(self, kind: str) -> Sequence[dict[str, Any]]:
        found: Sequence[dict[str, Any]] = self._driver.get_log(kind)  # type: ignore[no-untyped-call] # not annotated
        return found

    def picture(self) -> bytes:
        """Return a screenshot as PNG."""
        shot = self._driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        return base64.b64decode(shot["data"])


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with `profile`, an empty folder, until the block ends."""
    binary, driver_binary = require_programs(
        ["chromium", "chromedriver"], packages=["chromium", "chromium-driver"]
    )
    options = ChromeOptions()
    options.binary_location = binary
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # With the path of the driver, selenium downloads none.
    driver = Chrome(options=options, service=Service(driver_binary))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
