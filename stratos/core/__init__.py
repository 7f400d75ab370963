"""Stratos rules: boundaries, access, attestation, post validation, stubs, log entries. Pure: no I/O, no trio."""
