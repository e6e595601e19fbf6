"""People and programs are told what becomes of automations: once for each change of state, whatever becomes of the
process that tells, and without any delivery depending on it."""

import base64
import copy
import itertools
import json
import logging
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import jsonschema
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from standardwebhooks import Webhook, WebhookVerificationError

from vv_exports.client import VVExports
from vv_exports.client.notifications import data_schema
from vv_exports.errors import CredentialsError, RequestError, RunFailedError, VVExportsError
from vv_exports.notifications import notifier
from vv_exports.notifications.news import news
from vv_exports.notifications.notifier import Notifications
from vv_exports.notifications.outbox import Outbox
from vv_exports.notifications.situation import situation
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.cli.running import run as run_command
from vv_exports_tests.deployments import CONFIG, reconciled, write_config
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes
from vv_exports_tests.notifications.receiver import listening

KEY = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
EVERYTHING = [
    *("delivered", "failed", "recovered", "held", "paused", "resumed"),
    *("schema_changed", "verification_failed", "late"),
]


@pytest.fixture(scope="module")
def receiver():
    with listening() as receiver:
        yield receiver


def config_of(events=EVERYTHING, **fields):
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["automations"] = {"team": {**config["indexes"]["idx"]["automations"]["team"], **fields}}
    target = {"kind": "webhook", "url_env": "OPS_URL", "secret_env": "OPS_SECRET", "events": list(events)}
    config["notifications"] = {"targets": {"ops": target}}
    return config


