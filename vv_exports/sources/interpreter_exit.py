"""What is to be done when the interpreter begins to end. Python keeps the place private that is early enough."""

import threading
from collections.abc import Callable


def before_executors_end(do: Callable[[], None]) -> None:
    """Have something done while executors take work. ``atexit`` comes after they were shut down, and then clients of
    stores cannot open a connection any more."""
    threading._register_atexit(do)  # type: ignore[attr-defined]  # noqa: SLF001
