"""What went wrong, told in one form: mistakes of the user's, refusals of the machine, and faults of ours with their traceback."""

from __future__ import annotations

import errno
import sys
import traceback

import click

from acclimate.core.errors import Problem, UserError, fail, near

MACHINE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EFBIG: "raise the limit on the size of a file",
    errno.EROFS: "name a place that may be written to",
    errno.EACCES: "look at who may read and write there",
    errno.EPERM: "look at who may read and write there",
}
"""Refusals of the system that are no faults of ours, and what to do."""


def report(error: Exception) -> int:
    """Say what went wrong on stderr, with the notes of the error last, where they are seen; the exit code."""
    mistake = told(error)
    if mistake is None:
        traceback.print_exception(error)
    else:
        for problem in mistake.problems:
            click.echo(f"error: {problem}", err=True)
    if mistake is not None or sys.version_info < (3, 11):  # from 3.11 on a traceback ends with them
        for note in getattr(error, "__notes__", ()):
            click.echo(note, err=True)
    return 1 if mistake is None else 2


def told(error: Exception) -> UserError | None:
    """The error in the form for mistakes of the user's and refusals of the machine; None for a fault of ours."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, click.ClickException):
        return UserError(_parsed(error))
    if isinstance(error, OSError) and error.errno in MACHINE:
        return fail(str(error.filename or "output"), (error.strerror or "refused").lower(), MACHINE[error.errno])
    return None


def _parsed(error: click.ClickException) -> Problem:
    """A parser's complaint in our form."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context else "acclimate"
    see = f"see {command} --help"
    if isinstance(error, click.NoSuchOption) and context is not None:
        known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
        return Problem(f"option {error.option_name}", f"is not an option of {command}", near(error.option_name, known))
    if isinstance(error, click.BadOptionUsage):
        return Problem(f"option {error.option_name}", error.message.partition("' ")[2].rstrip("."), see)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return Problem(error.param.human_readable_name.upper(), "is missing", see)
    if isinstance(error, click.BadParameter) and error.param is not None:
        return Problem(error.param.opts[-1], error.message.rstrip("."), see)
    message = error.format_message().rstrip(".")
    return Problem(command, message[:1].lower() + message[1:], see)
