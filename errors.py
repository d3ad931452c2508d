"""Every error the product raises on purpose, sorted by what the caller does next.

AppError
├── ConfigError                 stop at start-up; an operator fixes the environment
├── BadPictureError             the uploaded file is refused; the client sends another (status: 413, 415 or 422)
├── NotFoundError               404
├── ConflictError               409
├── LeaseLostError              another worker holds the run; stop working on it, write nothing more
├── RunCancelledError           a user wants the run stopped; begin nothing more, end it
├── BudgetExceededError         the cap is reached; nothing was sent
├── StoreUnavailableError       Supabase does not answer; wait and try again
├── UnsafeUrlError              an address that must not be fetched; nothing was sent to it
└── ProviderError               a model API
    ├── RetryableError          nothing was accepted; worth another attempt
    │   ├── RateLimitError      429, with the provider's own wait
    │   ├── NotReachedError     the connection was never made
    │   └── ProviderPausedError not even asked: it takes nothing for now, from anybody
    ├── ChargeUnknownError      sent, no verdict: no wrapper may repeat it
    ├── AccountError            401, 402, 403: an operator must act before anything more is sent
    ├── RequestRejectedError    4xx that is ours; sending it again cannot help
    │   └── ContentRefusedError the provider's policy refuses the picture or the words
    ├── TaskFailedError         the provider says that it tried and failed
    └── BadResponseError        a charged answer that we cannot use; fix the adapter
"""

from __future__ import annotations


class AppError(Exception):
    """Base of all errors raised on purpose. `str(error)` is one sentence fit for a user; `code` is for programs."""

    code = "internal"


class ConfigError(AppError):
    code = "config"


class BadPictureError(AppError):
    """The bytes are not a picture that Vitrine takes."""

    code = "bad_picture"

    def __init__(self, message: str, *, status: int = 422) -> None:
        super().__init__(message)
        self.status = status  #: HTTP status to answer: 413 too large, 415 wrong type, 422 unreadable


class NotFoundError(AppError):
    code = "not_found"


class ConflictError(AppError):
    code = "conflict"
    run_id: str | None = None  #: the active run, when that is what stands in the way


class LeaseLostError(AppError):
    code = "lease_lost"


class RunCancelledError(AppError):
    code = "cancelled"


class BudgetExceededError(AppError):
    """`str(error)` names no sums, since everybody who sees the product reads it; `in_figures` is for the shop."""

    code = "budget_exceeded"

    def __init__(self, message: str, *, in_figures: str) -> None:
        super().__init__(message)
        self.in_figures = in_figures  #: the limit, what is spent or reserved of it, and when it is renewed


class StoreUnavailableError(AppError):
    code = "store_unavailable"


class UnsafeUrlError(AppError):
    code = "unsafe_url"


class ProviderError(AppError):
    """Something went wrong at a model API.

    `message` never holds keys, prompts, signed URLs or bodies; at most 300 characters of the provider's own words.
    """

    def __init__(
        self, message: str, *, provider: str, request_id: str | None = None, cost_micros: int | None = None
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.request_id = request_id
        self.cost_micros = (
            cost_micros  #: micro-dollars the provider says it charged all the same; None: it does not say
        )


class RetryableError(ProviderError):
    code = "not_accepted"


class RateLimitError(RetryableError):
    code = "rate_limit"

    def __init__(
        self, message: str, *, provider: str, retry_after: float | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, provider=provider, request_id=request_id)
        self.retry_after = retry_after  #: seconds, as the provider asks; None when it does not say


class NotReachedError(RetryableError):
    code = "not_reached"


class TaskNotCreatedError(RetryableError):
    code = "not_created"


class ProviderPausedError(RetryableError):
    code = "provider_paused"


class ChargeUnknownError(ProviderError):
    code = "charge_unknown"


class AccountError(ProviderError):
    code = "provider_account"


class RequestRejectedError(ProviderError):
    code = "rejected"


class ContentRefusedError(RequestRejectedError):
    code = "content_refused"


class TaskFailedError(ProviderError):
    code = "task_failed"


class BadResponseError(ProviderError):
    code = "bad_response"
