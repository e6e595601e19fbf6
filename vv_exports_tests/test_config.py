import os
import re
import time
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from vv_exports.config import (
    PROVIDERS,
    SOURCES,
    AutomationConfig,
    Config,
    IndexConfig,
    ScheduleConfig,
    config_schema,
    connectors,
    content,
    load_config,
    parse_config,
)
from vv_exports.config import models as models_module
from vv_exports.domain.prompt_runs import DELIVERABLE
from vv_exports.errors import ConfigurationError, DestinationError, NotFoundError

HEAD = """
source: {kind: local_archive, path: archive}
storage: storage
connectors:
  conn_export: {provider: local, root: ., export_base_path: deliveries, scopes: [export]}
  conn_import: {provider: local, root: elsewhere}
"""
CRON_FIELDS = "minute, hour, day of the month, month, day of the week"
DOCS = Path(__file__).parents[1] / "docs" / "configuration.md"


def parsed(body: str, folder: Path = Path("/srv")) -> Config:
    return parse_config(body, folder=folder, where="vv_exports.yaml")


def problems(body: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parsed(body)
    return list(caught.value.problems)


def automation(settings: str, name: str = "team", index: str = "idx") -> str:
    return f"{HEAD}indexes: {{{index}: {{automations: {{{name}: {{{settings}}}}}}}}}"


def only_problem(body: str) -> str:
    (problem,) = problems(body)
    return problem


class TestWhichFile:
    @pytest.fixture(autouse=True)
    def _in_an_empty_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("VV_EXPORTS_CONFIG", raising=False)

    def test_the_argument_wins_over_the_environment(self, tmp_path):
        (tmp_path / "a.yaml").write_text(HEAD + "indexes: {a: {}}")
        (tmp_path / "b.yaml").write_text(HEAD + "indexes: {b: {}}")
        environ = {"VV_EXPORTS_CONFIG": str(tmp_path / "b.yaml")}
        assert list(load_config(tmp_path / "a.yaml", environ).indexes) == ["a"]
        assert list(load_config(environ=environ).indexes) == ["b"]

    def test_the_environment_wins_over_the_working_directory(self, tmp_path, monkeypatch):
        (tmp_path / "vv_exports.yaml").write_text(HEAD + "indexes: {here: {}}")
        (tmp_path / "b.yaml").write_text(HEAD + "indexes: {b: {}}")
        assert list(load_config().indexes) == ["here"]
        assert list(load_config(environ={"VV_EXPORTS_CONFIG": ""}).indexes) == ["here"]
        monkeypatch.setenv("VV_EXPORTS_CONFIG", "b.yaml")
        assert list(load_config().indexes) == ["b"]

    def test_without_any_the_demo_starts_at_the_working_directory(self, tmp_path):
        demo = load_config()
        assert demo.connector("conn_export").root == str(tmp_path)
        assert demo.automation("idx_archive", "review-team").subpath == "exports/review-team"

    def test_a_file_that_the_environment_names_in_vain_is_not_replaced_by_the_demo(self):
        with pytest.raises(ConfigurationError, match=r"gone\.yaml \(from VV_EXPORTS_CONFIG\)"):
            load_config(environ={"VV_EXPORTS_CONFIG": "gone.yaml"})

    def test_a_dangling_link_is_not_replaced_by_the_demo(self, tmp_path):
        (tmp_path / "vv_exports.yaml").symlink_to("gone.yaml")
        with pytest.raises(ConfigurationError, match="cannot be read"):
            load_config()

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: \xff"])
    def test_a_file_that_is_no_text_is_named(self, tmp_path, content):
        (tmp_path / "vv_exports.yaml").write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"vv_exports\.yaml: 1 problem"):
            load_config()

    def test_a_byte_order_mark_is_no_problem(self, tmp_path):
        (tmp_path / "vv_exports.yaml").write_text(HEAD, encoding="utf-8-sig")
        assert load_config().indexes == {}

    def test_relative_paths_start_at_the_folder_of_the_file(self, tmp_path):
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "c.yaml").write_text(HEAD)
        loaded = load_config(Path("etc/c.yaml"))
        assert loaded.source.path == str(tmp_path / "etc" / "archive")
        assert loaded.storage == str(tmp_path / "etc" / "storage")
        assert loaded.connector("conn_export").root == str(tmp_path / "etc")
        assert loaded.connector("conn_export").boundary == str(tmp_path / "etc" / "deliveries")


