"""Results of other services, as they come: every format gives them back, and every reader opens the files."""

import json
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.reading import documents_in
from vv_exports.domain.content_options import TABLE_FORMATS
from vv_exports_tests.delivery.conftest import NOW, TEAM, Deployment

STRING, NUMBER = {"type": "string"}, {"type": "number"}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def results(*records: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"segment_id": f"seg_{n:05}", "video_id": "vid_1", "metadata": {}, **one} for n, one in enumerate(records)]


WORD = of(word=STRING, start=NUMBER, end={"type": ["number", "null"]})
CASES = {
    "a property that comes in the last rows only": (
        of(scene=STRING, sponsor=STRING),
        results(
            *({"start_time": n, "end_time": n + 1, "metadata": {"scene": f"s{n}"}} for n in range(250)),
            *(
                {"start_time": n, "metadata": {"scene": "x", "sponsor": "Acme", "extra": {"n": n}}}
                for n in range(250, 260)
            ),
        ),
    ),
    "times as other services write them": (
        of(type=STRING, confidence=NUMBER),
        results(
            *(
                {"start_time": start, "end_time": end, "metadata": {"type": "SHOT", "confidence": 0.5048}}
                for start, end in (
                    (12.5, 20), ("93.343250s", "94s"), ("0:01:10.21", "0:01:12.81"), ("00:59:59;28", "01:00:00;02"),
                    ("PT1M3S", None), (12.5, 12.5), (0, 0.03336666666666667), (30, 20), (None, None),
                )
            ),
            {"metadata": {"type": "SHOT"}},
        ),
    ),
    "words without an end": (
        of(words={"type": "array", "items": WORD}),
        results(
            {"metadata": {"words": [{"word": "so", "start": 1.2, "end": 1.2},
                                    {"word": "it", "start": 1.4, "end": 1.1}]}},
            {"metadata": {"words": [{"word": "goes", "start": 2}, {"word": "on", "start": 3, "end": None},
                                    {"word": "then", "start": "4.5", "end": "4.9"}]}},
            {"metadata": {"words": []}},
            {"metadata": {"words": [None, {"word": None, "start": 0, "end": 0}]}},
            {"metadata": {"words": None}},
            {"metadata": {}},
        ),
    ),
    "a stream that is longer than a day": (
        of(at=STRING),
        results(*({"start_time": at, "end_time": at + 1, "metadata": {"at": str(at)}}
                  for at in (86399.999, 86400, 118444.12, 198000))),
    ),
    "half characters": (
        of(title=STRING, tags={"type": "array", "items": STRING}),
        results(
            {"metadata": {"title": "goal \ud83d", "tags": ["ok", "\udfff\ud800"]}, "video_name": "cut \ud83d",
             "metadata_text": "\udc00"},
            {"metadata": {"title": "goal \U0001f600", "tags": []}, "video_name": "whole \U0001f600"},
            {"metadata": {"title": "x", "\ud800": 1}},
        ),
    ),
    "ids that look like numbers": (
        of(title=STRING),
        results(*({"segment_id": one, "video_id": one, "metadata": {"title": one}}
                  for one in ("0001", "1", "1e5", "true", "null", "NaN", "2026-10-01", "2A001"))),
    ),
}  # fmt: skip

