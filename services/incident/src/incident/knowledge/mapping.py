"""Knowledge between the contract and the model, the cursor of a search included."""

from google.protobuf.duration_pb2 import Duration

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.knowledge.model import KnowledgeMatch, KnowledgePosition
from incident.wire_enums import RESOLUTION_TYPES
from servicekit.rpc.cursors import read_cursor, write_cursor
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.timestamps import to_timestamp


def match_to_proto(match: KnowledgeMatch) -> pb.SearchKnowledgeResponse.Match:
    """Return the message of a match."""
    entry = match.entry
    mean = Duration()
    mean.FromTimedelta(entry.mean_resolution_time)
    return pb.SearchKnowledgeResponse.Match(
        entry=incident_pb2.KnowledgeEntry(
            knowledge_id=entry.knowledge_id,
            incident_id=entry.incident_id,
            symptoms=entry.symptoms,
            resolution=entry.resolution,
            resolution_type=RESOLUTION_TYPES.to_wire(entry.resolution_type),
            action=entry.action,
            use_count=entry.use_count,
            success_count=entry.success_count,
            create_time=to_timestamp(entry.create_time),
            update_time=to_timestamp(entry.update_time),
            mean_resolution_time=mean,
        ),
        rank=match.rank,
    )


def read_position(request: pb.SearchKnowledgeRequest, tokens: PageTokens) -> KnowledgePosition | None:
    """Return the position in the request's page token; None for the first page. Raises InvalidPageTokenError."""
    position = read_cursor(request, tokens)
    if position is None:
        return None
    rank, success_count, knowledge_id = position
    return KnowledgePosition(float(rank), int(success_count), str(knowledge_id))


def write_position(
    request: pb.SearchKnowledgeRequest, position: KnowledgePosition | None, tokens: PageTokens
) -> str:
    """Return the token of the page after `position`; empty when there is none."""
    if position is None:
        return ""
    # As text: it is read back as exactly the same number.
    return write_cursor(request, [repr(position.rank), position.success_count, position.knowledge_id], tokens)
