"""Hostile repositories: CAR files that are cut, flipped, forged or bent, and trees that their owner signed and must not have."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256, sha512
from typing import Final

from stratos.atproto.car import encode_block, encode_header
from stratos.atproto.cid import Cid
from stratos.atproto.commit import sign_commit
from stratos.atproto.dag_cbor import DataModel, encode
from stratos.atproto.keys import Curve, SigningKey
from stratos.atproto.mst import EMPTY_MST_ROOT, Mst
from stratos.atproto.mst_node import EMPTY_NODE, encode_node, key_height
from stratos.atproto.syntax import Did, Tid
from tests.wire.service import POST, post

ACTOR: Final = Did("did:plc:carsactor")
REV: Final = Tid("3m2qrrgw22222")
KEY: Final = SigningKey.from_raw(Curve.P256, sha256(b"the actor's key").digest())
OTHER_KEY: Final = SigningKey.from_raw(Curve.P256, sha256(b"another key").digest())
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
POSTS: Final = 40
FLIPS: Final = 120
SEED: Final = 2026


@dataclass(frozen=True, slots=True)
class HostileCar:
    """A file that must not be believed, and what the refusal must name: one of these texts, in any case."""

    name: str
    data: bytes
    names: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Repository:
    """A proper repository: its commit, its blocks in the file's order, the nodes among them."""

    commit: Cid
    blocks: Mapping[Cid, bytes]
    tree: Cid
    nodes: tuple[Cid, ...]
    records: tuple[Cid, ...]

    def car(self, without: Cid | None = None) -> bytes:
        """The file, or one that lacks a block."""
        return encode_header(self.commit) + b"".join(encode_block(c, b) for c, b in self.blocks.items() if c != without)


@cache
def repository() -> Repository:
    """The repository that everything here is made from."""
    tree = Mst.empty()
    records: dict[Cid, bytes] = {}
    for number in range(POSTS):
        block = encode(_data(post(f"post {number}")))
        cid = Cid.of_dag_cbor(block)
        records[cid] = block
        tree.put(f"{POST}/3m2qrrgw2{number:04d}".replace("0", "a").replace("1", "b").replace("8", "c").replace("9", "d"), cid)
    change = tree.change()
    commit = sign_commit(ACTOR, REV, change.root, KEY)
    nodes = dict(change.created)
    blocks = {commit.cid: commit.block, **nodes, **records}
    return Repository(commit.cid, blocks, change.root, tuple(nodes), tuple(records))


def byte_cases() -> Iterator[HostileCar]:
    """A proper file cut at every seam and beside it, with single bits turned over, with bytes added."""
    whole = repository().car()
    faults = ("truncated", "missing", "larger", "longer", "cid", "car", "header", "root", "commit", "block", "hash", "dag-cbor")
    for at in sorted({edge + beside for edge in _seams(repository())[:-1] for beside in (-1, 0, 1)} - {-1}):
        yield HostileCar(f"cut at {at}", whole[:at], faults)
    rng = random.Random(SEED)
    for at in sorted(rng.sample(range(len(whole)), FLIPS)):
        flipped = bytes([whole[at] ^ 1 << rng.randrange(8)])
        yield HostileCar(f"flipped at {at}", whole[:at] + flipped + whole[at + 1 :], faults)
    for label, tail in (
        ("NUL", b"\x00"),
        ("0x80", b"\x80"),
        ("a half section", b"\x30" + bytes(20)),
        ("text", b"\r\n"),
        ("itself", whole),
    ):
        yield HostileCar(f"followed by {label}", whole + tail, faults)
    yield HostileCar("preceded by NUL", b"\x00" + whole, faults)
    yield HostileCar("not even that", b"<html></html>", faults)


