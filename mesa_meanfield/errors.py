"""What can go wrong with the world outside, each error saying whether a retry can help.

Wrong arguments raise ``ValueError`` or ``TypeError``; these are for data, models and servers.
"""

from __future__ import annotations

from typing import ClassVar


class MeanFieldError(Exception):
    """Anything this package raises about the world; the message says what, where and what to do."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed when it is made again."""


class DataError(MeanFieldError):
    """A file or record is missing or is not what it should be."""


class BackendError(MeanFieldError):
    """A model or server cannot be used as asked; the same call fails again."""


class BackendUnavailable(BackendError):
    """A server is down or overloaded, and the bounded retries are spent."""

    retryable = True


class ScoringUnsupported(BackendError):
    """The backend cannot give the probability of every label; ask it for a sampled reply instead."""


class ReplyError(MeanFieldError):
    """A reply cannot be read as what was asked for."""

    retryable = True


class LeakError(MeanFieldError):
    """A prompt was made from what nobody can know at its tick; nothing is asked with it, however often."""


class ReentryError(MeanFieldError):
    """``step`` was called from inside a step of the same scheduler."""


class Cancelled(MeanFieldError):
    """``cancel()`` stopped the tick under way; stepping again goes on with it, and nobody acts twice."""

    retryable = True


class BudgetSpent(Cancelled):
    """The next call may cost more than what is left to pay; nothing of it was asked, all before it is kept."""
