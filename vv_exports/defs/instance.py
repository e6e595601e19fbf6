"""The Dagster instance that everything is recorded in: which one it is, and why it cannot be used where it cannot.

Dagster tells of a full disk in the words of its database's driver, with the statement that failed. ``instance_errors``
is the one place where these become errors of ours.
"""

import errno
import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from sqlalchemy.exc import DBAPIError, IntegrityError

from vv_exports.defs.dagster_internals import CheckError, InstanceRef
from vv_exports.defs.history import history_in, write_in_batches
from vv_exports.errors import ConfigurationError, InstanceError, RequestError

_LOG = logging.getLogger(__name__)
_SETTINGS = files("vv_exports.defs") / "dagster.yaml"
"""The settings of every instance that this package makes: the queue, its limits, and what becomes of lost runs."""
_BESIDE = files("vv_exports.defs") / "beside.yaml"
WORKSPACE = files("vv_exports.defs") / "workspace.yaml"
"""What Dagster loads, where no `workspace.yaml` is beside the configuration."""
_MADE = ".dagster"
"""The folder of an instance that this package makes."""
_OF_HISTORY = frozenset({"storage", "run_storage", "event_log_storage", "schedule_storage", "instance_class"})
"""The sections of a ``dagster.yaml`` that say where the history is. Without any, Dagster keeps it in SQLite beside."""
_WRONG_SETTINGS = (
    yaml.YAMLError,
    UnicodeDecodeError,
    CheckError,
    dg.DagsterInvalidConfigError,
    dg.DagsterInvariantViolationError,
)
_REFUSALS = (DBAPIError, sqlite3.Error, OSError)
_STORAGES = ("run_storage_data", "event_storage_data", "schedule_storage_data", "compute_logs_data")
_STAYS = "Whatever was committed to a destination stays committed."
_FULL_BELOW_BYTES = 128 * 1024
"""SQLite needs a few pages, and 32 KiB for the index of its write-ahead log, to read as much as to write."""
_FEW_FILES = 100
_LONGEST_PROBLEM = 400
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BROKEN = (
    "is broken. Restore it from a backup; or move it away, with the files beside it whose names begin alike: it is "
    "made anew, and no delivery depends on it"
)
_UNUSABLE = {*_NO_ROOM, errno.EACCES, errno.EPERM, errno.EROFS}
_ADVICE = {
    "readonly database": "may not be written to. Mend the rights of its files and of their folder, or how its disk is "
    "mounted",
    "unable to open database file": "cannot be opened. Mend the rights of its files and of their folder, or how its "
    "disk is mounted, and see that no folder is in a file's place",
    "database is locked": "is kept busy by another process. Try again later; if it stays so, look which one that is",
    "disk I/O error": "cannot be read or written: its disk, or a quota or limit on it, refuses. Look at that",
    "file is not a database": _BROKEN,
    "malformed": _BROKEN,
    "no such table": "was made by another version of Dagster. Run `dagster instance migrate` with the newer one",
    "no such column": "was made by another version of Dagster. Run `dagster instance migrate` with the newer one",
    "has no column named": "was made by another version of Dagster. Run `dagster instance migrate` with the newer one",
}
_EXTRAS = {
    "dagster_aws": "aws",
    "dagster_celery": "celery",
    "dagster_docker": "docker",
    "dagster_k8s": "k8s",
    "dagster_postgres": "postgres",
}
"""What a ``dagster.yaml`` may name and is not always installed, and the extra that brings it."""
_NAMES = ("runs", "index", "schedules")
_FULL = "database or disk is full"
_MAY_BE_FULL = ("disk I/O error", "unable to open database file")


