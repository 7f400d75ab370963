"""What can go wrong when an identity is looked up."""

from __future__ import annotations


class IdentityError(Exception):
    """An identity cannot be told; the message says whose and why.

    It is for logs: a stranger could learn from it what our name servers know of our own network.
    """


class DidNotFound(IdentityError):
    """There is no such DID: its directory or host says so, or we resolve none of its kind. Asking again will not help."""


class IdentityUnavailable(IdentityError):
    """Nobody could be asked, or what came back was unusable, and no earlier answer is young enough. Asking later may help."""
