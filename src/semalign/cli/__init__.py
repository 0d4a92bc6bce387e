"""The command line: it parses, calls one function, prints one path or one JSON object.

Our errors print as one sentence and exit with 2; any other exception keeps its traceback.
"""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    from semalign.cli.app import app
    from semalign.errors import SemalignError

    try:
        app()
    except SemalignError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped: start the same command again to go on (train: with --resume)", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
