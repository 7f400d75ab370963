"""The publisher: what accounts' PDSes are to say about this service, kept true. Decisions: docs/adr/0012-publisher.md."""

from stratos.engine.publisher.pds_repo import PdsClient
from stratos.engine.publisher.publisher import Publisher, PublisherLimits
from stratos.engine.publisher.work import PublishedIdentity

__all__ = ["PdsClient", "PublishedIdentity", "Publisher", "PublisherLimits"]
