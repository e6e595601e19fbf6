"""The local engine does with Docker's own client what an engine does, as far as launching runs goes."""

import os

import docker
import docker.errors
import pytest

from vv_exports_tests.fakes.docker_engine import DockerEngine


@pytest.fixture
def engine(tmp_path):
    with DockerEngine(tmp_path, {"PATH": os.environ["PATH"], "OF": "the image"}) as one:
        yield one


@pytest.fixture
def client(engine):
    client = docker.DockerClient(base_url=engine.address, version="auto")
    yield client
    client.close()


def test_a_container_has_the_variables_of_its_image_and_its_own_alone(engine, client, tmp_path):
    made = client.containers.create("image:1", ["sh", "-c", "echo $OF $MINE $HOME."], environment={"MINE": "and mine"})
    assert client.containers.get(made.id).status == "created"
    made.start()
    engine.containers[made.id].process.wait()
    assert (tmp_path / f"{made.id}.log").read_text() == "the image and mine .\n"
    assert client.containers.get(made.id).status == "exited"


def test_one_that_is_stopped_ends_and_one_that_was_to_be_removed_is_gone(engine, client):
    made = client.containers.create("image:1", ["sleep", "60"], auto_remove=True, healthcheck={"test": ["NONE"]})
    made.start()
    assert client.containers.get(made.id).status == "running"
    made.stop(timeout=5)
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(made.id)
    assert engine.containers[made.id].asked["Healthcheck"]["Test"] == ["NONE"]
