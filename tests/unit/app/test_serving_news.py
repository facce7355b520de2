"""What `mendel up` says about the models of its server."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from mendel.adapters.processes.server_address import ServerAddress, ServingState
from mendel.app.directory import DataDirectory
from mendel.app.serving_news import ServingNews
from mendel.values import ModelConvergence, ModelName


class Server:
    """Writes the files of a running server."""

    def __init__(self, data):
        self.directory = data.server
        self.directory.mkdir(parents=True)

    def start(self, epoch):
        ServerAddress(
            server="s",
            epoch=epoch,
            pid=os.getpid(),
            host="127.0.0.1",
            ports={"rest": (8008,)},
            health_url="http://127.0.0.1:8008/health",
            started=datetime(2026, 1, 1, tzinfo=UTC),
        ).write(self.directory)

    def tell(self, epoch, *models, current=True):
        ServingState(epoch=epoch, current=current, models=models).write(self.directory)


@pytest.fixture
def data(tmp_path):
    return DataDirectory(tmp_path / ".mendel")


@pytest.fixture
def server(data):
    return Server(data)


def line(*, serving, desired=2, version=1, **more):
    return ModelConvergence(
        model=ModelName("tumours"),
        generation_desired=desired,
        generation_serving=serving,
        version_serving=version,
        **more,
    )


def test_a_version_serves_when_the_server_says_so(data, server):
    """A model is waited for until its deployment serves; then this is said once."""
    news = ServingNews(data)
    server.start("e1")
    server.tell("e1", line(serving=0, version=None))
    assert (list(news.lines()), news.waiting, news.decided) == ([], ("tumours",), False)
    server.tell("e1", line(serving=2))
    assert (list(news.lines()), news.waiting, news.decided) == (["tumours@1 serves"], (), True)
    assert not list(news.lines())


def test_a_failed_load_is_said_and_ends_the_waiting(data, server):
    """A version that cannot be loaded is named with the reason; nobody waits for it any longer."""
    news = ServingNews(data)
    server.start("e1")
    server.tell("e1", line(serving=1, failed_version=2, error="ImportError at m.py:1"))
    assert list(news.lines()) == ["tumours@2 does not serve: ImportError at m.py:1"]
    assert (news.decided, news.failed) == (True, True)


def test_the_state_of_a_former_run_counts_for_nothing(data, server):
    """Neither a server of before, nor the file of another run, nor a state without the hub decides anything."""
    server.start("e0")
    server.tell("e0", line(serving=2))
    news = ServingNews(data)
    assert (list(news.lines()), news.started, news.decided) == ([], False, False)
    server.start("e2")
    server.tell("e1", line(serving=2))
    assert (list(news.lines()), news.decided) == ([], False)
    server.tell("e2", line(serving=2), current=False)
    assert (list(news.lines()), news.decided) == (["tumours@1 serves"], False)


def test_a_model_out_of_production_is_not_deployed(data, server):
    """A model that serves nothing, because it is out of production, counts as decided and not as deployed."""
    news = ServingNews(data)
    server.start("e1")
    server.tell("e1", line(serving=2, version=None))
    assert list(news.lines()) == ["tumours serves nothing"]
    assert (news.decided, news.deployed) == (True, False)
