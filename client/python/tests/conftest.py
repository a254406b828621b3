"""A cluster that all tests share, and clusters of their own for those that break something."""

from __future__ import annotations

import itertools

import pytest

import isthmus
from cluster import VARIABLE, Cluster, node_program
from fake import FakeHub

_numbers = itertools.count()


def _start(folder) -> Cluster:
    program = node_program()
    if program is None:
        pytest.skip(f"no isthmus-node: `cargo build -p isthmus-node` builds one, or name one in {VARIABLE}")
    cluster = Cluster(program, folder)
    try:
        cluster.healthy()
    except BaseException:
        cluster.close()
        raise
    return cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    cluster = _start(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture
def own_cluster(tmp_path):
    cluster = _start(tmp_path)
    yield cluster
    cluster.close()


@pytest.fixture
def hub(cluster):
    with cluster.client() as hub:
        yield hub


@pytest.fixture
def user():
    """A user that no other test knows."""
    return f"user-{next(_numbers)}"


@pytest.fixture
def fake():
    hub = FakeHub()
    yield hub
    hub.stop()


@pytest.fixture
def fake_client(fake):
    with isthmus.Client(fake.endpoint, deadline=10.0, try_limit=5.0) as client:
        yield client