class World:
    """A deployment whose target is a path of the receiver, and its clock."""

    def __init__(self, folder: Path, receiver, path: str, config) -> None:
        self.folder, self.receiver, self.path = folder, receiver, path
        self.now = datetime.now(UTC)
        self.instance = dg.DagsterInstance.ephemeral()
        self.client = self.opened(config)

    def opened(self, config) -> VVExports:
        """The deployment once more, as another process would have it."""
        self.client = VVExports(write_config(self.folder, config), instance=self.instance)
        self.client.pipeline.clock = self._clock
        return self.client

    def _clock(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    @property
    def team(self):
        return self.client.pipeline.automations.get("idx", "team")

    def finish(self, number: int, **fields) -> None:
        executed_at = f"2026-10-{number:02}T00:00:00Z"
        write_run(self.folder / "archive", run_id=f"run_{number}", executed_at=executed_at, **fields)

    def deliver(self) -> None:
        self.client.automations.run("idx", "team")

    def told(self) -> list[str]:
        """What the receiver got since this was asked last, after a tick of the sensor that has nothing to add."""
        before = len(self.receiver.at(self.path))
        self.tick()
        assert len(self.receiver.at(self.path)) == before, "whoever changed it has told it already"
        return self.got()

    def got(self) -> list[str]:
        names = self.receiver.names(self.path)
        new, self._seen = names[getattr(self, "_seen", 0) :], len(names)
        return new

    def tick(self) -> str:
        definitions = self.client.definitions
        sensor = definitions.resolve_sensor_def("notifications")
        return sensor(dg.build_sensor_context(instance=self.instance, definitions=definitions)).skip_message


@pytest.fixture
def world(tmp_path, receiver, request, monkeypatch):
    path = f"/{request.node.name}"
    monkeypatch.setenv("OPS_URL", receiver.url + path)
    monkeypatch.setenv("OPS_SECRET", KEY)

    def made(**fields) -> World:
        made = World(tmp_path, receiver, path, config_of(**fields))
        made.finish(1)
        return made

    return made


def test_a_delivery_is_told_once_with_its_id_and_the_library_accepts_its_signature(world):
    here = world()
    here.deliver()
    assert here.told() == ["delivered"]
    here.deliver()
    assert here.told() == [], "nothing was delivered"
    (request,) = here.receiver.at(here.path)
    event = Webhook(KEY).verify(request.body, request.headers)
    entry = json.loads((here.folder / "deliveries/exports/team/_vv/log/00000000000000000000.json").read_text())
    assert event["id"] == request.headers["webhook-id"] == entry["delivery_id"]
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert (event["specversion"], event["type"]) == ("1.0", "com.vectormethods.vv_exports.delivered")
    assert event["source"] == "/vv_exports/idx/team"
    assert datetime.fromisoformat(event["time"]) == datetime.fromisoformat(entry["committed_at"])
    data = event["data"]
    jsonschema.Draft202012Validator(data_schema()).validate(data)
    assert data["delivery"]["rows"] == {"segments": 3}
    assert data["delivery"]["prompt_runs"] == {"count": 1, "ids": ["run_1"]}
    assert data["delivery"]["reasons"] == {"new": 1}
    assert data["destination_uri"] == event["subject"] == here.team.destination.uri
    with pytest.raises(WebhookVerificationError):
        Webhook(f"whsec_{base64.b64encode(bytes(32)).decode()}").verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(KEY).verify(request.body.replace(b"run_1", b"run_2"), request.headers)


@pytest.mark.slow
def test_each_change_of_state_is_told_once(world):
    here = world(expect_every="24h", contract="block", pause_after_failures=3)
    here.deliver()
    assert here.told() == ["delivered"]

    here.client.automations.pause("idx", "team", "holidays")
    here.client.automations.pause("idx", "team", "again")
    assert here.told() == ["paused"]
    assert here.receiver.at(here.path)[-1].event["data"]["pause"]["reason"] == "holidays"
    here.client.automations.resume("idx", "team")
    assert here.told() == ["resumed"]

    here.finish(2, schema={"type": "object", "properties": {"title": {"type": "string"}, "new": {"type": "string"}}})
    here.deliver()
    assert here.got() == ["delivered", "schema_changed", "delivered"], "the last one reshapes what was there"
    changed = here.receiver.at(here.path)[-2].event["data"]
    assert (changed["change_count"], changed["changes"][0]["affects_readers"]) == (1, False)

    here.finish(3, segments=[segment(0, metadata={"title": 5})], schema={"properties": {"title": {"type": "string"}}})
    with pytest.raises(RunFailedError):
        here.deliver()
    assert here.told() == ["held"]

    _break(here.folder)
    here.client.verify("conn_export", "exports/team")
    here.client.verify("conn_export", "exports/team")
    assert here.told() == ["verification_failed"]
    reconciled(here.client)
    here.client.verify("conn_export", "exports/team")
    assert here.got() == ["delivered", "recovered"]
    assert here.receiver.at(here.path)[-1].event["data"]["after"] == ["verification_failed"]

    here.now += timedelta(days=2)
    assert "1 message sent" in here.tick()
    here.tick()
    assert here.told() == ["late"]
    here.finish(4)
    here.deliver()
    assert here.told() == ["delivered", "recovered"]


def dies(*_):
    raise Crash


def _break(folder: Path) -> None:
    file = min((folder / "deliveries/exports/team/segments").rglob("*.parquet"))
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"x")


def test_what_fails_is_told_once_and_not_with_each_retry_and_again_when_it_delivers(world):
    here = world(pause_after_failures=None)
    shutil.rmtree(here.folder / "deliveries", ignore_errors=True)
    (here.folder / "deliveries").write_text("in the way")
    for _ in range(3):
        with pytest.raises((RunFailedError, RequestError)):
            here.deliver()
        here.now += timedelta(minutes=30)
    assert here.told() == ["failed"]
    (here.folder / "deliveries").unlink()
    here.deliver()
    assert here.told() == ["delivered", "recovered"]


def test_a_prompt_run_that_fails_is_told_when_it_begins_to(world):
    here = world()
    broken = here.folder / "archive/indexes/idx/prompt_runs/run_1/segment_results.jsonl"
    lines = broken.read_text()
    broken.write_text(lines + "{")
    for _ in range(2):
        with pytest.raises(RunFailedError):
            here.deliver()
    assert here.told() == ["failed"]
    assert here.receiver.at(here.path)[-1].event["data"]["prompt_runs"] == {"count": 1, "ids": ["run_1"]}
    broken.write_text(lines)
    here.now += timedelta(hours=1)
    here.deliver()
    assert here.told() == ["delivered", "recovered"]