def open_instance(environ: Mapping[str, str], folder: Path) -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME, else of the folder's ``dagster.yaml``, else one in its ``.dagster``, made where
    there is none yet.

    Raises RequestError for a DAGSTER_HOME or a ``dagster.yaml`` that is wrong, InstanceError where the instance cannot
    be made or read.
    """
    home = instance_home(environ, folder)
    with _explained(home):
        if home == folder / _MADE:
            home.mkdir(exist_ok=True)
        with _one_at_a_time(home):
            if home == folder / _MADE:
                _write_settings(home)
            return _opened(home, _ref(home))


def find_instance(environ: Mapping[str, str], folder: Path) -> dg.DagsterInstance | None:
    """The instance that ``open_instance`` opens, None where it would be made. Creates nothing."""
    home = instance_home(environ, folder)
    if not home.is_dir():
        return None
    with _explained(home):
        ref = _ref(home)
        if not _is_made(ref):
            return None
        with _one_at_a_time(home):
            return _opened(home, ref)


def instance_home(environ: Mapping[str, str], folder: Path) -> Path:
    """The folder of the instance: where its ``dagster.yaml`` is, or would be. Raises RequestError."""
    if given := environ.get("DAGSTER_HOME"):
        if not Path(given).is_absolute() or not Path(given).is_dir():
            raise RequestError(
                f"DAGSTER_HOME is {given!r}, which is not the absolute path of a folder; create or mend it"
            )
        return Path(given)
    return folder if (folder / _SETTINGS.name).exists() else folder / _MADE


def settings_beside() -> str:
    """A ``dagster.yaml`` to be beside a configuration: the same settings, with the history in ``.dagster``."""
    return f"{_BESIDE.read_text()}\n{_SETTINGS.read_text().partition(chr(10) * 2)[2]}"


def has_history(folder: Path) -> bool:
    """Whether a folder has an instance that was made without a ``dagster.yaml`` beside the configuration: with one, it
    would not be found any more."""
    return (folder / _MADE / _SETTINGS.name).exists()


def warn_of_other_instances(instance: dg.DagsterInstance, environ: Mapping[str, str], folder: Path) -> None:
    """Say once in a process that commands look at another instance than the one that this process records in."""
    if instance.is_persistent:
        _warn(_history(instance.get_ref()), environ.get("DAGSTER_HOME", ""), folder)


@cache
def _warn(here: str, given: str, folder: Path) -> None:
    for said, who in {"": "commands without DAGSTER_HOME", given: "commands"}.items():
        home = instance_home({"DAGSTER_HOME": said}, folder)
        ref = _ref_if_any(home)
        # Where commands have the same environment, theirs will be made if it is not; others may not be there at all.
        if (ref is None or _history(ref) != here) and (said == given or (ref is not None and _is_made(ref))):
            _LOG.warning(
                "the history of this Dagster is in %s, and %s use the instance of %s: what is launched, paused or "
                "switched in one is not seen in the other. Start Dagster and commands with the same DAGSTER_HOME.",
                here,
                who,
                home,
            )


@contextmanager
def instance_errors(opened: Callable[[], dg.DagsterInstance | None]) -> Iterator[None]:
    """Around what reads or writes an instance: what its database or its disk refuse leaves it as InstanceError.

    ``opened`` gives the instance, or None where it was not opened at all.
    """
    try:
        yield
    except _REFUSALS as error:
        instance = opened()
        if instance is None or not instance.is_persistent:
            raise
        home = Path(instance.root_directory)
        told = _told(error, home, _folders(instance.get_ref(), home))
        if told is None:
            raise
        raise told from error


def plain_text(message: str) -> str:
    """A recorded error for people: a database's without the statement and its parameters."""
    found = re.match(r"\((?:sqlite3|psycopg2?)\.\w+\) (.*)", message.strip())
    if found is None:
        return message
    return f"Dagster's database refused: {found[1].strip()}. Look at its disk and its rights. {_STAYS}"


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Around the opening of an instance: what is wrong with its settings or its folder."""
    try:
        yield
    except _WRONG_SETTINGS as error:
        raise ConfigurationError(str(home / _SETTINGS.name), _problems(error)) from error
    except OSError as error:
        raise InstanceError(_refused(home, error)) from error


def _ref(home: Path) -> InstanceRef:
    """The settings of an instance. Dagster lets a relative ``base_dir`` start at the working directory; here it starts
    at the file that says it."""
    settings = home / _SETTINGS.name
    said = yaml.safe_load(settings.read_text("utf-8")) if settings.exists() else None
    try:
        overrides = _placed(home, said) if isinstance(said, dict) else {}
        if _OF_HISTORY.isdisjoint(overrides):
            overrides |= {"storage": history_in(home)}  # where Dagster would keep it
        return InstanceRef.from_dir(str(home), overrides=overrides)
    except (TypeError, AttributeError) as error:
        # Dagster looks into some sections (`storage`, `concurrency`) before it checks that they are mappings.
        raise ConfigurationError(str(settings), _shapeless(said, error)) from error


def _shapeless(said: Any, error: Exception) -> list[str]:
    """The sections that are no mappings, else Dagster's words. No values: one may be a password."""
    sections = said if isinstance(said, dict) else {}
    return [
        f"{name}: must be a mapping of settings, and is {_kind(value)}"
        for name, value in sections.items()
        if not isinstance(value, dict)
    ] or [f"A section has another shape than Dagster expects: {error}"]


