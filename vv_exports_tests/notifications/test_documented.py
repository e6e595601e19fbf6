"""What docs/notifications.md shows is true."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import get_args

import jsonschema
import pytest
import yaml

from vv_exports.client.notifications import data_schema
from vv_exports.config import WebhookConfig, parse_config
from vv_exports.domain.events import Event
from vv_exports.errors import NotificationError
from vv_exports.notifications.message import trial
from vv_exports.notifications.webhook import WebhookTarget
from vv_exports_tests.deployments import CONFIG
from vv_exports_tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "notifications.md"


def shown(language):
    return next(block for block in blocks(PAGE) if block.language == language)


def test_the_configuration_that_is_shown_is_valid_and_names_every_event(tmp_path):
    text = yaml.safe_dump(CONFIG).replace("idx:", "idx_archive:").replace("team:", "review-team:")
    config = parse_config(text + shown("yaml").text, folder=tmp_path, where=PAGE.name).notifications
    assert config.targets["ops"].events == set(get_args(Event))
    told = re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.MULTILINE)))
    assert set(told) == set(get_args(Event)), "each has its line in the table"


def test_the_event_that_is_shown_is_of_the_schema():
    event = json.loads(shown("json").text)
    jsonschema.Draft202012Validator(data_schema()).validate(event["data"])
    assert event["id"] == event["data"]["delivery"]["delivery_id"]


def test_the_receiver_that_is_shown_takes_what_is_signed_and_refuses_what_is_not(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key, other = (base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2))
    code = shown("python").text
    assert code.count("8080") == 1
    environment = {**os.environ, "VV_EXPORTS_WEBHOOK_SECRET": f"whsec_{key}"}
    command = [sys.executable, "-c", code.replace("8080", str(port))]
    target = WebhookTarget(WebhookConfig(kind="webhook", url_env="U", secret_env="K", events=["failed"]))
    monkeypatch.setenv("U", f"http://127.0.0.1:{port}/")
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as receiver:
        try:
            _wait_for(port)
            message = trial(datetime.now(UTC), "ops")
            monkeypatch.setenv("K", f"whsec_{other}")
            with pytest.raises(NotificationError, match="answered 401"):
                target.send(message)
            monkeypatch.setenv("K", f"whsec_{other} whsec_{key}")  # while the secret is changed
            target.send(message)
            printed = receiver.stdout.readline().decode()
        finally:
            receiver.kill()
    assert printed.startswith(f"{message.id} com.vectormethods.vv_exports.test a test message")


def _wait_for(port):
    for _ in range(500):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
    raise AssertionError("the receiver does not listen")
