"""What is asked of an engine that runs containers."""

from __future__ import annotations

from typing import Any

import pytest

from mendel.errors import InvalidValue
from mendel.images import RunRequest, container_environment
from mendel.values import Digest


def request(**changes: Any) -> RunRequest:
    return RunRequest(**{"image": "risk/credit:latest", "host_port": 8000, "name": "credit-8000", **changes})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"host_port": 0}, "not a port"),
        ({"container_port": 70_000}, "not a port"),
        ({"image": ""}, "not a valid image name"),
        ({"image": "--privileged"}, "not a valid image name"),
        ({"name": "-x"}, "is not a valid container name"),
        ({"environment": {"A=B": "c"}}, "is not a valid name of an environment"),
        ({"volumes": ("/only/here",)}, "not a valid volume"),
        ({"volumes": ("--privileged:/x",)}, "not a valid volume"),
    ],
)
def test_nonsense_is_refused_at_birth(changes, complaint):
    """What an engine could take for something else never reaches it."""
    with pytest.raises(InvalidValue, match=complaint):
        request(**changes)


def test_the_server_listens_where_the_port_is_published():
    """The container's port is the machine's unless said otherwise, so that networks which cannot map ports do too."""
    assert container_environment(request())["MENDEL_SERVING__REST_PORTS"] == "8000"
    apart = request(container_port=9000)
    assert container_environment(apart)["MENDEL_SERVING__REST_PORTS"] == "9000"
    assert apart.url == "http://127.0.0.1:8000"


def test_the_server_is_told_its_image():
    """Digest and tag reach the server, which puts them into its answers; nothing is told that nobody knows."""
    told = container_environment(request(digest=Digest("sha256:" + "a" * 64), tag="credit-v1.0.0-mlserver-abcdef1"))
    assert told["MENDEL_IMAGE_DIGEST"] == "sha256:" + "a" * 64
    assert told["MENDEL_IMAGE_TAG"] == "credit-v1.0.0-mlserver-abcdef1"
    assert not {"MENDEL_IMAGE_DIGEST", "MENDEL_IMAGE_TAG"} & container_environment(request()).keys()


def test_what_the_user_says_wins():
    """A door that was asked for is opened."""
    told = container_environment(request(environment={"MENDEL_SERVING__GRPC_PORT": "7212"}))
    assert told["MENDEL_SERVING__GRPC_PORT"] == "7212"
    assert told["MENDEL_SERVING__ZMQ_PORT"] == "off"
