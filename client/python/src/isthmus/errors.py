"""What can go wrong with a call, by what the caller can do about it.

The hub names the cause of every refusal with a stable reason (`google.rpc.ErrorInfo`, domain `isthmus.v1`). A refusal
is raised as the class of its reason, which derives from the class of its gRPC code, so that both can be caught::

    try:
        profile = hub.profiles.get("user_id:42")
    except isthmus.NotFoundError:
        ...

Errors that don't derive from `RefusedError` never come from the hub: nothing could be reached, the deadline passed, an
answer made no sense. No error carries what was sent, so errors can be logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "AlreadyExistsError",
    "AlreadyLinkedError",
    "BadAnswerError",
    "BadQueryError",
    "ClosedError",
    "ConflictError",
    "DeadlineError",
    "ErasedError",
    "Error",
    "ForbiddenError",
    "IncompatibleSchemaError",
    "InvalidRequestError",
    "InvalidRulesError",
    "InvalidSchemaError",
    "InvalidSegmentError",
    "ItemsRejectedError",
    "NotFoundError",
    "OutcomeUnknownError",
    "OverloadedError",
    "PreconditionError",
    "QueryLimitError",
    "QuorumAtRiskError",
    "RefusedError",
    "SourceDisabledError",
    "SourceNotFoundError",
    "TooLargeError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnreachableError",
    "UnsupportedError",
    "UsageError",
    "WriterError",
]


class Error(Exception):
    """Any error of this package."""


class UsageError(Error, ValueError):
    """The client was built or asked wrongly; nothing was sent."""


class UnreachableError(Error, ConnectionError):
    """No endpoint could be connected to before the deadline; nothing was sent."""


class OutcomeUnknownError(Error):
    """The deadline passed, or the connection broke, after a write was sent: it may have happened or not.

    Events may be sent again with the same message ids: they count once.
    """


class DeadlineError(Error, TimeoutError):
    """The deadline passed before a read was answered."""


class BadAnswerError(Error):
    """The hub's answer lacks something that the interface promises: use a client of the cluster's version."""


class ClosedError(Error):
    """The client or writer is closed."""


class WriterError(Error):
    """A writer could not deliver, and has stopped. Its cause says why.

    Attributes:
        unsent: The events that are not known to be stored, in order: send them with another writer. They keep their
            message ids, so what was stored after all counts once.
    """

    def __init__(self, message: str, unsent: Sequence[Any]) -> None:
        super().__init__(message)
        self.unsent = tuple(unsent)


class ItemsRejectedError(Error):
    """Events that went through a writer were rejected, and are kept nowhere; a writer with `on_problem` tells which.

    Attributes:
        results: What was said of the first of them.
    """

    def __init__(self, message: str, results: Sequence[Any]) -> None:
        super().__init__(message)
        self.results = tuple(results)


class RefusedError(Error):
    """The hub answered with an error.

    Attributes:
        code: The gRPC code, such as `NOT_FOUND`.
        reason: The stable reason, such as `SOURCE_NOT_FOUND`; empty when the answer has none of the hub's.
        message: The hub's own sentence, for people; without personal data.
        metadata: Further facts for programs, such as the shard.
        fields: Fields of the request that are wrong, each with what is wrong with it.
        retry_after: When to come back, in seconds, where the hub said so.
        request_id: The id that the call carried, to be found in the hub's logs.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        fields: tuple[tuple[str, str], ...] = (),
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(f"{reason or code}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.fields = fields
        self.retry_after = retry_after
        self.request_id = request_id


class InvalidRequestError(RefusedError):
    """The request is not what it should be: `fields` and the message say what to mend (INVALID_ARGUMENT)."""


class BadQueryError(InvalidRequestError):
    """A statement in SQL can't be understood; `line` and `column` say where, where that is known (BAD_QUERY).

    Attributes:
        line: The line, from 1.
        column: The column in the line, in characters, from 1.
    """

    @property
    def line(self) -> int | None:  # noqa: D102  see the class
        return self._place("line")

    @property
    def column(self) -> int | None:  # noqa: D102  see the class
        return self._place("column")

    def _place(self, key: str) -> int | None:
        text = self.metadata.get(key, "")
        return int(text) if text.isdecimal() else None


class TooLargeError(RefusedError):
    """The request is too large: send smaller batches (OUT_OF_RANGE; TOO_LARGE, BATCH_TOO_MANY)."""


class InvalidSchemaError(InvalidRequestError):
    """It is no schema; `fields` names the places (INVALID_SCHEMA)."""


class InvalidRulesError(InvalidRequestError):
    """They are no rules; the message names the place (INVALID_RULES)."""


class InvalidSegmentError(InvalidRequestError):
    """It is no segment, no computed trait or no set of segments; the message names the place (INVALID_SEGMENT)."""


class UnauthenticatedError(RefusedError):
    """The write key is unknown, was rotated away, or its source is disabled (WRITE_KEY_INVALID)."""


class ForbiddenError(RefusedError):
    """The caller may not do this (PERMISSION_DENIED)."""


class NotFoundError(RefusedError, LookupError):
    """There is no such thing (NOT_FOUND)."""


class SourceNotFoundError(NotFoundError):
    """There is no source of that name (SOURCE_NOT_FOUND)."""


class ErasedError(NotFoundError):
    """The person was erased (ERASED)."""


class AlreadyExistsError(RefusedError):
    """The name is taken (ALREADY_EXISTS)."""


class PreconditionError(RefusedError):
    """The state of the cluster doesn't allow it (FAILED_PRECONDITION)."""


class IncompatibleSchemaError(PreconditionError):
    """It may refuse what the version in force accepts; `fields` names the places (INCOMPATIBLE_SCHEMA)."""


class SourceDisabledError(PreconditionError):
    """The source is disabled (SOURCE_DISABLED)."""


class QuorumAtRiskError(PreconditionError):
    """The nodes that would remain could not hold the data (QUORUM_AT_RISK)."""


class AlreadyLinkedError(PreconditionError):
    """The two are one customer already (ALREADY_LINKED)."""


class ConflictError(RefusedError):
    """Somebody else was faster: read again, then change (ABORTED, STALE_VIEW)."""


class OverloadedError(RefusedError):
    """A limit was reached: come back after `retry_after` (RESOURCE_EXHAUSTED)."""


class QueryLimitError(OverloadedError):
    """A query needs more than a query may have: coming back as it is doesn't help (QUERY_LIMIT)."""


class UnavailableError(RefusedError):
    """The hub can't serve this now: no leader, disk full, stopping (UNAVAILABLE)."""


class UnsupportedError(RefusedError):
    """The hub knows no such call: use a client of the cluster's version (UNIMPLEMENTED)."""


_BY_CODE: dict[str, type[RefusedError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "OUT_OF_RANGE": TooLargeError,
    "UNAUTHENTICATED": UnauthenticatedError,
    "PERMISSION_DENIED": ForbiddenError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": AlreadyExistsError,
    "FAILED_PRECONDITION": PreconditionError,
    "ABORTED": ConflictError,
    "RESOURCE_EXHAUSTED": OverloadedError,
    "UNAVAILABLE": UnavailableError,
    "UNIMPLEMENTED": UnsupportedError,
}

_BY_REASON: dict[str, type[RefusedError]] = {
    "BAD_QUERY": BadQueryError,
    "QUERY_LIMIT": QueryLimitError,
    "TOO_LARGE": TooLargeError,
    "BATCH_TOO_MANY": TooLargeError,
    "INVALID_SCHEMA": InvalidSchemaError,
    "INVALID_RULES": InvalidRulesError,
    "INVALID_SEGMENT": InvalidSegmentError,
    "WRITE_KEY_INVALID": UnauthenticatedError,
    "SOURCE_NOT_FOUND": SourceNotFoundError,
    "SOURCE_DISABLED": SourceDisabledError,
    "ERASED": ErasedError,
    "INCOMPATIBLE_SCHEMA": IncompatibleSchemaError,
    "QUORUM_AT_RISK": QuorumAtRiskError,
    "ALREADY_LINKED": AlreadyLinkedError,
    "STALE_VIEW": ConflictError,
}


def class_of(code: str, reason: str) -> type[RefusedError]:
    """The class that a refusal is raised as: that of its reason, else that of its code."""
    return _BY_REASON.get(reason) or _BY_CODE.get(code, RefusedError)
