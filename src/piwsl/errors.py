"""The one exception that users meet: it says what was found, where, and what to do."""


class PiwslError(Exception):
    """A problem of the input or of a result that the user can act on; its text is shown without a traceback."""
