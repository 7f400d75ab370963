"""zone.stratos.server.listDomains. Source: service spec §1.3.16."""

from __future__ import annotations

from stratos.api.xrpc import Access, Method, Reply, Verb, XrpcCall
from stratos.engine.service import ServiceIdentity


class ServerInfo:
    """What the service says of itself over XRPC."""

    def __init__(self, identity: ServiceIdentity) -> None:
        self._identity = identity

    def methods(self) -> dict[str, Method]:
        """The methods by NSID."""
        return {"zone.stratos.server.listDomains": Method(Verb.GET, Access.PUBLIC, self.list_domains)}

    async def list_domains(self, call: XrpcCall) -> Reply:  # noqa: ARG002 - a handler's signature
        """The boundaries that exist here, in the order of the configuration."""
        return {"domains": [*self._identity.allowed_boundaries]}
