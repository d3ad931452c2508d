"""Every error the product raises on purpose, sorted by what the caller does next.

AppError
├── ConfigError                 stop at start-up; an operator fixes the environment
├── BadPictureError             the uploaded file is refused; the client sends another (status: 413, 415 or 422)
├── NotFoundError               404
├── ConflictError               409
├── LeaseLostError              another worker holds the run; stop working on it, write nothing more
├── BudgetExceededError         the cap is reached; nothing was sent
├── StoreUnavailableError       Supabase does not answer; wait and try again
├── UnsafeUrlError              an address that must not be fetched; nothing was sent to it
└── ProviderError               a model API
    ├── RetryableError          nothing was accepted; worth another attempt
    │   ├── RateLimitError      429, with the provider's own wait
    │   └── NotReachedError     the connection was never made
    ├── ChargeUnknownError      sent, no verdict: no wrapper may repeat it
    ├── AccountError            401, 402, 403: an operator must act before anything more is sent
    ├── RequestRejectedError    4xx that is ours; sending it again cannot help
    │   └── ContentRefusedError the provider's policy refuses the picture or the words
    ├── TaskFailedError         the provider says that it tried and failed
    └── BadResponseError        a charged answer that we cannot use; fix the adapter
"""

from __future__ import annotations


class AppError(Exception):
    """Base of all errors raised on purpose. `str(error)` is one sentence fit for a user."""


class ConfigError(AppError):
    pass


class BadPictureError(AppError):
    """The bytes are not a picture that Vitrine takes."""

    def __init__(self, message: str, *, status: int = 422) -> None:
        super().__init__(message)
        self.status = status  #: HTTP status to answer: 413 too large, 415 wrong type, 422 unreadable


class NotFoundError(AppError):
    pass


class ConflictError(AppError):
    pass


class LeaseLostError(AppError):
    pass


class BudgetExceededError(AppError):
    pass


class StoreUnavailableError(AppError):
    pass


class UnsafeUrlError(AppError):
    pass


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
    pass


class RateLimitError(RetryableError):
    def __init__(
        self, message: str, *, provider: str, retry_after: float | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, provider=provider, request_id=request_id)
        self.retry_after = retry_after  #: seconds, as the provider asks; None when it does not say


class NotReachedError(RetryableError):
    pass


class ChargeUnknownError(ProviderError):
    pass


class AccountError(ProviderError):
    pass


class RequestRejectedError(ProviderError):
    pass


class ContentRefusedError(RequestRejectedError):
    pass


class TaskFailedError(ProviderError):
    pass


class BadResponseError(ProviderError):
    pass
