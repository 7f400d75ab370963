"""AT Protocol primitives: identifiers, DAG-CBOR, CAR, MST, commits, keys, frames, lexicons. Pure: no I/O, no trio."""
