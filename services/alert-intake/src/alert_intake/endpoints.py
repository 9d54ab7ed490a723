"""The HTTP routes: Alertmanager's posts, the intake's own metrics, health."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from time import monotonic

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from alert_intake.alertmanager.webhook import WebhookError, parse_webhook
from alert_intake.incidents.metrics import IntakeMetrics
from alert_intake.incidents.outcomes import Outcome, Result
from alert_intake.incidents.use_cases import Intake
from alert_intake.mapping.model import AlertMapping
from alert_intake.mapping.report import find_reports
from servicekit.http.bodies import Bodies, BodyRefusedError

_log = structlog.get_logger()

ALERTMANAGER = "/alertmanager"
METRICS = "/metrics"
HEALTHY = "/-/healthy"
READY = "/-/ready"

_JSON = "application/json"
_UNCACHED = {"Cache-Control": "no-store"}
_MAX_REASONS = 5
# nginx's status of a request whose client has gone; there is no reader, but it is counted.
_CLIENT_CLOSED_REQUEST = 499


class AlertmanagerEndpoint:
    """Takes notifications. 200 says that all of one is committed, 503 that it has to be posted again."""

    def __init__(self, intake: Intake, mapping: AlertMapping, bodies: Bodies, metrics: IntakeMetrics) -> None:
        self._intake = intake
        self._mapping = mapping
        self._bodies = bodies
        self._metrics = metrics

    async def post(self, request: Request) -> Response:
        """Open and resolve the incidents of a notification."""
        began = monotonic()
        response = await self._response(request)
        self._metrics.seconds.observe(monotonic() - began)
        self._metrics.posts.labels(str(response.status_code)).inc()
        return response

    async def _response(self, request: Request) -> Response:
        # The page of another site cannot send this type: a browser asks first, and is refused.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            return _refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, ["Content-Type must be application/json"])
        try:
            async with self._bodies.read(request) as body:
                return await self._accepted(request, body)
        except BodyRefusedError as exc:
            return exc.response()
        except ClientDisconnect:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)

    async def _accepted(self, request: Request, body: bytes) -> Response:
        try:
            notification = parse_webhook(body)
        except WebhookError as exc:
            _log.warning("post_refused", problems=exc.problems[:_MAX_REASONS])
            return _refused(HTTPStatus.BAD_REQUEST, exc.problems)
        self._metrics.truncated.inc(notification.truncated)
        reports = list(find_reports(notification, self._mapping))
        accepting = asyncio.ensure_future(self._intake.accept(reports))
        # What the client does not wait for any more, it posts again, maybe with other contents: it is not committed later.
        leaving = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({accepting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not accepting.done():
                return Response(status_code=_CLIENT_CLOSED_REQUEST)
            return self._committed(accepting.result())
        finally:
            for task in (accepting, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def _committed(self, outcomes: Sequence[Outcome]) -> Response:
        counts = Counter(outcome.result for outcome in outcomes)
        for result, count in counts.items():
            self._metrics.alerts.labels(result).inc(count)
        undone = [outcome for outcome in outcomes if not outcome.result.is_final]
        if undone:
            _log.warning("post_not_committed", alerts=len(outcomes), undone=len(undone))
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, _reasons(undone, len(outcomes)))
        rejected = [outcome for outcome in outcomes if outcome.result is Result.REJECTED]
        if rejected:
            return _refused(HTTPStatus.UNPROCESSABLE_ENTITY, _reasons(rejected, len(outcomes)))
        return JSONResponse({"alerts": dict(counts)}, headers=_UNCACHED)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _reasons(outcomes: Sequence[Outcome], alerts: int) -> Sequence[str]:
    shown = [
        f"{outcome.report.fingerprint}: {outcome.result}{f', {outcome.reason}' if outcome.reason else ''}"
        for outcome in outcomes[:_MAX_REASONS]
    ]
    return [f"{len(outcomes)} of {alerts} are not committed", *shown]


def _refused(status: HTTPStatus, lines: Sequence[str]) -> Response:
    return PlainTextResponse("".join(f"{line}\n" for line in lines), status_code=status, headers=_UNCACHED)


async def _alive(_: Request) -> Response:
    # Ready as soon as it listens: while the services are unavailable, posts are answered 503 and Alertmanager retries.
    return PlainTextResponse("ok\n")


def build_app(endpoint: AlertmanagerEndpoint, registry: CollectorRegistry) -> Starlette:
    """Return the application: the paths above, 405 for other methods and 404 for other paths."""

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type, **_UNCACHED})

    app = Starlette(
        routes=[
            Route(ALERTMANAGER, endpoint.post, methods=["POST"]),
            Route(METRICS, metrics),
            Route(HEALTHY, _alive),
            Route(READY, _alive),
        ]
    )
    # `/alertmanager/` is an unknown path, not another name.
    app.router.redirect_slashes = False
    return app
