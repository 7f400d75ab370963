"""The steps of a commit between which a victim can die."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """Where to die. Those of an unenroll count batches with one; all others count batches, or actors, with record writes."""

    BEFORE_APPEND = "before-append"
    INSIDE_APPEND = "inside-append"
    AFTER_APPEND = "after-append"
    BEFORE_APPLY = "before-apply"
    INSIDE_APPLY = "inside-apply"
    AFTER_APPLY = "after-apply"
    BETWEEN_APPLIES = "between-applies"
    UNENROLL_INSIDE_APPEND = "unenroll-inside-append"
    UNENROLL_AFTER_APPEND = "unenroll-after-append"
    BEFORE_DESTROY = "before-destroy"
    INSIDE_DESTROY = "inside-destroy"
    AFTER_DESTROY = "after-destroy"
    BEFORE_TRUNCATE = "before-truncate"
