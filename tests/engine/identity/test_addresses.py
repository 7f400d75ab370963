"""Which addresses and URLs may be asked."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from stratos.engine.identity.addresses import RefusedUrl, any_host, checked_url, public_only

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "2606:4700::1111",
    "64:ff9b::808:808",
]
NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_unicast_addresses_may_be_asked(address: str) -> None:
    assert public_only(ip_address(address)) is None


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_nothing_but_public_unicast_may_be_asked(address: str) -> None:
    assert public_only(ip_address(address)) is not None


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:127.0.0.1", "8.8.8.8"])
def test_where_private_addresses_are_allowed_any_host_may_be_asked(address: str) -> None:
    assert any_host(ip_address(address)) is None


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:224.0.0.1"])
def test_what_is_not_one_host_is_never_asked(address: str) -> None:
    assert any_host(ip_address(address)) is not None


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("https://garden.net", "https://garden.net"),
        ("HTTPS://Garden.NET/a?b=c#d", "https://garden.net/a?b=c"),
        ("https://garden.net:443/", "https://garden.net/"),
        ("https://garden.net:8443/", "https://garden.net:8443/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/"),
        ("https://bücher.net/", "https://xn--bcher-kva.net/"),
        ("https://under_score.garden.net/", "https://under_score.garden.net/"),
    ],
)
def test_everyday_urls_pass_in_their_normal_form(text: str, sent: str) -> None:
    assert str(checked_url(text, allow_private=False)) == sent


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garden.net",
        "//garden.net/",
        "https://",
        "https:///path",
        "http://garden.net/",
        "ftp://garden.net/",
        "file:///etc/passwd",
        "gopher://garden.net/",
        "javascript:alert(1)",
        "https://garden.net:22/",
        "https://garden.net:80/",
        "https://garden.net:0/",
        "https://garden.net:65536/",
        "https://garden.net:-1/",
        "https://garden.net:443443443443443443443443/",
        "https://rei@garden.net/",
        "https://rei:secret@garden.net/",
        "https://garden.net@127.0.0.1/",
        "https://garden.net:443@127.0.0.1/",
        "https://127.0.0.1\\@garden.net/",
        "https://2130706433/",
        "https://017700000001/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://127.0.0.1./",
        "https://127.0.0.01/",
        "https://0177.0.0.1/",
        "https://0x7f.0.0.1/",
        "https://garden.net.1/",
        "https://256.256.256.256/",
        "https://①②⑦.⓪.⓪.①/",
        "https://[::1%25lo]/",
        "https://[fe80::1%eth0]/",
        "https://[::1",
        "https://[v1.x]/",
        "https://[127.0.0.1]/",
        "https://gar den.net/",
        "https://gar\tden.net/",
        "https://garden.net\r\nHost: inside/",
        "https://garden%2enet/",
        "https://garden..net/",
        "https://" + "a" * 64 + ".net/",
        "https://" + "a." * 127 + "net/",
        "https://garden.net/" + "a" * 4096,
    ],
)
def test_urls_with_tricks_are_refused(text: str) -> None:
    with pytest.raises(RefusedUrl):
        checked_url(text, allow_private=False)


@pytest.mark.parametrize(
    "text", ["http://localhost:2582/x", "http://127.0.0.1:80/", "https://inside:22/", "http://[::1]:3100/", "http://pds/"]
)
def test_where_private_addresses_are_allowed_plain_http_and_any_port_are(text: str) -> None:
    assert str(checked_url(text, allow_private=True)).startswith(text.partition(":")[0])


@pytest.mark.parametrize(
    "text", ["ftp://localhost/", "http://rei@localhost/", "http://2130706433/", "http://localhost:0/", "http:///x"]
)
def test_where_private_addresses_are_allowed_tricks_are_not(text: str) -> None:
    with pytest.raises(RefusedUrl):
        checked_url(text, allow_private=True)
