"""What a deployment does, as numbers for Prometheus: one look at all automations, and the endpoint that is scraped.

Counters are sums of what is kept, the logs above all, so that no crash and no restart sets them back. What cannot be
asked just then is left out, and said to be so: it keeps nothing else from being told.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal

import dagster as dg
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from vv_exports import __version__
from vv_exports.automations.automation import Automation
from vv_exports.automations.totals import DeliveredTotals
from vv_exports.client.automations import LOOKED_AT_ONCE, Automations
from vv_exports.client.deployment import Deployment, tells_of_the_instance
from vv_exports.defs.instance import instance_errors
from vv_exports.defs.pauses import Switches
from vv_exports.domain.tables import DELIVERED_TABLES
from vv_exports.errors import RequestError, VVExportsError
from vv_exports.parts import requests_asked
from vv_exports.printable import one_line

_AUTOMATION = ("index", "automation")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class MetricKind:
    """A metric: what it says, and what its labels are. Of a counter, ``_total`` is added to the name."""

    kind: Literal["gauge", "counter"]
    said: str
    labels: tuple[str, ...] = _AUTOMATION


METRICS = {
    "vv_exports_build_info": MetricKind("gauge", "1; the label is the version of the package.", ("version",)),
    "vv_exports_automation_readable": MetricKind(
        "gauge", "Whether what the automation holds and owes could be read (1). The figures of one that could not are "
        "left out, but for those of the configuration."
    ),
    "vv_exports_automation_enabled": MetricKind("gauge", "Whether the configuration enables the automation."),
    "vv_exports_automation_paused": MetricKind("gauge", "Whether the automation is paused, by whomever."),
    "vv_exports_automation_failing": MetricKind("gauge", "Whether the automation's last delivery failed as a whole."),
    "vv_exports_prompt_runs": MetricKind(
        "gauge",
        "Prompt runs by their standing: delivered, due, failing, held, history or gone.",
        (*_AUTOMATION, "state"),
    ),
    "vv_exports_oldest_due_timestamp_seconds": MetricKind(
        "gauge", "When the oldest prompt run that is due or failing was executed, in Unix time. None: there is no such."
    ),
    "vv_exports_last_delivery_timestamp_seconds": MetricKind(
        "gauge", "When the automation's last delivery was committed, in Unix time."
    ),
    "vv_exports_last_verification_timestamp_seconds": MetricKind(
        "gauge", "When the collection was last compared with its log, in Unix time."
    ),
    "vv_exports_last_verification_problems": MetricKind("gauge", "Problems that the last verification found."),
    "vv_exports_collection_files": MetricKind("gauge", "Files that the collection holds now."),
    "vv_exports_collection_bytes": MetricKind("gauge", "Bytes of the files that the collection holds now."),
    "vv_exports_collection_rows": MetricKind("gauge", "Rows that the collection holds now.", (*_AUTOMATION, "table")),
    "vv_exports_deliveries": MetricKind("counter", "Deliveries that were committed."),
    "vv_exports_delivered_prompt_runs": MetricKind("counter", "Prompt runs that were delivered, each time it was."),
    "vv_exports_delivered_bytes": MetricKind("counter", "Bytes of the files that were delivered."),
    "vv_exports_delivered_rows": MetricKind("counter", "Rows that were delivered.", (*_AUTOMATION, "table")),
    "vv_exports_snapshots": MetricKind("gauge", "Prompt runs of the index that were read.", ("index",)),
    "vv_exports_unreadable_prompt_runs": MetricKind(
        "gauge", "Prompt runs of the index whose last reading failed.", ("index",)
    ),
    "vv_exports_source_requests": MetricKind(
        "counter",
        "Requests to VideoVector by the index that they were about; the label is empty for those about none. A process "
        "tells them within a minute, and when it ends; what one asked since then that was killed is not counted.",
        ("index",),
    ),
    "vv_exports_source_pauses": MetricKind(
        "counter", "How often VideoVector said that it was asked too much, and all waited.", ()
    ),
    "vv_exports_source_processes": MetricKind("gauge", "Processes that ask VideoVector now.", ()),
    "vv_exports_daemon_heartbeat_timestamp_seconds": MetricKind(
        "gauge", "When a part of Dagster's daemon was last seen alive, in Unix time.", ("daemon",)
    ),
    "vv_exports_dagster_runs": MetricKind(
        "gauge", "Dagster runs of the instance that are not over, by status.", ("status",)
    ),
    "vv_exports_metrics_read_timestamp_seconds": MetricKind("gauge", "When these figures were read, in Unix time.", ()),
    "vv_exports_metrics_read_duration_seconds": MetricKind("gauge", "How long it took to read these figures.", ()),
}  # fmt: skip
"""Every metric there is, in the order in which they are told."""

_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)

Sample = tuple[str, float, tuple[str, ...]]
"""A metric's name, its value, and the values of its labels."""


