"""The image that the registry has for a version, as answers and the log tell of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mendel.predictions import read_segment, sealed_segments
from mendel.serving import ImageIdentity, ServerIdentity
from mendel.values import Digest

RELEASE = "sum-v1.0.0-mlserver-762e7f2"
IMAGE = Digest(f"sha256:{'7' * 64}")
RECORDS = {"records": [{"a": 1, "b": 2, "c": 3}]}


@pytest.mark.parametrize("door", ["rest", "zmq"])
async def test_an_answer_names_the_image_of_its_version(open_world, shelf, at, connect, door):
    """Metadata carry the digest that was recorded with the version, and no such key where none was."""
    shelf.put("sum", 1)
    world = await open_world()
    await world.apply(at("sum"))
    said = await connect(door, world).predict("sum", RECORDS)
    assert "model_image_digest" not in said.body["metadata"]
    shelf.served["sum", 1] = replace(shelf.served["sum", 1], image_digest=IMAGE, release_tag=RELEASE)
    await world.apply(at("sum", generation=2))
    said = await connect(door, world).predict("sum", RECORDS)
    assert said.body["metadata"]["model_image_digest"] == IMAGE
    assert said.body["metadata"]["git_tag"] == RELEASE


async def test_an_image_recorded_later_loads_nothing_anew(open_world, shelf, at):
    """What is recorded of a version reaches a server with the next change of its deployment, and the model stays."""
    shelf.put("sum", 1)
    world = await open_world()
    await world.apply(at("sum"))
    loaded = world.kernel.served("sum", 1)
    shelf.served["sum", 1] = replace(shelf.served["sum", 1], image_digest=IMAGE)
    await world.apply(at("sum", generation=2))
    assert world.kernel.served("sum", 1) is loaded
    assert loaded.served.image_digest == IMAGE


@pytest.mark.parametrize("images", [(IMAGE, None), (None, IMAGE), (IMAGE, f"sha256:{'8' * 64}")])
async def test_the_log_names_the_image_that_answered(open_world, shelf, at, *, connect, spool, images):
    """Rows carry the image that was recorded with the version; where none was, the one that the server runs in."""
    recorded, own = images
    shelf.put("sum", 1)
    shelf.served["sum", 1] = replace(shelf.served["sum", 1], image_digest=recorded)
    world = await open_world(sink=spool, identity=ServerIdentity(image=ImageIdentity(digest=own)))
    await world.apply(at("sum"))
    await connect("rest", world).predict("sum", RECORDS)
    spool.seal()
    (segment,) = sealed_segments(spool.directory)
    (block,) = read_segment(segment.path).blocks
    assert block.image_digest == IMAGE


@pytest.mark.parametrize("other", [None, "sum-v2.0.0-mlserver-762e7f2"])
async def test_an_image_serves_versions_of_its_own_release_only(open_world, shelf, at, other):
    """A version of another release needs the image of that one, from the first on; one of none may pass."""
    shelf.put("sum", 1)
    shelf.served["sum", 1] = replace(shelf.served["sum", 1], flavor="mendel", release_tag=other)
    world = await open_world(identity=ServerIdentity(image=ImageIdentity(tag=RELEASE)))
    (told,) = await world.apply(at("sum"))
    assert (told.error is None) == (other is None)
    assert other is None or f"belongs to release {other}; the image of this server has release {RELEASE}" in str(
        told.error
    )
