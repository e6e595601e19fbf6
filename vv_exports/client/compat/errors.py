"""Errors of this package as the SDK's, so that what a program catches is what it caught before."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import videovector

from vv_exports import errors


class KeyReusedError(videovector.IdempotencyError, videovector.ConflictError):
    """An idempotency key was used before, for another request. The API answers that with 409, a conflict; its SDK has a
    class for it all the same: who catches one of them catches this."""


@dataclass(frozen=True)
class _Said:
    error: type[videovector.VideoVectorError]
    status_code: int
    error_code: str


_SAID: dict[type[Exception], _Said] = {
    errors.IdempotencyError: _Said(KeyReusedError, 409, "idempotency_request_mismatch"),
    errors.NotFoundError: _Said(videovector.NotFoundError, 404, "not_found"),
    errors.CredentialsError: _Said(videovector.AuthenticationError, 401, "authentication_failed"),
    errors.ForbiddenError: _Said(videovector.AuthorizationError, 403, "authorization_failed"),
    errors.RequestError: _Said(videovector.ValidationError, 422, "validation_failed"),
    errors.QuotaError: _Said(videovector.RateLimitError, 429, "resource_rate_quota_exceeded"),
    errors.TransientError: _Said(videovector.ExternalServiceError, 503, "try_again_later"),
    errors.InstanceError: _Said(videovector.ExternalServiceError, 503, "dagster_unavailable"),
    errors.OutcomeUnknownError: _Said(videovector.ExternalServiceError, 503, "outcome_unknown"),
    errors.RunFailedError: _Said(videovector.ProcessingError, 500, "run_failed"),
    errors.VVExportsError: _Said(videovector.ExternalServiceError, 500, "data_unusable"),
}
"""The nearest base of an error says what it is there. Whatever is not ours stays what it is."""


@contextmanager
def as_the_sdk_raises() -> Iterator[None]:
    """Around what may raise errors of this package: they leave as the SDK's, with the same message, and are their
    cause."""
    try:
        yield
    except errors.VVExportsError as error:
        said = next(_SAID[base] for base in type(error).__mro__ if base in _SAID)
        raise said.error(str(error), status_code=said.status_code, error_code=said.error_code) from error


def invalid(message: str) -> videovector.ValidationError:
    """A request that cannot be answered as it is."""
    return videovector.ValidationError(message, status_code=422, error_code="validation_failed")
