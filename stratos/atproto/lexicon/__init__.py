"""Lexicons: reading schema documents, and checking records, parameters and bodies against them.

`Lexicons` is the way in. Why it is our own: docs/adr/0003-own-lexicon-checker.md.
"""

from stratos.atproto.lexicon.catalogue import Lexicons
from stratos.atproto.lexicon.errors import InvalidLexicon, LexiconError, UnknownLexicon
from stratos.atproto.lexicon.methods import MethodDef, ParamValue
from stratos.atproto.lexicon.schema import MethodKind

__all__ = ["InvalidLexicon", "LexiconError", "Lexicons", "MethodDef", "MethodKind", "ParamValue", "UnknownLexicon"]
