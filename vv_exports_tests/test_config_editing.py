"""Changes to a configuration file: what was asked for changes, and every other byte stays."""

import json
import random
import threading
from pathlib import Path

import pytest
import yaml

from vv_exports.config.document import Document
from vv_exports.config.editing import REMOVED, Change, edited
from vv_exports.config.file import edit_file, replace_file
from vv_exports.errors import ConfigurationError

DEMO = (Path(__file__).parents[1] / "vv_exports" / "demo" / "vv_exports.yaml").read_text()
AUTOMATIONS = ("indexes", "idx_archive", "automations")
NEW = {"destination_connector_id": "conn_export", "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}}


def change(text: str, path: tuple[str, ...], value: object) -> str:
    return edited(text, [Change(path, value)], "file")


def read(text: str) -> dict:
    return Document().read(text, "file")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def changed_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    gone, new = before.splitlines(), after.splitlines()
    return [line for line in gone if line not in new], [line for line in new if line not in gone]


def test_a_new_automation_is_added_behind_the_others_and_nothing_else_changes():
    after = change(DEMO, (*AUTOMATIONS, "legal"), NEW)
    assert after == DEMO + (
        "\n      legal:\n        destination_connector_id: conn_export\n"
        "        schedule: {cron: 0 3 * * *, timezone: Europe/Berlin}\n"
    )


def test_a_field_changes_in_its_place_and_the_comment_behind_it_stays():
    after = change(DEMO, (*AUTOMATIONS, "review-team", "format"), {"name": "csv", "delimiter": ";"})
    assert changed_lines(DEMO, after) == (
        ["        format: parquet                # parquet | jsonl | csv | json | webvtt | markers"],
        ["        format: {name: csv, delimiter: ;}                # parquet | jsonl | csv | json | webvtt | markers"],
    )


def test_what_is_removed_takes_the_comment_right_above_it_along():
    after = change(DEMO, (*AUTOMATIONS, "newsroom"), REMOVED)
    assert DEMO.startswith(after)
    assert "newsroom" not in after
    assert "Paused" not in after


def test_what_the_file_says_already_is_not_written_again():
    odd = DEMO.replace("paused: true", "'paused' :  TRUE")
    assert change(odd, (*AUTOMATIONS, "newsroom", "paused"), True) == odd


@pytest.mark.parametrize("ends", ["\r\n", "\r", "\n"])
def test_line_ends_stay_what_they_are(ends):
    text = DEMO.replace("\n", ends)
    after = edited(text, [Change((*AUTOMATIONS, "legal"), NEW), Change((*AUTOMATIONS, "newsroom"), REMOVED)], "file")
    assert after.replace(ends, "\n") == edited(
        DEMO, [Change((*AUTOMATIONS, "legal"), NEW), Change((*AUTOMATIONS, "newsroom"), REMOVED)], "file"
    )
    assert "\n" not in after.replace(ends, "")


EMPTY = {
    "no key": "storage: s\n",
    "no value": "storage: s\nindexes:   # none yet\n  # idx:\n  #   automations:\n",
    "null": "indexes: ~  # none\nstorage: s",
    "braces": "indexes: {}\n\n# Where copies are\nstorage: s\n",
    "braces in a line": "{storage: s, indexes: {}}",
    "json": '{\n  "storage": "s",\n  "indexes": {}\n}\n',
    "a document of its own": "--- # the first\nstorage: s\n...\n",
    "no line end": "indexes:",
}


@pytest.mark.parametrize("text", EMPTY.values(), ids=EMPTY.keys())
@pytest.mark.parametrize("index_id", ["idx", "0001", "on", "a.b:c", "rün 4", "#1", "*x", "'", "null", "a, b", "<<"])
def test_the_first_entry_is_added_whatever_stands_there_and_whatever_its_id_is(text, index_id):
    path = ("indexes", index_id, "automations", "team")
    after = change(text, path, {"paused": True, "destination_connector_id": "0755"})
    assert read(after)["indexes"] == {
        index_id: {"automations": {"team": {"paused": True, "destination_connector_id": "0755"}}}
    }
    for line in text.splitlines():
        assert line.partition("#")[2] in after


def test_a_json_file_stays_json():
    after = change(EMPTY["json"], ("indexes", "idx", "automations", "team"), {"paused": True})
    assert yaml.safe_load(after) == json.loads(after)


SHARED = """
indexes:
  a:
    automations:
      first: &usual
        destination_connector_id: conn  # the usual one
        paused: false
      second: *usual
      third:
        <<: *usual
        format: csv
"""


def test_what_an_alias_stands_for_gets_an_entry_of_its_own():
    after = change(SHARED, ("indexes", "a", "automations", "second", "paused"), True)
    assert changed_lines(SHARED, after) == (["      second: *usual"], ["      second: {<<: *usual, paused: true}"])


def test_what_a_merge_key_fills_in_is_overridden_in_the_mapping_itself():
    after = change(SHARED, ("indexes", "a", "automations", "third", "paused"), True)
    assert changed_lines(SHARED, after) == ([], ["        paused: true"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("first", "paused"), True),
        (("first",), REMOVED),
        (("third", "paused"), REMOVED),
        (("second", "paused"), REMOVED),
    ],
)
def test_a_change_that_would_change_something_else_is_refused(path, value):
    with pytest.raises(ConfigurationError, match=r"indexes\.a\.automations\..*anchor that others use.*by hand"):
        change(SHARED, ("indexes", "a", "automations", *path), value)


