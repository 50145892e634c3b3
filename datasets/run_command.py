"""How a command ends: what went wrong in one readable line, and an exit code that tells what kind it was."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from semore.datasets.disk_space import want_of_space
from semore.datasets.errors import SemoreError, Stopped, UsageError
from semore.extras import named

FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
ELSEWHERE = "choose a folder that this user may read and write: --help names the settings that are folders or files"


def run_command(command: Callable[[], None]) -> None:
    """Run a command line: a SemoreError, an extra that is missing, or a place where we may not write becomes one line
    and exit code 1, a UsageError 2, Stopped 75, Ctrl-C exit code 130."""
    try:
        command()
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(os.EX_TEMPFAIL) from None
    except ModuleNotFoundError as error:
        if (said := named(error)) is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        raise SystemExit(1) from None
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except SemoreError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FORBIDDEN and error.filename is not None:
            reason = f"{error.filename}: {error.strerror}; {ELSEWHERE}"
        elif full := want_of_space(error):
            reason = f"{full} ({error}). Make room; what was written before is whole, and the same command goes on"
        else:
            raise
        print(f"error: {reason}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
