"""What all tests start from."""

import signal


def pytest_configure() -> None:
    """Take SIGINT as in a foreground job: a background job of a shell ignores it, and so would its children."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
