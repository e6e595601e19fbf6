"""The files of a dataset card, ``README.md`` and ``croissant.json``: written anew after a delivery where they are ours.

Each carries the hash of itself. One that somebody has written or changed is theirs, and stays. Nothing depends on them:
what a collection holds is what its log says.
"""

import hashlib
import json
import logging
import re

from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.cards.croissant import croissant
from vv_exports.delivery.cards.huggingface import readme
from vv_exports.delivery.cards.tables import card_tables
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.state import LogState
from vv_exports.domain.datasets import DatasetTexts
from vv_exports.domain.destinations import CARD, CROISSANT
from vv_exports.printable import counted, one_line

_MARK = "vv_exports-dataset-card:"
_UNMARKED = _MARK + "0" * 64
_MARKED = re.compile(rf"{_MARK}[0-9a-f]{{64}}".encode())
_LOG = logging.getLogger(__name__)


def write_card(destination: Destination, state: LogState, texts: DatasetTexts) -> tuple[str, ...]:
    """Write the dataset card of what a log says, where it is not there as it should be. The same state and texts give
    the same bytes. Returns the names of those of its files that are somebody else's, and stay as they are.

    Raises RequestError where the log does not tell the columns of a file, which version 0.1 delivered.
    """
    theirs = []
    for name, text in _contents(destination, state, texts).items():
        data, there = _marked(text), destination.read(name)
        if there == data:
            continue
        if there is not None and not _is_ours(there):
            theirs.append(name)
            continue
        with spool_folder() as spool:
            local = spool / name
            local.write_bytes(data)
            destination.connector.put(local, destination.key(name))
    if theirs:
        _LOG.warning(
            "%s: %s was written or changed by somebody, and stays; the dataset card is not brought up to date there. "
            "Move it away for one that is.",
            destination.uri,
            " and ".join(theirs),
        )
    return tuple(theirs)


def is_card(destination: Destination, path: str) -> bool:
    """Whether a file of a destination is of a dataset card as it was written."""
    return path in {CARD, CROISSANT} and _is_ours(destination.read(path) or b"")


def _contents(destination: Destination, state: LogState, texts: DatasetTexts) -> dict[str, str]:
    last = state.last
    if last is None:
        return {}
    tables = card_tables(destination, state)
    name = texts.title or f"Prompt results of {one_line(last.export.index_id)}"
    described = sum(len(table.files) for table in tables)
    rows = counted(sum(table.rows for table in tables), "row")
    runs = counted(len(state.runs), "prompt run")
    description = texts.description or f"{rows} of {runs} of the index {one_line(last.export.index_id)}."
    superseded = frozenset(state.retained)
    card = croissant(
        tables,
        texts,
        name=name,
        description=description,
        entry=last.sequence,
        published=last.committed_at,
        superseded=superseded,
        is_live=last.export.type == "automation",
        identifier=_UNMARKED,
    )
    text = readme(
        tables,
        texts,
        name=name,
        description=description,
        superseded=superseded,
        others=len(state.files) - described,
        mark=_UNMARKED,
    )
    return {CROISSANT: json.dumps(card, indent=1, ensure_ascii=False) + "\n", CARD: text}


def _marked(text: str) -> bytes:
    """A text whose last mark is the hash of the text that it is set in."""
    data = text.encode(errors="backslashreplace")
    return _with_mark(data, hashlib.sha256(data).hexdigest())


def _is_ours(data: bytes) -> bool:
    marks = _MARKED.findall(data)
    return bool(marks) and data == _marked(_with_mark(data, "0" * 64).decode(errors="replace"))


def _with_mark(data: bytes, sha256: str) -> bytes:
    found = list(_MARKED.finditer(data))[-1]
    return data[: found.start()] + _MARK.encode() + sha256.encode() + data[found.end() :]
