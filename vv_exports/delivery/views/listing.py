"""A query of exactly the rows of listed files, for databases that list a folder by themselves: what is in it by then
may be less than was listed, or more."""

from collections.abc import Callable, Iterable, Sequence

from vv_exports.delivery.views.collection import ViewedCollection, ViewedFile


def rows_of_files(
    columns: Iterable[str],
    source: str,
    *,
    is_listed: str,
    files: Sequence[ViewedFile],
    only_if_whole: Callable[[int], str],
) -> str:
    """A SELECT of quoted columns of a source, where ``is_listed`` is true. ``only_if_whole`` gives, for the number of
    rows that there must be, an expression that is true for them, and fails for others: a file that is gone, which such
    a database takes for one without rows, is no part of a result then."""
    chosen = ", ".join(columns)
    if not files:
        return f"select {chosen}\nfrom {source}\nwhere false"
    rows = sum(file.rows for file in files)
    return (
        f"with listed as (\n  select {chosen}\n  from {source}\n  where {is_listed}\n)\n"  # noqa: S608 - likewise
        f"select {chosen}\nfrom listed\nwhere (select {only_if_whole(rows)} from listed)"
    )


def gone(collection: ViewedCollection) -> str:
    """What a query that would have a part of the rows says instead."""
    return (
        f"the files of entry {collection.entry} of the delivery log are not all there: print the views again with "
        "vv-exports sql"
    )
