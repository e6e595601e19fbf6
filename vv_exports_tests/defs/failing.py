"""A source and a destination that fail when they are told to, in this process or in a run worker's."""

import os
import signal
import time
from pathlib import Path

from vv_exports import errors
from vv_exports.connectors.local import LocalConnector
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.pipeline import Pipeline
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.deployments import with_parts


class Faults:
    """Failures to come, one for each attempt. They are files: worker processes and tests see the same ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, place: str, *faults: str) -> None:
        """The next attempts at a place (a prompt run that is read, or the log that is written) fail like this."""
        folder = self._folder / place
        folder.mkdir(parents=True, exist_ok=True)
        for number, fault in enumerate(faults):
            (folder / str(number)).write_text(fault)

    def left(self, place: str) -> int:
        """How many did not happen."""
        return len(list((self._folder / place).iterdir()))

    def next(self, place: str) -> str | None:
        """Take the next fault of a place, or None where no more is to come."""
        for file in sorted((self._folder / place).glob("*")):
            fault = file.read_text()
            file.unlink()
            return fault
        return None


def _fail(fault: str, where: str) -> None:
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "interrupted":
        signal.raise_signal(signal.SIGINT)
        time.sleep(5)
    error = RuntimeError if fault == "RuntimeError" else getattr(errors, fault)
    raise error(where, ["it broke"]) if error is errors.ConfigurationError else error(f"{where}: it broke")


class FailingArchive(LocalArchive):
    """An archive whose prompt runs cannot be read at times."""

    def __init__(self, folder: Path, faults: Faults) -> None:
        super().__init__(str(folder))
        self._faults = faults

    def prompt_run(self, index_id: str, run_id: str) -> PromptRun:
        if fault := self._faults.next(run_id):
            _fail(fault, run_id)
        return super().prompt_run(index_id, run_id)


class FailingFolder(LocalConnector):
    """A destination whose log cannot be written at times. Of a write that ``lands`` the reply is lost, and the next
    look does not see it yet."""

    def __init__(self, folder: Path, faults: Faults) -> None:
        super().__init__("conn_export", folder, "deliveries")
        self._faults = faults
        self._unseen: str | None = None

    def create(self, key: str, data: bytes, *, durable: bool = True) -> bool:
        fault = self._faults.next("log") if "/_vv/log/" in key else None
        if fault == "lands":
            super().create(key, data, durable=durable)
            self._unseen = key
            fault = "OutcomeUnknownError"
        if fault is not None:
            _fail(fault, "log")
        return super().create(key, data, durable=durable)

    def read(self, key: str) -> bytes | None:
        if key == self._unseen:
            self._unseen = None
            return None
        return super().read(key)


def fail_at_times(pipeline: Pipeline, folder: Path) -> Faults:
    """Make a pipeline's archive and destination fail as its faults say."""
    faults = Faults(folder / "faults")
    with_parts(
        pipeline,
        source=FailingArchive(folder / "archive", faults),
        connectors={**pipeline.connectors, "conn_export": FailingFolder(folder, faults)},
    )
    return faults
