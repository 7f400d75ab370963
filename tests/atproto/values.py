"""Hypothesis strategies for data-model values."""

from __future__ import annotations

from hypothesis import strategies as st

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import MAX_INTEGER, DataModel

RESERVED_KEYS = frozenset({"$link", "$bytes", "$type"})

cids: st.SearchStrategy[Cid] = st.builds(
    lambda raw, make: make(raw), st.binary(max_size=8), st.sampled_from([Cid.of_dag_cbor, Cid.of_raw])
)
integers = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.sampled_from(
    [edge + step for edge in (0, 24, 2**8, 2**16, 2**32) for step in (-1, 0, 1)]
)
keys = st.text(max_size=30).filter(lambda key: key not in RESERVED_KEYS)


def data_model_values(byte_strings: st.SearchStrategy[bytes]) -> st.SearchStrategy[DataModel]:
    """Values of every type, their byte strings drawn from the given strategy."""
    leaves: st.SearchStrategy[DataModel] = st.none() | st.booleans() | integers | st.text(max_size=300) | byte_strings | cids
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=30) | st.dictionaries(keys, inner, max_size=30),
        max_leaves=40,
    )


values = data_model_values(st.binary(max_size=300))