class TestPlaces:
    @pytest.mark.parametrize(
        ("written", "loaded"),
        [
            ("a", "/srv/a"),
            ("./a/../b/", "/srv/b"),
            ("../a", "/a"),
            ("/abs", "/abs"),
            ("file:///x", "file:///x"),
        ],
    )
    def test_paths_become_absolute(self, written, loaded):
        assert parsed(HEAD.replace("storage: storage", f"storage: {written}")).storage == loaded

    @pytest.mark.parametrize("url", ["file://localhost/srv/x", "file://x", "FILE:///srv/x"])
    def test_a_file_url_is_of_this_machine(self, url):
        wrong = [
            HEAD.replace("storage: storage", f"storage: {url}"),
            HEAD.replace("path: archive", f"path: {url}"),
            HEAD.replace("root: .", f"root: {url}"),
        ]
        assert all("must be a path, or begin with file:///" in only_problem(body) for body in wrong)

    def test_the_root_of_a_folder_is_no_store(self):
        assert "connectors.conn_export.root: 's3://b': must be a folder" in only_problem(
            HEAD.replace("root: .", "root: s3://b")
        )

    @pytest.mark.parametrize(
        ("written", "provider", "boundary"),
        [
            ("s3://bucket/a/b/", "s3", "s3://bucket/a/b"),
            ("s3://bucket", "s3", "s3://bucket"),
            ("gs://bucket/a", "gcs", "gs://bucket/a"),
            ("gcs://bucket/a", "gcs", "gs://bucket/a"),
            (
                "abfss://box@account.dfs.core.windows.net/a",
                "azure",
                "abfss://box@account.dfs.core.windows.net/a",
            ),
            ("{provider: s3, bucket: bucket, export_base_path: state}", "s3", "s3://bucket/state"),
        ],
    )
    def test_storage_may_be_in_a_store(self, written, provider, boundary):
        storage = parsed(HEAD.replace("storage: storage", f"storage: {written}")).storage
        assert (storage.provider, storage.boundary) == (provider, boundary)

    @pytest.mark.parametrize(
        ("written", "reason"),
        [
            ("memory://x", "must be a path, or s3://bucket/…"),
            ("az://container/x", "must be a path, or s3://bucket/…"),
            ("s3://B/x", "must be the name of a bucket"),
            ("s3://bucket/a/../b", "has a '.' or '..' segment"),
            ("{provider: ftp}", "storage.provider: 'ftp' is not supported"),
            ("{provider: s3, bukket: b, bucket: bucket}", "storage.bukket: is not a known key. Did you mean 'bucket'?"),
        ],
    )
    def test_storage_in_a_store_that_cannot_be_is_explained(self, written, reason):
        assert reason in only_problem(HEAD.replace("storage: storage", f"storage: {written}"))

    @pytest.mark.parametrize(
        ("storage", "fields", "subpath"),
        [
            ("s3://bucket/exports/team", "bucket: bucket, export_base_path: exports", "team"),
            ("s3://bucket/exports/team/inside", "bucket: bucket", "exports/team"),
            ("s3://bucket/exports", "bucket: bucket", "exports/Team"),
        ],
    )
    def test_storage_and_a_collection_are_kept_apart(self, storage, fields, subpath):
        text = f"""
            source: {{kind: local_archive, path: archive}}
            storage: {storage}
            connectors: {{conn: {{provider: s3, {fields}, scopes: [export]}}}}
            indexes: {{i: {{automations: {{a: {{destination_connector_id: conn, destination_subpath: {subpath}}}}}}}}}
        """
        assert "keep the pipeline's own files apart from what it delivers" in only_problem(text)
        parsed(text.replace(storage, "s3://another/exports"))
        parsed(text.replace(storage, f"{storage.partition('/exports')[0]}/state"))

    def test_a_home_folder_is_found(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/vv")
        assert parsed(HEAD.replace("storage: storage", "storage: ~/data")).storage == "/home/vv/data"

    @pytest.mark.parametrize(("written", "reason"), [('""', "must not be empty"), (r'"a\0b"', "control character")])
    def test_what_is_no_path_is_refused(self, written, reason):
        assert reason in only_problem(HEAD.replace("storage: storage", f"storage: {written}"))


class TestDefaults:
    def test_an_automation_needs_only_its_connector(self):
        team = parsed(automation("destination_connector_id: conn_export")).automation("idx", "team")
        assert team == AutomationConfig(destination_connector_id="conn_export", destination_subpath="idx")
        assert (team.enabled, team.paused, team.format, team.partial) == (True, False, "parquet", "deliver")
        assert team.on_status == DELIVERABLE
        assert team.schedule is None

    def test_the_default_subpath_is_the_index_id(self):
        assert parsed(automation("destination_connector_id: conn_export")).automation("idx", "team").subpath == "idx"

    def test_an_index_id_that_is_no_subpath_asks_for_one(self):
        problem = only_problem(automation("destination_connector_id: conn_export", index='"../idx"'))
        assert problem.startswith("indexes.'../idx'.automations.team.destination_subpath: must be set")
        parsed(automation("destination_connector_id: conn_export, destination_subpath: idx", index='"../idx"'))

    def test_an_automation_of_no_configuration_has_no_default_subpath(self):
        with pytest.raises(DestinationError, match="outside a configuration"):
            _ = AutomationConfig(destination_connector_id="c").subpath

    def test_a_connector_is_for_import_unless_it_says_otherwise(self):
        assert parsed(HEAD).connector("conn_import").scopes == {"import"}

    @pytest.mark.parametrize("written", ["", "{}", "{automations: {}}", "{automations: }"])
    def test_an_index_needs_no_automation(self, written):
        assert parsed(f"{HEAD}indexes:\n  idx: {written}").index("idx").automations == {}

    @pytest.mark.parametrize("written", ['""', ".", "", "./"])
    def test_a_connector_without_a_base_path_is_bounded_by_its_root(self, written):
        body = HEAD.replace("export_base_path: deliveries", f"export_base_path: {written}")
        assert parsed(body).connector("conn_export").boundary == "/srv"

    def test_a_trailing_slash_of_a_subpath_or_base_path_is_dropped(self):
        body = automation("destination_connector_id: conn_export, destination_subpath: daily/")
        loaded = parsed(body.replace("deliveries", "deliveries/"))
        assert loaded.connector("conn_export").export_base_path == "deliveries"
        assert loaded.automation("idx", "team").subpath == "daily"

    def test_a_configuration_cannot_be_changed(self):
        with pytest.raises(ValueError, match="frozen"):
            parsed(HEAD).storage = "x"


class TestYaml:
    @pytest.mark.parametrize(
        "index_id", ["2026", "on", "no", "1_000", "2026-01-01", "1.10", "null", "0x1F", "007", "~"]
    )
    def test_an_id_is_the_text_that_stands_in_the_file(self, index_id):
        assert list(parsed(f"{HEAD}indexes:\n  {index_id}:\n").indexes) == [index_id]

    def test_a_value_that_looks_like_a_number_or_a_date_is_text(self):
        body = automation("destination_connector_id: 2026, destination_subpath: 2026-13-45")
        team = parsed(body.replace("conn_export:", "2026:")).automation("idx", "team")
        assert (team.destination_connector_id, team.destination_subpath) == ("2026", "2026-13-45")

    def test_a_value_that_looks_like_a_boolean_must_be_quoted(self):
        problem = only_problem(automation("destination_connector_id: conn_export, destination_subpath: on"))
        assert problem.endswith("destination_subpath: True: must be text; put it in quotes if it is")

    @pytest.mark.parametrize(("written", "value"), [("true", True), ("no", False), ("Off", False), ("YES", True)])
    def test_booleans_are_those_of_yaml(self, written, value):
        body = automation(f"destination_connector_id: conn_export, paused: {written}")
        assert parsed(body).automation("idx", "team").paused is value

    def test_a_key_that_is_there_twice_is_refused_with_both_lines(self):
        body = f"{HEAD}indexes:\n  idx: {{}}\n  'idx': {{}}\n"
        assert only_problem(body) == "indexes.idx: is there twice, in lines 8 and 9; keep one"

    def test_an_alias_stands_for_its_anchor(self):
        body = HEAD + "indexes: {a: &none {automations: {}}, b: *none}"
        assert parsed(body).indexes["b"] == IndexConfig()

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("a: [", "is not YAML, line "),
            ("a: 1\n\tb: 2", "; there is a tab, and YAML is indented with blanks"),
            ("a: 1\n---\nb: 2", "is not YAML, line 2"),
            ("a: *b", "undefined alias"),
            ("a: \x01", "is not YAML"),
            ("", "is empty; it must be a mapping with"),
            ("# only a comment", "is empty; it must be a mapping with"),
            ("- a", "holds ['a']; it must be a mapping with"),
            ("hello", "holds 'hello'; it must be a mapping with"),
            ("a: &x [*x]", "is nested without end"),
        ],
    )
    def test_what_is_no_mapping_is_refused_in_one_line(self, body, message):
        assert message in only_problem(body)

    def test_a_tag_builds_nothing(self):
        found = problems(HEAD.replace("storage: storage", "storage: !!python/object/apply:os.getcwd []"))
        assert any(problem.startswith("storage: []") for problem in found)
        found = problems(HEAD.replace("storage: storage", "storage: !env HOME"))
        assert found == ["storage: the YAML tag '!env' is not supported; remove it"]

    @pytest.mark.parametrize(
        "indexes", ["!!set {a}", "!!python/object:os.x {a: }", "{!!binary a: }", "{a: {automations: !!omap {}}}"]
    )
    def test_a_tag_of_a_key_a_mapping_or_a_list_is_refused(self, indexes):
        assert "the YAML tag" in only_problem(f"{HEAD}indexes: {indexes}")

    def test_a_key_that_is_no_text_is_refused(self):
        assert "indexes: the key in line 7 must be text" in problems(f"{HEAD}indexes: {{[a, b]: {{}}}}")


