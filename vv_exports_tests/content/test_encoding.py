"""How rows stand in the files of each format: documents come back as they were."""

import pytest
from hypothesis import given, settings

from vv_exports_tests.content.documents import RUN, options, results, strict, through_a_file

EVERY = {
    "parquet": options("parquet"),
    "jsonl": options("jsonl"),
    "json": options("json"),
    "csv": options("csv"),
    "csv for Excel": options("csv", delimiter=";", excel=True),
    "csv with formulas": options("csv", delimiter="\t", formulas="keep"),
}


def as_a_table_gives_them(table, documents):
    return table.documents(table.batch(documents, RUN))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(made=results())
def test_documents_come_back_as_they_were_whatever_the_schema(made):
    """In every format: to think of a schema takes longer than to write and to read what it describes."""
    table, documents = made
    typed = as_a_table_gives_them(table, documents)
    for name, chosen in EVERY.items():
        expected = typed
        if chosen.format.name in {"jsonl", "json"}:  # with the numbers of the answer as they were written
            expected = [
                one | {"metadata": was["metadata"]} if "metadata" in was else one
                for one, was in zip(typed, documents, strict=True)
            ]
        assert strict(through_a_file(table, documents, chosen)) == strict(expected), name