def test_what_waits_is_told_once_though_the_destination_was_out_of_reach_meanwhile(world):
    here = world(contract="block")
    here.finish(3, segments=[segment(0, metadata={"title": 5})], schema={"properties": {"title": {"type": "string"}}})
    with pytest.raises(RunFailedError):
        here.deliver()
    assert here.told() == ["delivered", "held"]
    broken = here.folder / "deliveries/exports/team/_vv/log/00000000000000000001.json"
    broken.write_text("{")
    here.tick()
    here.tick()
    assert here.told() == ["failed"]
    broken.unlink()
    here.tick()
    assert here.told() == []


def test_a_folder_that_was_away_for_a_while_is_no_news_and_one_that_was_made_anew_is(world):
    here = world()
    here.deliver()
    assert here.told() == ["delivered"]
    collection = here.folder / "deliveries/exports/team"
    collection.rename(here.folder / "aside")
    here.tick()
    (here.folder / "aside").rename(collection)
    here.tick()
    assert here.told() == []
    shutil.rmtree(collection)
    here.deliver()
    assert here.told() == ["delivered"]
    assert len({request.headers["webhook-id"] for request in here.receiver.at(here.path)}) == 2


def test_what_was_before_notifications_is_no_news_but_what_is_wrong_is(world, receiver):
    here = world()
    config = config_of()
    here.opened({**config, "notifications": {}})
    assert "notifications" not in {sensor.name for sensor in here.client.definitions.sensors}
    here.deliver()
    here.client.automations.pause("idx", "team")
    _break(here.folder)
    here.client.verify("conn_export", "exports/team")
    assert not list((here.folder / "storage").rglob("notifications")), "nothing is kept for nobody"
    here.opened(config)
    assert "1 message sent" in here.tick()
    assert here.told() == ["verification_failed"]
    here.client.automations.resume("idx", "team")
    assert here.told() == ["resumed"]


def test_a_switch_in_the_ui_is_told_by_the_sensor(world, tmp_path):
    here = world()
    (tmp_path / "dagster").mkdir()
    here.instance = dg.DagsterInstance.local_temp(str(tmp_path / "dagster"))
    here.opened(config_of())
    here.tick()
    for on, event in ((False, "paused"), (True, "resumed")):
        _switch(here, on=on)
        here.tick()
        assert here.told() == [event]


def _switch(here, *, on):
    location = RegisteredCodeLocationOrigin("vv_exports")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), "idx__team__delivery")
    data = SensorInstigatorData(last_sensor_start_timestamp=here.now.timestamp() if on else None)
    status = InstigatorStatus.RUNNING if on else InstigatorStatus.STOPPED
    change = here.instance.update_instigator_state if on else here.instance.add_instigator_state
    change(InstigatorState(origin, InstigatorType.SENSOR, status, data))


def test_a_message_that_does_not_arrive_waits_is_tried_again_and_given_up(world, receiver, caplog):
    here = world()
    receiver.answers[here.path] = 500
    here.deliver()
    (waiting,) = here.client.notifications.list()
    assert (waiting.event, waiting.target, waiting.state, waiting.attempts) == ("delivered", "ops", "waiting", 1)
    assert waiting.problem == f"{receiver.url.rsplit(':', 1)[0]}/… answered 500"
    here.tick()
    assert here.got() == ["delivered"], "it is not tried again at once"
    here.now += timedelta(minutes=1)
    here.tick()
    assert here.got() == ["delivered"]
    assert len({request.headers["webhook-id"] for request in receiver.at(here.path)}) == 1
    here.now += timedelta(hours=24)
    assert "answered 500" in here.tick()
    (given_up,) = here.client.notifications.list()
    assert (given_up.state, given_up.attempts, given_up.again_at) == ("given up", 3, None)
    assert "is given up: delivered" in caplog.text
    receiver.answers[here.path] = 204
    here.now += timedelta(hours=24)
    here.got()
    assert here.told() == []


