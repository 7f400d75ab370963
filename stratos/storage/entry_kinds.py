"""How the log table spells kinds of entries. The same numbers stand as literals in `sql`; 9 is an erased entry."""

from __future__ import annotations

from typing import Final

from stratos.core.log_entry import EntryKind

# All of one width in SQLite's record format (0 and 1 are narrower): an erased row must not change its size.
KIND_NUMBERS: Final = {EntryKind.COMMIT: 2, EntryKind.ENROLLMENT: 3}
KINDS: Final = {number: kind for kind, number in KIND_NUMBERS.items()}