def header_cases() -> Iterator[HostileCar]:
    """Headers that are none, and roots that lead elsewhere."""
    good = repository()
    body = good.car()[len(encode_header(good.commit)) :]
    for label, value in (
        ("version 2", {"version": 2, "roots": [good.commit]}),
        ("version 0", {"version": 0, "roots": [good.commit]}),
        ("version text", {"version": "1", "roots": [good.commit]}),
        ("version true", {"version": True, "roots": [good.commit]}),
        ("no version", {"roots": [good.commit]}),
        ("no roots", {"version": 1}),
        ("roots null", {"version": 1, "roots": None}),
        ("roots a link", {"version": 1, "roots": good.commit}),
        ("a root of text", {"version": 1, "roots": [str(good.commit)]}),
        ("a root of bytes", {"version": 1, "roots": [good.commit.bytes]}),
        ("no root", {"version": 1, "roots": []}),
        ("two roots", {"version": 1, "roots": [good.commit, good.tree]}),
        ("the same root twice", {"version": 1, "roots": [good.commit, good.commit]}),
        ("200 roots", {"version": 1, "roots": [good.commit] * 200}),
        ("the tree as root", {"version": 1, "roots": [good.tree]}),
        ("a record as root", {"version": 1, "roots": [good.records[0]]}),
        ("an absent root", {"version": 1, "roots": [Cid.of_dag_cbor(b"\xa0")]}),
        ("a raw root", {"version": 1, "roots": [Cid.of_raw(good.blocks[good.commit])]}),
        ("a list", [1, [good.commit]]),
        ("null", None),
    ):
        yield HostileCar(f"header: {label}", _section(encode(_data(value))) + body, ("header", "root", "commit"))
    for label, header in (
        ("empty", b""),
        ("no CBOR", b"\xff\xff\xff"),
        ("indefinite", b"\xbf" + encode({"version": 1, "roots": [good.commit]})[1:] + b"\xff"),
        ("unsorted", b"\xa2" + encode("version") + b"\x01" + encode("roots") + encode([good.commit])),
        ("doubled", b"\xa3" + encode("roots") + encode([good.commit]) + encode("roots") + b"\x80" + encode("version") + b"\x01"),
        ("float", b"\xa2" + encode("roots") + encode([good.commit]) + encode("version") + b"\xf9\x3c\x00"),
        ("trailing", encode({"version": 1, "roots": [good.commit]}) + b"\x00"),
        ("huge", encode({"version": 1, "roots": [good.commit], "pad": "x" * 10_000})),
        ("deep", b"\x81" * 5000 + b"\xf6"),
        (
            "a CID without its zero",
            b"\xa2" + encode("roots") + b"\x81\xd8\x2a\x58\x24" + good.commit.bytes + encode("version") + b"\x01",
        ),
    ):
        yield HostileCar(f"header: {label}", _section(header) + body, ("header",))


def section_cases() -> Iterator[HostileCar]:
    """Sections with lengths and CIDs that do not fit."""
    good = repository()
    header = encode_header(good.commit)
    block = good.blocks[good.commit]
    for label, section in (
        ("length 0", b"\x00"),
        ("shorter than a CID", _section(good.commit.bytes[:-1])),
        ("no CID", _section(b"\x00" * 40)),
        ("length of ten bytes", b"\xff" * 9 + b"\x01" + bytes(10)),
        ("length without end", b"\xff" * 40),
        ("length in too many bytes", b"\x80\x00" + good.commit.bytes),
        ("larger than allowed", b"\xff\xff\xff\x7f" + good.commit.bytes),
        ("2^63", b"\xff" * 8 + b"\x7f" + good.commit.bytes),
        ("CIDv0", _section(b"\x12\x20" + sha256(block).digest() + block)),
        ("CIDv2", _section(b"\x02\x71\x12\x20" + sha256(block).digest() + block)),
        ("SHA-512", _section(b"\x01\x71\x13\x40" + sha512(block).digest() + block)),
        ("identity", _section(b"\x01\x71\x00" + bytes([len(block) % 128]) + block)),
        ("digest of 31 bytes", _section(b"\x01\x71\x12\x1f" + sha256(block).digest()[:31] + block)),
        ("unknown codec", _section(b"\x01\x70\x12\x20" + sha256(block).digest() + block)),
        ("raw instead of dag-cbor", encode_block(Cid.of_raw(block), block)),
        ("another block's CID", encode_block(good.commit, good.blocks[good.tree])),
        ("an empty block", encode_block(good.commit, b"")),
    ):
        rest = b"".join(encode_block(cid, other) for cid, other in good.blocks.items() if cid != good.commit)
        yield HostileCar(
            f"section: {label}", header + section + rest, ("cid", "length", "larger", "section", "missing", "truncated", "says")
        )
    for what, cids in (("commit", (good.commit,)), ("node", good.nodes), ("record", good.records)):
        for place, cid in enumerate(cids[:8]):
            yield HostileCar(f"without {what} {place}", good.car(without=cid), ("missing",))


