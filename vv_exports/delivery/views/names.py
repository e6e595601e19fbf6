"""Names of schemas and views that need no quotes in any database: ``[a-z0-9_]``."""

import re
from collections import Counter
from collections.abc import Iterable

from vv_exports.delivery.views.collection import ViewedTable
from vv_exports.domain.names import hashed_name

_USUAL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


def plain_name(text: str) -> str:
    """A name: in lower case, with ``_`` for what no name has; with part of a hash where more than case, ``.`` and
    ``-`` is lost by that."""
    return (re.sub(r"[.-]", "_", text) if _USUAL.fullmatch(text) else hashed_name(text)).lower()


def names_of_views(tables: Iterable[ViewedTable]) -> dict[tuple[str, str], str]:
    """``segments_prm_1``, by prompt and folder. Those that are alike have part of a hash."""
    whole = {(table.prompt_id, table.folder): f"{table.folder}_{table.prompt_id}" for table in tables}
    plain = {key: plain_name(name) for key, name in whole.items()}
    often = Counter(plain.values())
    return {key: name if often[name] == 1 else hashed_name(whole[key]).lower() for key, name in plain.items()}