class TestMergeKeys:
    TEAMS = (
        HEAD
        + """
indexes:
  a:
    automations:
      one: &one {destination_connector_id: conn_export, destination_subpath: one, paused: yes}
      two: {destination_subpath: two, <<: *one}
      three: {<<: [{destination_subpath: three}, *one], format: csv}
"""
    )

    def test_a_merge_key_fills_in_what_a_mapping_does_not_have_itself(self):
        teams = parsed(self.TEAMS).index("a").automations
        assert {name: (team.subpath, team.paused, team.format) for name, team in teams.items()} == {
            "one": ("one", True, "parquet"),
            "two": ("two", True, "parquet"),
            "three": ("three", True, "csv"),
        }

    @pytest.mark.parametrize("named", ["text", "[{}, text]", "[[{}]]"])
    def test_it_names_mappings(self, named):
        found = problems(f"{HEAD}indexes: {{a: {{<<: {named}}}}}")
        assert found == ["indexes.a: << in line 7 must name a mapping, or a list of them"]

    def test_one_that_is_there_twice_is_refused(self):
        assert "is there twice" in only_problem(f"{HEAD}indexes: {{a: {{<<: {{}}, <<: {{}}}}}}")

    def test_in_quotes_it_is_text(self):
        assert list(parsed(f"{HEAD}indexes: {{'<<': {{}}}}").indexes) == ["<<"]


def laughs(first: str, next_: str, levels: int = 10) -> str:
    """Each level stands for nine of the one before it."""
    lines = (f"a{level}: &a{level} " + next_.format(", ".join([f"*a{level - 1}"] * 9)) for level in range(1, levels))
    return "\n".join([f"a0: &a0 {first}", *lines])


class TestExtent:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (
                laughs("[x, x]", "[{}]"),
                "holds more than 100,000 values or 1,048,576 characters in line 6, where an alias",
            ),
            (laughs("{k: x}", "{{<<: [{}]}}"), "holds more than 100,000 values"),
            (laughs("x" * 5000, "[{}]", 4), "or 1,048,576 characters in line 4"),
            ("a: [" + "1, " * 100_000 + "]", "holds more than 100,000 values"),
            ("a: [" + "&a x, *a, *a, " * 99_000 + "]", "holds more than 100,000 values"),
            ("a: &a [[*a]]", "is nested without end: the alias in line 1"),
            ("a: &a {<<: *a}", "is nested without end"),
            ("a: &a {b: &b [*a]}", "is nested without end"),
            ("- " * 500_000, "is nested deeper than 50 levels in line 1"),
            ("[" * 60, "is nested deeper than 50 levels in line 1"),
            ("[" * 1_000_000, "is not YAML, line 1"),
            ("{a: " * 1_000, "is nested deeper than 50 levels"),
            ("? " * 500_000, "is nested deeper than 50 levels"),
            ("a: " + "9" * 1_000_000, "the value in line 1 has 1,000,000 characters; no more than 10,000 are read"),
            ("9" * 20_000 + ": 1", "the value in line 1 has 20,000 characters"),
            ("? " + "9" * 20_000 + "\n: 1", "the value in line 1 has 20,000 characters"),
            ("a: b\0", "is not YAML"),
            ("%TAG ! a:\n" * 9, "is not YAML, line 2"),
        ],
        ids=range(18),
    )
    def test_what_would_be_too_much_is_told_before_it_is_built(self, body, said):
        assert said in only_problem(body)

    def test_a_place_that_is_no_file_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for place in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
            with pytest.raises(
                ConfigurationError, match=r"cannot be read: (it is no regular file|\[Errno 21\] Is a dir)"
            ):
                load_config(place, environ={})

    def test_a_large_file_is_not_read_to_its_end(self, tmp_path):
        with (tmp_path / "large.yaml").open("wb") as file:
            file.truncate(2**40)
        with pytest.raises(ConfigurationError, match="is larger than 1,048,576 bytes"):
            load_config(tmp_path / "large.yaml", environ={})

    def test_another_encoding_is_named(self, tmp_path):
        (tmp_path / "wide.yaml").write_bytes(HEAD.encode("utf-16"))
        with pytest.raises(ConfigurationError, match=r"it is no text in UTF-8 .* at byte 0.; save it as UTF-8"):
            load_config(tmp_path / "wide.yaml", environ={})

    def test_of_very_many_problems_two_hundred_are_listed_and_the_rest_counted(self):
        found = problems(HEAD + "".join(f"k{number}: 1\n" for number in range(1_000)))
        assert len(found) == 201
        assert found[-1] == "and 800 more; mend these first"

    def test_a_long_key_is_shortened_too(self):
        assert only_problem(f"{HEAD}? {'k' * 5_000}\n: 1").startswith(f"'{'k' * 99}… (5002 characters): is not a known")

    def test_a_thousand_automations_are_no_bomb(self):
        team = "{automations: {team: {destination_connector_id: conn_export}}}"
        body = HEAD + "indexes:\n" + "".join(f"  i{number}: {team}\n" for number in range(1_000))
        assert len(parsed(body).indexes) == 1_000


