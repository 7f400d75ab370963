"""Language tags (BCP 47): well-formedness as RFC 5646 §2.1, and no subtag given twice (§2.2.9).

The primary language is wanted in lower case, as the protocol's interoperability vectors have it; other subtags ignore case.
"""

from __future__ import annotations

import re
from typing import Final

MAX_LANGUAGE_LENGTH: Final = 128

_is_common = re.compile("[a-z]{2,3}(?:-[A-Z]{2})?").fullmatch
_is_well_formed = re.compile(
    "[a-z]{2,3}(?:-(?i:[a-z]{3})){0,3}"  # language with extended languages; none of four letters or more is registered
    "(?:-(?i:[a-z]{4}))?"  # script
    "(?:-(?i:[a-z]{2}|[0-9]{3}))?"  # region
    "(?P<variants>(?:-(?i:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*)"
    "(?P<extensions>(?:-(?i:[0-9a-wy-z](?:-[a-z0-9]{2,8})+))*)"
    "(?:-(?i:x(?:-[a-z0-9]{1,8})+))?"  # private use
).fullmatch
_is_private = re.compile("(?i:x(?:-[a-z0-9]{1,8})+)").fullmatch
_IRREGULAR: Final = frozenset(
    {
        "en-gb-oed",
        "i-ami",
        "i-bnn",
        "i-default",
        "i-enochian",
        "i-hak",
        "i-klingon",
        "i-lux",
        "i-mingo",
        "i-navajo",
        "i-pwn",
        "i-tao",
        "i-tay",
        "i-tsu",
        "sgn-be-fr",
        "sgn-be-nl",
        "sgn-ch-de",
        "art-lojban",
        "cel-gaulish",
        "no-bok",
        "no-nyn",
        "zh-guoyu",
        "zh-hakka",
        "zh-min",
        "zh-min-nan",
        "zh-xiang",
    }
)
"""Grandfathered tags of RFC 5646, in lower case."""


def is_language_tag(text: str) -> bool:
    """Whether the text is a usable language tag."""
    if _is_common(text):
        return True
    if len(text) > MAX_LANGUAGE_LENGTH:
        return False
    found = _is_well_formed(text)
    if found is None:
        return _is_private(text) is not None or (text.lower() in _IRREGULAR and text[:1].islower())
    variants = found["variants"].lower().split("-")[1:]
    singletons = [part for part in found["extensions"].lower().split("-") if len(part) == 1]
    return len(set(variants)) == len(variants) and len(set(singletons)) == len(singletons)
