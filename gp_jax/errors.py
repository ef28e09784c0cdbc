"""The one exception that means: the user can mend this.

The command line prints its message as a single sentence and exits with code 2; everything else is a bug and keeps its
traceback.
"""


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and how to mend it, in one sentence."""
