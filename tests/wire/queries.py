"""Hostile parameters for every query, hostile paths, wrong verbs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from tests.crash.processes import ADMIN_PASSWORD, SYNC_TOKEN
from tests.wire.bodies import PROCEDURES
from tests.wire.cases import BAD_TEXTS, Case
from tests.wire.service import HOSTILE, OWNER, POST, PROBE_PATH, PROBE_RKEY, request

NOT_FOUND: Final = frozenset({404})
ABSENT: Final = ("not found", "could not find")
UNDECODABLE: Final = ("%ff", "%c0%af", "%ed%a0%80", "%f5%80%80%80", "a%80b", "%fe%ff")
"""Percent-encoded bytes that are no UTF-8."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query with parameters that it would take. `formats` are the texts' formats; `absent` is what a DID without data gets."""

    nsid: str
    token: str
    valid: Mapping[str, str]
    formats: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    out_of_range: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_RECORD: Final = {"repo": OWNER, "collection": POST, "rkey": PROBE_RKEY}
_LIMITS: Final = {"limit": ("9007199254740993",)}
"""A limit of listRecords is brought into its range; only what is no number of the data model is refused."""

QUERIES: Final = (
    *(
        query
        for prefix in ("zone.stratos.repo", "com.atproto.repo")
        for query in (
            Query(
                f"{prefix}.getRecord",
                HOSTILE,
                _RECORD,
                {"repo": "did", "collection": "nsid", "rkey": "record-key"},
                {"cid": "cid"},
            ),
            Query(
                f"{prefix}.listRecords",
                HOSTILE,
                {"repo": OWNER, "collection": POST},
                {"collection": "nsid"},
                {"limit": "integer", "reverse": "boolean"},
                _LIMITS,
            ),
            Query(f"{prefix}.describeRepo", HOSTILE, {"repo": OWNER}, {"repo": "did"}),
        )
    ),
    Query("zone.stratos.repo.hydrateRecord", HOSTILE, {"uri": f"at://{OWNER}/{PROBE_PATH}"}, {"uri": "at-uri"}, {"cid": "cid"}),
    Query(
        "com.atproto.sync.getRecord",
        HOSTILE,
        {"did": OWNER, "collection": POST, "rkey": PROBE_RKEY},
        {"did": "did", "collection": "nsid", "rkey": "record-key"},
    ),
    Query("zone.stratos.sync.getRepo", SYNC_TOKEN, {"did": OWNER}, {"did": "did"}, {"since": "tid"}),
    Query(
        "zone.stratos.sync.listRepos",
        SYNC_TOKEN,
        {},
        {},
        {"limit": "integer", "cursor": "did"},
        {"limit": ("0", "1001", "9007199254740993")},
    ),
    Query("zone.stratos.enrollment.status", HOSTILE, {"did": OWNER}, {"did": "did"}),
    Query("zone.stratos.identity.resolveEnrollments", HOSTILE, {"did": OWNER}, {"did": "did"}),
    Query(
        "zone.stratos.admin.listEnrollments",
        ADMIN_PASSWORD,
        {},
        {},
        {"limit": "integer"},
        {"limit": ("0", "1001", "9007199254740993")},
    ),
)


def parameter_cases() -> Iterator[Case]:
    """Every parameter of every query: missing, in a form that it cannot have, out of range, undecodable."""
    for query in QUERIES:
        for name in query.valid:
            rest = "&".join(f"{other}={quote(value)}" for other, value in query.valid.items() if other != name)
            yield _case(query, f"without {name}", rest, name)
            yield _case(query, f"misspelt {name}", f"{rest}&{name.title()}=x", name)
        for name, text_format in {**query.formats, **query.optional}.items():
            if query.nsid.startswith("com.atproto.repo."):
                continue  # the same handlers and formats as under our own names
            for place, text in enumerate(BAD_TEXTS[text_format]):
                if (name, text) == ("limit", "-1") and query.out_of_range[name] == _LIMITS[name]:
                    continue
                yield _case(query, f"{name} {text_format} {place}", _with(query, name, quote(text, safe="")), name)
        for name, values in query.out_of_range.items():
            for value in values:
                yield _case(query, f"{name}={value}", _with(query, name, value), name)
        for place, encoded in enumerate(UNDECODABLE):
            name = next(iter([*query.valid, *query.optional]))
            yield _case(query, f"{name} undecodable {place}", _with(query, name, encoded), "query string")
        yield _case(query, "many fields", "&".join(f"x{number}=1" for number in range(250)), "query string")


