"""The Quart-Trio XRPC layer: one module per method family."""