READERS = {
    "parquet": [
        lambda folder: duckdb.sql(f"select * from read_parquet('{folder}/**')").to_arrow_table().to_pylist(),
        lambda folder: pl.read_parquet(f"{folder}/**/*.parquet").to_dicts(),
        lambda folder: pd.read_parquet(folder, partitioning=None, dtype_backend="pyarrow").to_dict("records"),
        lambda folder: ds.dataset(str(folder), format="parquet").to_table().to_pylist(),
    ],
    "csv": [
        lambda folder: (
            duckdb.sql(
                f"""select * from read_csv('{folder}/**/*.csv', header = true, delim = ',', quote = '"', escape = '"',
                comment = '', skip = 0, all_varchar = true, allow_quoted_nulls = false, max_line_size = 268435456)"""
            )
            .to_arrow_table()
            .to_pylist()
        ),
        lambda folder: pl.read_csv(f"{folder}/**/*.csv", infer_schema=False).to_dicts(),
        lambda folder: pd.concat(
            [pd.read_csv(file, dtype=str, keep_default_na=False) for file in sorted(folder.rglob("*.csv"))]
        ).to_dict("records"),
    ],
    "jsonl": [
        lambda folder: (
            duckdb.sql(
                f"""select * from read_json('{folder}/**/*.jsonl.zst', maximum_object_size = 268435456,
                columns = {{segment_id: 'VARCHAR', video_id: 'VARCHAR', prompt_run_id: 'VARCHAR', metadata: 'JSON'}})"""
            )
            .to_arrow_table()
            .to_pylist()
        ),
        lambda folder: pd.concat(
            [pd.read_json(file, lines=True, dtype=False) for file in sorted(folder.rglob("*.jsonl.zst"))]
        ).to_dict("records"),
    ],
}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """The folder of a case in a format: its results, and two runs of no result and of failures alone beside them."""
    made = {}

    def delivered(case, format_name):
        if (case, format_name) not in made:
            deployment, (schema, segments) = Deployment(tmp_path_factory.mktemp("hard")), CASES[case]
            failures = [{"segment_id": "seg_9", "video_id": "vid_1", "failed_operations": ["transcription"]}]
            snapshots = [
                deployment.snapshot("01001", schema=schema, segments=segments),
                deployment.snapshot("1e5", schema=schema, segments=[]),
                deployment.snapshot("null", schema=schema, segments=[], failures=failures),
            ]
            request = deployment.request(*snapshots, format_name=format_name)
            deliver(request, deployment.store, lambda: NOW)
            made[case, format_name] = deployment.folder / "deliveries" / TEAM
        return made[case, format_name]

    return delivered


@pytest.mark.parametrize("format_name", TABLE_FORMATS)
@pytest.mark.parametrize("case", CASES)
def test_every_format_gives_hard_results_back(delivered, case, format_name):
    found = [one for one in documents_in(delivered(case, format_name)) if one.table == "segments"]
    assert {one.prompt_run_id for one in found} == {"01001"}
    documents = {one.document["segment_id"]: one.document for one in found}
    wanted = {one["segment_id"]: one for one in CASES[case][1]}
    assert documents.keys() == wanted.keys()
    for name, document in documents.items():
        given = wanted[name]
        assert document["metadata"] == given["metadata"]
        # Fields of the result itself are null where they are absent.
        assert {key: value for key, value in document.items() if value is not None} == {
            key: value for key, value in given.items() if value is not None
        }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("format_name", "read"),
    [pytest.param(form, read, id=f"{form}-{n}") for form, some in READERS.items() for n, read in enumerate(some)],
)
def test_every_reader_opens_the_files_and_has_each_row_once_with_ids_as_text(delivered, case, format_name, read):
    folder = delivered(case, format_name) / "segments/prompt_id=prm"
    if (case, format_name) == ("half characters", "jsonl"):  # docs/formats.md says so.
        with pytest.raises((duckdb.InvalidInputException, UnicodeEncodeError), match="surrogate"):
            read(folder)
        return
    rows = read(folder)
    found = sorted((row["prompt_run_id"], row["video_id"], row["segment_id"]) for row in rows)
    assert found == sorted(("01001", one["video_id"], one["segment_id"]) for one in CASES[case][1])


@pytest.mark.parametrize("read", READERS["parquet"])
def test_times_that_are_text_are_rescued_and_numbers_typed(delivered, read):
    rows = read(delivered("times as other services write them", "parquet") / "segments/prompt_id=prm")
    for given in CASES["times as other services write them"][1]:
        (row,) = [one for one in rows if one["segment_id"] == given["segment_id"]]
        start = given.get("start_time")
        if isinstance(start, str):
            assert json.loads(row["rescued"])["/start_time"] == start
        else:
            assert (None if pd.isna(row["start_time"]) else row["start_time"]) == start
