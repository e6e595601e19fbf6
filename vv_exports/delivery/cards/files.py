"""The files of a dataset card, ``README.md`` and ``croissant.json``: written anew after a delivery where they are ours.

Each carries the hash of itself. One that somebody has written or changed is theirs, and stays. Nothing depends on them:
what a collection holds is what its log says.
"""

import json
import logging

from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.cards.croissant import croissant
from vv_exports.delivery.cards.huggingface import readme
from vv_exports.delivery.cards.marks import UNMARKED, is_as_marked, marked
from vv_exports.delivery.cards.tables import card_tables
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.state import LogState
from vv_exports.domain.datasets import DatasetTexts
from vv_exports.domain.destinations import CARD, CROISSANT
from vv_exports.printable import counted, one_line

_LOG = logging.getLogger(__name__)


def write_card(destination: Destination, state: LogState, texts: DatasetTexts) -> tuple[str, ...]:
    """Write the dataset card of what a log says, where it is not there as it should be. The same state and texts give
    the same bytes. Returns the names of those of its files that are somebody else's, and stay as they are.

    Raises RequestError where the log does not tell the columns of a file, which version 0.1 delivered.
    """
    theirs = []
    for name, text in _contents(destination, state, texts).items():
        data, there = marked(text), destination.read(name)
        if there == data:
            continue
        if there is not None and not is_as_marked(there):
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
        identifier=UNMARKED,
    )
    text = readme(
        tables,
        texts,
        name=name,
        description=description,
        superseded=superseded,
        others=len(state.files) - described,
        mark=UNMARKED,
    )
    return {CROISSANT: json.dumps(card, indent=1, ensure_ascii=False) + "\n", CARD: text}
