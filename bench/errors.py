"""Typed errors, each with the exit code it ends a command with.

A message is one line: what is wrong, where, what is allowed, what to do.
"""

from typing import Any, Literal

ErrorKind = Literal[
    "refused",  # no connection could be made
    "no-port",  # no connection could be made, for this machine had no port or file descriptor left for it
    "closed",  # the connection ended before the answer
    "unprocessed",  # the server has not looked at the request, and says so; the engine sends it again where it can
    "reset",  # the server cancelled this exchange and kept the connection
    "protocol",  # the server broke the protocol
    "status",  # the answer says that the request failed
    "content",  # the answer's body is not the one expected
    "timeout",  # no answer in time; over UDP, a lost datagram
    "not-resumed",  # a right answer, but the handshake was a full one, and should have been resumed
    "not-early",  # a right answer, but the request was not taken as early data, and should have been
    "not-fast-open",  # a right answer, but no data went with the SYN, and some should have
]
"""How an exchange of a load can fail."""


INTERRUPTED = 130
"""The exit code of a command that was interrupted, as shells have it."""


class WirebenchError(Exception):
    """An error whose message is meant for the user."""

    exit_code = 2


class UsageError(WirebenchError):
    """The user's input (option, suite file, result file, address) cannot be used."""


class UnsupportedError(WirebenchError):
    """A combination that makes no sense, or that this machine cannot run. The message says why."""


class TargetError(WirebenchError):
    """The server at the other end cannot be reached or does not speak the protocol."""


class NoPortError(TargetError):
    """This machine has no port or file descriptor left for a connection: the server has nothing to do with it."""


class OutputError(WirebenchError):
    """A file or folder cannot be written."""


class ServerFailedError(WirebenchError):
    """A server that this project started did not start, or ended by itself."""

    exit_code = 3


class LoadFailedError(WirebenchError):
    """A load process ended before it could give its result."""

    exit_code = 3


class LabFailedError(WirebenchError):
    """The lab's router ended by itself, or a node of it did."""

    exit_code = 3


class TrialInterruptedError(KeyboardInterrupt):
    """The user interrupted a trial under way; `trial` is its record, with what was measured until then."""

    def __init__(self, trial: dict[str, Any]) -> None:
        super().__init__()
        self.trial = trial


class CaptureError(WirebenchError):
    """A capture of packets cannot be read."""


class CallError(Exception):
    """A call of a conversation has failed, or what was answered is not what it has to be."""

    def __init__(self, kind: ErrorKind, message: str = "") -> None:
        super().__init__(message or kind)
        self.kind = kind


class ProtocolError(Exception):
    """The peer broke the protocol. Raised by codecs; never shown to a user as it is.

    `code` is the protocol's own error code where it has one (an HTTP status, an HTTP/2 error code).
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