class TestProblems:
    def test_every_problem_is_told_at_once(self):
        found = problems("""
            storage: ''
            sauce: x
            source: {kind: local_archive, path: a}
            storage: b
            connectors:
              c: {provider: local, root: ., scopes: [export]}
              d: {provider: local, roots: ., export_base_path: ../x}
              e: {provider: local, root: .}
            indexes:
              a: {automations: {x: {destination_connector_id: c, format: xml, destination_subpath: ../y}}}
              b: {automations: {x: {destination_connector_id: cc, enabled: 1}}}
              c: {automations: {x: {destination_connector_id: c}, y: {destination_connector_id: c}}}
              d:
                automations: {x: {destination_connector_id: d}, y: {destination_connector_id: e, partial: a}}
              e: []
        """)
        places = sorted(problem.split(": ")[0] for problem in found)
        assert places == [
            "connectors.d.export_base_path",
            "connectors.d.root",
            "connectors.d.roots",
            "indexes.a.automations.x.destination_subpath",
            "indexes.a.automations.x.format",
            "indexes.b.automations.x.destination_connector_id",
            "indexes.b.automations.x.enabled",
            "indexes.c.automations.y.destination_subpath",
            "indexes.d.automations.y.destination_connector_id",
            "indexes.d.automations.y.partial",
            "indexes.e",
            "sauce",
            "storage",
            "storage",
        ]

    @pytest.mark.parametrize(
        ("settings", "problem"),
        [
            ("format: xml", "format: 'xml' is not allowed. Allowed: csv, json, jsonl, markers, parquet, webvtt"),
            (
                "format: jsonk",
                (
                    "format: 'jsonk' is not allowed. Did you mean 'json'? Allowed: csv, json, jsonl, markers, parquet, "
                    "webvtt"
                ),
            ),
            ("partial: keep", "partial: 'keep' is not allowed. Allowed: deliver, hold"),
            ("on_status: []", "on_status: []: must not be empty"),
            ("on_status: completed", "on_status: 'completed': must be a list"),
            ("enabled: maybe", "enabled: 'maybe': must be true or false"),
            ("schedule: daily", "schedule: 'daily': must be a mapping with cron, timezone"),
            (
                "schedule: 0 3 * * *",
                "schedule: '0 3 * * *': must be a mapping with cron, timezone",
            ),
            ("schedule: {}", "schedule.cron: is missing. Five fields, as in crontab(5)."),
            (
                "schedule: {cron: 1 2 3}",
                f"schedule.cron: '1 2 3': must have five fields: {CRON_FIELDS}",
            ),
            (
                "schedule: {cron: '0 24 * * *'}",
                "schedule.cron: '0 24 * * *': '24' does not fit the hour (0-23, *, lists, ranges, /steps)",
            ),
        ],
    )
    def test_a_problem_has_its_path_the_value_and_what_is_allowed(self, settings, problem):
        found = only_problem(automation(f"destination_connector_id: conn_export, {settings}"))
        assert found == f"indexes.idx.automations.team.{problem}"

    @pytest.mark.parametrize("status", ["failed", "processing", "done", "cancelled"])
    def test_only_deliverable_statuses_can_be_asked_for(self, status):
        problem = only_problem(automation(f"destination_connector_id: conn_export, on_status: [{status}]"))
        assert f"on_status.0: '{status}' is not allowed." in problem
        assert problem.endswith("Allowed: completed, completed_with_failures")

    def test_a_misspelt_key_is_told_the_right_one(self):
        found = problems(automation("destination_connector: conn_export"))
        assert "indexes.idx.automations.team.destination_connector_id: is missing" in found[0]
        assert "destination_connector: is not a known key. Did you mean 'destination_connector_id'?" in found[1]

    def test_the_value_of_an_unknown_key_is_not_shown_because_it_may_be_a_secret(self):
        body = HEAD.replace("root: elsewhere", "root: elsewhere, secret_access_key: hunter2")
        assert "connectors.conn_import.secret_access_key: is not a known key." in only_problem(body)
        assert "hunter2" not in only_problem(body)

    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            (
                "{kind: youtube, base_url: x}",
                "source.kind: 'youtube' is not supported by this version.",
            ),
            (
                "{kind: local-archive}",
                "source.kind: 'local-archive' is not supported by this version. Did you mean",
            ),
            ("{path: x}", "source.kind: is missing."),
            ("", "source.kind: is missing."),
            ("{kind: [a], path: x}", "source.kind: ['a'] is not supported"),
        ],
    )
    def test_an_unknown_kind_of_source_says_what_there_is(self, source, problem):
        found = only_problem(HEAD.replace("{kind: local_archive, path: archive}", source))
        assert found.startswith(problem)
        assert found.endswith("Allowed: local_archive, videovector")

    @pytest.mark.parametrize("value", ["0", "-1", "true", "1.5", "lots"])
    @pytest.mark.parametrize("field", ["max_document_bytes", "max_record_bytes"])
    def test_a_limit_of_an_archive_is_a_number_of_bytes(self, field, value):
        fields = f"{{kind: local_archive, path: a, {field}: {value}}}"
        assert f"source.{field}: " in only_problem(HEAD.replace("{kind: local_archive, path: archive}", fields))

    def test_only_a_folder_has_links_to_follow(self):
        fields = "{kind: local_archive, path: 's3://bucket/a', follow_links: true}"
        found = only_problem(HEAD.replace("{kind: local_archive, path: archive}", fields))
        assert "follow_links: true is for folders" in found

    def test_a_source_is_a_mapping_with_the_fields_of_its_kind(self):
        assert (
            only_problem(HEAD.replace("{kind: local_archive, path: archive}", "x")) == "source: 'x': must be a mapping"
        )
        problem = only_problem(HEAD.replace("{kind: local_archive, path: archive}", "{kind: local_archive}"))
        assert problem.startswith("source.path: is missing. The archive's folder")

    def test_an_unknown_provider_says_what_there_is(self):
        body = HEAD.replace("provider: local, root: elsewhere", "provider: ftp, host: b")
        assert only_problem(body) == (
            "connectors.conn_import.provider: 'ftp' is not supported by this version. Allowed: azure, gcs, local, s3"
        )

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ("bucket: s3://b", "must be the name of a bucket"),
            ("bucket: UPPER", "must be the name of a bucket"),
            ("bucket: bucket, access_key_id_env: KEY", "access_key_id_env and secret_access_key_env belong together"),
            ("bucket: bucket, session_token_env: TOKEN", "session_token_env needs access_key_id_env"),
            ("bucket: bucket, kms_key_id: k", "kms_key_id needs `sse: aws:kms`"),
            ("bucket: bucket, sse: none", "AES256"),
            ("bucket: bucket, endpoint_url: 's3.local:9000'", "must begin with http:// or https://"),
            ("bucket: bucket, endpoint_url: 'https://key:secret@s3.local'", "must hold no user, password"),
            ("bucket: bucket, endpoint_url: 'https://s3.local:port'", "is no address of the web"),
            ("bucket: bucket, endpoint_url: 'https://s3.local:99999'", "is no address of the web"),
            ("bucket: bucket, export_base_path: ../x", "'../x'"),
        ],
    )
    def test_what_an_s3_connector_cannot_be_is_told(self, fields, said):
        problem = only_problem(HEAD.replace("provider: local, root: elsewhere", f"provider: s3, {fields}"))
        assert problem.startswith("connectors.conn_import")
        assert said in problem
        assert "key:secret" not in problem

    def test_one_bucket_of_two_stores_is_two_places(self):
        text = HEAD.replace("provider: local, root: elsewhere", "provider: s3, bucket: one, export_base_path: a/b")
        connector = parsed(text + "indexes: {}").connectors["conn_import"]
        assert connector.boundary == "s3://one/a/b"
        other = connector.model_copy(update={"endpoint_url": "https://minio.example:9000"})
        assert other.real_boundary() != connector.real_boundary()

    @pytest.mark.parametrize("name", ["'a b'", "''", "-a", "é", "a/b", "a" * 101, '"a\\n"', ".a"])
    def test_a_bad_name_of_an_automation_is_refused(self, name):
        assert "must be 1 to 100 of A-Z" in only_problem(automation("destination_connector_id: conn_export", name))

    @pytest.mark.parametrize("name", ["a", "Review-team_v1.2", "9", "a" * 100])
    def test_a_good_name_of_an_automation_is_taken(self, name):
        assert parsed(automation("destination_connector_id: conn_export", name)).automation("idx", name)

    @pytest.mark.parametrize(("id_", "problem"), [("''", "must not be empty"), ("a" * 513, "at most 512 characters")])
    def test_an_id_is_not_empty_and_not_endless(self, id_, problem):
        assert problem in only_problem(f"{HEAD}indexes: {{{id_}: {{}}}}")
        assert problem in only_problem(HEAD.replace("conn_import", id_))

    def test_a_long_value_is_shortened(self):
        assert len(only_problem(HEAD.replace("root: elsewhere", f"root: [{'x' * 5000}]"))) < 300

    @pytest.mark.parametrize("base", ["../x", "/x", "a//b", "_vv", "a/%2e%2e", "C:\\x"])
    def test_a_base_path_may_not_leave_the_root_either(self, base):
        problem = only_problem(HEAD.replace("export_base_path: deliveries", f"export_base_path: '{base}'"))
        assert problem.startswith(f"connectors.conn_export.export_base_path: subpath {base!r} is refused")
        assert "/srv" in problem