def verb_cases() -> Iterator[Case]:
    """Every method by verbs that it does not have."""
    for nsid, token, right in (
        *((procedure.nsid, procedure.token, "POST") for procedure in PROCEDURES),
        *((query.nsid, query.token, "GET") for query in QUERIES),
        ("zone.stratos.enrollment.unenroll", HOSTILE, "POST"),
        ("zone.stratos.server.listDomains", HOSTILE, "GET"),
    ):
        wrong = ("GET", "PUT", "DELETE", "PATCH") if right == "POST" else ("POST", "PUT", "DELETE")
        for verb in wrong:
            yield Case(f"{verb} {nsid}", request(verb, f"/xrpc/{nsid}", token), ("incorrect http method",))
    for verb in ("TRACE", "PROPFIND", "Post", "QUERY", "X" * 200):
        nsid = "zone.stratos.repo.getRecord"
        yield Case(f"{verb[:10]} {nsid}", request(verb, f"/xrpc/{nsid}", HOSTILE), ("incorrect http method",))


def path_cases() -> Iterator[Case]:
    """Paths that lead out of where paths lead."""
    for nsid in (
        "", "/", "..", "../", "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fservice.sqlite", ".", "a", "zone",
        "zone.",
        ".zone.stratos.repo", "zone..repo", "zone.stratos.repo.getRecord/extra", "zone.stratos.repo.getRecord//",
        "zone.stratos.repo.getRecord%00", "zone.stratos.repo.get%20Record", "%ff%fe", "zone.stratos.repo.getRecord;x=1",
        "zone.stratos.repo.getRecord%3frepo=x", "-zone.stratos.repo.x", "zone.stratos.repo.1", "a." * 200 + "x",
    ):  # fmt: skip
        yield Case(
            f"/xrpc/{nsid}"[:60], request("GET", f"/xrpc/{nsid}", HOSTILE), ("xrpc path", "not found"), frozenset({400, 404})
        )
    for path in (
        "/etc/passwd", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fsigning_key", "/assets/../signing_key",
        "/assets/%2e%2e/service.sqlite", "/assets/..%5c..%5cservice.sqlite", "//etc/passwd", "/service.sqlite", "/actors/",
        "/.env",
        "/.git/config", "/health/../service.sqlite", "/health%00", "/%ff", "/.well-known/", "/.well-known/../did.json", "/xrpc",
        "/static/x", "/" + "a" * 5000, "/" + "../" * 500,
    ):  # fmt: skip
        yield Case(f"GET {path}"[:60], request("GET", path), ("not found",), NOT_FOUND)


def _case(query: Query, label: str, parameters: str, name: str) -> Case:
    return Case(
        f"{query.nsid}: {label}", request("GET", f"/xrpc/{query.nsid}?{parameters}", query.token), (name, *_absent(query, name))
    )


def _absent(query: Query, name: str) -> tuple[str, ...]:
    """What may be said instead of the parameter's name: a `repo` that is no DID may be a handle, and that has nothing here."""
    return ABSENT if name == "repo" and query.formats.get(name) == "did" else ()


def _with(query: Query, name: str, encoded: str) -> str:
    rest = [f"{other}={quote(value)}" for other, value in query.valid.items() if other != name]
    return "&".join([*rest, f"{name}={encoded}"])
