"""First posts: three accounts in two boundaries write, reply, edit, move and delete; each sees exactly what it should.

Run it against `make run`:

    .venv/bin/python examples/first_posts.py

It needs the service in dev mode, because it signs in with `Bearer <did>`, and the admin password that `make run` prints.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

REI, SAKURA, KAORUKO = "did:web:rei.example", "did:web:sakura.example", "did:web:kaoruko.example"
POST = "zone.stratos.feed.post"
VISIBLE_WITHIN = 1.0
"""Seconds within which a timeline must show a change."""


@dataclass(frozen=True)
class Stratos:
    """One service and its AppView, as their clients see them."""

    service: httpx.Client
    appview: httpx.Client
    admin_password: str

    def enroll(self, did: str, boundaries: list[str]) -> None:
        """Enroll an account as the operator, and set its boundaries."""
        answer = self.service.post(
            "/xrpc/zone.stratos.admin.enroll",
            json={"did": did, "boundaries": boundaries},
            headers={"Authorization": f"Bearer {self.admin_password}"},
        )
        answer.raise_for_status()

    def boundary(self, name: str) -> str:
        """The full form of a boundary name, such as did:web:stratos.example.com/writers."""
        domains = self.service.get("/xrpc/zone.stratos.server.listDomains").raise_for_status().json()["domains"]
        return next(str(domain) for domain in domains if domain.endswith(f"/{name}"))

    def write(self, method: str, did: str, body: dict[str, object]) -> dict[str, str]:
        """Call one of the writing methods as this account."""
        answer = self.service.post(
            f"/xrpc/zone.stratos.repo.{method}",
            json={"repo": did, "collection": POST, **body},
            headers={"Authorization": f"Bearer {did}"},
        )
        if answer.is_error:
            raise SystemExit(f"{method} as {did}: {answer.status_code} {answer.text}")
        return dict(answer.json())

    def timeline(self, did: str) -> dict[str, str]:
        """The texts of the account's timeline by URI."""
        answer = self.appview.get("/xrpc/zone.stratos.feed.getTimeline", headers={"Authorization": f"Bearer {did}"})
        answer.raise_for_status()
        return {item["post"]["uri"]: item["post"]["record"]["text"] for item in answer.json()["feed"]}


def post(text: str, boundary: str, reply_to: dict[str, str] | None = None) -> dict[str, object]:
    """A post record in one boundary."""
    record: dict[str, object] = {
        "$type": POST,
        "text": text,
        "boundary": {"$type": "zone.stratos.boundary.defs#Domains", "values": [{"value": boundary}]},
        "createdAt": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    if reply_to is not None:
        parent = {"uri": reply_to["uri"], "cid": reply_to["cid"]}
        record["reply"] = {"root": parent, "parent": parent}
    return record


def expect(what: str, holds: Callable[[], bool]) -> None:
    """Wait until a statement holds; give up after VISIBLE_WITHIN."""
    started = time.perf_counter()
    while not holds():
        if time.perf_counter() - started > VISIBLE_WITHIN:
            raise SystemExit(f"not so within {VISIBLE_WITHIN} s: {what}")
        time.sleep(0.01)
    print(f"  ok  {what}  ({(time.perf_counter() - started) * 1000:.0f} ms)")


def walk_through(stratos: Stratos) -> None:
    """Enroll, post, reply, edit, move, delete; after each step every timeline is looked at."""
    writers, editors = stratos.boundary("writers"), stratos.boundary("editors")
    stratos.enroll(REI, [writers])
    stratos.enroll(SAKURA, [writers, editors])
    stratos.enroll(KAORUKO, [editors])

    def sees(did: str, written: dict[str, str], text: str) -> bool:
        return stratos.timeline(did).get(written["uri"]) == text

    def blind(did: str, written: dict[str, str]) -> bool:
        return written["uri"] not in stratos.timeline(did)

    print("Rei posts to the writers")
    first = stratos.write("createRecord", REI, {"record": post("a first draft", writers)})
    expect("Rei sees it", lambda: sees(REI, first, "a first draft"))
    expect("Sakura, a writer, sees it", lambda: sees(SAKURA, first, "a first draft"))
    expect("Kaoruko, an editor, does not", lambda: blind(KAORUKO, first))

    print("Sakura replies")
    reply = stratos.write("createRecord", SAKURA, {"record": post("I like it", writers, reply_to=first)})
    expect("Rei sees the reply", lambda: sees(REI, reply, "I like it"))
    expect("Kaoruko does not", lambda: blind(KAORUKO, reply))

    print("Rei edits the post")
    rkey = first["uri"].rsplit("/", 1)[-1]
    stratos.write("putRecord", REI, {"rkey": rkey, "record": post("a second draft", writers)})
    expect("Sakura sees the new text", lambda: sees(SAKURA, first, "a second draft"))

    print("Sakura moves a post from the writers to the editors")
    moved = stratos.write("createRecord", SAKURA, {"record": post("for the writers, at first", writers)})
    expect("Rei sees it", lambda: sees(REI, moved, "for the writers, at first"))
    expect("Kaoruko does not", lambda: blind(KAORUKO, moved))
    rkey = moved["uri"].rsplit("/", 1)[-1]
    stratos.write("putRecord", SAKURA, {"rkey": rkey, "record": post("now for the editors", editors)})
    expect("Kaoruko sees it now", lambda: sees(KAORUKO, moved, "now for the editors"))
    expect("Rei no longer does", lambda: blind(REI, moved))

    print("Rei deletes the first post")
    stratos.write("deleteRecord", REI, {"rkey": first["uri"].rsplit("/", 1)[-1]})
    expect("it is gone for Rei", lambda: blind(REI, first))
    expect("and for Sakura", lambda: blind(SAKURA, first))
    expect("whose reply stays", lambda: sees(REI, reply, "I like it"))


def main() -> None:
    """Read the addresses and take the walk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", default="http://localhost:3100")
    parser.add_argument("--appview", default="http://localhost:3200")
    parser.add_argument("--admin-password", default="stratos-dev")
    arguments = parser.parse_args()
    with httpx.Client(base_url=arguments.service) as service, httpx.Client(base_url=arguments.appview) as appview:
        walk_through(Stratos(service, appview, arguments.admin_password))
    print("Everybody saw exactly what they should.")


if __name__ == "__main__":
    main()