class TestDestinations:
    def test_the_subpath_is_refused_with_the_value_and_the_boundary(self):
        problem = only_problem(automation("destination_connector_id: conn_export, destination_subpath: a/../../b"))
        assert problem.startswith("indexes.idx.automations.team.destination_subpath: subpath 'a/../../b' is refused")
        assert "inside /srv/deliveries" in problem

    def test_a_connector_that_does_not_exist_is_refused_with_a_suggestion(self):
        assert only_problem(automation("destination_connector_id: conn_exprt")) == (
            "indexes.idx.automations.team.destination_connector_id: 'conn_exprt' is not a connector of this "
            "file. Did you mean 'conn_export'? There is: conn_export, conn_import"
        )

    def test_a_connector_without_the_export_scope_is_refused(self):
        assert only_problem(automation("destination_connector_id: conn_import")) == (
            "indexes.idx.automations.team.destination_connector_id: 'conn_import' has the scopes [import]; "
            "a destination needs export in connectors.conn_import.scopes"
        )

    def two(self, first: str, second: str, connectors: str = "") -> str:
        return f"""
            source: {{kind: local_archive, path: archive}}
            storage: storage
            connectors:
              a: {{provider: local, root: r, export_base_path: out, scopes: [export]}}
              {connectors}
            indexes:
              i: {{automations: {{x: {{{first}}}}}}}
              j: {{automations: {{y: {{{second}}}}}}}
        """

    @pytest.mark.parametrize(("one", "other"), [("s", "s"), ("s", "s/t"), ("s/t", "s"), ("s", "S/t"), ("é", "É")])
    def test_equal_and_nested_destinations_are_refused(self, one, other):
        problem = only_problem(
            self.two(
                f"destination_connector_id: a, destination_subpath: {one}",
                f"destination_connector_id: a, destination_subpath: {other}",
            )
        )
        assert "indexes.i.automations.x" in problem
        assert "indexes.j.automations.y" in problem
        assert f"/srv/r/out/{other}" in problem

    def test_neighbours_are_not(self):
        parsed(
            self.two(
                "destination_connector_id: a, destination_subpath: s/t",
                "destination_connector_id: a, destination_subpath: s/tt",
            )
        )

    @pytest.mark.parametrize(
        ("root", "base", "subpath"),
        [
            ("r", "out", "s"),
            ("r/out", "''", "s/deeper"),
            (".", "r", "out/s"),
            ("./x/../r/", "OUT", "S"),
            ("file:///srv/r", "out", "s"),
            (".", "''", "r"),
        ],
    )
    def test_two_connectors_to_one_folder_are_seen_through(self, root, base, subpath):
        connector = f"b: {{provider: local, root: '{root}', export_base_path: {base}, scopes: [export]}}"
        body = self.two(
            "destination_connector_id: a, destination_subpath: s",
            f"destination_connector_id: b, destination_subpath: {subpath}",
            connector,
        )
        assert "give each automation a folder of its own" in only_problem(body)

    def test_a_link_to_the_root_of_another_connector_is_seen_through(self, tmp_path):
        (tmp_path / "r").mkdir()
        (tmp_path / "link").symlink_to("r")
        body = self.two(
            "destination_connector_id: a, destination_subpath: s",
            "destination_connector_id: b, destination_subpath: s",
            "b: {provider: local, root: link, export_base_path: out, scopes: [export]}",
        )
        with pytest.raises(ConfigurationError, match="a folder of its own"):
            parsed(body, folder=tmp_path)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("endpoint_url: 'https://h'", "endpoint_url: 'https://h:443'"),
            ("endpoint_url: 'https://h'", "endpoint_url: 'HTTPS://H./', path_style: true"),
            ("endpoint_url: 'https://h'", "endpoint_url: 'https://bucket.h'"),
            ("endpoint_url: 'http://h:80'", "endpoint_url: 'http://h', region: us-east-1"),
            ("region: us-east-1", "endpoint_url: 'https://s3.us-east-1.amazonaws.com'"),
        ],
    )
    @pytest.mark.parametrize("subpath", ["s", "s/t"])
    def test_two_spellings_of_one_store_are_seen_through(self, one, other, subpath):
        connectors = [
            f"{name}: {{provider: s3, bucket: bucket, scopes: [export], {fields}}}"
            for name, fields in (("b", one), ("c", other))
        ]
        body = self.two(
            "destination_connector_id: b, destination_subpath: s",
            f"destination_connector_id: c, destination_subpath: {subpath}",
            "\n              ".join(connectors),
        )
        assert "give each automation a folder of its own" in only_problem(body)

    def test_two_spellings_of_one_store_are_seen_through_where_storage_is_one(self):
        where = "provider: s3, bucket: bucket, endpoint_url: 'https://h{}'"
        body = self.two(
            "destination_connector_id: b, destination_subpath: s/t",
            "destination_connector_id: a, destination_subpath: s",
            f"b: {{{where.format(':443')}, scopes: [export]}}",
        ).replace("storage: storage", f"storage: {{{where.format('/')}, export_base_path: s}}")
        assert "keep the pipeline's own files apart" in only_problem(body)

    def test_two_connectors_to_different_folders_share_nothing(self):
        parsed(
            self.two(
                "destination_connector_id: a, destination_subpath: s",
                "destination_connector_id: b, destination_subpath: s",
                "b: {provider: local, root: r, export_base_path: other, scopes: [export]}",
            )
        )

    def test_a_disabled_automation_keeps_its_folder(self):
        body = self.two(
            "destination_connector_id: a, destination_subpath: s, enabled: false",
            "destination_connector_id: a, destination_subpath: s",
        )
        assert "indexes.i.automations.x" in only_problem(body)


