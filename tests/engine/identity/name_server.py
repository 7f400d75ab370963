"""A DNS server on a loopback UDP port that answers what a test tells it to."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

LARGEST_PACKET: Final = 4096
TTL: Final = 60
Answers = Sequence[str] | Callable[[], Sequence[str]]


class NameServer:
    """Answers from `records`, by name without the last dot and type; whatever is not there does not exist."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Answers] = {}
        self.aliases: dict[str, str] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.delays: dict[tuple[str, str], float] = {}
        """Seconds that it takes its time, by name and type."""
        self.silent: set[str] = set()
        """Names about which it never says anything."""
        self.broken = False
        """Whether it answers everything with SERVFAIL."""
        self.port = 0

    def host(self, name: str, *addresses: str) -> None:
        """Give a host IPv4 addresses, and IPv6 addresses where they have colons."""
        self.records[name, "A"] = [address for address in addresses if ":" not in address]
        self.records[name, "AAAA"] = [address for address in addresses if ":" in address]

    def alias(self, name: str, target: str) -> None:
        """Make a name another one's alias."""
        self.aliases[name] = target

    def text(self, name: str, *values: str) -> None:
        """Give a name TXT records."""
        self.records[name, "TXT"] = [
            " ".join(f'"{value[at : at + 200]}"' for at in range(0, len(value), 200)) for value in values
        ]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            await server.bind(("127.0.0.1", 0))
            self.port = server.getsockname()[1]
            task_status.started()
            async with trio.open_nursery() as nursery:
                while True:
                    packet, sender = await server.recvfrom(LARGEST_PACKET)
                    question = dns.message.from_wire(packet)
                    asked = question.question[0]
                    name, kind = asked.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(asked.rdtype)
                    self.asked[name, kind] += 1
                    if name not in self.silent:
                        nursery.start_soon(self._reply, server, sender, self._answer(question, name, kind), name, kind)

    async def _reply(
        self, server: trio.socket.SocketType, sender: tuple[object, ...], answer: dns.message.Message, name: str, kind: str
    ) -> None:
        await trio.sleep(self.delays.get((name, kind), 0))
        await server.sendto(answer.to_wire(), sender)

    def _answer(self, question: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        asked = question.question[0]
        response = dns.message.make_response(question)
        response.flags |= dns.flags.RA
        if self.broken:
            response.set_rcode(dns.rcode.SERVFAIL)
            return response
        if name in self.aliases:
            response.answer.append(dns.rrset.from_text(asked.name, TTL, "IN", "CNAME", f"{self.aliases[name]}."))
            name = self.aliases[name]
        if not any(known == name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
            return response
        answers = self.records.get((name, kind), ())
        values = answers() if callable(answers) else answers
        if values:
            response.answer.append(dns.rrset.from_text(f"{name}.", TTL, "IN", kind, *values))
        return response
