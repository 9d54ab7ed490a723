"""The names of this service's outbox topics, and which kind of delivery each is."""

from collections.abc import Mapping

from approval.delivery.model import DeliveryTopic

RESOLVE_TOPIC = "incident.resolve"
TIMELINE_TOPIC = "incident.timeline"
EXECUTE_TOPIC = "approval.execute"
NOTIFY_TOPIC = "approval.notify"

TOPIC_NAMES: Mapping[DeliveryTopic, str] = {
    DeliveryTopic.RESOLVE: RESOLVE_TOPIC,
    DeliveryTopic.TIMELINE: TIMELINE_TOPIC,
    DeliveryTopic.EXECUTION: EXECUTE_TOPIC,
    DeliveryTopic.NOTIFICATION: NOTIFY_TOPIC,
}
_KINDS = {name: topic for topic, name in TOPIC_NAMES.items()}


def delivery_topic(name: str) -> DeliveryTopic:
    """Return the kind of delivery that an outbox topic holds; OTHER for a topic that this version does not know."""
    return _KINDS.get(name, DeliveryTopic.OTHER)