def test_any_change_of_any_layout_comes_to_what_was_asked_for_or_is_refused():
    """Layouts that nobody thought of: the same documents, written with other indents, styles and comments."""
    chance = random.Random(20261127)
    for _ in range(150):
        document = {"storage": "s", "indexes": {f"i{n}": _index(chance) for n in range(chance.randrange(4))}}
        text = yaml.safe_dump(
            document, indent=chance.choice([2, 4, 8]), default_flow_style=chance.choice([None, True, False]), width=60
        )
        lines = [line + chance.choice(["", "", "  # said"]) for line in text.splitlines()]
        text = chance.choice(["\n", "\r\n"]).join([*lines, ""])
        before = read(text)
        path = ("indexes", f"i{chance.randrange(4)}", "automations", f"a{chance.randrange(3)}", "paused")
        after = read(change(text, path, True))
        after["indexes"][path[1]]["automations"][path[3]].pop("paused")
        here = (before["indexes"] or {}).get(path[1]) or {}
        (here.get("automations") or {}).get(path[3], {}).pop("paused", None)
        assert _sparse(after) == _sparse(before)


def _index(chance: random.Random) -> dict:
    fields = {"paused": False, "format": {"name": "csv"}, "on_status": ["completed"]}
    return {
        "automations": {
            f"a{n}": dict(chance.sample(sorted(fields.items()), chance.randrange(4)))
            for n in range(chance.randrange(3))
        }
    }


def _sparse(value):
    return {key: one for key, each in value.items() if (one := _sparse(each))} if isinstance(value, dict) else value


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "vv_exports.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + DEMO.encode())
    return path


def test_mode_link_and_byte_order_mark_stay(file, tmp_path):
    file.chmod(0o640)
    link = tmp_path / "elsewhere" / "linked.yaml"
    link.parent.mkdir()
    link.symlink_to(file)
    edit = edit_file(link, [Change((*AUTOMATIONS, "newsroom", "paused"), False)])
    edit.write()
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert file.read_bytes() == b"\xef\xbb\xbf" + DEMO.replace("paused: true", "paused: false").encode()
    assert names(tmp_path) == ["elsewhere", file.name]


def test_a_file_that_was_changed_meanwhile_is_not_overwritten(file):
    edit = edit_file(file, [Change((*AUTOMATIONS, "newsroom", "paused"), False)])
    file.write_text(DEMO + "# mine\n")
    with pytest.raises(ConfigurationError, match=r"changed by somebody else meanwhile.*Nothing was written"):
        edit.write()
    assert file.read_text() == DEMO + "# mine\n"
    assert names(file.parent) == [file.name]


def test_of_those_who_change_it_at_once_nobody_loses_what_another_wrote(file):
    """Each reads, and writes if the file is what it read; else it is told, and tries again."""
    read_by_all, refused = threading.Barrier(4), []

    def add(number: int) -> None:
        path = (*AUTOMATIONS, f"team-{number}")
        fields = {"destination_connector_id": "conn_export", "destination_subpath": f"teams/{number}"}
        edit = edit_file(file, [Change(path, fields)])
        read_by_all.wait(timeout=30)
        while edit.is_change:
            try:
                edit.write()
            except ConfigurationError:
                refused.append(number)
            edit = edit_file(file, [Change(path, fields)])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    found = yaml.safe_load(file.read_text("utf-8-sig"))["indexes"]["idx_archive"]["automations"]
    assert {f"team-{number}" for number in range(4)} < found.keys()
    assert len(set(refused)) == 3
    assert names(file.parent) == [file.name]


def test_a_change_that_makes_a_wrong_configuration_is_not_written(file):
    with pytest.raises(
        ConfigurationError, match=r"as it would be .nothing was written.(.|\n)*'conn_exprt' is not a conn"
    ):
        edit_file(file, [Change((*AUTOMATIONS, "legal"), {"destination_connector_id": "conn_exprt"})])


def test_a_file_that_cannot_be_replaced_is_as_it_was(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot be replaced: .*No such file.*--dry-run"):
        replace_file(tmp_path / "gone.yaml", before=b"a", after=b"b")
    assert names(tmp_path) == []