def commit_cases() -> Iterator[HostileCar]:
    """Commits that are not what they should be; those that can be are signed with the right key."""
    good = repository()
    right: dict[str, DataModel] = {"did": ACTOR, "rev": REV, "data": good.tree, "prev": None, "version": 3}
    for label, changes in (
        ("another DID", {"did": "did:plc:another"}),
        ("no DID", {"did": "x"}),
        ("a DID of bytes", {"did": b"did:plc:carsactor"}),
        ("version 2", {"version": 2}),
        ("version text", {"version": "3"}),
        ("no rev", {"rev": ""}),
        ("a rev that is none", {"rev": "2026-05-28"}),
        ("a rev of numbers", {"rev": 1}),
        ("data null", {"data": None}),
        ("data text", {"data": str(good.tree)}),
        ("a record as data", {"data": good.records[0]}),
        ("a raw link as data", {"data": Cid.of_raw(b"")}),
        ("absent data", {"data": Cid.of_dag_cbor(b"\xa0")}),
        ("prev text", {"prev": "x"}),
        ("one field more", {"extra": 1}),
    ):
        unsigned = {**right, **_data_map(changes)}
        yield HostileCar(
            f"commit: {label}", _committed({**unsigned, "sig": KEY.sign(encode(unsigned))}), ("commit", "missing", "node", "cid")
        )
    for field in right:
        unsigned = {name: value for name, value in right.items() if name != field}
        yield HostileCar(f"commit without {field}", _committed({**unsigned, "sig": KEY.sign(encode(unsigned))}), ("commit",))
    sig = KEY.sign(encode(right))
    for label, bad in (
        ("none", b""),
        ("NULs", bytes(64)),
        ("63 bytes", sig[:-1]),
        ("65 bytes", sig + b"\x00"),
        ("swapped halves", sig[32:] + sig[:32]),
        ("high S", sig[:32] + (P256_ORDER - int.from_bytes(sig[32:], "big")).to_bytes(32, "big")),
        ("another key's", OTHER_KEY.sign(encode(right))),
        ("another commit's", KEY.sign(encode({**right, "rev": "3m2qrrgw22223"}))),
        ("of itself", KEY.sign(b"")),
        ("the order", P256_ORDER.to_bytes(32, "big") * 2),
        ("DER", b"\x30\x44\x02\x20" + sig[:32] + b"\x02\x20" + sig[32:]),
    ):
        yield HostileCar(f"signature: {label}", _committed({**right, "sig": bad}), ("signed",))
    yield HostileCar("signature: text", _committed({**right, "sig": "x"}), ("commit",))
    yield HostileCar("signature: absent", _committed(right), ("commit",))