def test_a_message_arrives_when_the_receiver_is_well_again(world, receiver):
    here = world()
    receiver.answers[here.path] = 503
    here.deliver()
    receiver.answers[here.path] = 204
    here.now += timedelta(minutes=1)
    assert here.client.notifications.send().sent == 1
    assert here.client.notifications.list() == []


@pytest.mark.parametrize(("status", "asked"), [(400, 2), (503, 1)])
def test_one_that_refuses_a_message_gets_the_next_and_one_that_is_away_is_left_alone(world, receiver, status, asked):
    here = world()
    receiver.answers[here.path] = status
    here.client.automations.pause("idx", "team")
    here.client.automations.resume("idx", "team")
    here.now += timedelta(hours=2)
    here.got()
    here.tick()
    assert len(here.got()) == asked


def test_a_redirect_is_not_followed(world, receiver):
    here = world()
    receiver.answers[here.path] = 302
    here.deliver()
    (waiting,) = here.client.notifications.list()
    assert "answered 302, which leads elsewhere and is not followed" in waiting.problem
    assert not receiver.at("/elsewhere")


def test_a_receiver_that_never_answers_holds_up_no_delivery(world, receiver, monkeypatch):
    here = world()
    monkeypatch.setattr(notifier, "AT_ONCE_SECONDS", 0.2)
    receiver.answers[here.path] = None
    here.deliver()
    assert here.client.automations.retrieve("idx", "team").delivered == 1
    (waiting,) = here.client.notifications.list()
    assert waiting.problem == "there was no answer in time"


@pytest.mark.parametrize("name", ["OPS_URL", "OPS_SECRET"])
def test_without_address_or_secret_a_delivery_is_made_and_told_when_they_are_there(world, monkeypatch, name):
    here = world()
    with monkeypatch.context() as patch:
        patch.delenv(name)
        here.deliver()
        (waiting,) = here.client.notifications.list()
        assert name in waiting.problem
        with pytest.raises(CredentialsError, match=name):
            raise here.client.notifications.test("ops")[0].error
    here.now += timedelta(minutes=1)
    here.tick()
    assert here.told() == ["delivered"]


def test_neither_address_nor_secret_is_shown_or_kept(world, receiver, monkeypatch, caplog, capfd):
    here = world()
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPS_URL", f"{receiver.url.replace('//', '//user:hidden1@')}/hidden2?token=hidden3")
    receiver.answers["/hidden2?token=hidden3"] = 500
    here.deliver()
    (error,) = [one.error for one in here.client.notifications.test("ops")]
    here.now += timedelta(minutes=1)
    here.tick()
    (request, *_) = receiver.at("/hidden2?token=hidden3")
    assert request.headers["authorization"] == f"Basic {base64.b64encode(b'user:hidden1').decode()}"
    written = b"".join(path.read_bytes() for path in here.folder.rglob("*") if path.is_file())
    kept = [f"{one}" for one in here.client.notifications.list()]
    logged = [record.getMessage() for record in caplog.records]
    for text in (*logged, *kept, str(error), *capfd.readouterr(), written.decode(errors="replace")):
        assert "hidden" not in text
        assert KEY not in text


def test_two_processes_send_a_message_once_and_news_that_others_told_are_none(world, receiver):
    here = world()
    receiver.answers[here.path] = 503
    here.deliver()
    receiver.answers[here.path] = 204
    here.now += timedelta(minutes=2)
    first = here.client.pipeline.notifications._outbox(here.team)
    second = here.opened(config_of()).pipeline.notifications._outbox(here.team)
    assert [message.data.event for message, _ in first.claim({"ops"}, here.now)] == ["delivered"]
    assert second.claim({"ops"}, here.now) == []
    seen = second.read().told
    here.finish(2)
    here.opened({**config_of(), "notifications": {}}).automations.run("idx", "team")
    found = news(here.team, seen, situation(here.team, seen.next_sequence, None, here.now), timedelta(days=1))
    assert [message.data.event for message in found.messages] == ["delivered"]
    assert first.add(seen, found, lambda message: ["ops"])
    second.add(seen, found, lambda message: ["ops"])
    assert [one.message.data.event for one in second.read().waiting] == ["delivered", "delivered"]


