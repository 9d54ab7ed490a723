"""The topics of all effects: those in the service's own database share one, those on external systems have their own."""

from collections.abc import Mapping
from datetime import timedelta

from incident.effects.external import ExternalSystems, external_topics
from incident.effects.local import LOCAL_EFFECTS, LocalEffects
from incident.effects.postmortem import PostmortemTemplate, PostmortemTemplateError
from incident.effects.settings import EffectSettings
from incident.model import Effect
from servicekit.outbox.handler import Topic
from servicekit.outbox.transaction import Transactions
from servicekit.process.settings import SettingsError

# No caller waits for these effects: those of resolutions in quick succession share a transaction.
_LINGER = timedelta(milliseconds=50)
# Resolutions of one transaction: enough to share its cost, few enough to hold their locks briefly.
_MAX_BATCH = 200


def load_template(settings: EffectSettings) -> PostmortemTemplate:
    """Return the template of postmortems. Raises SettingsError."""
    try:
        return PostmortemTemplate(settings.postmortem_template)
    except PostmortemTemplateError as exc:
        raise SettingsError(f"INCIDENT_POSTMORTEM_TEMPLATE: {exc}") from None


def topics(
    transactions: Transactions,
    settings: EffectSettings,
    template: PostmortemTemplate,
    external: ExternalSystems,
) -> Mapping[Effect, Topic]:
    """Return the topic of each effect that this version runs; the local effects have one and the same."""
    first, *others = LOCAL_EFFECTS
    local = Topic(
        first.topic,
        LocalEffects(template, postmortem_skip=settings.postmortem_skip),
        joined=tuple(effect.topic for effect in others),
        linger=_LINGER,
        max_batch=_MAX_BATCH,
    )
    return {
        **dict.fromkeys(LOCAL_EFFECTS, local),
        **external_topics(transactions, settings, external),
    }