def tree_cases() -> Iterator[HostileCar]:
    """Trees that are not canonical, though their owner signed them."""
    low = _keys(0)
    record = repository().records[0]
    yield _signed("keys out of order", _node(_entry(low[1], record), _entry(low[0], record)))
    yield _signed("one key twice", _node(_entry(low[0], record), _entry(low[0], record)))
    yield _signed("a prefix that could be longer", _node(_entry(low[0], record), _raw_entry(0, low[1].encode(), record)))
    yield _signed("a prefix longer than the key", _node(_raw_entry(5, low[0].encode(), record)))
    yield _signed("a negative prefix", _node(_raw_entry(-1, low[0].encode(), record)))
    yield _signed("a huge prefix", _node(_entry(low[0], record), _raw_entry(2**40, b"x", record)))
    yield _signed("a key of text", _node({**_entry(low[0], record), "k": low[0]}))
    for label, key in (
        ("no slash", b"zone.stratos.feed.post"),
        ("two slashes", b"a/b/c"),
        ("empty", b""),
        ("no rkey", b"zone.stratos.feed.post/"),
        ("no collection", b"/3m2qrrgw22222"),
        ("no UTF-8", b"\xff/\xff"),
        ("NUL", b"a/\x00"),
        ("a space", b"a/b c"),
        ("too long", b"a/" + b"b" * 2000),
    ):
        yield _signed(f"a key with {label}", _node(_raw_entry(0, key, record)))
    yield _signed("a value of text", _node({**_entry(low[0], record), "v": str(record)}))
    yield _signed("no value", _node({name: item for name, item in _entry(low[0], record).items() if name != "v"}))
    yield _signed("one field more in an entry", _node({**_entry(low[0], record), "x": 1}))
    yield _signed("a subtree of text", _node({**_entry(low[0], record), "t": "x"}))
    yield _signed("an entry of null", encode({"e": [None], "l": None}))
    yield _signed("entries of null", encode({"e": None, "l": None}))
    yield _signed("no entries", encode({"l": None}))
    yield _signed("no left", encode({"e": []}))
    yield _signed("one field more", encode({"e": [_entry(low[0], record)], "l": None, "x": 1}))
    yield _signed("a list", encode([]))
    yield _signed("a record for a node", repository().blocks[record])
    yield _signed("no CBOR", b"\xff\xff")
    yield _signed("nothing", b"")
    canonical = _node(_entry(low[0], record))
    yield _signed("bytes after a node", canonical + b"\x00")
    yield _signed("an indefinite list", canonical.replace(b"ae\x81", b"ae\x9f", 1).replace(b"al\xf6", b"\xffal\xf6", 1))
    yield _signed("an unsorted map", b"\xa2" + encode("l") + b"\xf6" + encode("e") + b"\x80")
    empty = encode_node(EMPTY_NODE)
    yield _signed("an empty subtree", _node(_entry(low[0], record), left=EMPTY_MST_ROOT), empty)
    yield _signed("a subtree below layer 0", _node(_entry(low[0], record), left=Cid.of_dag_cbor(canonical)), canonical)
    high = _keys(1)
    below = _node(_entry(high[0], record))
    yield _signed("a key in a layer that is not its own", _node(_entry(high[0], record), _entry(low[-1], record)))
    yield _signed("a subtree of the same layer", _node(_entry(high[1], record), left=Cid.of_dag_cbor(below)), below)
    leaf = _node(_entry(low[-1], record))
    yield _signed("a subtree on the wrong side", _node(_entry(high[0], record), left=Cid.of_dag_cbor(leaf)), leaf)
    useless = encode({"e": [], "l": Cid.of_dag_cbor(canonical)})
    yield _signed("a root without entries", useless, canonical)
    yield _signed("a node that leads to nothing", _node(_entry(high[0], record), left=Cid.of_dag_cbor(b"\xa0")), b"\xa0")
    yield _deep("a chain of 500 nodes", 500)
    yield _bomb("a tree that repeats itself", 40)
    yield _signed("an absent record", _node(_entry(low[0], Cid.of_dag_cbor(b"\x01"))))
    for label, block in (
        ("a list", b"\x80"),
        ("null", b"\xf6"),
        ("no CBOR", b"\xff"),
        ("a float", b"\xa1\x61a\xf9\x3c\x00"),
        ("NaN", b"\xa1\x61a\xf9\x7e\x00"),
        ("undefined", b"\xa1\x61a\xf7"),
        ("another tag", b"\xa1\x61a\xc1\x00"),
        ("an unsorted map", b"\xa2\x62bb\x00\x61a\x00"),
        ("a doubled key", b"\xa2\x61a\x00\x61a\x00"),
        ("a key that is no text", b"\xa1\x00\x00"),
        ("an integer in a longer form", b"\xa1\x61a\x18\x00"),
        ("no UTF-8", b"\xa1\x61a\x61\xff"),
        ("bytes after it", b"\xa0\x00"),
        ("100,000 lists", b"\x81" * 100_000 + b"\xf6"),
        ("half of it", b"\xa1\x61a"),
        ("a length of 2^60", b"\xa1\x61a\x7b" + b"\x10" + bytes(7)),
    ):
        cid = Cid.of_dag_cbor(block)
        yield _signed(f"a record of {label}", _node(_entry(low[0], cid)), block)


