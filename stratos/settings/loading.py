"""Loading: one environment into one model, with every problem reported at once and by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from stratos.settings.appview import AppviewSettings
from stratos.settings.indexer import IndexerSettings
from stratos.settings.service import ServiceSettings

DEFAULT_NOT_NEEDED: Final = "default_factory_not_called"
"""Pydantic's word for a default that depends upon a variable that was refused: no problem of its own."""

SomeSettings = TypeVar("SomeSettings", bound=BaseSettings)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one variable."""

    name: str
    reason: str


class InvalidSettings(Exception):
    """The environment cannot be used; its text is one line per problem, `  - NAME: reason`. It holds no values of secrets."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        lines = (f"  - {problem.name}: {problem.reason}" for problem in problems)
        super().__init__("\n".join(("Invalid environment variables:", *lines)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class System:
    """The settings of all three deployables, for `stratos dev`."""

    service: ServiceSettings
    indexer: IndexerSettings
    appview: AppviewSettings


def load(model: type[SomeSettings], environment: Mapping[str, str]) -> SomeSettings:
    """Read a model from the environment; an empty variable counts as unset, except a boolean, for which it means false.

    Raises InvalidSettings with every problem.
    """
    values: dict[str, str] = {}
    for field in model.model_fields.values():
        for name in variables(field):
            text = environment.get(name)
            if text is not None and (text.strip() or field.annotation is bool):
                values[name] = text
                break
    try:
        return model.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
    # Outside the handler, so that no traceback carries the values along.
    raise InvalidSettings(tuple(_problem(model, detail) for detail in details if detail["type"] != DEFAULT_NOT_NEEDED))


def variables(field: FieldInfo) -> tuple[str, ...]:
    """The names of a field's variable and of those that it falls back upon, in order."""
    alias = field.validation_alias
    return tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else (str(alias),)


def load_system(environment: Mapping[str, str]) -> System:
    """Read all three models. Raises InvalidSettings with the problems of all of them, each once."""
    problems: dict[Problem, None] = {}

    def attempt(model: type[SomeSettings]) -> SomeSettings | None:
        try:
            return load(model, environment)
        except InvalidSettings as error:
            problems.update(dict.fromkeys(error.problems))
            return None

    service, indexer, appview = attempt(ServiceSettings), attempt(IndexerSettings), attempt(AppviewSettings)
    if service is None or indexer is None or appview is None:
        raise InvalidSettings(tuple(problems))
    return System(service, indexer, appview)


def _problem(model: type[BaseSettings], detail: ErrorDetails) -> Problem:
    where = str(detail["loc"][0])
    # Pydantic names a refused default by its attribute, a refused value by its variable.
    names = next(variables(field) for name, field in model.model_fields.items() if where == name or where in variables(field))
    name = where if where in names else names[0]
    if detail["type"] == "missing":
        return Problem(name, " ".join(["is required", *(f"(or {other})" for other in names[1:])]))
    return Problem(name, detail["msg"].replace("Input should be", "must be"))
