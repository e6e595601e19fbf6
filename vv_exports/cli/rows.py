"""Rows in summaries: how many of each table, since their sum is a number of nothing."""

from collections.abc import Mapping

from vv_exports.printable import counted

_NOUNS = {"segments": "segment", "videos": "video", "failures": "failure"}


def rows_in_words(rows: Mapping[str, int]) -> str:
    """``75 segments, 6 videos``: of the tables that have rows; ``no rows`` where none has."""
    told = [
        counted(count, _NOUNS[table]) if table in _NOUNS else f"{count:,} in {table}"
        for table, count in rows.items()
        if count
    ]
    return ", ".join(told) or "no rows"
