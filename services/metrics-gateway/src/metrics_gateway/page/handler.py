"""The HTTP handler of the page at `/`: the first place to look for an operator on call."""

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from metrics_gateway.page.formatting import count
from metrics_gateway.page.view import PageView, view
from metrics_gateway.sources.source import Sources, View

_TEMPLATES = Path(__file__).parent / "templates"
# Reload interval of an open page: about the scrape interval of Prometheus.
_REFRESH_SECONDS = 15
# `?refresh=off` gives a page that does not reload itself: for reading, or copying an id.
_REFRESH, _OFF = "refresh", "off"


class PageTemplate:
    """Renders the view as HTML. Every text from outside this package is escaped."""

    def __init__(self, *, version: str, refresh_seconds: int = _REFRESH_SECONDS) -> None:
        environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.filters["count"] = count
        environment.globals.update(version=version, refresh_seconds=refresh_seconds)
        self._template = environment.get_template("page.html.j2")
        # Exactly as the page includes it: the browser applies no other.
        self.headers = _headers(environment.get_template("page.css").render())

    def render(self, page: PageView, *, refreshes: bool) -> str:
        """Return the HTML document."""
        return self._template.render(page=page, refreshes=refreshes)


class Page:
    """The handler. The response is 200 even when all sources are down."""

    def __init__(
        self,
        sources: Sources,
        template: PageTemplate,
        *,
        deadline: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`deadline` is how many seconds a request waits for all sources together."""
        self._sources = sources
        self._template = template
        self._deadline = deadline
        self._clock = clock

    async def show(self, request: Request) -> Response:
        """Return the page as of now."""
        readings = await self._sources.read(self._deadline, View.VIEW_FULL)
        refreshes = request.query_params.get(_REFRESH) != _OFF
        html = self._template.render(view(readings, self._clock()), refreshes=refreshes)
        return HTMLResponse(html, headers=self._template.headers)


def _headers(style: str) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = [
        "default-src 'none'",
        # Only the page's own style; an injected one is ignored.
        f"style-src 'sha256-{digest}'",
        # The icon, which shows the status in the browser's tab.
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