def _deep(label: str, depth: int) -> HostileCar:
    """Nodes without entries that lead ever further down."""
    blocks = [_node(_entry(_keys(0)[0], repository().records[0]))]
    for _ in range(depth):
        blocks.append(encode({"e": [], "l": Cid.of_dag_cbor(blocks[-1])}))
    return _signed(label, blocks[-1], *blocks[:-1])


def _bomb(label: str, depth: int) -> HostileCar:
    """Each node leads to the next one twice, so that who follows every link never ends."""
    blocks = [_node(_entry(_keys(0)[0], repository().records[0]))]
    for layer in range(1, depth):
        link = Cid.of_dag_cbor(blocks[-1])
        key = _keys(min(layer, 3))[0]
        blocks.append(_node({**_entry(key, repository().records[0]), "t": link}, left=link))
    return _signed(label, blocks[-1], *blocks[:-1])


def _signed(label: str, root: bytes, *others: bytes) -> HostileCar:
    """A file with a properly signed commit over this root node."""
    commit = sign_commit(ACTOR, REV, Cid.of_dag_cbor(root), KEY)
    record = repository().records[0]
    blocks = [commit.block, root, *others, repository().blocks[record]]
    data = encode_header(commit.cid) + b"".join(encode_block(Cid.of_dag_cbor(block), block) for block in blocks)
    names = ("node", "key", "tree", "root", "missing", "subtree", "entr", "layer", "post", "byte")
    return HostileCar(f"tree: {label}", data, names)


def _committed(commit: Mapping[str, DataModel]) -> bytes:
    block = encode(dict(commit))
    cid = Cid.of_dag_cbor(block)
    rest = ((other, content) for other, content in repository().blocks.items() if other != repository().commit)
    return encode_header(cid) + encode_block(cid, block) + b"".join(encode_block(other, content) for other, content in rest)


@cache
def _keys(height: int) -> Sequence[str]:
    """Some keys of one layer, ascending."""
    candidates = (f"{POST}/3m2qrrgw{number:05d}".translate(str.maketrans("0189", "abcd")) for number in range(20_000))
    found = [key for key in candidates if key_height(key.encode()) == height]
    return sorted(found)[:5]


def _entry(key: str, value: Cid) -> dict[str, DataModel]:
    return _raw_entry(0, key.encode(), value)


def _raw_entry(prefix: int, key: bytes, value: Cid) -> dict[str, DataModel]:
    return {"k": key, "p": prefix, "t": None, "v": value}


def _node(*entries: dict[str, DataModel], left: Cid | None = None) -> bytes:
    return encode({"e": list(entries), "l": left})


def _seams(good: Repository) -> list[int]:
    """Where the header and every section end."""
    ends = [0, len(encode_header(good.commit))]
    for cid, block in good.blocks.items():
        ends.append(ends[-1] + len(encode_block(cid, block)))
    return ends


def _section(content: bytes) -> bytes:
    length, octets = len(content), bytearray()
    while length > 0x7F:
        octets.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*octets, length]) + content


def _data(value: object) -> DataModel:
    """A value that is in the data model, for the type checker."""
    if value is None or isinstance(value, bool | int | str | bytes | Cid):
        return value
    if isinstance(value, list):
        return [_data(item) for item in value]
    assert isinstance(value, dict)
    return {str(name): _data(item) for name, item in value.items()}


def _data_map(value: Mapping[str, object]) -> dict[str, DataModel]:
    return {name: _data(item) for name, item in value.items()}
