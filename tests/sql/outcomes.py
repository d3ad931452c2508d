"""What a refused call looks like."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

LEASE_LOST = "VT001"
OVER_BUDGET = "VT002"
RUN_ACTIVE = "VT003"
NOT_FOUND = "VT004"
KEY_USED = "VT005"
NOTHING_TO_PROCESS = "VT006"


def error_of(action: Callable[[], object]) -> psycopg.Error:
    """The database's refusal; the test fails when there is none."""
    with pytest.raises(psycopg.Error) as refusal:
        action()
    return refusal.value


def assert_lease_lost(action: Callable[[], object]) -> None:
    assert error_of(action).sqlstate == LEASE_LOST
