"""The pipeline of one deployment: its source, its snapshots, its connectors, and what it does with them.

Everything that an asset, the client or the command line asks for ends here. It knows nothing of Dagster.
"""

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from vv_exports.automations.registry import Automations
from vv_exports.config import Config, check_apart
from vv_exports.connectors.base import Connector
from vv_exports.connectors.configured import Connectors, open_connectors
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.content import Content
from vv_exports.delivery.deliver import Delivery, DeliveryRequest
from vv_exports.delivery.deliveries import Deliveries
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.log import ExportReference
from vv_exports.delivery.ownership import check_unowned
from vv_exports.domain.destinations import check_subpath, overlaps
from vv_exports.domain.exports import ExportRequest
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.domain.selection import chosen_runs
from vv_exports.errors import (
    DeliveredDataError,
    DestinationError,
    IdempotencyError,
    RequestError,
    TransientError,
)
from vv_exports.formats.registry import format_named
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.taking import Snapshots
from vv_exports.sources.base import Source
from vv_exports.sources.indexes import Indexes
from vv_exports.sources.registry import SOURCES


def _silent(what: str, rows: int) -> None:
    """No progress wanted."""
    del what, rows


@dataclass(frozen=True)
class Progress:
    """Who is told how far the work is: (run id, segments) of a snapshot, (run id and table, rows) of a file."""

    snapshot: Callable[[str, int], None] = _silent
    file: Callable[[str, int], None] = _silent


@dataclass(frozen=True)
class Artifact:
    """A download: a zip file in the pipeline's storage. ``bytes`` is its size."""

    key: str
    uri: str
    bytes: int


@dataclass(frozen=True)
class ExportJob:
    """An export on demand with the snapshots that it holds. The id names its folder or its artifact."""

    export_id: str
    request: ExportRequest
    snapshots: Sequence[Snapshot]


@dataclass(frozen=True)
class ExportOutcome:
    """What became of an export on demand."""

    delivery: Delivery
    destination_uri: str
    artifact: Artifact | None


