"""Looking names up with a real name server."""

from __future__ import annotations

from ipaddress import ip_address

import dns.resolver
import pytest
import trio

from stratos.engine.identity.names import MAX_ADDRESSES, SECOND_FAMILY_GRACE, DnsNames, NamesUnavailable, SystemNames
from tests.engine.identity.internet import Internet


async def test_addresses_of_both_families_are_found_ipv4_first(internet: Internet) -> None:
    internet.dns.host("both.garden.net", "2606:4700::1", "192.0.2.1", "192.0.2.2")
    found = await internet.names().addresses("both.garden.net")
    assert set(found[:2]) == {ip_address("192.0.2.1"), ip_address("192.0.2.2")}
    assert list(found[2:]) == [ip_address("2606:4700::1")]


async def test_a_host_with_ipv6_only_is_found(internet: Internet) -> None:
    internet.dns.host("six.garden.net", "2606:4700::1")
    assert list(await internet.names().addresses("six.garden.net")) == [ip_address("2606:4700::1")]


async def test_ipv6_addresses_that_come_late_are_not_waited_for_where_there_are_others(internet: Internet) -> None:
    internet.dns.host("both.garden.net", "192.0.2.1", "2606:4700::1")
    internet.dns.delays["both.garden.net", "AAAA"] = 60
    with trio.fail_after(2):
        assert list(await internet.names(lookup_timeout=30).addresses("both.garden.net")) == [ip_address("192.0.2.1")]


async def test_ipv6_addresses_that_come_late_are_waited_for_where_there_are_no_others(internet: Internet) -> None:
    internet.dns.host("six.garden.net", "2606:4700::1")
    internet.dns.delays["six.garden.net", "AAAA"] = SECOND_FAMILY_GRACE * 2
    assert list(await internet.names().addresses("six.garden.net")) == [ip_address("2606:4700::1")]


async def test_a_name_that_does_not_exist_has_no_addresses_and_no_texts(internet: Internet) -> None:
    names = internet.names()
    assert list(await names.addresses("nobody.garden.net")) == []
    assert list(await names.texts("nobody.garden.net")) == []


async def test_a_host_with_a_thousand_addresses_costs_no_more_than_one_with_a_few(internet: Internet) -> None:
    internet.dns.host("many.garden.net", *(f"192.0.2.{number}" for number in range(100)))
    assert len(await internet.names().addresses("many.garden.net")) == MAX_ADDRESSES


async def test_aliases_are_followed(internet: Internet) -> None:
    internet.dns.alias("alias.garden.net", "inside.garden.net")
    assert list(await internet.names().addresses("alias.garden.net")) == [ip_address("127.0.0.2")]


async def test_texts_in_parts_are_joined(internet: Internet) -> None:
    internet.dns.text("_atproto.rei.garden.net", "did=" + "x" * 500, "other")
    assert set(await internet.names().texts("_atproto.rei.garden.net")) == {"did=" + "x" * 500, "other"}


async def test_a_broken_name_server_is_not_an_absent_name(internet: Internet) -> None:
    internet.dns.broken = True
    names = internet.names(lookup_timeout=0.3)
    with pytest.raises(NamesUnavailable):
        await names.addresses("rei.garden.net")
    with pytest.raises(NamesUnavailable):
        await names.texts("rei.garden.net")


async def test_a_silent_name_server_is_given_up(internet: Internet) -> None:
    internet.dns.silent.add("rei.garden.net")
    with trio.fail_after(5):
        with pytest.raises(NamesUnavailable):
            await internet.names(lookup_timeout=0.2).addresses("rei.garden.net")


@pytest.mark.parametrize("name", ["a" * 64 + ".net", "a..net", "a." * 200 + "net"])
async def test_a_name_that_cannot_be_asked_is_asked_of_nobody(internet: Internet, name: str) -> None:
    with pytest.raises(NamesUnavailable):
        await internet.names().texts(name)
    assert not internet.dns.asked


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost.", "rei.localhost"])
async def test_localhost_is_asked_of_nobody(internet: Internet, host: str) -> None:
    assert {str(address) for address in await internet.names().addresses(host)} == {"127.0.0.1", "::1"}
    assert not internet.dns.asked


async def test_no_search_domain_is_appended(internet: Internet) -> None:
    internet.dns.host("inside.garden.net", "10.0.0.1")
    names = internet.names()
    assert list(await names.addresses("inside")) == []
    assert {name for name, _ in internet.dns.asked} == {"inside"}


async def test_the_system_knows_the_hosts_file() -> None:
    found = await SystemNames(DnsNames(["127.0.0.1"], port=1)).addresses("localhost")
    assert ip_address("127.0.0.1") in found


async def test_a_machine_without_name_servers_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def unconfigured(resolver: object, path: object) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr("dns.resolver.BaseResolver.read_resolv_conf", unconfigured)
    with pytest.raises(NamesUnavailable):
        await DnsNames(lookup_timeout=0.2).texts("garden.net")
