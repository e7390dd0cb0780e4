"""Options and output that several commands share."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

DEBUG = "foretaste.debug"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[DEBUG] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_debug,
    help="Show tracebacks of errors.",
)


def role_options(command: _Command) -> _Command:
    """One option per role, in the order of the help text."""
    roles = {
        "text": "Column with the text.",
        "label": "Column with the class.",
        "prompt": "Column with the prompt.",
        "context": "Column with the context of the prompt.",
        "response": "Column with the response.",
        "chosen": "Column with the preferred response.",
        "rejected": "Column with the rejected response.",
        "messages": "Column with chat turns, {role, content}.",
        "source": "Column that says where a row comes from.",
        "annotator": "Column that says who labelled a row.",
        "time": "Column that says when a row came.",
        "id": "Column that names a row.",
    }
    for role, text in reversed(roles.items()):
        command = click.option(f"--{role}", f"role_{role}", metavar="COL", help=text)(command)
    return command


def show(draw: Callable[[Console], None]) -> None:
    """Print what rich draws. In one piece by us: on a closed pipe, rich would exit with 1, the code of a refusal."""
    from foretaste.report.terminal import make_console

    # Box drawing must not stop the summary on a terminal with an old encoding.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    console = make_console(sys.stdout)
    with console.capture() as drawn:
        draw(console)
    # Tables are padded with blanks, which only a screen needs.
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in drawn.get().splitlines()))
