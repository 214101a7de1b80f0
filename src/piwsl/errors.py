"""The one exception that users meet: it says what was found, where, and what to do."""

# What code that is not ours may raise where it does what we cannot know; who stops the program (Ctrl-C) is not meant.
ANY_ERROR = (Exception, SystemExit)
# What an error of a stranger's code may fill a line with.
LONGEST_REASON = 100


class PiwslError(Exception):
    """A problem of the input or of a result that the user can act on; its text is shown without a traceback."""


def reason(error: BaseException) -> str:
    """Return an error of code that is not ours in one line, for a line that says whose code it is."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]} ..."
