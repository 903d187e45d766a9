"""`python -m marketprism`, and the command `marketprism`: the life of the process around a command.

The signals first: the imports take most of a second, and whoever asks us to end then is obeyed.
"""

import sys

from marketprism import signals


def main() -> int:
    """Run the command that the arguments ask for; the exit code."""
    signals.end_at_once(0)

    from marketprism import standard_streams
    from marketprism.cli import commands
    from marketprism.errors import leaves
    from marketprism.observe import log

    standard_streams.occupied()
    try:
        code = commands.main()
    except SystemExit as end:  # of what parses the arguments
        code = end.code if isinstance(end.code, int) else commands.FAILED
    except BaseException as error:
        code = commands.STOPPED
        if not standard_streams.unread(leaves(error)):
            code = commands.FAILED
            log.last_words(error)
    signals.end_at_once(code)
    if (trouble := standard_streams.flushed()) is not None:
        print(f"marketprism: {trouble}", file=sys.stderr)
        code = code or commands.FAILED
    log.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
