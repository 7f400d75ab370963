"""CAR files: reading untrusted ones in chunks, and writing ours."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.car import MAX_BLOCK_BYTES, Car, CarDecoder, InvalidCar, encode_block, encode_header, read_car
from stratos.atproto.cid import CID_LENGTH, Cid
from stratos.atproto.dag_cbor import decode, encode
from tests.vectors import reference

BLOCKS = [encode({"n": number, "pad": "x" * number}) for number in range(0, 300, 50)]
CIDS = [Cid.of_dag_cbor(block) for block in BLOCKS]
FILE = encode_header(CIDS[0]) + b"".join(map(encode_block, CIDS, BLOCKS))


def varint(number: int) -> bytes:
    octets = []
    while number > 127:
        octets.append(number % 128 + 128)
        number //= 128
    return bytes([*octets, number])


def section(content: bytes) -> bytes:
    return varint(len(content)) + content


def read_in_chunks(data: bytes, cuts: list[int], decoder: CarDecoder) -> list[tuple[Cid, bytes]]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found: list[tuple[Cid, bytes]] = []
    for start, end in pairwise(edges):
        found.extend(decoder.feed(data[start:end]))
    decoder.finish()
    return found


# --- recorded files ---

VALID_FILES = [
    ("valid/repo-after-step1.car", 84),
    ("valid/repo-after-step2.car", 218),
    ("valid/repo-after-step3.car", 226),
    ("valid/sync.getRecord-3lvalidah2222.car", 7),
    ("valid/sync.getRecord-3lvalidau2222.car", 7),
]


@pytest.mark.parametrize(("name", "count"), VALID_FILES)
def test_every_block_of_a_valid_recording_is_what_its_cid_says_and_canonical(name: str, count: int) -> None:
    car = read_car(reference(name).read_bytes())
    assert len(car.blocks) == count
    (root,) = car.roots
    commit = decode(car.blocks[root])
    assert isinstance(commit, dict)
    assert commit["version"] == 3
    for cid, block in car.blocks.items():
        assert Cid.of_dag_cbor(block) == cid
        assert encode(decode(block)) == block


@pytest.mark.parametrize(("name", "count", "wrong"), [("repo.car", 149, 42), ("sync.getRecord.car", 5, 1)])
def test_in_the_faulty_recordings_exactly_the_singly_created_records_do_not_match_their_cids(
    name: str, count: int, wrong: int
) -> None:
    """Their CID is that of a byte string around the record; the reader refuses the file unless told to leave the check to us."""
    data = reference(name).read_bytes()
    car = read_car(data, verify=False)
    assert len(car.blocks) == count
    mismatched = {cid: block for cid, block in car.blocks.items() if not cid.matches(block)}
    created = json.loads(reference("createRecord.requests-and-responses.json").read_text())
    assert len(mismatched) == wrong
    assert {str(cid) for cid in mismatched} <= {entry["response"]["cid"] for entry in created}
    for cid, block in mismatched.items():
        record = decode(block)
        assert isinstance(record, dict)
        assert record["$type"] == "zone.stratos.feed.post"
        assert Cid.of_dag_cbor(encode(block)) == cid
    with pytest.raises(InvalidCar, match="not what its CID"):
        read_car(data)


def test_the_roots_of_a_recording_are_known_before_its_blocks() -> None:
    data = reference("valid/repo-after-step1.car").read_bytes()
    decoder = CarDecoder()
    roots = [decoder.roots]
    for chunk in (data[:58], data[58:59]):
        assert list(decoder.feed(chunk)) == []
        roots.append(decoder.roots)
    assert roots == [None, None, read_car(data).roots]


# --- writing and reading ---


def test_a_written_file_reads_back_in_order() -> None:
    car = read_car(FILE)
    assert car == Car((CIDS[0],), dict(zip(CIDS, BLOCKS, strict=True)))
    assert list(car.blocks) == CIDS


@given(st.lists(st.integers(0, len(FILE)), max_size=30))
def test_the_chunks_do_not_matter(cuts: list[int]) -> None:
    assert read_in_chunks(FILE, cuts, CarDecoder()) == list(zip(CIDS, BLOCKS, strict=True))


def test_a_file_may_come_byte_by_byte() -> None:
    assert read_in_chunks(FILE, list(range(len(FILE))), CarDecoder()) == list(zip(CIDS, BLOCKS, strict=True))


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0, 3000), max_size=8))
def test_any_blocks_raw_or_empty_are_carried(contents: list[bytes], cuts: list[int]) -> None:
    blocks = [(Cid.of_raw(content), content) for content in contents]
    data = encode_header(Cid.of_raw(b"root")) + b"".join(encode_block(cid, block) for cid, block in blocks)
    assert read_in_chunks(data, cuts, CarDecoder()) == blocks


@pytest.mark.parametrize("roots", [[], CIDS[:1], CIDS[:3]])
def test_no_root_and_several_roots_are_shown_to_the_caller(roots: list[Cid]) -> None:
    data = section(encode({"version": 1, "roots": roots})) + encode_block(CIDS[0], BLOCKS[0])
    assert read_car(data) == Car(tuple(roots), {CIDS[0]: BLOCKS[0]})


def test_a_file_may_hold_no_block_and_the_same_block_twice() -> None:
    assert read_car(encode_header(CIDS[0])) == Car((CIDS[0],), {})
    twice = encode_header(CIDS[0]) + encode_block(CIDS[0], BLOCKS[0]) * 2
    assert read_car(twice).blocks == {CIDS[0]: BLOCKS[0]}
    assert len(list(CarDecoder().feed(twice))) == 2


def test_what_an_abandoned_iterator_did_not_give_the_next_one_gives() -> None:
    decoder = CarDecoder()
    assert next(decoder.feed(FILE)) == (CIDS[0], BLOCKS[0])
    assert [cid for cid, _ in decoder.feed(b"")] == CIDS[1:]
    decoder.finish()


def test_finishing_a_complete_file_gives_its_roots() -> None:
    decoder = CarDecoder()
    list(decoder.feed(FILE))
    assert decoder.finish() == (CIDS[0],)


# --- limits ---


def test_a_block_of_the_greatest_size_is_read_and_a_greater_one_refused_at_its_length() -> None:
    header = encode_header(CIDS[0])
    largest = bytes(100)
    assert dict(CarDecoder(max_block_bytes=100).feed(header + encode_block(Cid.of_raw(largest), largest)))
    decoder = CarDecoder(max_block_bytes=100)
    with pytest.raises(InvalidCar, match="a block of 137 bytes is larger than 136"):
        list(decoder.feed(header + varint(CID_LENGTH + 101)))


def test_a_header_of_the_greatest_size_is_read_and_a_greater_one_refused_at_its_length() -> None:
    header = encode_header(CIDS[0])
    assert list(CarDecoder(max_header_bytes=len(header) - 1).feed(header)) == []
    with pytest.raises(InvalidCar, match="a header of 58 bytes is larger than 57"):
        list(CarDecoder(max_header_bytes=len(header) - 2).feed(header[:1]))


@pytest.mark.parametrize("length", [MAX_BLOCK_BYTES + CID_LENGTH + 1, 2**32, 2**62])
def test_a_hostile_length_costs_no_memory(length: int) -> None:
    decoder = CarDecoder()
    tracemalloc.start()
    try:
        with pytest.raises(InvalidCar, match="larger than"):
            list(decoder.feed(encode_header(CIDS[0]) + varint(length)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024


def test_no_more_than_one_incomplete_block_is_held() -> None:
    content = bytes(1024)
    sections = encode_block(Cid.of_raw(content), content)
    decoder = CarDecoder()
    list(decoder.feed(encode_header(CIDS[0])))
    tracemalloc.start()
    try:
        for _ in range(500):
            for start in range(0, len(sections), 100):
                list(decoder.feed(sections[start : start + 100]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024


# --- malformed ---

HEADER = encode_header(CIDS[0])


def other_cid(prefix: str) -> bytes:
    return bytes.fromhex(prefix) + CIDS[0].digest + BLOCKS[0]


MALFORMED = [
    (b"", "inside its header"),
    (HEADER[:-1], "inside its header"),
    (b"\x80", "inside its header"),
    (FILE[:-1], "inside a block"),
    (HEADER + b"\x80", "inside a block"),
    (HEADER + b"\x30", "inside a block"),
    (b"\x00", "header is not DAG-CBOR"),
    (section(b"\xff"), "header is not DAG-CBOR"),
    (section(encode({"version": 1, "roots": []}) + b"\x00"), "header is not DAG-CBOR"),
    (section(b"\xa2\x67version\x01\x65roots\x80"), "header is not DAG-CBOR"),
    (section(encode([])), "not that of a CAR file of version 1"),
    (section(encode({"roots": []})), "not that of a CAR file of version 1"),
    (section(encode({"version": 2, "roots": []})), "not that of a CAR file of version 1"),
    (section(encode({"version": True, "roots": []})), "not that of a CAR file of version 1"),
    (section(encode({"version": "1", "roots": []})), "not that of a CAR file of version 1"),
    (bytes.fromhex("0aa16776657273696f6e02") + bytes(100), "not that of a CAR file of version 1"),
    (section(encode({"version": 1})), "no list of roots"),
    (section(encode({"version": 1, "roots": None})), "no list of roots"),
    (section(encode({"version": 1, "roots": {"a": CIDS[0]}})), "no list of roots"),
    (section(encode({"version": 1, "roots": [None]})), "not a link"),
    (section(encode({"version": 1, "roots": [CIDS[0], str(CIDS[0])]})), "not a link"),
    (b"\xba\x00" + HEADER[1:], "longer form than needed"),
    (HEADER + b"\x80\x00", "longer form than needed"),
    (HEADER + b"\xff" * 9, "more than 9 bytes"),
    (b"\xff" * 100, "more than 9 bytes"),
    (HEADER + b"\x00", "0 bytes is too short"),
    (HEADER + section(CIDS[0].bytes[:35]), "35 bytes is too short"),
    (HEADER + section(other_cid("01701220")), "unusable CID"),
    (HEADER + section(other_cid("01711320")), "unusable CID"),
    (HEADER + section(other_cid("00711220")), "unusable CID"),
    (HEADER + section(other_cid("1220")), "unusable CID"),
    (HEADER + section(bytes.fromhex("01550005") + b"hello" + bytes(40)), "unusable CID"),
    (HEADER + encode_block(CIDS[0], BLOCKS[1]), "not what its CID"),
    (HEADER + encode_block(CIDS[0], b""), "not what its CID"),
    (FILE + bytes(1), "0 bytes is too short"),
]


@pytest.mark.parametrize(("data", "message"), MALFORMED)
def test_malformed_files_are_refused_by_what_is_wrong_with_them(data: bytes, message: str) -> None:
    with pytest.raises(InvalidCar, match=message):
        read_car(data)


@pytest.mark.parametrize(("data", "message"), MALFORMED)
def test_malformed_files_are_refused_byte_by_byte_too(data: bytes, message: str) -> None:
    with pytest.raises(InvalidCar, match=message):
        read_in_chunks(data, list(range(len(data))), CarDecoder())


def test_blocks_before_a_fault_are_given_and_nothing_after_it() -> None:
    decoder = CarDecoder()
    given_blocks = decoder.feed(FILE + encode_block(CIDS[0], b"") + encode_block(CIDS[1], BLOCKS[1]))
    for expected in CIDS:
        assert next(given_blocks)[0] == expected
    with pytest.raises(InvalidCar, match="not what its CID"):
        next(given_blocks)
    with pytest.raises(InvalidCar, match="not what its CID"):
        decoder.feed(b"")
    with pytest.raises(InvalidCar, match="not what its CID"):
        decoder.finish()


def test_a_decoder_that_found_its_file_truncated_takes_no_more() -> None:
    decoder = CarDecoder()
    list(decoder.feed(FILE[:-1]))
    with pytest.raises(InvalidCar, match="truncated"):
        decoder.finish()
    with pytest.raises(InvalidCar, match="truncated"):
        decoder.feed(FILE[-1:])


@given(st.integers(0, len(FILE)), st.integers(0, 3), st.binary(max_size=3), st.lists(st.integers(0, len(FILE)), max_size=5))
def test_changed_files_are_refused_or_every_block_is_what_its_cid_says(
    at: int, removed: int, inserted: bytes, cuts: list[int]
) -> None:
    data = FILE[:at] + inserted + FILE[at + removed :]
    try:
        found = read_in_chunks(data, cuts, CarDecoder())
    except InvalidCar:
        return
    assert all(cid.matches(block) for cid, block in found)


@given(st.binary(max_size=100), st.lists(st.integers(0, 100), max_size=5))
def test_random_bytes_are_refused_the_same_way_in_any_chunks(data: bytes, cuts: list[int]) -> None:
    with pytest.raises(InvalidCar) as whole:
        read_car(data)
    with pytest.raises(InvalidCar) as in_chunks:
        read_in_chunks(data, cuts, CarDecoder())
    assert str(whole.value) == str(in_chunks.value)
