"""What may be chosen of a content: the rules are the configuration's, in the file and everywhere else."""

from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from vv_exports.config import Config, config_schema, content_options, key_problems, parse_config
from vv_exports.config.content import ContentConfig
from vv_exports.domain.content_options import (
    COMPRESSIONS,
    DELIMITERS,
    FORMAT_NAMES,
    MAX_TARGET_FILE_BYTES,
    MIN_TARGET_FILE_BYTES,
    ContentOptions,
    Fields,
    FormatOptions,
    VideoTiming,
)
from vv_exports.domain.field_rules import field_problems
from vv_exports.domain.tables import TABLES
from vv_exports.errors import ConfigurationError, RequestError

HEAD = """
source: {kind: local_archive, path: archive}
storage: storage
connectors: {conn_export: {provider: local, root: ., scopes: [export]}}
"""


def parsed(chosen: str, head: str = HEAD) -> Config:
    body = f"{head}indexes: {{idx: {{automations: {{team: {{destination_connector_id: conn_export, {chosen}}}}}}}}}"
    return parse_config(body, folder=Path("/srv"), where="vv_exports.yaml")


def content(chosen: str) -> ContentOptions:
    return parsed(chosen).automation("idx", "team").content


def problems(chosen: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parsed(chosen)
    return [one.removeprefix("indexes.idx.automations.team.") for one in caught.value.problems]


paths = st.sampled_from(["video_name", "metadata.people[].name", 'metadata."a.b"', "metadata.tags[]", "rescued"])
several = st.lists(paths, unique=True, max_size=4).map(sorted).map(tuple)
formats = st.sampled_from([one for one in FORMAT_NAMES if one not in {"csv", "markers"}]).map(
    FormatOptions
) | st.builds(
    FormatOptions,
    st.just("csv"),
    st.sampled_from(DELIMITERS),
    st.booleans(),
    st.sampled_from(["escape", "keep"]),
)
timings = st.builds(
    VideoTiming, st.none() | st.just("59.94"), st.none() | st.sampled_from(["01:00:00;00", "10:00:00:00"])
)
formats |= st.builds(
    FormatOptions,
    st.just("webvtt"),
    kind=st.sampled_from(["captions", "chapters"]),
    text=st.none() | several.filter(bool),
)
formats |= st.builds(
    FormatOptions,
    st.just("markers"),
    note=several,
    frame_rate=st.sampled_from(["29.97", "59.94"]),
    start_timecode=st.just("00:00:00;00"),
    videos=st.dictionaries(st.text(max_size=3, alphabet="av: \u00e9"), timings, max_size=2),
)
tables = st.sets(st.sampled_from(TABLES), min_size=1).map(lambda some: tuple(one for one in TABLES if one in some))
options = formats.flatmap(
    lambda format_: st.builds(
        ContentOptions,
        st.just(format_),
        st.just(TABLES) if format_.is_by_video else tables,
        st.builds(Fields, st.none() | several.filter(bool), several),
        st.dictionaries(paths, st.sampled_from(["drop", "hash", "mask"]), max_size=3),
        st.none() | st.sampled_from(COMPRESSIONS[format_.name]),
        st.none() if format_.is_by_video else st.none() | st.integers(MIN_TARGET_FILE_BYTES, MAX_TARGET_FILE_BYTES),
        st.sampled_from(["new_version", "text", "hold"]),
    )
).filter(lambda chosen: not any(field_problems(chosen)))


SCHEMA = Draft202012Validator(config_schema())


@settings(max_examples=50, deadline=None)
@given(options)
def test_what_was_chosen_gives_the_same_content_again_from_python_and_from_a_file(made):
    assert content_options(made.chosen) == made
    team = {"destination_connector_id": "conn_export", **made.chosen}
    data = yaml.safe_load(HEAD) | {"indexes": {"idx": {"automations": {"team": team}}}}
    loaded = parse_config(yaml.safe_dump(data, allow_unicode=True), folder=Path("/srv"), where="here")
    assert loaded.automation("idx", "team").content == made
    SCHEMA.validate(data)


def test_without_a_choice_everything_is_delivered_as_parquet():
    assert content("paused: false") == ContentOptions() == content_options({})
    assert ContentOptions().chosen == {"format": "parquet"}


def test_a_format_is_a_name_or_a_mapping_with_its_options():
    assert content("format: csv").format == content("format: {name: csv}").format == FormatOptions("csv")
    assert content('format: {name: csv, delimiter: ";", excel: yes, formulas: keep}').format == FormatOptions(
        "csv", ";", excel=True, formulas="keep"
    )
    assert content(r'format: {name: csv, delimiter: "\t"}').format.delimiter == "\t"
    assert content("format: {name: json}") == content("format: json")


def test_the_order_in_which_something_is_chosen_makes_no_other_content():
    one = "tables: [segments, videos], fields: {exclude: [a, b]}, redact: {a: drop, 'metadata.b': mask}"
    other = "redact: {'metadata.\"b\"': mask, a: drop}, fields: {exclude: [b, a, b]}, tables: [videos, segments]"
    assert content(one) == content(other)
    assert list(content(one).chosen["redact"]) == list(content(other).chosen["redact"])


@pytest.mark.parametrize(
    ("chosen", "problem"),
    [
        (
            "format: {name: xml}",
            "format.name: 'xml' is not allowed. Allowed: csv, json, jsonl, markers, parquet, webvtt",
        ),
        ("format: [x]", "format: ['x'] is not allowed. Allowed: csv, json, jsonl, markers, parquet, webvtt"),
        ("format: ", "format: None is not allowed. Allowed: csv, json, jsonl, markers, parquet, webvtt"),
        ("format: {excel: true}", "format.name: is missing. The format: parquet, jsonl, csv, json, webvtt or markers."),
        (
            "format: {name: csv, delimitr: x}",
            (
                "format.delimitr: is not a known key. Did you mean 'delimiter'? Allowed: delimiter, excel, formulas, "
                "frame_rate, kind, name, note, start_timecode, text, videos"
            ),
        ),
        (
            "format: {name: csv, delimiter: ;;}",
            """format.delimiter: ';;': must be one of "," ";" "|" and the tab, which is "\\t" in double quotes""",
        ),
        ("format: {name: csv, excel: maybe}", "format.excel: 'maybe': must be true or false"),
        ("format: {name: csv, formulas: run}", "format.formulas: 'run' is not allowed. Allowed: escape, keep"),
        *(
            (
                f"format: {{name: {name}, {option}}}",
                f"format.{option.split(':')[0]}: {value}: is an option of csv, and {name} has none; leave it out",
            )
            for name in ("parquet", "jsonl", "json")
            for option, value in (("delimiter: ','", "','"), ("excel: false", "False"), ("formulas: keep", "'keep'"))
        ),
        (
            "format: {name: webvtt, delimiter: ;}",
            "format.delimiter: ';': is an option of csv, and webvtt has kind, text; leave it out",
        ),
        ("format: {name: webvtt, text: []}", "format.text: []: must not be empty"),
        (
            "format: {name: webvtt, kind: metadata, text: [a]}",
            (
                "format: {'name': 'webvtt', 'kind': 'metadata', 'text': ['a']}: cues of metadata hold the whole "
                "result: choose of it with fields, and leave text out"
            ),
        ),
        (
            "format: webvtt, tables: [videos]",
            "tables: ['videos']: webvtt files are made of segments alone; leave it out",
        ),
        (
            "format: webvtt, target_file_bytes: 2000000",
            "target_file_bytes: '2000000': a webvtt file is of one video, whatever its size; leave it out",
        ),
        ("format: webvtt, compression: zstd", "compression: 'zstd': webvtt files can be: none"),
        (
            "format: webvtt, fields: {exclude: [video_id]}",
            "fields.exclude names 'video_id', without which there is no webvtt file of a video",
        ),
        (
            "format: webvtt, redact: {start_time: mask}",
            "redact names 'start_time', without which there is no webvtt file of a video",
        ),
        (
            "format: {name: webvtt, text: [a.b]}, fields: {exclude: [a]}",
            "format.text names 'a.b', which fields.exclude leaves out with 'a'",
        ),
        (
            "format: {name: webvtt, text: [a]}, redact: {a: drop}",
            "format.text names 'a', which redact drops with 'a'",
        ),
        (
            "format: {name: webvtt, text: [a]}, fields: {include: [b]}",
            "format.text names 'a', which fields.include leaves out: name it there, too",
        ),
        (
            "format: markers",
            (
                "format: 'markers': markers need a frame_rate and a start_timecode, as in {name: markers, "
                'frame_rate: 25, start_timecode: "00:00:00:00"}; for single videos in videos, by their ids'
            ),
        ),
        (
            "format: {name: markers, frame_rate: 26}",
            (
                "format.frame_rate: '26': is no frame rate that has a timecode: choose one of 23.976, 24, 25, 29.97, "
                "30, 47.952, 48, 50, 59.94, 60"
            ),
        ),
        (
            'format: {name: markers, videos: {v: {frame_rate: 25, start_timecode: "00:00:00;00"}}}',
            (
                "format: {'name': 'markers', 'videos': {'v': {'frame_rate': '25', 'start_timecode': '00:00:00;00'}}}: "
                "start_timecode '00:00:00;00' of the video v is drop-frame (;), which 29.97 and 59.94 have and 25 has "
                "not"
            ),
        ),
        ("tables: []", "tables: []: must not be empty"),
        ("tables: ", "tables: None: must be a list"),
        ("tables: segments", "tables: 'segments': must be a list"),
        ("tables: [videos, videos]", "tables: ['videos', 'videos']: names a table twice; name each once"),
        (
            "tables: [segment]",
            "tables.0: 'segment' is not allowed. Did you mean 'segments'? Allowed: failures, segments, videos",
        ),
        ("fields: [a]", "fields: ['a']: must be a mapping with include, exclude"),
        ("fields: {include: []}", "fields.include: []: must not be empty"),
        ("fields: {include: a}", "fields.include: 'a': must be a list"),
        (
            "fields: {only: [a]}",
            "fields.only: is not a known key. Allowed: exclude, include",
        ),
        ("fields: {exclude: [a, ' ']}", "fields.exclude.1: ' ': a path is empty: it names a field, as in"),
        ("redact: {'metadata.a[0]': drop}", "redact.'metadata.a[0]': 'metadata.a[0]' has `[0]`: write `[]`, which"),
        ("redact: {metadata.a: kill}", "redact.'metadata.a': 'kill' is not allowed. Allowed: drop, hash, mask"),
        ("redact: [metadata.a]", "redact: ['metadata.a']: must be a mapping"),
        (
            "redact: {a: drop, '\"a\"': mask}",
            "redact: {'a': 'drop', '\"a\"': 'mask'}: 'a' and '\"a\"' are the same field; keep one",
        ),
        ("compression: brotli", "compression: 'brotli': parquet files can be: zstd, snappy, gzip, none"),
        ("format: csv, compression: snappy", "compression: 'snappy': csv files can be: none, gzip, zstd"),
        ("format: {name: jsonl}, compression: x", "compression: 'x': jsonl files can be: zstd, gzip, none"),
        ("target_file_bytes: 1048575", "target_file_bytes: '1048575': must be at least 1,048,576"),
        ("target_file_bytes: 1099511627777", "must be at most 1,099,511,627,776"),
        ("target_file_bytes: true", "target_file_bytes: True: must be a number"),
        ("target_file_bytes: 128MiB", "target_file_bytes: '128MiB': must be a whole number"),
        ("on_schema_conflict: fail", "on_schema_conflict: 'fail' is not allowed. Allowed: hold, new_version, text"),
        ("contract: hold", "contract: 'hold' is not allowed. Allowed: block, quarantine, warn"),
        ("tables: [quarantine]", "tables.0: 'quarantine' is not allowed. Allowed: failures, segments, videos"),
        ("retain_superseded: 24", "retain_superseded: '24': must be a duration: a number from 1 to 99999 and h, d"),
    ],
)
def test_a_wrong_choice_is_told_with_its_place_and_what_is_allowed(chosen, problem):
    (found,) = problems(chosen)
    assert problem in found


def test_all_problems_are_told_at_once():
    found = problems(
        "format: xml, tables: [], fields: {include: [a..b]}, redact: {c: x}, on_schema_conflict: y, compression: q, "
        "target_file_bytes: 1, retain_superseded: z, destination_subpath: ../x"
    )
    assert sorted(one.split(": ")[0] for one in found) == [
        *("compression", "destination_subpath", "fields.include.0", "format", "on_schema_conflict", "redact.c"),
        *("retain_superseded", "tables", "target_file_bytes"),
    ]


CONTRADICTIONS = [
    (
        "fields: {include: [metadata.a], exclude: [metadata]}",
        "fields.include names 'metadata.a', which fields.exclude leaves out with 'metadata'",
    ),
    ("fields: {exclude: [index_id]}", "fields.exclude names 'index_id', which every file has"),
    ("redact: {prompt_run_id: hash}", "redact names 'prompt_run_id', which every file has"),
    ("redact: {rescued: mask}", "redact: 'rescued' can only be left out"),
    ("redact: {metadata.Name: drop, metadata.name: mask}", "redaction takes no notice of case"),
]


@pytest.mark.parametrize(("chosen", "problem"), CONTRADICTIONS)
def test_a_choice_that_contradicts_itself_is_told_where_it_is_made(chosen, problem):
    (found,) = problems(chosen)
    assert problem in found
    with pytest.raises(RequestError) as refused:
        content_options(yaml.safe_load(f"{{{chosen}}}"))
    assert str(refused.value) in found


def test_contradictions_are_told_with_the_problems_of_other_settings():
    found = problems("fields: {exclude: [absent]}, redact: {rescued: mask}, tables: [], destination_subpath: ../x")
    assert [one.split(" ")[0].rstrip(":") for one in sorted(found)] == [
        *("destination_subpath", "fields.exclude", "redact", "tables")
    ]
    with pytest.raises(RequestError, match=r"2 problems:\n  - fields.exclude names 'absent'.*\n  - redact: 'rescued'"):
        content_options({"fields": {"exclude": ["absent"]}, "redact": {"rescued": "mask"}})


def test_what_is_superseded_is_kept_as_long_as_the_configuration_says():
    assert parsed("retain_superseded: 24h").automation("idx", "team").superseded_kept == timedelta(hours=24)
    assert parsed("retain_superseded: ").automation("idx", "team").superseded_kept is None
    assert parsed("paused: no").automation("idx", "team").superseded_kept is None


def test_other_ways_to_choose_have_the_same_messages():
    with pytest.raises(
        RequestError, match=r"^format: 'xml' is not allowed\. Allowed: csv, json, jsonl, markers, parquet, webvtt$"
    ):
        content_options({"format": "xml"})
    with pytest.raises(RequestError) as caught:
        content_options({"format": {"name": "csv", "x": 1}, "tables": "segments", "colour": "red"})
    assert str(caught.value).splitlines() == [
        "3 problems:",
        (
            "  - format.x: is not a known key. Allowed: delimiter, excel, formulas, frame_rate, kind, name, note, "
            "start_timecode, text, videos"
        ),
        "  - tables: 'segments': must be a list",
        f"  - colour: is not a known key. Allowed: {', '.join(sorted(ContentConfig.model_fields))}",
    ]


class TestTheKeyOfRedaction:
    def test_a_configuration_loads_without_it_and_each_place_that_needs_it_is_told(self):
        config = parsed("redact: {metadata.a: hash, b: drop}")
        (problem,) = key_problems(config, {})
        assert problem.startswith("indexes.idx.automations.team.redact: ")
        assert "VV_EXPORTS_REDACTION_KEY" in problem
        assert key_problems(config, {"VV_EXPORTS_REDACTION_KEY": "k" * 16}) == []

    def test_a_key_that_is_too_short_is_told_and_not_shown(self):
        (problem,) = key_problems(parsed("redact: {a: hash}"), {"VV_EXPORTS_REDACTION_KEY": "hunter2"})
        assert "16" in problem
        assert "hunter2" not in problem

    def test_its_variable_has_another_name_where_the_configuration_says_so(self):
        config = parsed("redact: {a: hash}", f"{HEAD}redaction_key_env: OUR_KEY\n")
        assert "OUR_KEY" in key_problems(config, {"VV_EXPORTS_REDACTION_KEY": "k" * 16})[0]
        assert key_problems(config, {"OUR_KEY": "k" * 16}) == []

    def test_nothing_else_needs_one(self):
        assert key_problems(parsed("redact: {a: drop, b: mask}"), {}) == []

    def test_a_key_in_the_place_of_its_name_is_refused_and_not_shown(self):
        with pytest.raises(ConfigurationError) as caught:
            parsed("paused: no", f"{HEAD}redaction_key_env: hunter2-is-the-key\n")
        assert "redaction_key_env: (not shown): must be the name of an environment variable" in str(caught.value)
        assert "hunter2" not in str(caught.value)