@tells_of_the_instance
class Metrics:
    """The figures of a deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._automations = Automations(deployment)
        self._totals: dict[Automation, DeliveredTotals] = {}
        self._unreadable: frozenset[str] = frozenset()

    def text(self) -> str:
        """The figures as they are now, in Prometheus' text format."""
        return _text(self._families())

    def write(self, target: Path) -> int:
        """The same into a file that is there whole or not at all, as a collector of text files reads it. Returns its
        size in bytes. Raises RequestError where it cannot be written."""
        data = self.text().encode()
        try:
            with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as draft:
                path = Path(draft.name)
                try:
                    draft.write(data)
                    draft.flush()
                    path.chmod(0o644)  # the collector is another user
                    path.replace(target)
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise RequestError(f"{target} cannot be written: {error.strerror or error}") from error
        return len(data)

    @contextmanager
    def served(self, host: str, port: int, every: float) -> Iterator[str]:
        """An HTTP endpoint with the figures, read anew every so many seconds, by the configuration as it is then: a
        scrape costs nothing, and waits for nobody. Yields its address. Raises RequestError where the port is taken."""
        latest = _Latest(self._families())
        registry = CollectorRegistry(auto_describe=False)
        registry.register(latest)
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            raise RequestError(f"{host}:{port} cannot be listened at: {error.strerror or error}") from error
        over = threading.Event()
        reading = threading.Thread(target=self._read_again, args=(latest, every, over), name="metrics", daemon=True)
        reading.start()
        try:
            yield f"http://{host}:{server.server_port}/metrics"
        finally:
            over.set()
            server.shutdown()
            server.server_close()
            thread.join()

    def _read_again(self, latest: "_Latest", every: float, over: threading.Event) -> None:
        while not over.wait(every):
            try:
                self._deployment.refresh()
                latest.families = self._families()
            except VVExportsError as error:
                # The time of the last reading says it to whoever looks at the figures.
                _LOG.warning("the figures stay as they were: %s", error)

    def _families(self) -> list[Metric]:
        """One look at everything."""
        began, at = time.monotonic(), self._deployment.pipeline.clock()
        with instance_errors(lambda: self._deployment.opened_instance):
            samples = [*self._samples()]
        samples += [
            ("vv_exports_metrics_read_timestamp_seconds", at.timestamp(), ()),
            ("vv_exports_metrics_read_duration_seconds", time.monotonic() - began, ()),
        ]
        return _families_of(samples)

    def _samples(self) -> Iterator[Sample]:
        pipeline = self._deployment.pipeline
        yield "vv_exports_build_info", 1, (__version__,)
        yield from self._of_the_instance()
        for index_id in pipeline.config.indexes:
            try:
                catalog = pipeline.snapshots.catalogs.read(index_id)
            except VVExportsError as error:
                self._say_once(f"index {index_id}", error)
                continue
            yield "vv_exports_snapshots", len(catalog.runs), (index_id,)
            yield "vv_exports_unreadable_prompt_runs", len(catalog.problems), (index_id,)
        yield from self._of_the_source()
        automations = [*pipeline.automations]
        self._totals = {one: self._totals.get(one) or _totals_of(one) for one in automations}
        with ThreadPoolExecutor(LOOKED_AT_ONCE) as pool:  # each is some requests to stores
            for found in pool.map(partial(self._of_automation, switches=self._automations.switches()), automations):
                yield from found

    def _of_the_source(self) -> Iterator[Sample]:
        pipeline = self._deployment.pipeline
        try:
            asked = requests_asked(pipeline.config, pipeline.storage)
        except VVExportsError as error:
            self._say_once("requests to the source", error)
            return
        if asked is not None:
            for index_id, requests in sorted(asked.requests.items()):
                yield "vv_exports_source_requests", requests, (index_id,)
            yield "vv_exports_source_pauses", asked.pauses, ()
            yield "vv_exports_source_processes", len(asked.by_token), ()

    def _of_the_instance(self) -> Iterator[Sample]:
        instance = self._deployment.instance_to_look_at
        if instance is None:
            return
        for daemon, heartbeat in sorted(instance.get_daemon_heartbeats().items()):
            yield "vv_exports_daemon_heartbeat_timestamp_seconds", heartbeat.timestamp, (daemon.lower(),)
        for status in _UNFINISHED:
            count = instance.get_runs_count(dg.RunsFilter(statuses=[status]))
            yield "vv_exports_dagster_runs", count, (status.value.lower(),)

    def _of_automation(self, automation: Automation, switches: Switches) -> list[Sample]:
        labels = (automation.index_id, automation.name)
        try:
            found = [*self._figures(automation, labels, switches)]
        except VVExportsError as error:
            self._say_once(f"automation {automation.id}", error)
            enabled = automation.config.enabled
            found = [
                ("vv_exports_automation_readable", 0, labels),
                ("vv_exports_automation_enabled", enabled, labels),
            ]
        else:
            found.append(("vv_exports_automation_readable", 1, labels))
        return found

    def _figures(self, automation: Automation, labels: tuple[str, ...], switches: Switches) -> Iterator[Sample]:
        collection = automation.collection()
        state = self._automations.state(automation, None, switches)
        if state.unreadable is not None:
            raise RequestError(state.unreadable)
        last = automation.verifications.last()
        totals = self._totals[automation].of(automation.destination, collection.last)
        yield "vv_exports_automation_enabled", state.enabled, labels
        yield "vv_exports_automation_paused", state.paused, labels
        yield "vv_exports_automation_failing", state.last_error is not None, labels
        for name in ("delivered", "due", "failing", "held", "history", "gone"):
            yield "vv_exports_prompt_runs", getattr(state, name), (*labels, name)
        for name, moment in (("oldest_due", state.oldest_due_at), ("last_delivery", state.last_delivery_at)):
            if moment is not None:
                yield f"vv_exports_{name}_timestamp_seconds", datetime.fromisoformat(moment).timestamp(), labels
        if last.at is not None:
            yield "vv_exports_last_verification_timestamp_seconds", last.at.timestamp(), labels
            yield "vv_exports_last_verification_problems", last.problem_count, labels
        files = collection.files
        yield "vv_exports_collection_files", len(files), labels
        yield "vv_exports_collection_bytes", sum(file.bytes for file in files), labels
        for table in DELIVERED_TABLES:
            rows = sum(file.rows for file in files if file.table == table)
            yield "vv_exports_collection_rows", rows, (*labels, table)
            # From the beginning: a counter that appears with its first rows has not grown, to Prometheus.
            yield "vv_exports_delivered_rows", totals.rows.get(table, 0), (*labels, table)
        yield "vv_exports_deliveries", totals.deliveries, labels
        yield "vv_exports_delivered_prompt_runs", totals.prompt_runs, labels
        yield "vv_exports_delivered_bytes", totals.bytes, labels

    def _say_once(self, what: str, error: VVExportsError) -> None:
        said = f"{one_line(what)}: {error}"
        if said not in self._unreadable:
            _LOG.warning("no figures of %s", said)
            self._unreadable |= {said}


class _Latest:
    """What a scrape is answered with."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        """As the registry asks for it."""
        return self.families


def _totals_of(automation: Automation) -> DeliveredTotals:
    return DeliveredTotals(automation.snapshots.storage, automation.index_id, automation.name)


def _families_of(samples: Iterable[Sample]) -> list[Metric]:
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
    for name, kind in METRICS.items():
        family = GaugeMetricFamily if kind.kind == "gauge" else CounterMetricFamily
        families[name] = family(name, kind.said, labels=kind.labels)
    for name, value, labels in samples:
        families[name].add_metric(labels, value)
    return [family for family in families.values() if family.samples]


def _text(families: Sequence[Metric]) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Latest(families))
    return generate_latest(registry).decode()
