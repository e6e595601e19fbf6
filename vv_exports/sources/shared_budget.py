"""A request budget that all processes of a deployment share, on whatever machine: a thread of each takes part.

What it does there is in ``process_share``; the rules by which they share are in ``shares``.
"""

import asyncio
import math
import threading
from collections.abc import Callable

from vv_exports.errors import RequestError, TransientError, VVExportsError
from vv_exports.sources.process_share import BudgetInLoop, ProcessShare
from vv_exports.sources.request_budget import NOTHING, RequestBudget
from vv_exports.sources.shares import SharedShares

_EXIT_SECONDS = 5.0


class SharedBudget:
    """What keeps a budget within the share that its process has. Nothing is read before the first request.

    ``document`` gives the document, or None where there is no place in which processes could agree: then the budget is
    this process's alone, which is said. ``server`` is its name in messages. A process that cannot read or write the
    document when it comes asks a little, and says so: what only looks at the server needs no storage that works. One
    that cannot do it later, for so long that others may have taken what it had, asks nothing: requests that wait fail
    with RequestError or TransientError.
    """

    def __init__(self, budget: RequestBudget, document: Callable[[], SharedShares | None], server: str) -> None:
        self._budget, self._document, self._server = budget, document, server
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._is_over = self._is_alone = False
        budget.wanted = self._wanted
        budget.paused = self._wake.set

    def leave(self) -> None:
        """Let the others have the share at once: this process ends."""
        self._is_over = True
        self._wake.set()
        if (thread := self._thread) is not None:
            thread.join(_EXIT_SECONDS)

    def _wanted(self) -> None:
        """In the loop: a request came."""
        if self._thread is None and not self._is_alone and not self._is_over:
            budget = BudgetInLoop(self._budget, asyncio.get_running_loop())
            self._thread = threading.Thread(target=self._take_part, args=(budget,), name="request-budget", daemon=True)
            self._thread.start()

    def _take_part(self, budget: BudgetInLoop) -> None:
        """In a thread: from the first request to the last one."""
        part = ProcessShare(budget, self._document, self._server)
        try:
            while part.look() and not self._is_over:
                self._wake.wait(part.until_next_look())
                self._wake.clear()
            if part.is_alone and not self._is_over:
                self._is_alone = True
                return
            budget.allow(NOTHING, math.inf)
            part.leave()
        except VVExportsError as error:
            budget.allow(NOTHING, math.inf)
            kind = RequestError if isinstance(error, RequestError) else TransientError
            budget.refuse(
                kind(
                    f"{self._server} is asked by all processes of the deployment together, as many requests as are "
                    f"configured; they agree on it in `storage`, and that cannot be used: {error}"
                )
            )
        except BaseException as error:
            budget.allow(NOTHING, math.inf)
            budget.refuse(TransientError(f"{self._server} is not asked any more by this process: {error!r}"))
            raise
        finally:
            budget.ask(self._ended)

    def _ended(self) -> None:
        self._thread = None
        if self._budget.is_waiting:  # it came after the last look
            self._wanted()
