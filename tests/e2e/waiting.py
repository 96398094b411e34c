"""Waiting on conditions, never for luck. SLOW stretches deadlines for sanitizer builds."""

import os
import threading
import time

SLOW = 4 if os.environ.get("SANITIZE") else 1
POLL_S = 0.02


def pause(seconds=POLL_S):
    threading.Event().wait(seconds)


def wait_until(condition, what, timeout_s=15):
    """Returns the first true value of condition(); fails the test after timeout_s."""
    deadline = time.monotonic() + timeout_s * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s * SLOW} s: {what}")
        pause()
