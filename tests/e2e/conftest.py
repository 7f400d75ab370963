"""What end-to-end tests get: a real PDS and PLC directory."""

from tests.e2e.network import pds_network

__all__ = ["pds_network"]
