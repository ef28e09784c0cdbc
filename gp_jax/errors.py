"""What a user is told: what can be mended, and that the end which was asked for is here.

The command line prints the message of a `UserError` as a single sentence and exits with code 2, that of `Stopped` with
its own code; everything else is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and how to mend it, in one sentence."""


class Notice(UserWarning):
    """Something that a user should know and that stops nothing, in one sentence; the command line prints it."""


class Stopped(BaseException):
    """The user asked for the end by a signal, and it is here. The message says what stands, in one sentence.

    Args:
      message: the sentence.
      code: of the process when it ends.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