class _Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What an idempotency key stands for: a Dagster run, and the hash of the request that it was launched for."""

    run_id: str
    request: str


class Pipeline:
    """Built once from a configuration, without touching storage or network."""

    def __init__(
        self,
        config: Config,
        *,
        source: Source,
        storage: Connector,
        connectors: dict[str, Connector],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.source = source
        self.storage = storage
        self.connectors = Connectors(connectors)
        self.clock = clock
        progress = progress or Progress()
        for connector in (storage, *connectors.values()):
            connector.remember_in(storage)
        delivered = [index_id for index_id, index in config.indexes.items() if index.automations]
        self.indexes = Indexes(source, config.indexes, delivered)
        self.snapshots = Snapshots(source, storage, clock=self.now, progress=progress.snapshot)
        self.deliveries = Deliveries(self.snapshots, clock=self.now, progress=progress.file)
        self.automations = Automations(config, self.connectors, self.snapshots)

    @classmethod
    def from_config(cls, config: Config, progress: Progress | None = None) -> "Pipeline":
        """The pipeline that a configuration describes."""
        kept = config.storage
        configured = {f"connectors.{connector_id}": one for connector_id, one in config.connectors.items()}
        if not isinstance(kept, str):
            configured["storage"] = kept
        opened = open_connectors({place: one.model_dump() for place, one in configured.items()})
        return cls(
            config,
            source=SOURCES[config.source.kind](**config.source.model_dump(exclude={"kind"})),
            storage=LocalConnector("storage", kept, make_root=True) if isinstance(kept, str) else opened["storage"],
            connectors={key: opened[f"connectors.{key}"] for key in config.connectors},
            progress=progress,
        )

    def now(self) -> datetime:
        """The moment, by the pipeline's clock."""
        return self.clock()

    # Exports on demand

    def check_export(self, request: ExportRequest) -> list[PromptRun]:
        """Everything about an export that can be wrong, before anything is written. Returns the runs it is about."""
        listing, wanted = self.indexes.listing(request.index_id), request.prompt_run_ids
        listed = listing.complete() if wanted is None else listing.named(wanted)
        runs = chosen_runs(listed, wanted, index_id=request.index_id)
        self.check_destination(request)
        return runs

    def check_destination(self, request: ExportRequest) -> None:
        """Where an export may not go, or a format that does not exist. Raises RequestError."""
        format_named(request.format)
        if request.destination_connector_id is None:
            if request.destination_subpath is not None:
                raise DestinationError(
                    f"destination_subpath {request.destination_subpath!r} was given without a connector; name a "
                    "destination connector, or leave the subpath out for a download"
                )
            return
        connector = self.connectors.for_export(request.destination_connector_id)
        subpath = ""
        if request.destination_subpath is not None:
            subpath = check_subpath(request.destination_subpath, boundary=connector.uri(""))
            self._check_free_of_automations(connector, subpath)
        check_apart(self.config, request.destination_connector_id, subpath)
        check_unowned(Destination(connector, subpath))

    def export(self, job: ExportJob, dagster_run_id: str | None = None) -> ExportOutcome:
        """Deliver an export into its own folder of a connector, or pack it for download. Repeatable."""
        request = job.request
        if request.destination_connector_id is None:
            return self._pack(job, dagster_run_id)
        connector = self.connectors.for_export(request.destination_connector_id)
        parent = ""
        if request.destination_subpath is not None:
            parent = check_subpath(request.destination_subpath, boundary=connector.uri(""))
        check_apart(self.config, request.destination_connector_id, parent)  # links may lead elsewhere by now
        subpath = f"{parent}/{job.export_id}" if parent else job.export_id
        delivery = self.deliveries.deliver(_export_delivery(job, connector, subpath, dagster_run_id))
        return ExportOutcome(delivery, delivery.uri, None)

    def download(self, export_id: str, target: Path) -> bool:
        """Copy a download's artifact to a local file, atomically. False where the file is there already, the same."""
        target = target.resolve()
        if target.exists() and not target.is_file():
            raise RequestError(f"{target} is not a file, so no download can be put there; choose another path")
        if not target.parent.is_dir():
            raise RequestError(f"{target.parent} is not a folder, so no download can be put there; create it first")
        if not self.has_download(export_id):
            raise DeliveredDataError(
                f"{self.storage.uri(_artifact_key(export_id))} is not there: it was deleted, or a backup of `storage` "
                "from before it was restored. Make the export again, with the same idempotency key where it had one."
            )
        with self.storage.open(_artifact_key(export_id)) as content:
            digest = hashlib.file_digest(content, "sha256").digest()
            if target.is_file():
                with target.open("rb") as existing:
                    if hashlib.file_digest(existing, "sha256").digest() == digest:
                        return False
            folder = LocalConnector("download", target.parent)
            folder.put_stream(content, target.name)
            folder.sweep()
        return True

    def has_download(self, export_id: str) -> bool:
        """Whether a download's artifact is in the storage."""
        return self._size_of(_artifact_key(export_id)) is not None

    def remembered_launch(self, key: str, request: ExportRequest, run_id: str) -> str:
        """The run that an idempotency key stands for: ``run_id`` where the key is new.

        Kept in the pipeline's storage, written if there is none, so that two callers at once agree, and that losing
        Dagster's database loses no key. Raises IdempotencyError where the key was used for another request.
        """
        asked = request_hash(request)
        path = f"idempotency/{hashlib.sha256(key.encode()).hexdigest()}.json"
        self.storage.create(path, msgspec.json.encode(_Launch(run_id=run_id, request=asked)))
        data = self.storage.read(path)
        if data is None:
            raise TransientError(f"{self.storage.uri(path)} was written and cannot be read back; try again")
        try:
            remembered = msgspec.json.decode(data, type=_Launch)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DeliveredDataError(
                f"{self.storage.uri(path)} does not say which export the idempotency key {key!r} stands for: {error}. "
                "Restore it; or remove it and ask again, which makes the export anew where Dagster does not know the "
                "key any more."
            ) from error
        if remembered.request != asked:
            raise IdempotencyError(
                f"the idempotency key {key!r} was used before, for another request; use a new key, or repeat that "
                "request"
            )
        return remembered.run_id

    def _check_free_of_automations(self, connector: Connector, subpath: str) -> None:
        wanted = f"{connector.address}/{subpath}"
        for automation in self.automations:
            taken = f"{automation.destination.connector.address}/{automation.destination.subpath}"
            if overlaps(taken, wanted) and taken.count("/") <= wanted.count("/"):
                raise DestinationError(
                    f"destination_subpath {subpath!r} of connector {connector.connector_id!r} belongs to the "
                    f"automation {automation.name!r} of index {automation.index_id!r}, whose "
                    "readers would count rows twice; choose another"
                )

    def _size_of(self, key: str) -> int | None:
        folder = key.rpartition("/")[0]
        return next((file.size for file in self.storage.files(folder) if file.key == key), None)

    def _pack(self, job: ExportJob, dagster_run_id: str | None) -> ExportOutcome:
        key = _artifact_key(job.export_id)
        with spool_folder() as spool:
            folder = LocalConnector("download", spool)
            request = _export_delivery(job, folder, job.export_id, dagster_run_id)
            delivery = self.deliveries.deliver(replace(request, moves_on_to=self.storage.uri(key)))
            archive = spool / f"{job.export_id}.zip"
            _zip(spool / job.export_id, archive)
            # Made once: an export that is launched again, from another Dagster instance say, is what it was.
            if self._size_of(key) is None:
                self.storage.put(archive, key)
            artifact = Artifact(key, self.storage.uri(key), self._size_of(key) or 0)
        return ExportOutcome(delivery, artifact.uri, artifact)


def _export_delivery(job: ExportJob, connector: Connector, subpath: str, dagster_run_id: str | None) -> DeliveryRequest:
    index_id = job.request.index_id
    return DeliveryRequest(
        destination=Destination(connector, subpath, Owner(type="export", index_id=index_id, export_id=job.export_id)),
        export=ExportReference(id=job.export_id, type=job.request.export_type, index_id=index_id),
        content=Content(job.request.format),
        snapshots=job.snapshots,
        dagster_run_id=dagster_run_id,
    )


def _artifact_key(export_id: str) -> str:
    return f"exports/{export_id}.zip"


def _zip(folder: Path, archive: Path) -> None:
    """The same folder gives the same bytes: names sorted, no times. Files that are compressed already are stored."""
    with zipfile.ZipFile(archive, "x") as zipped:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            stored = path.suffix in {".parquet", ".zst"}
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            entry.file_size = path.stat().st_size  # tells zipfile in advance where it needs its 64-bit form
            with path.open("rb") as content, zipped.open(entry, "w") as out:
                while block := content.read(1 << 20):
                    out.write(block)


def request_hash(request: ExportRequest) -> str:
    """64 hex characters that tell a request from any other."""
    return hashlib.sha256(msgspec.json.encode(request)).hexdigest()


def content_version(snapshots: Sequence[Snapshot]) -> str:
    """One data version for several runs: that of the run where there is one, else a hash of all."""
    if len(snapshots) == 1:
        return snapshots[0].data_version
    digest = hashlib.sha256()
    for snapshot in sorted(snapshots, key=lambda snapshot: snapshot.run_id):
        digest.update(f"{snapshot.run_id}\n{snapshot.data_version}\n".encode())
    return digest.hexdigest()
