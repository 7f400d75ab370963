"""What the commands show on a terminal: tables that cut nothing off, others' words as they stand, bars on standard error."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text


def as_it_stands(text: object) -> Text:
    """For a cell: what others say, a PDS for one, is not read as markup, and cannot speak to the terminal."""
    return Text(printable(str(text)))


def printable(text: str) -> str:
    """The text with everything that a terminal could obey replaced."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def table(*headers: str) -> Table:
    """A table whose cells are broken rather than cut: half a DID is none."""
    return Table(*(Column(header, overflow="fold") for header in headers))


def counting_bar(*, quiet: bool) -> Progress:
    """A bar that counts to a total; nothing where `quiet` or standard error is no terminal's."""
    return bar(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), quiet=quiet)


def bar(*columns: ProgressColumn, quiet: bool) -> Progress:
    """A bar on standard error, so that what is printed can be piped."""
    return Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True), disable=quiet)


def give_up(text: str) -> NoReturn:
    """End the process with status 1 and say why on standard error."""
    typer.echo(text, err=True)
    sys.exit(1)
