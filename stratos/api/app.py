"""The service's application, put together from its engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from stratos.api import subscribe
from stratos.api.admin import AdminMethods
from stratos.api.auth import EnrollmentGate, authenticator
from stratos.api.config import ApiConfig
from stratos.api.credentials import Credentials
from stratos.api.enrollment import EnrollmentMethods
from stratos.api.hydrate import Hydration
from stratos.api.metrics import RequestStatistics, StratosCollector
from stratos.api.oauth import OAuthPages, SignInPages
from stratos.api.plain import Pages
from stratos.api.publishing import PublishingMethods
from stratos.api.repo_read import RepoReads
from stratos.api.repo_write import RepoWrites
from stratos.api.server_info import ServerInfo
from stratos.api.sync import Sync
from stratos.api.xrpc import XrpcDispatcher
from stratos.api.xrpc_app import XrpcApp
from stratos.engine.allow_list import AllowList
from stratos.engine.identity import OpenIdentity
from stratos.engine.service import StratosService
from stratos.engine.supervisor import Supervisor, TaskStatistics


class StratosApp(XrpcApp):
    """Everything that one service answers over HTTP and websockets."""

    def __init__(
        self,
        service: StratosService,
        config: ApiConfig,
        *,
        credentials: Credentials | None = None,
        sign_in: SignInPages | None = None,
        identity: OpenIdentity | None = None,
        allow_list: AllowList | None = None,
        supervisor: Supervisor | None = None,
        monotonic: Callable[[], float] = time.perf_counter,
        checks_output: bool = False,
    ) -> None:
        """`credentials` are those of users and AppViews; without them only the operator's own hold. `sign_in`: see OAuthPages.

        `identity` and `allow_list` lend their figures.

        `supervisor` lends its table of tasks to `/health` and `/metrics`; `monotonic` gives seconds for durations.

        `checks_output` holds every answer against its lexicon, as the tests do.
        """
        backend, desk = service.backend, service.enrollment
        reads = service.reads
        gate = EnrollmentGate(backend.enrollments, reads)
        verifiers = authenticator(config)
        if credentials is not None:
            verifiers = authenticator(config, credentials.verifiers, unknown=credentials.dpop.required)
        self._credentials = credentials
        self._service = service
        self._identity = identity
        self._allow_list = allow_list
        self._supervisor = supervisor
        self._writes = RepoWrites(service.repository)
        self._sync = Sync(backend, reads, gate, service.views, max_exports=config.max_exports)
        dispatcher = XrpcDispatcher(
            {
                **self._writes.methods(),
                **RepoReads(reads, gate, service.views, service.network).methods(),
                **Hydration(reads, gate, service.views).methods(),
                **self._sync.methods(),
                **EnrollmentMethods(desk, gate, reads, backend.enrollments, public_resolve=config.public_resolve).methods(),
                **ServerInfo(service.identity).methods(),
                **AdminMethods(backend.enrollments, reads, desk, service.key_rotation).methods(),
                **PublishingMethods(service.publisher, backend.enrollments, reads).methods(),
            },
            lexicons=service.lexicons,
            authenticator=verifiers,
            gate=gate,
            config=config,
            checks_output=checks_output,
        )
        subscriptions = subscribe.Subscriptions(service.firehose, lexicons=service.lexicons, authenticator=verifiers, gate=gate)
        requests = RequestStatistics()
        super().__init__(
            dispatcher,
            sockets={subscribe.NSID: subscriptions.serve},
            requests=requests,
            clock=monotonic,
            answer_headers=None if credentials is None else credentials.dpop.answer_headers,
            tells_causes=config.dev_mode,
        )
        collector = StratosCollector(self.statistics, requests=requests, tasks=self._tasks, version=service.identity.version)
        Pages(service, tasks=self._tasks, collector=collector).add_to(self)
        sessions = None if credentials is None else credentials.sessions
        OAuthPages(desk, gate, verifiers, sign_in=sign_in, sessions=sessions, dev_mode=config.dev_mode).add_to(self)

    def statistics(self) -> Mapping[str, Mapping[str, float]]:
        """The figures of every part, by name: the engine's, the server's and those of the API."""
        return {
            **self._service.statistics(),
            **self.server_statistics(),
            "writes": self._writes.statistics(),
            "exports": self._sync.statistics(),
            **({} if self._credentials is None else {"credentials": self._credentials.statistics()}),
            **({} if self._identity is None else self._identity.statistics()),
            **({} if self._allow_list is None else {"allow_list": self._allow_list.statistics()}),
        }

    def _tasks(self) -> Sequence[TaskStatistics]:
        return () if self._supervisor is None else self._supervisor.statistics()
