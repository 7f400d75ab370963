"""CIDs: the 36-byte value and its text."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multiformats import CID

from stratos.atproto.cid import CID_LENGTH, DAG_CBOR, RAW, Cid, InvalidCid
from tests.atproto.values import cids
from tests.vectors import interop

EMPTY_TREE = bytes.fromhex("a2616580616cf6")
EMPTY_TREE_CID = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"


def lines(name: str) -> list[str]:
    return [line for line in interop(name).read_text().splitlines() if line and not line.startswith("#")]


def test_cid_of_a_known_block_has_its_known_text() -> None:
    assert str(Cid.of_dag_cbor(EMPTY_TREE)) == EMPTY_TREE_CID
    assert Cid.parse(EMPTY_TREE_CID) == Cid.of_dag_cbor(EMPTY_TREE)


@given(st.binary(max_size=100), st.sampled_from(["dag-cbor", "raw"]))
def test_text_and_bytes_are_those_of_multiformats(content: bytes, codec: str) -> None:
    theirs = CID("base32", 1, codec, ("sha2-256", sha256(content).digest()))
    ours = Cid.of_raw(content) if codec == "raw" else Cid.of_dag_cbor(content)
    assert ours.bytes == bytes(theirs)
    assert str(ours) == str(theirs)
    assert ours.codec == theirs.codec.code
    assert ours.digest == theirs.raw_digest


@given(cids)
def test_text_reads_back_as_the_same_cid(cid: Cid) -> None:
    assert Cid.parse(str(cid)) == cid
    assert len({cid, Cid.parse(str(cid))}) == 1


@given(st.sampled_from([DAG_CBOR, RAW]), st.binary(min_size=32, max_size=32))
@example(RAW, bytes(32))
@example(DAG_CBOR, b"\xff" * 32)
def test_every_digest_has_a_text(codec: int, digest: bytes) -> None:
    cid = Cid(bytes((1, codec, 0x12, 0x20)) + digest)
    assert Cid.parse(str(cid)) == cid
    assert str(cid) == CID.decode(cid.bytes).encode("base32")


@given(st.text(max_size=70) | st.from_regex("b[a-z0-9]{58}", fullmatch=True))
def test_other_text_is_refused_or_is_canonical(text: str) -> None:
    try:
        cid = Cid.parse(text)
    except InvalidCid:
        return
    assert str(cid) == text


@pytest.mark.parametrize(
    "text", [EMPTY_TREE_CID.upper(), f"B{EMPTY_TREE_CID[1:]}", f"{EMPTY_TREE_CID}\n", f"{EMPTY_TREE_CID}=", ""]
)
def test_other_spellings_of_a_cid_are_refused(text: str) -> None:
    with pytest.raises(InvalidCid):
        Cid.parse(text)


@pytest.mark.parametrize("padding", [1, 2, 3])
def test_text_with_padding_bits_set_is_refused(padding: int) -> None:
    # The last of the 58 digits carries three bits of the digest and two of padding.
    following = chr(ord(EMPTY_TREE_CID[-1]) + padding)
    with pytest.raises(InvalidCid, match="canonical"):
        Cid.parse(EMPTY_TREE_CID[:-1] + following)


@pytest.mark.parametrize("prefix", ["01701220", "00711220", "01711320", "01711214", "01550020", "12200000"])
def test_other_versions_codecs_and_hashes_are_refused(prefix: str) -> None:
    with pytest.raises(InvalidCid):
        Cid(bytes.fromhex(prefix) + bytes(32))


@pytest.mark.parametrize("length", [0, 4, CID_LENGTH - 1, CID_LENGTH + 1])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(InvalidCid):
        Cid((Cid.of_raw(b"").bytes + b"\0")[:length])


def test_texts_that_are_no_cid_are_refused() -> None:
    for text in lines("syntax/cid_syntax_invalid.txt"):
        with pytest.raises(InvalidCid):
            Cid.parse(text)


def test_of_the_generic_cids_exactly_the_blessed_ones_are_read() -> None:
    """The generic vectors are of codecs, bases and hashes that data of the protocol may not link to."""
    for text in lines("syntax/cid_syntax_valid.txt"):
        with pytest.raises(InvalidCid):
            Cid.parse(text)
    assert str(Cid.parse("bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"))


def test_a_cid_matches_only_its_own_bytes() -> None:
    cid = Cid.of_dag_cbor(EMPTY_TREE)
    assert cid.matches(EMPTY_TREE)
    assert not cid.matches(EMPTY_TREE + b"\0")


def test_cids_are_ordered_by_their_bytes_and_unequal_to_other_things() -> None:
    raw, tree = Cid.of_raw(b""), Cid.of_dag_cbor(b"")
    assert sorted([tree, raw]) == [raw, tree]
    assert raw != raw.bytes
    assert repr(tree) == f"Cid({tree})"
