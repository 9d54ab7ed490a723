"""The verifier prometheus: an expression has no result any more."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from approval.verifiers.expressions_file import ExpressionRule, read_rules
from approval.verifiers.http_api import HttpApi, HttpSettings, NoSuchPathError
from approval.verifiers.protocol import EXPRESSION_LABEL, CannotTellError, Look, Repair
from approval.verifiers.settling import read_settle, require_uptime

_RULES_FILE = "APPROVAL_VERIFIER_EXPRESSIONS_FILE"
# Prometheus gives an expression up on its own, a little before this service would.
_QUERY_TIMEOUT = "10s"


class PrometheusVerifier:
    """Evaluates expressions by Prometheus' HTTP API."""

    def __init__(self, api: HttpApi, rules: Sequence[ExpressionRule], *, settle: timedelta) -> None:
        """A Prometheus that has run for less than `settle` may not have evaluated every rule yet."""
        self._api = api
        self._rules = rules
        self._settle = settle

    async def look(self, repair: Repair) -> Look:
        """Whether the expression of the incident, or of the first rule that fits, has no result."""
        expression, whose = self._expression(repair)
        query = [("query", expression), ("timeout", _QUERY_TIMEOUT)]
        answer = (await self._api.get("/api/v1/query", query)).content
        if not isinstance(answer, dict) or answer.get("status") != "success":
            raise CannotTellError("the answer is not the result of a query")
        # Of a part of the data only, for example.
        if answer.get("warnings"):
            raise CannotTellError("Prometheus warns that the result may be wrong")
        data = answer.get("data")
        if not isinstance(data, dict) or data.get("resultType") != "vector":
            raise CannotTellError(f"the expression of {whose} is not an instant vector")
        result = data.get("result")
        if not isinstance(result, list):
            raise CannotTellError("the answer is not the result of a query")
        if result:
            results = f"{len(result)} results" if len(result) > 1 else "a result"
            return Look(gone=False, message=f"the expression of {whose} has {results}")
        await self._require_settled()
        return Look(gone=True, message=f"the expression of {whose} has no result")

    def _expression(self, repair: Repair) -> tuple[str, str]:
        expression = repair.labels.get(EXPRESSION_LABEL, "")
        if expression:
            return expression, "the incident"
        rule = next((rule for rule in self._rules if rule.fits(repair)), None)
        if rule is None:
            raise CannotTellError(f"the incident has no label {EXPRESSION_LABEL}, and no rule fits")
        return rule.expression, f"the rule {rule.name}"

    async def _require_settled(self) -> None:
        # Alerts that were firing are pending again at first after a restart.
        if not self._settle:
            return
        try:
            answer = await self._api.get("/api/v1/status/runtimeinfo")
        except NoSuchPathError:
            # Other systems with the same query API.
            return
        content = answer.content if isinstance(answer.content, dict) else {}
        data = content.get("data")
        require_uptime(data.get("startTime") if isinstance(data, dict) else None, answer, self._settle)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


def make_verifier(environment: Mapping[str, str]) -> PrometheusVerifier:
    """Return the verifier for the Prometheus at APPROVAL_VERIFIER_URL."""
    path = environment.get(_RULES_FILE, "")
    try:
        rules = read_rules(Path(path)) if path else ()
    except ValueError as exc:
        raise ValueError(f"{_RULES_FILE}: {exc}") from None
    return PrometheusVerifier(
        HttpApi(HttpSettings.from_environment(environment)), rules, settle=read_settle(environment)
    )