def test_a_source_that_cannot_be_listed_is_told_once_until_it_can(world):
    here = world()
    archive, aside = here.folder / "archive", here.folder / "aside"

    def look():
        sensor = here.client.definitions.resolve_sensor_def("idx__discovery")
        sensor(dg.build_sensor_context(instance=here.instance, definitions=here.client.definitions))

    look()
    here.tick()
    archive.rename(aside)
    for _ in range(4):
        with pytest.raises(VVExportsError):
            look()
        here.tick()
    assert here.told() == ["failed"]
    aside.rename(archive)
    look()
    here.tick()
    assert here.told() == ["recovered"]


def test_only_what_a_target_wants_is_sent_to_it(world, receiver, monkeypatch):
    monkeypatch.setenv("DESK_URL", f"{receiver.url}/desk")
    here = world()
    config = config_of(["delivered"])
    config["indexes"]["idx"]["automations"]["other"] = {
        **config["indexes"]["idx"]["automations"]["team"],
        "destination_subpath": "exports/other",
    }
    desk = {"kind": "webhook", "url_env": "DESK_URL", "secret_env": "OPS_SECRET"}
    config["notifications"]["targets"]["desk"] = {
        **desk,
        "events": ["delivered", "paused"],
        "automations": ["idx/other"],
    }
    here.opened(config)
    here.deliver()
    here.client.automations.run("idx", "other")
    here.client.automations.pause("idx", "other")
    assert here.told() == ["delivered", "delivered"]
    assert receiver.names("/desk") == ["delivered", "paused"]


_DIES_AFTER_THE_COMMIT = """
import os, signal
from vv_exports.client import VVExports
client = VVExports()
tell = client.pipeline.notifications.tell
def dies(automations, pause_of):
    is_delivered = automations[0].collection().runs
    return os.kill(os.getpid(), signal.SIGKILL) if is_delivered else tell(automations, pause_of)
client.pipeline.notifications.tell = dies
client.automations.run("idx", "team")
"""


@pytest.mark.slow
def test_a_process_that_dies_between_commit_and_sending_costs_no_message(world):
    here = world()
    command = [sys.executable, "-c", _DIES_AFTER_THE_COMMIT]
    died = subprocess.run(command, cwd=here.folder, capture_output=True, timeout=100, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert (here.folder / "deliveries/exports/team/_vv/log/00000000000000000000.json").exists()
    assert here.got() == []
    here.tick()
    assert here.told() == ["delivered"]


def test_a_process_that_dies_behind_the_sending_sends_twice_with_one_id(world, monkeypatch):
    """Nobody knows that it has arrived."""
    here = world()
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "settle", dies)
        with pytest.raises(Crash):
            here.client.automations.pause("idx", "team")
    here.tick()
    assert here.got() == ["paused"], "somebody may still be sending it"
    here.now += timedelta(minutes=1)
    here.tick()
    assert here.told() == ["paused"]
    assert len({request.headers["webhook-id"] for request in here.receiver.at(here.path)}) == 1


def test_wherever_a_process_dies_while_it_tells_each_change_is_told_with_one_id(world):
    here = world()
    here.tick()
    told = {}
    for call in itertools.count():
        before = len(here.receiver.at(here.path))
        if call % 2:
            here.team.record.resume()
        else:
            here.team.record.pause("me", "", here.now)
        faulty = FaultyConnector(here.client.pipeline.storage, {call: crashes})
        other = Notifications(here.client.pipeline.config.notifications, faulty, here._clock)
        has_died = False
        try:
            other.tell([here.team], lambda automation: automation.record.state().pause)
        except Crash:
            has_died = True
        here.now += timedelta(minutes=2)
        here.tick()
        got = here.receiver.at(here.path)[before:]
        told[call] = {request.headers["webhook-id"]: request.name for request in got}
        if not has_died:
            break
    assert [list(names.values()) for names in told.values()] == [
        ["resumed" if call % 2 else "paused"] for call in range(len(told))
    ]
    assert len(told) > 10, "it died at each of the calls"


