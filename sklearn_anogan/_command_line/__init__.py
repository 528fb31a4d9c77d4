# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The command line: arguments, commands, and how errors and warnings are told."""

import os
import sys
import warnings

from ._arguments import parse
from ._words import Words

__all__ = ["main"]


def main(arguments=None):
    """Run one command.

    Parameters
    ----------
    arguments : list of str, default=None
        None for those of the command line.

    Returns
    -------
    code : int
        Exit code: 0 if all went well, 1 for an error, 3 if files could not be judged,
        130 after an interruption.
    """
    args = parse(arguments)
    args.words = Words()

    def show(message, category, filename, lineno, file=None, line=None):
        print(f"warning: {args.words.translate(message)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("default", UserWarning)
        try:
            return args.run(args)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:  # nobody reads the rest of the table
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except Exception as error:  # users of a command need no traceback
            print(f"error: {args.words.translate(_told(error))}", file=sys.stderr)
            return 1


def _told(error):
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return str(error) or repr(error)