def _kind(value: Any) -> str:
    return "empty" if value is None else f"of type {type(value).__name__}"


def _ref_if_any(home: Path) -> InstanceRef | None:
    try:
        return _ref(home) if home.is_dir() else None
    except (*_WRONG_SETTINGS, ConfigurationError, OSError):
        return None  # whoever opens it is told why


def _placed(home: Path, settings: Any) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {
        name: str(home / value) if name == "base_dir" and isinstance(value, str) else _placed(home, value)
        for name, value in settings.items()
    }


def _is_made(ref: InstanceRef) -> bool:
    """Whether there is a history. One in a database server may be taken to be there: it makes nothing here."""
    folder = _runs_folder(ref)
    return folder is None or (folder / "runs.db").exists()


def _history(ref: InstanceRef) -> str:
    """Where the runs of an instance are, told apart from any other place."""
    folder = _runs_folder(ref)
    return "a database" if folder is None else str(folder)


def _runs_folder(ref: InstanceRef) -> Path | None:
    found = [*_sqlite_folders(ref), _base_dir(ref.run_storage_data)]
    return None if found[0] is None else found[0].resolve()


def _sqlite_folders(ref: InstanceRef) -> list[Path]:
    """Where one storage in SQLite, Dagster's or ours, keeps runs, events, and schedules."""
    base = _base_dir(ref.storage_data)
    return [] if base is None else [base / "history", base / "history" / "runs", base / "schedules"]


def _base_dir(settings: Any) -> Path | None:
    """The folder of a part of an instance that is kept in one."""
    place = None if settings is None else settings.config_dict.get("base_dir")
    return Path(place).absolute() if isinstance(place, str) else None


def _opened(home: Path, ref: InstanceRef) -> dg.DagsterInstance:
    try:
        write_in_batches()
        return _with_tables(dg.DagsterInstance.from_ref(ref))
    except (DBAPIError, sqlite3.Error) as error:
        raise InstanceError(_database_said(error, home, _folders(ref, home))) from error


def _write_settings(home: Path) -> None:
    """Whole or not at all: on a full disk an empty file would be taken for settings."""
    if not (home / _SETTINGS.name).exists():
        draft = home / f"{_SETTINGS.name}.draft"
        draft.write_text(_SETTINGS.read_text())
        draft.replace(home / _SETTINGS.name)


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Dagster does not guard the making of its SQLite tables: of processes that meet in a new instance, some fail."""
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _problems(error: Exception) -> list[str]:
    """Without Dagster's stack, without all that is allowed instead, and without values: one may be a password."""
    said = [one.message for one in error.errors] if isinstance(error, dg.DagsterInvalidConfigError) else []
    problems = []
    for one in said or [str(error)]:
        problem = one.split("\n\nStack Trace")[0].removeprefix("Failure condition: ")
        problem = re.sub(r'Value ".*?" of', "A value of", problem)
        if (missing := re.match(r"Couldn't import module (\w+)", problem)) and (extra := _EXTRAS.get(missing[1])):
            problem = (
                f"it needs packages that are not installed ({missing[1]}); install them with: "
                f"pip install 'vv-exports[{extra}]' (in a clone: pip install '.[{extra}]')"
            )
        problems.append(f"{problem[:_LONGEST_PROBLEM]}…" if len(problem) > _LONGEST_PROBLEM else problem)
    return problems


