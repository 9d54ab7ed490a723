"""The topics of all effects: those written in the service's own database share one, those on external systems have their own."""

from collections.abc import Mapping
from datetime import timedelta

from incident.effects.external.handler import ExternalSystems, external_topics
from incident.effects.own_database.handler import OWN_DATABASE_EFFECTS, OwnDatabaseHandler
from incident.effects.own_database.postmortem import PostmortemTemplate, PostmortemTemplateError
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
    """Return the topic of each effect that this version runs; those in the own database have one and the same."""
    first, *others = OWN_DATABASE_EFFECTS
    own_database = Topic(
        first.topic,
        OwnDatabaseHandler(template, postmortem_skip=settings.postmortem_skip),
        joined=tuple(effect.topic for effect in others),
        linger=_LINGER,
        max_batch=_MAX_BATCH,
    )
    return {
        **dict.fromkeys(OWN_DATABASE_EFFECTS, own_database),
        **external_topics(transactions, settings, external),
    }
