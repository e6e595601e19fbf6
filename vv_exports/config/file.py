"""A configuration file as it is changed: read, edited, checked as a whole, and replaced in one step."""

import difflib
import fcntl
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vv_exports.config.editing import Change, edited
from vv_exports.config.loading import parse_config, read_file, text_of
from vv_exports.config.models import Config
from vv_exports.errors import ConfigurationError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class FileEdit:
    """What a file held when it was read, what it is to hold, and the configuration that this is. Nothing is written
    before ``write``."""

    file: Path
    before: bytes
    after: bytes
    config: Config

    @property
    def is_change(self) -> bool:
        """Whether there is anything to write."""
        return self.after != self.before

    @property
    def diff(self) -> str:
        """The lines that change, as `diff -u` shows them; empty where none does."""
        name = str(self.file)
        before, after = (text_of(data, name).splitlines() for data in (self.before, self.after))
        return "\n".join(difflib.unified_diff(before, after, name, f"{name} (new)", lineterm=""))

    def write(self) -> None:
        """Put the new text in the place of the old one. Raises ConfigurationError where the file is another by now, or
        cannot be replaced; then it is as it was."""
        if self.is_change:
            replace_file(self.file, before=self.before, after=self.after)


def edit_file(file: Path, changes: Iterable[Change]) -> FileEdit:
    """The file with the changes. Raises ConfigurationError where it cannot be read or changed, and with every problem
    that the new configuration would have."""
    where = str(file)
    before = read_file(file, where)
    text = edited(text_of(before, where), changes, where)
    as_it_would_be = f"{where}, as it would be (nothing was written)"
    config = parse_config(text, folder=file.parent, where=as_it_would_be, file=file)
    mark = _BYTE_ORDER_MARK if before.startswith(_BYTE_ORDER_MARK) else b""
    return FileEdit(file, before, mark + text.encode(), config)


def replace_file(file: Path, *, before: bytes, after: bytes) -> None:
    """Replace what a file holds, if that is ``before``: all at once, with its mode and owner. A link stays, and what
    it leads to is replaced."""
    real = Path(os.path.realpath(file))
    draft = real.with_name(f".{real.name}.{os.getpid()}.draft")
    try:
        folder = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Of those who change it by command one at a time. Editors know no lock: what they saved is seen below.
            fcntl.flock(folder, fcntl.LOCK_EX)
            draft.unlink(missing_ok=True)  # of a process that had this number, and died
            _write_draft(draft, after, real.stat())
            if real.read_bytes() != before:
                problem = "was changed by somebody else meanwhile; look at it, and give the command again"
                raise ConfigurationError(str(file), [f"{problem}. Nothing was written"])
            draft.replace(real)
            os.fsync(folder)
        finally:
            draft.unlink(missing_ok=True)
            os.close(folder)
    except OSError as error:
        problem = f"cannot be replaced: {error}. It is as it was; `--dry-run` prints the change, to be made by hand"
        raise ConfigurationError(str(file), [problem]) from error


def _write_draft(draft: Path, data: bytes, like: os.stat_result) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        made = os.fstat(opened.fileno())
        if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
            os.fchown(opened.fileno(), like.st_uid, like.st_gid)
        os.fchmod(opened.fileno(), stat.S_IMODE(like.st_mode))
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