def _with_tables(instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """The instance, its storages opened: Dagster makes their tables when they are first asked for."""
    for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
        del storage
    return instance


def _told(error: Exception, home: Path, folders: list[Path]) -> InstanceError | None:
    if isinstance(error, IntegrityError | sqlite3.IntegrityError):
        return None  # a bug, or a race that Dagster decides: nothing to mend
    if isinstance(error, DBAPIError | sqlite3.Error):
        return InstanceError(_database_said(error, home, folders))
    # What an error names that is not the instance's is somebody else's to explain. ``home`` may be the folder of the
    # whole deployment: what lies in it is not all of the instance.
    if isinstance(error, OSError) and error.errno in _UNUSABLE and isinstance(error.filename, str):
        named = Path(error.filename).absolute()
        if any(named.is_relative_to(one) for one in folders if one != home):
            return InstanceError(_refused(named, error))
    return None


def _folders(ref: InstanceRef, home: Path) -> list[Path]:
    """Where an instance keeps its databases and logs, as far as that is in folders. ``home`` last."""
    found = [*_sqlite_folders(ref), *(_base_dir(getattr(ref, name)) for name in _STORAGES)]
    return [*dict.fromkeys(one for one in found if one is not None), home]


def _database_said(error: DBAPIError | sqlite3.Error, home: Path, folders: list[Path]) -> str:
    cause = (error.orig if isinstance(error, DBAPIError) else error) or error
    lines = str(cause).strip().splitlines()
    said = lines[0] if lines else type(cause).__name__
    if not isinstance(cause, sqlite3.Error):
        return (
            f"Dagster's database, which {home / _SETTINGS.name} names, does not answer or refuses: {said}. Start it, "
            f"or mend `storage` there, and do the same again. {_STAYS}"
        )
    # Each disk is looked at once: what others write meanwhile decides nothing among folders of one disk.
    free = {disk: _free_bytes(place) for place in reversed(folders) for disk in [_existing(place).stat().st_dev]}
    fullest = min(folders, key=lambda place: free[_existing(place).stat().st_dev])
    if said == _FULL or (said.startswith(_MAY_BE_FULL) and _is_full(fullest)):
        return _no_room(fullest)
    advice = next((advice for phrase, advice in _ADVICE.items() if phrase in said), "cannot be used")
    where = next((path for path in _databases(folders) if advice == _BROKEN and not _is_whole(path)), folders[0])
    return f"Dagster's history in {where} {advice}. The database says: {said}. {_STAYS}"


def _databases(folders: list[Path]) -> Iterator[Path]:
    """The database of each folder. Those of single runs, which lie beside one, are left out: there are many."""
    return (path for folder in folders for path in (folder / f"{name}.db" for name in _NAMES) if path.is_file())


def _is_whole(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False


def _refused(path: Path, error: OSError) -> str:
    if error.errno in _NO_ROOM:
        return _no_room(path)
    where = error.filename or path
    return (
        f"Dagster's history cannot be kept in {where}: {error.strerror}. Mend the rights of that folder or how its "
        f"disk is mounted, or set DAGSTER_HOME to another folder. {_STAYS}"
    )


def _no_room(place: Path) -> str:
    there = _existing(place)
    disk = os.statvfs(there)
    few_files = disk.f_files > 0 and disk.f_favail < _FEW_FILES
    files_left = f" and room for {disk.f_favail:,} more files" if few_files else ""
    return (
        f"Dagster's history in {place} cannot grow: its disk, mounted at {_mount_point(there)}, is full "
        f"({_free_bytes(there):,} bytes{files_left} left). Make room there, or set DAGSTER_HOME to a folder on another "
        f"disk, and do the same again. {_STAYS}"
    )


def _is_full(place: Path) -> bool:
    disk = os.statvfs(_existing(place))
    return disk.f_bavail * disk.f_frsize < _FULL_BELOW_BYTES or (disk.f_files > 0 and disk.f_favail == 0)


def _free_bytes(place: Path) -> int:
    disk = os.statvfs(_existing(place))
    return disk.f_bavail * disk.f_frsize


def _existing(place: Path) -> Path:
    return next(one for one in (place, *place.absolute().parents) if one.exists())


def _mount_point(place: Path) -> Path:
    return next(one for one in (place.resolve(), *place.resolve().parents) if one.is_mount())
