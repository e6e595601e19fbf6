"""The automations of a deployment: where each begins, and which prompt runs have to be read for them."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from vv_exports.automations.automation import Automation
from vv_exports.automations.places import AutomationPlaces, Place
from vv_exports.automations.records import AutomationRecord, Beginning
from vv_exports.automations.verifications import Verifications
from vv_exports.config import Config
from vv_exports.connectors.base import Connector
from vv_exports.content.selection import Selection
from vv_exports.delivery.content import RedactionKey
from vv_exports.domain.content_options import ContentOptions
from vv_exports.domain.field_rules import RESCUED
from vv_exports.domain.names import storage_segment
from vv_exports.errors import DeliveredDataError, VVExportsError
from vv_exports.printable import one_line
from vv_exports.snapshots.catalog import SeenRun
from vv_exports.snapshots.taking import Snapshots
from vv_exports.sources.base import Listed, ListedRun, Listing
from vv_exports.table_formats.base import FORMAT_NAMES
from vv_exports.table_formats.progress import ProgressRecord

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ToRead:
    """Runs of which an automation needs a snapshot that there is not, in the order (executed_at, run id). ``failing``
    could not be read and wait for their next attempt. What the automations in ``unknown`` need could not be told."""

    due: tuple[str, ...]
    failing: tuple[str, ...]
    unknown: tuple[str, ...] = ()


class Automations:
    """Built without touching storage. Usable from several threads."""

    def __init__(
        self,
        config: Config,
        connectors: Mapping[str, Connector],
        snapshots: Snapshots,
        redaction_key: RedactionKey,
    ) -> None:
        self._config = config
        self._snapshots = snapshots
        self._all = {
            (index_id, name): Automation(index_id, name, config, connectors, snapshots, redaction_key)
            for index_id, index in config.indexes.items()
            for name in index.automations
        }

    def __iter__(self) -> Iterator[Automation]:
        return iter(self._all.values())

    def get(self, index_id: str, name: str) -> Automation:
        """One automation. Raises NotFoundError."""
        self._config.automation(index_id, name)
        return self._all[index_id, name]

    def shown(self, index_id: str) -> Selection:
        """What may be seen of an index's rows outside its collections: nothing that any automation of it redacts."""
        redacted = {path for one in self if one.index_id == index_id for path in one.config.content.redact}
        return Selection(ContentOptions(redact={path: "drop" if path == RESCUED else "mask" for path in redacted}))

    def rewrite(self, index_id: str, text: Callable[[str], str], over: Collection[str] = ()) -> None:
        """Let what is remembered of an index's automations, of those too that the configuration has no more, say what
        ``text`` makes of it, and nothing of the runs ``over``."""
        for name in self._remembered(index_id):
            AutomationRecord(self._snapshots.storage, index_id, name).rewrite(text, over)
            Verifications(self._snapshots.storage, index_id, name).rewrite(text)
            for format_name in FORMAT_NAMES:
                ProgressRecord(self._snapshots.storage, index_id, name, format_name).rewrite(text)

    def dropped(self, index_id: str) -> dict[str, Place]:
        """The automations of an index that the configuration has no more, and where each delivered last."""
        storage, known = self._snapshots.storage, {one.name for one in self if one.index_id == index_id}
        found = {
            name: AutomationPlaces(storage, {}, index_id, name).at() for name in self._remembered(index_id) - known
        }
        return {name: place for name, place in sorted(found.items()) if place is not None}

    def _remembered(self, index_id: str) -> set[str]:
        top = f"automations/{storage_segment(index_id)}/"
        there = self._snapshots.storage.files(top.removesuffix("/"))
        parts = (file.key.removeprefix(top).partition("/") for file in there)
        return {name for name, _, rest in parts if rest}

    def begin(self, index_id: str, listing: Listed[ListedRun], now: datetime) -> list[str]:
        """Let the enabled automations of an index begin that did not begin yet. Returns their names."""
        return [one.name for one in self._enabled(index_id) if self._begins(one, listing, now)]

    def replay_logs(self, index_id: str) -> None:
        """Replay the logs of an index's enabled automations where that was not done yet. What that takes for a moment
        is the most that a look at the index takes: so it comes first, while little else is held."""
        for automation in self._enabled(index_id):
            with suppress(VVExportsError):  # said where it is asked what is owed
                automation.replay_log()

    def to_read(self, index_id: str, listing: Listing | Listed[SeenRun], now: datetime) -> ToRead:
        """The runs that must be read, since an automation owes them and they are new or look changed. For one that
        delivers when it is asked alone they are read then; for one that does by the clock now, so that it is quick."""
        unread: set[str] = set()
        unknown: list[str] = []
        known = self._snapshots.known(index_id, listing)
        for automation in self._enabled(index_id):
            if automation.config.trigger == "manual":
                continue
            try:
                found = automation.standings(known)
            except VVExportsError as error:
                # Its own sensor fails, and says so. The index's other automations must not wait for it.
                _LOG.warning("index %s is read without automation %s: %s", one_line(index_id), automation.name, error)
                unknown.append(automation.name)
                continue
            unread |= {run_id for run_id in found.of("due", "failing") if known.rows[run_id].data_version is None}
        # Of a run that could not be delivered, but can be read, new content may be what it takes.
        failing = {
            run_id for run_id in unread if (one := known.problems.get(run_id)) is not None and now < one.again_at
        }
        due = unread - failing
        return ToRead(
            due=tuple(run.run_id for run in listing.runs if run.run_id in due) if due else (),
            failing=tuple(run.run_id for run in listing.runs if run.run_id in failing) if failing else (),
            unknown=tuple(unknown),
        )

    def _begins(self, automation: Automation, listing: Listed[ListedRun], now: datetime) -> bool:
        try:
            if automation.record.beginning() is not None:
                return False
            automation.record.begin(Beginning.of(automation.config, listing.runs, now))
        except DeliveredDataError as error:
            # Its own sensor fails, and says so. The index's other automations must not wait for it.
            _LOG.warning(
                "automation %s of index %s does not begin: %s", automation.name, one_line(automation.index_id), error
            )
            return False
        _say_if_it_began_before(automation)
        return True

    def _enabled(self, index_id: str) -> list[Automation]:
        return [one for one in self if one.index_id == index_id and one.config.enabled]


def _say_if_it_began_before(automation: Automation) -> None:
    try:
        earlier = automation.holdings().began_at(automation.id)
    except VVExportsError:  # what is wrong there is said when something is to be delivered
        return
    if earlier is not None:
        _LOG.warning(
            "where automation %s of index %s began was lost with the pipeline's storage: the log of its collection "
            "says %s, so that prompt runs that were executed since then are delivered",
            *(automation.name, automation.index_id, earlier.isoformat(timespec="seconds")),
        )