class TestApartFromTheArchive:
    """What is delivered into an archive is read as its next prompt runs, or lost with it."""

    @staticmethod
    def body(archive: str, connector: str, *, storage: str = "/srv/state", subpath: str = "team") -> str:
        return f"""
            source: {{kind: local_archive, path: '{archive}'}}
            storage: {storage}
            connectors: {{conn: {{{connector}, scopes: [export]}}}}
            indexes: {{i: {{automations: {{a: {{destination_connector_id: conn, destination_subpath: {subpath}}}}}}}}}
        """

    @pytest.mark.parametrize(
        "archive", ["data", "./data/", "x/../data", "/srv/data", "file:///srv/data/", "local:///srv/data"]
    )
    @pytest.mark.parametrize(
        ("root", "base", "subpath"),
        [
            ("data", "''", "team"),
            ("data/deeper", "''", "team"),
            (".", "''", "data"),
            (".", "data", "team"),
            (".", "''", "Data/inside"),
            ("/", "''", "srv"),
            ("file:///srv/data", "''", "team"),
            ("file:///srv/d%61ta", "''", "team"),
        ],
    )
    def test_a_destination_that_is_the_archive_above_it_or_inside_it_is_refused(self, archive, root, base, subpath):
        connector = f"provider: local, root: '{root}', export_base_path: {base}"
        problem = only_problem(self.body(archive, connector, subpath=subpath, storage="/var/state"))
        assert problem.startswith("indexes.i.automations.a.destination_subpath: delivers to '/")
        assert "the source archive is '/srv/data', the same place, above it or inside it" in problem

    @pytest.mark.parametrize(
        ("archive", "connector", "subpath"),
        [
            ("s3://bucket/a", "provider: s3, bucket: bucket, export_base_path: a", "team"),
            ("s3://bucket/a/", "provider: s3, bucket: bucket", "a/team"),
            ("s3a://bucket//a/indexes", "provider: s3, bucket: bucket", "a"),
            ("S3://bucket/%61", "provider: s3, bucket: bucket, export_base_path: A", "team"),
            ("simplecache::s3://bucket/a", "provider: s3, bucket: bucket", "a"),
            ("zip://run::s3://bucket/a/all.zip", "provider: s3, bucket: bucket", "a"),
            ("s3://bucket", "provider: s3, bucket: bucket", "team"),
            ("gcs://bucket/a", "provider: gcs, bucket: bucket, export_base_path: a", "team"),
            ("gs://bucket/a", "provider: gcs, bucket: bucket", "a/b"),
            ("abfs://box@acc.dfs.core.windows.net/a", "provider: azure, storage_account: acc, container: box", "a/b"),
            ("abfss://box@acc.blob.core.windows.net/a", "provider: azure, storage_account: acc, container: box", "a"),
        ],
    )
    def test_in_stores_however_the_url_is_spelled(self, archive, connector, subpath):
        problem = only_problem(self.body(archive, connector, subpath=subpath))
        assert "keep the archive apart from what is made of it" in problem

    def test_the_store_that_the_environment_names_is_seen(self, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio.example:9000/")
        connector = "provider: s3, bucket: bucket, endpoint_url: 'https://minio.example:9000'"
        assert "the source archive" in only_problem(self.body("s3://bucket/a", connector, subpath="a"))
        parsed(self.body("s3://bucket/a", connector.replace("minio", "ceph"), subpath="a"))

    @pytest.mark.parametrize(
        "storage", ["data", "data/state", "/srv", "file:///srv/data", "{provider: local, root: data}"]
    )
    def test_storage_is_kept_apart_from_the_archive(self, storage):
        problem = only_problem(self.body("data", "provider: local, root: /mnt/out", storage=storage))
        assert problem.startswith("storage: keeps its files in '/srv")
        assert "the source archive is '/srv/data'" in problem

    def test_storage_and_an_archive_in_one_bucket_are_kept_apart(self):
        connector = "provider: s3, bucket: other"
        assert only_problem(self.body("s3://bucket/a", connector, storage="s3://bucket/a/state")).startswith("storage:")
        parsed(self.body("s3://bucket/a", connector, storage="s3://bucket/state"))

    def test_links_are_followed(self, tmp_path):
        (tmp_path / "disk" / "data").mkdir(parents=True)
        (tmp_path / "archive").symlink_to("disk/data")
        (tmp_path / "out").symlink_to("disk")
        (tmp_path / "state").symlink_to("disk/data")
        text = self.body(
            "archive", "provider: local, root: out", subpath="data/inside", storage=str(tmp_path / "state")
        )
        with pytest.raises(ConfigurationError) as caught:
            parsed(text, folder=tmp_path)
        assert len(caught.value.problems) == 3, "storage in the archive, the destination in the archive and in storage"

    @pytest.mark.parametrize("place", ["data", "state", "data/deeper"])
    def test_a_connector_inside_it_is_refused_before_anybody_exports_on_demand(self, place):
        text = f"""
            source: {{kind: local_archive, path: data}}
            storage: state
            connectors:
              conn: {{provider: local, root: ., export_base_path: {place}, scopes: [export]}}
              reads: {{provider: local, root: ., export_base_path: {place}}}
            indexes: {{}}
        """
        assert only_problem(text).startswith(f"connectors.conn: delivers below '/srv/{place}', and")

    def test_neighbours_are_not_refused(self):
        parsed(self.body("data", "provider: local, root: .", subpath="data2"))
        parsed(self.body("s3://bucket/a", "provider: s3, bucket: bucket", subpath="ab"))
        parsed(self.body("s3://bucket/a", "provider: gcs, bucket: bucket", subpath="a"))
        parsed(self.body("s3://bucket/a", "provider: local, root: .", subpath="a"))

    def test_the_password_of_an_archives_address_is_not_shown(self):
        text = self.body("s3://user:secret@bucket/a", "provider: s3, bucket: bucket", subpath="a")
        assert "secret" not in only_problem(text)


class TestLookingUp:
    def test_what_does_not_exist_is_told_what_does(self):
        loaded = parsed(automation("destination_connector_id: conn_export"))
        with pytest.raises(NotFoundError, match=r"no connector 'conn_exprt'\. Did you mean 'conn_export'\? There is: "):
            loaded.connector("conn_exprt")
        with pytest.raises(NotFoundError, match=r"no index 'zzz'\. There is: idx$"):
            loaded.automation("zzz", "team")
        with pytest.raises(NotFoundError, match=r"index 'idx' has no automation 'teem'\. Did you mean 'team'\?"):
            loaded.automation("idx", "teem")


class TestSchedules:
    @pytest.mark.parametrize(
        "cron",
        [
            "0 3 * * *",
            "*/5 0-6/2 1,15 jan-MAR mon-fri",
            "@daily",
            "59 23 31 12 7",
            "00 03 * * *",
            "5/10 * * * *",
        ],
    )
    def test_a_cron_line_is_taken(self, cron):
        assert ScheduleConfig(cron=cron).cron == cron

    @pytest.mark.parametrize(
        "cron",
        [
            *(
                "",
                "* * * *",
                "* * * * * *",
                "60 * * * *",
                "* 24 * * *",
                "* * 0 * *",
                "* * * 13 *",
                "* * * * 8",
            ),
            *(
                "*/0 * * * *",
                "5-1 * * * *",
                "1,, * * * *",
                "- * * * *",
                "a * * * *",
                "* * * * funday",
                "@never",
            ),
            *("٣ * * * *", "-1 * * * *"),
        ],
    )
    def test_a_line_that_is_no_cron_line_is_refused(self, cron):
        with pytest.raises(ValueError, match=r"five fields|does not fit"):
            ScheduleConfig(cron=cron)

    @pytest.mark.parametrize(
        "timezone", ["Europe/Berlim", "America", "../etc/passwd", "", "/etc/localtime", "UTC+1", "a\0"]
    )
    def test_a_time_zone_is_one_of_the_iana_database(self, timezone):
        with pytest.raises(ValueError, match="IANA"):
            ScheduleConfig(cron="@daily", timezone=timezone)
        assert ScheduleConfig(cron="@daily", timezone="Europe/Berlin").timezone == "Europe/Berlin"


keys = st.sampled_from(
    [
        *(
            "source",
            "storage",
            "connectors",
            "indexes",
            "kind",
            "path",
            "provider",
            "root",
            "export_base_path",
        ),
        *("scopes", "automations", "destination_connector_id", "destination_subpath", "format", "on_status"),
        *("schedule", "cron", "local", "local_archive", "export", "c", "[key]", ""),
        *("name", "csv", "excel", "tables", "segments", "fields", "include", "redact", "hash", "compression", "snappy"),
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | keys | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
sections = st.fixed_dictionaries(
    {},
    optional={
        "source": values,
        "storage": values,
        "connectors": values | st.dictionaries(keys, values, max_size=3),
        "indexes": values
        | st.dictionaries(
            keys,
            values | st.fixed_dictionaries({"automations": values | st.dictionaries(keys, values, max_size=3)}),
            max_size=3,
        ),
    },
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(sections | values, st.booleans())
def test_whatever_the_file_holds_it_loads_or_its_problems_are_told(data, with_sound_parts):
    if with_sound_parts and isinstance(data, dict):
        sound = yaml.safe_load(automation("destination_connector_id: conn_export"))
        data = {**sound, **data}
    text = yaml.safe_dump(data, allow_unicode=True)
    try:
        assert isinstance(parsed(text), Config)
    except ConfigurationError as error:
        assert error.problems  # noqa: PT017 - both outcomes are right, a third is not


def test_two_hundred_indexes_load_in_well_under_a_second(tmp_path):
    indexes = {
        f"idx_{number}": {"automations": {"team": {"destination_connector_id": "conn_export"}}} for number in range(200)
    }
    file = tmp_path / "c.yaml"
    file.write_text(HEAD + yaml.safe_dump({"indexes": indexes}))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert len(load_config(file).indexes) == 200
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


class TestHowLongDownloadsAreKept:
    @pytest.mark.parametrize(
        ("text", "length"),
        [("12h", timedelta(hours=12)), ("30d", timedelta(days=30)), ("8w", timedelta(weeks=8)), ("null", None)],
    )
    def test_it_is_a_number_of_hours_days_or_weeks(self, text, length):
        assert parsed(f"{HEAD}exports_keep: {text}").exports_kept == length
        assert parsed(HEAD).exports_kept is None

    @pytest.mark.parametrize(
        "text", ["30", "d", "0d", "-1d", "1.5d", "30 d", "30D", "1m", "100000d", "1d2h", "٣d", "30d\\n"]
    )
    def test_anything_else_is_told_with_what_is_allowed(self, text):
        problem = only_problem(f'{HEAD}exports_keep: "{text}"')
        assert problem.startswith("exports_keep: ")
        assert "must be a duration: a number from 1 to 99999 and h, d or w, such as 12h, 30d or 8w" in problem
        document = {"source": {"kind": "videovector"}, "storage": "storage", "exports_keep": text}
        assert not Draft202012Validator(config_schema()).is_valid(document)

    def test_a_number_is_told_as_one(self):
        assert only_problem(f"{HEAD}exports_keep: 30").startswith("exports_keep: ")


class TestSpool:
    def test_its_folder_is_relative_to_the_file_and_its_limit_a_number_of_bytes(self):
        spool = parsed(f"{HEAD}spool: {{folder: scratch, max_bytes: 268435456}}").spool
        assert (spool.folder, spool.max_bytes) == ("/srv/scratch", 256 << 20)
        assert (parsed(HEAD).spool.folder, parsed(HEAD).spool.max_bytes) == (None, None)

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ("folder: s3://bucket/scratch", "spool.folder: "),
            ("max_bytes: 1000", "spool.max_bytes: "),
            ("max_bytes: true", "spool.max_bytes: "),
            ("max_bytes: 4GB", "spool.max_bytes: "),
        ],
    )
    def test_what_is_no_local_folder_or_less_than_writers_need_is_refused(self, fields, problem):
        assert only_problem(f"{HEAD}spool: {{{fields}}}").startswith(problem)


class TestSchema:
    def test_every_field_is_described(self):
        for model in models():
            for name, field in model.model_fields.items():
                assert field.description, f"{model.__name__}.{name}"

    def test_the_schema_allows_nothing_unknown(self):
        schema = config_schema()
        objects = [schema, *schema["$defs"].values()]
        assert all(each["additionalProperties"] is False for each in objects if "properties" in each)
        assert set(schema["properties"]) == {
            *("source", "storage", "spool", "exports_keep", "redaction_key_env", "dagster_project", "notifications"),
            *("connectors", "indexes", "index_templates"),
        }
        assert set(schema["required"]) == {"source", "storage"}

    def test_each_registered_kind_is_in_the_schema(self):
        definitions = config_schema()["$defs"]
        for field, registry in (("kind", SOURCES), ("provider", PROVIDERS)):
            for name, model in registry.items():
                assert definitions[model.__name__]["properties"][field]["const"] == name

    def test_the_documentation_names_every_field(self):
        text = DOCS.read_text(encoding="utf-8")
        for model in models():
            for name in model.model_fields:
                assert f"`{name}`" in text, f"{model.__name__}.{name}"

    def test_the_example_in_the_documentation_loads(self):
        example, *_ = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
        loaded = parsed(example)
        assert loaded.automation("idx_archive", "review-team").subpath == "exports/review-team"


def models() -> list[type[BaseModel]]:
    return [
        each
        for module in (connectors, content, models_module)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, BaseModel) and each.__module__ == module.__name__
    ]


class TestVideoVector:
    """The source ``videovector``: an address, the name of a variable, and limits."""

    @staticmethod
    def source(fields: str) -> str:
        return f"source: {{kind: videovector{fields}}}\nstorage: storage\n"

    def test_the_kind_is_enough(self):
        source = parsed(self.source("")).source
        assert source.base_url == "https://api.vectormethods.com/api/v2"
        assert source.api_key_env == "VIDEO_VECTOR_API_KEY"
        assert (source.max_concurrency, source.max_requests_per_second, source.request_timeout_seconds) == (
            16,
            None,
            60,
        )

    def test_the_documented_line_is_read(self):
        base_url = "https://api.vectormethods.com/api/v2"
        source = parsed(self.source(f", base_url: {base_url}, api_key_env: VIDEO_VECTOR_API_KEY")).source
        assert (source.base_url, source.api_key_env) == (base_url, "VIDEO_VECTOR_API_KEY")

    def test_numbers_are_numbers(self):
        limits = ", max_concurrency: 4, max_requests_per_second: 0.5, request_timeout_seconds: 30"
        source = parsed(self.source(limits)).source
        assert (source.max_concurrency, source.max_requests_per_second, source.request_timeout_seconds) == (4, 0.5, 30)
        assert parsed(self.source(", max_requests_per_second: null")).source.max_requests_per_second is None

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("max_concurrency", "0", "'0': must be at least 1"),
            ("max_concurrency", "65", "'65': must be at most 64"),
            ("max_concurrency", "1.5", "'1.5': must be a whole number"),
            ("max_concurrency", "true", "True: must be a number"),
            ("max_concurrency", "many", "'many': must be a whole number"),
            ("max_requests_per_second", "0", "'0': must be more than 0"),
            ("max_requests_per_second", "-1", "'-1': must be more than 0"),
            ("max_requests_per_second", ".nan", "'.nan': must be a number"),
            ("max_requests_per_second", ".inf", "'.inf': must be a number"),
            ("max_requests_per_second", "inf", "'inf': must be a number"),
            ("max_requests_per_second", "yes", "must be a number"),
            ("request_timeout_seconds", "0.5", "'0.5': must be at least 1"),
            ("request_timeout_seconds", "601", "'601': must be at most 600"),
            ("request_timeout_seconds", "[1]", "must be a number"),
        ],
    )
    def test_a_limit_that_is_none_is_refused(self, field, value, message):
        problem = only_problem(self.source(f", {field}: {value}"))
        assert problem.startswith(f"source.{field}: ")
        assert message in problem

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "'[::1]'"])
    def test_plain_http_is_for_loopback(self, host):
        url = f"http://{host.strip(chr(39))}:8080/api/v2"
        assert parsed(self.source(f", base_url: '{url}/'")).source.base_url == url

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("http://api.vectormethods.com/api/v2", "must be https"),
            ("http://127.0.0.1.evil.test/api", "must be https"),
            ("ftp://x/api", "must be an address such as https://"),
            ("api.vectormethods.com", "must be an address such as https://"),
            ("https:///api/v2", "must be an address such as https://"),
            ("https://u:hush-pw@x.test/api", "must hold no user, password, query or fragment"),
            ("https://x.test/api?token=hush-token", "must hold no user, password, query or fragment"),
            ("https://x.test/api#hush", "must hold no user, password, query or fragment"),
            ("https://x.test:port/api", "must be an http or https address"),
        ],
    )
    def test_another_address_is_refused_and_keeps_its_secrets(self, url, reason):
        problem = only_problem(self.source(f", base_url: '{url}'"))
        assert problem.startswith("source.base_url: ")
        assert reason in problem
        assert "hush" not in problem

    @pytest.mark.parametrize("field", ["api_key_env", "api_key", "key", "base_url"])
    def test_a_key_that_was_put_into_the_file_is_not_repeated(self, field):
        key = "sk_live_" + "0123456789abcdef" * 3
        with pytest.raises(ConfigurationError) as caught:
            parsed(self.source(f", {field}: {key}"))
        assert key not in str(caught.value)
        assert "0123456789abcdef" not in str(caught.value)
        if field in {"api_key_env", "api_key"}:
            assert "api_key_env" in str(caught.value)

    @pytest.mark.parametrize("name", ["my key", "1KEY", "KEY-1", "''", "sk_live_abc", "$KEY"])
    def test_the_name_of_a_variable_must_be_one(self, name):
        assert "must be the name of an environment variable" in only_problem(self.source(f", api_key_env: {name}"))

    def test_its_problems_come_with_those_of_the_rest(self):
        body = (
            self.source(", max_concurrency: 0") + "indexes: {i: {automations: {a: {destination_connector_id: nope}}}}"
        )
        found = problems(body)
        assert len(found) == 2
        assert {one.partition(":")[0] for one in found} == {
            "source.max_concurrency",
            "indexes.i.automations.a.destination_connector_id",
        }

    def test_loading_reads_no_key(self, monkeypatch):
        monkeypatch.delenv("VIDEO_VECTOR_API_KEY", raising=False)
        parsed(self.source(""))

    def test_editors_know_it(self):
        schema = config_schema()
        validator = Draft202012Validator(schema)
        good = {"source": {"kind": "videovector", "max_concurrency": 4}, "storage": "storage"}
        assert validator.is_valid(good)
        assert not validator.is_valid({**good, "source": {"kind": "videovector", "max_concurrency": 0}})
        assert not validator.is_valid({**good, "source": {"kind": "videovector", "path": "x"}})
        described = schema["$defs"]["VideoVectorConfig"]["properties"]
        assert all(field.get("description") for field in described.values())
