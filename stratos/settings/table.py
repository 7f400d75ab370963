"""The table of all settings, written from the models: `python -m stratos.settings.table > docs/SETTINGS.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from stratos.settings.appview import AppviewSettings
from stratos.settings.indexer import IndexerSettings
from stratos.settings.loading import variables
from stratos.settings.service import ServiceSettings
from stratos.settings.values import Kind

MODELS: Final[Mapping[str, type[BaseSettings]]] = {"serve": ServiceSettings, "index": IndexerSettings, "appview": AppviewSettings}

INTRODUCTION: Final = """\
# Settings

Written by `python -m stratos.settings.table`; a test compares. Every setting is an environment variable; `.env` in the parent
directory and in the working directory adds what is not set. `stratos serve`, `stratos index` and `stratos appview` each read the
variables marked with their name, `stratos dev` all of them.

All variables are checked together at start; every wrong one is printed by name, and the process ends with status 1. A boolean is
`true`, `1`, `yes` or `on`, or `false`, `0`, `no`, `off` or empty; any other variable that is empty counts as unset. Comma lists
are trimmed and their empty items dropped. Secrets are never printed or logged.

| Setting | Read by | Type | Default | Meaning |
| --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table without its readers; two models that agree about a variable share a line."""

    name: str
    kind: str
    default: str
    meaning: str


def settings_table() -> str:
    """The whole page."""
    readers: dict[_Row, list[str]] = {}
    for reader, model in MODELS.items():
        for row in _rows(model):
            readers.setdefault(row, []).append(reader)
    lines = (
        f"| `{row.name}` | {', '.join(by)} | {_cell(row.kind)} | {_cell(row.default)} | {_cell(row.meaning)} |\n"
        for row, by in readers.items()
    )
    return INTRODUCTION + "".join(lines)


def _rows(model: type[BaseSettings]) -> Iterator[_Row]:
    for field in model.model_fields.values():
        name, *others = variables(field)
        default = f"`{others[0]}`" if others else _default(field)
        yield _Row(name, _kind(field), default, field.description or "")


def _kind(field: FieldInfo) -> str:
    """The words for a field's type; those of an optional type stand inside its union."""
    inside = (item for argument in get_args(field.annotation) for item in get_args(argument))
    return next(item.text for item in (*field.metadata, *inside) if isinstance(item, Kind))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value is PydanticUndefined:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Path):
        return f"`./{value}`"
    return f"`{value}`" if isinstance(value, str) else str(value) if value != () else "empty"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(settings_table())
