"""The figures for Prometheus are those of the logs, grow with deliveries alone, and feed the dashboard."""

import copy
import json
import re
import shutil
import socket
import time
import urllib.request

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from vv_exports.client.metrics import METRICS
from vv_exports.errors import RequestError
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import REPOSITORY, run, write_deployment
from vv_exports_tests.deployments import CONFIG, client_of

DEPLOYED = REPOSITORY / "deploy" / "grafana"
TEAM = {"index": "idx", "automation": "team"}


def figures(text):
    """Of a scrape: each sample's value, by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of_team(text, name, **labels):
    return figures(text).get((f"vv_exports_{name}", tuple(sorted({**TEAM, **labels}.items()))))


@pytest.fixture
def client(tmp_path):
    write_run(tmp_path / "archive", run_id="run_1")
    return client_of(tmp_path)


def test_what_is_due_and_what_was_delivered_is_told_before_and_after_a_delivery(client):
    client.prompt_runs.sync("idx")
    before = client.metrics.text()
    assert of_team(before, "prompt_runs", state="delivered") == 0
    assert of_team(before, "deliveries_total") == of_team(before, "delivered_rows_total", table="segments") == 0
    client.automations.run("idx", "team")
    after = client.metrics.text()
    state = client.pipeline.automations.get("idx", "team").collection()
    assert of_team(after, "prompt_runs", state="delivered") == 1
    assert of_team(after, "prompt_runs", state="due") == 0
    assert of_team(after, "deliveries_total") == of_team(after, "delivered_prompt_runs_total") == 1
    assert of_team(after, "collection_bytes") == sum(file.bytes for file in state.files)
    assert of_team(after, "delivered_bytes_total") == sum(file.bytes for file in state.files)
    assert of_team(after, "delivered_rows_total", table="segments") == 3
    assert of_team(after, "last_delivery_timestamp_seconds") == pytest.approx(time.time(), abs=60)
    held = {"index": "idx", "automation": "held"}
    said = figures(after)
    assert said["vv_exports_automation_paused", tuple(sorted(held.items()))] == 1
    assert said["vv_exports_prompt_runs", tuple(sorted({**held, "state": "due"}.items()))] == 1


def test_counters_are_the_sum_of_the_log_whoever_sums_it_and_whatever_was_lost(client, tmp_path):
    for number in range(3):
        write_run(tmp_path / "archive", run_id=f"run_new_{number}")
        client.automations.run("idx", "team")
        client.metrics.text()
    counted = {key: value for key, value in figures(client.metrics.text()).items() if key[0].endswith("_total")}
    assert of_team(client.metrics.text(), "deliveries_total") == 3
    for forget in (lambda: None, lambda: shutil.rmtree(tmp_path / "storage/automations/idx/team/totals")):
        forget()
        again = figures(client_of(tmp_path).metrics.text())
        assert {key: again[key] for key in counted} == counted


def test_counters_are_told_where_they_cannot_be_kept(client, tmp_path):
    client.automations.run("idx", "team")
    (tmp_path / "storage/automations/idx/team/totals").write_text("in the place of the folder")
    for _ in range(2):
        text = client_of(tmp_path).metrics.text()
        assert of_team(text, "automation_readable") == of_team(text, "deliveries_total") == 1


def test_a_log_that_another_one_has_taken_the_place_of_is_counted_anew(client, tmp_path):
    client.automations.run("idx", "team")
    write_run(tmp_path / "archive", run_id="run_2")
    client.automations.run("idx", "team")
    assert of_team(client.metrics.text(), "deliveries_total") == 2
    shutil.rmtree(tmp_path / "deliveries/exports/team")
    client.automations.run("idx", "team")
    assert of_team(client.metrics.text(), "deliveries_total") == 1
    assert of_team(client.metrics.text(), "delivered_prompt_runs_total") == 2


def test_a_collection_that_cannot_be_read_is_said_to_be_so_and_keeps_no_other_from_being_told(client, tmp_path, caplog):
    client.automations.run("idx", "team")
    (tmp_path / "deliveries/exports/team/_vv/log/00000000000000000000.json").write_text("{")
    text = client_of(tmp_path).metrics.text()
    assert of_team(text, "automation_readable") == 0
    assert of_team(text, "automation_enabled") == 1
    assert of_team(text, "deliveries_total") is None
    assert figures(text)["vv_exports_automation_readable", (("automation", "held"), ("index", "idx"))] == 1
    assert "no figures of automation idx/team" in caplog.text


def test_the_endpoint_tells_a_delivery_at_the_next_scrape_and_of_an_automation_that_was_added(client, tmp_path):
    with client.metrics.served("127.0.0.1", 0, 0.05) as address:

        def scraped(enough):
            for _ in range(600):
                text = urllib.request.urlopen(address).read().decode()
                if enough(text):
                    return text
                time.sleep(0.05)
            raise AssertionError(text)

        first = scraped(lambda _: True)
        assert of_team(first, "deliveries_total") == 0
        client_of(tmp_path).automations.run("idx", "team")
        second = scraped(lambda text: of_team(text, "deliveries_total") == 1)
        assert of_team(second, "delivered_rows_total", table="segments") == 3
        config = copy.deepcopy(CONFIG)
        added = {"destination_connector_id": "conn_export", "destination_subpath": "exports/more"}
        config["indexes"]["idx"]["automations"]["more"] = added
        (tmp_path / "vv_exports.yaml").write_text(yaml.safe_dump(config))
        scraped(lambda text: 'automation="more"' in text)
        for text in (first, second):
            assert {family.name for family in text_string_to_metric_families(text)} <= set(METRICS)


def test_a_port_that_is_taken_and_an_address_that_is_none_are_told(client, tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(RequestError, match="cannot be listened at: Address already in use"),
        client.metrics.served("127.0.0.1", taken.getsockname()[1], 60),
    ):
        raise AssertionError("it was listened at")
    write_deployment(tmp_path)
    for given in ("9464", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999"):
        assert run(tmp_path, "metrics", "--serve", given).code == 2
    assert "choose one" in run(tmp_path, "metrics", "--serve", "127.0.0.1:9464", "--to", "x.prom").err


def test_a_file_for_a_collector_is_replaced_whole_and_readable_by_others(tmp_path):
    write_deployment(tmp_path)
    target = tmp_path / "vv.prom"
    target.write_text("before")
    said = run(tmp_path, "metrics", "--to", str(target), "--json")
    assert (said.code, said.document) == (0, {"path": str(target), "bytes": target.stat().st_size})
    assert target.stat().st_mode & 0o777 == 0o644
    assert of_team(target.read_text(), "automation_readable") == 1
    assert [path.name for path in tmp_path.glob("*.prom*")] == ["vv.prom"], "nothing that a collector would read too"
    assert run(tmp_path, "metrics", "--to", str(tmp_path / "no/such/folder.prom")).code == 2


QUERY = re.compile(r"(vv_exports_\w+)(?:\{([^}]*)\})?")


def expressions():
    """Every expression of the dashboard and of the alerts, with where it is."""
    dashboard = json.loads((DEPLOYED / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]
    for rule in yaml.safe_load((DEPLOYED / "alerts.yml").read_text())["groups"][0]["rules"]:
        yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("where", "expression"), [*expressions()])
def test_every_metric_and_label_that_the_dashboard_and_the_alerts_ask_for_is_told(where, expression):
    found = QUERY.findall(expression)
    assert found, expression
    for name, selected in found:
        kind = METRICS[name.removesuffix("_total")]
        assert (kind.kind == "counter") == name.endswith("_total"), f"{where}: {name}"
        asked = set(re.findall(r"(\w+)\s*[=!]~?", selected))
        grouped = re.search(r"by \(([\w, ]+)\)", expression)
        asked |= set() if grouped is None else {one.strip() for one in grouped[1].split(",")}
        assert asked <= set(kind.labels), f"{where}: {name}"


def test_every_metric_is_documented_as_it_is():
    page = (REPOSITORY / "docs" / "metrics.md").read_text()
    for name, kind in METRICS.items():
        shown = f"{name}_total" if kind.kind == "counter" else name
        labels = ", ".join(f"`{label}`" for label in kind.labels)
        assert f"| `{shown}` | {kind.kind} | {labels} | {kind.said} |" in page
    assert set(re.findall(r"`(vv_exports_\w+?)(?:_total)?`", page)) == set(METRICS)


def test_the_dashboard_s_panels_have_places_of_their_own_and_a_source_that_is_chosen():
    dashboard = json.loads((DEPLOYED / "dashboard.json").read_text())
    places = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert panel["datasource"]["uid"] == "${datasource}"
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places
        assert at["x"] + at["w"] <= 24
        places |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