def test_the_same_content_delivered_once_more_is_news_with_an_id_of_its_own(world):
    here = world()
    here.deliver()
    _break(here.folder)
    file = min((here.folder / "deliveries/exports/team/segments").rglob("*.parquet"))
    file.unlink()
    here.deliver()
    assert here.told() == ["delivered", "delivered"]
    first, second = here.receiver.at(here.path)
    assert first.event["data"]["delivery"]["delivery_id"] == second.event["data"]["delivery"]["delivery_id"]
    assert first.event["id"] != second.event["id"]
    assert second.event["data"]["delivery"]["reasons"] == {"mended": 1}


def test_deliveries_of_long_ago_are_not_told(world, caplog):
    here = world()
    here.tick()
    here.opened({**config_of(), "notifications": {}})
    here.deliver()
    here.opened(config_of())
    here.now += timedelta(days=2)
    here.tick()
    assert here.told() == []
    assert "1 delivery of automation idx/team are older than `give_up_after: 24h`" in caplog.text


class TestApprise:
    @pytest.fixture
    def here(self, world, receiver, monkeypatch):
        here = world()
        self.path = f"{here.path}/hidden4"
        monkeypatch.setenv("CHAT_URL", f"{receiver.url.replace('http', 'json')}{self.path}")
        here.opened(_chat_config())
        return here

    def test_a_service_is_sent_a_title_and_a_line(self, here):
        here.deliver()
        (request,) = here.receiver.at(self.path)
        sent = json.loads(request.body)
        assert (sent["title"], sent["type"]) == ("idx/team: delivered", "success")
        assert sent["message"].startswith("idx/team: delivered 1 prompt run (3 rows, 1 file) to ")

    def test_one_that_fails_is_tried_again_and_shows_no_address(self, here, caplog):
        here.receiver.answers[self.path] = 500
        here.deliver()
        (waiting,) = here.client.notifications.list()
        assert waiting.problem.startswith("json://… was not reached, or refused the message.")
        assert "500" in waiting.problem
        assert "hidden4" not in f"{waiting}{caplog.text}"

    def test_an_address_that_it_does_not_take_is_told_without_it(self, here, monkeypatch, caplog, capfd):
        for wrong in ("nonsense://hidden5", "slack://hidden5/hidden6", "json://hidden5, json://hidden6"):
            monkeypatch.setenv("CHAT_URL", wrong)
            (tried,) = here.client.notifications.test("chat")
            assert "CHAT_URL must hold one Apprise URL" in str(tried.error)
            assert "hidden" not in f"{tried}{caplog.text}{capfd.readouterr()}"

    def test_without_the_package_it_says_what_to_install(self, here, monkeypatch):
        monkeypatch.setitem(sys.modules, "apprise", None)
        with pytest.raises(RequestError, match=r"pip install 'vv-exports\[apprise\]'"):
            here.opened(_chat_config())


def _chat_config():
    config = config_of()
    config["notifications"]["targets"] = {"chat": {"kind": "apprise", "url_env": "CHAT_URL", "events": ["delivered"]}}
    return config


def test_the_command_sends_a_test_and_says_whereto(world):
    here = world()
    environment = {"OPS_URL": here.receiver.url + here.path, "OPS_SECRET": KEY}
    done = run_command(here.folder, "notifications", "test", "ops", **environment)
    assert (done.code, done.out) == (0, "ops: sent to http://127.0.0.1/…\n")
    (request,) = here.receiver.at(here.path)
    assert Webhook(KEY).verify(request.body, request.headers)["type"] == "com.vectormethods.vv_exports.test"
    assert run_command(here.folder, "notifications", "test", "nobody", **environment).code == 2
    here.receiver.answers[here.path] = 401
    assert run_command(here.folder, "notifications", "test", **environment).code == 1
    environment["OPS_SECRET"] = "short"
    assert run_command(here.folder, "notifications", "test", **environment).code == 2
    checked = run_command(here.folder, "config", "check", **environment)
    assert (checked.code, "short" in checked.text) == (2, False)
    assert "notifications.targets.ops.secret_env: the environment variable OPS_SECRET must hold" in checked.text
