"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something the caller can mend: the message is one sentence with the cause and the mend.

    Entry points print it as `error: …` and exit with status 2; no traceback.
    """
