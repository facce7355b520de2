"""The desired state on its way to the workers."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from mendel.adapters.processes.desired_state_feed import Feed, StateFiles, servable
from mendel.adapters.processes.hub_client import Directory
from mendel.errors import HubUnavailable, NeedsNewImage
from mendel.values import DesiredState, Digest, to_json

NOTHING = DesiredState(revision=-1, key_hashes={})


class Deliveries(list):
    """What a feed delivered, and a way to wait for it."""

    async def until(self, seen):
        async with asyncio.timeout(5):
            while not (self and seen(self[-1])):  # noqa: ASYNC110 - looks at a list that others append to
                await asyncio.sleep(0.01)
        return self[-1]


class Flaky:
    """A source in front of another that is away while told so."""

    def __init__(self, source):
        self.source, self.away = source, False

    async def desired(self, *, after, wait):
        if self.away:
            raise HubUnavailable("away")
        return await self.source.desired(after=after, wait=wait)

    async def fetch(self, digest, into):
        if self.away:
            raise HubUnavailable("away")
        await self.source.fetch(digest, into)


@pytest.fixture
def state_file(tmp_path):
    """Where the source's state stands."""
    return tmp_path / "wanted.json"


@pytest.fixture
def source(state_file, source_directory):
    """A source over files, which can go away."""
    return Flaky(Directory(state_file, source_directory, look_every=timedelta(milliseconds=20)))


class Environments:
    """Environments that take effort: artefacts need one that must be made, and making fails while told so."""

    def __init__(self):
        self.needed, self.made, self.broken = set(), set(), False

    def python_of(self, directory):
        if directory.name in self.needed and directory.name not in self.made:
            raise NeedsNewImage("not made", release=None)

    def make(self, directory):
        if self.broken:
            raise NeedsNewImage("no such Python", release=None)
        self.made.add(directory.name)


@pytest.fixture
def environments():
    """None is needed, unless a test says so."""
    return Environments()


@pytest.fixture
def files(tmp_path):
    """The server's own directory."""
    (tmp_path / "server").mkdir()
    return StateFiles(tmp_path / "server")


@pytest.fixture
async def feed(source, files, environments, rng):
    """Starts a feed; it ends with the test."""
    tasks = []

    def start():
        got = Deliveries()
        wait = timedelta(milliseconds=100)
        feed = Feed(source, files, environments=environments, deliver=got.append, rng=rng, wait=wait)
        tasks.append(asyncio.create_task(feed.run()))
        return got

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_delivers_once_the_artefact_is_here(feed, state_file, artifact, desire, files):
    """A state becomes servable when its artefacts have been fetched and checked, and is remembered."""
    digest = artifact("one")
    state_file.write_bytes(to_json(desire(digest, revision=1)))
    got = await feed().until(lambda d: d.servable.models)
    assert got.servable == got.newest == files.desired()
    assert (files.artifacts / digest.hex / "model.txt").read_text() == "one"


async def test_a_wrong_artefact_is_refused_and_the_old_state_stands(feed, state_file, artifact, desire, files):
    """Content that does not have its digest never becomes servable; the reason is told, and once mended it is taken."""
    one, two = artifact("one"), artifact("two")
    forged = state_file.parent / "source" / two.hex / "model.txt"
    forged.write_text("forged")
    state_file.write_bytes(to_json(desire(one, revision=1)))
    deliveries = feed()
    old = await deliveries.until(lambda d: d.servable.models)
    state_file.write_bytes(to_json(desire(one, two, revision=2, generation=2)))
    got = await deliveries.until(lambda d: d.missing)
    assert got.servable.models == old.servable.models
    assert "digest" in got.missing[two]
    assert two not in files.present()
    forged.write_text("two")
    got = await deliveries.until(lambda d: d.servable == d.newest)
    assert not got.missing


async def test_a_version_waits_for_its_environment(feed, state_file, artifact, desire, environments):
    """The old version serves until the environment is made; a failure is told, and tried again."""
    one, two = artifact("one"), artifact("two")
    state_file.write_bytes(to_json(desire(one, revision=1)))
    deliveries = feed()
    old = await deliveries.until(lambda d: d.servable.models)
    environments.needed, environments.broken = {two.hex}, True
    state_file.write_bytes(to_json(desire(one, two, revision=2, generation=2)))
    got = await deliveries.until(lambda d: d.missing)
    assert got.servable.models == old.servable.models
    assert "no such Python" in got.missing[two]
    environments.broken = False
    got = await deliveries.until(lambda d: d.servable == d.newest)
    assert not got.missing


async def test_no_environment_ends_the_server(feed, state_file, artifact, desire, environments):
    """Whatever making one raises is told by its type, and other versions are delivered."""
    one, two = artifact("one"), artifact("two")
    environments.make = lambda directory: {}["wheel"] if directory.name == two.hex else None
    environments.needed = {two.hex}
    state_file.write_bytes(to_json(desire(one, two, revision=1)))
    deliveries = feed()
    got = await deliveries.until(lambda d: d.missing)
    assert got.missing == {two: "KeyError"}
    state_file.write_bytes(to_json(desire(one, revision=2, generation=2)))
    assert (await deliveries.until(lambda d: d.servable.revision == 2 and d.servable.models)).servable == deliveries[
        -1
    ].newest


async def test_an_environment_that_is_gone_is_made_again(  # noqa: PLR0917 - fixtures
    feed, source, state_file, artifact, desire, environments
):
    """An artefact that is here already, without its environment, is not fetched again."""
    one = artifact("one")
    state_file.write_bytes(to_json(desire(one, revision=1)))
    await feed().until(lambda d: d.servable.models)
    environments.needed, source.away = {one.hex}, True
    await feed().until(lambda d: d.servable.models)
    assert environments.made == {one.hex}


async def test_starts_from_disk_while_the_source_is_away(feed, source, state_file, artifact, desire):
    """A server that starts alone serves what it served last; what changed meanwhile comes when the source is back."""
    one, two = artifact("one"), artifact("two")
    state_file.write_bytes(to_json(desire(one, revision=1)))
    await feed().until(lambda d: d.servable.models)
    source.away = True
    restarted = feed()
    got = await restarted.until(lambda d: d.servable.models)
    assert got.newest.revision == 1
    state_file.write_bytes(to_json(desire(one, two, revision=2, generation=2)))
    source.away = False
    got = await restarted.until(lambda d: d.servable.revision == 2 and d.servable == d.newest)
    assert got.servable.models[0].deployment.production == 2


async def test_takes_a_lower_revision_after_the_source_came_back(feed, source, state_file, artifact, desire):
    """A hub restored from a copy counts lower; its word is still the newest there is."""
    one = artifact("one")
    state_file.write_bytes(to_json(desire(one, revision=9)))
    deliveries = feed()
    await deliveries.until(lambda d: d.newest.revision == 9)
    source.away = True
    await asyncio.sleep(0.2)
    state_file.write_bytes(to_json(desire(one, revision=3, generation=5)))
    source.away = False
    await deliveries.until(lambda d: d.newest.revision == 3)


def test_kept_versions_are_not_waited_for(artifact, desire):
    """A version that is only kept for a rollback does not hold up the one that shall serve."""
    one, two = artifact("one"), artifact("two")
    wanted = desire(one, two, revision=2, keep=(1,))
    (model,) = servable(wanted, NOTHING, {two}).models
    assert model.deployment.keep == ()
    assert [version.number for version in model.versions] == [2]
    assert servable(wanted, NOTHING, {one}).models == ()
    assert servable(wanted, NOTHING, {one, two}) == wanted


def test_keys_pass_at_once(artifact, desire):
    """Keys of the newest state hold even while its artefacts are missing."""
    one, two = artifact("one"), artifact("two")
    before = desire(one, revision=1)
    now = replace(desire(one, two, revision=2), key_hashes={"ab": ("predict",)})
    assert servable(now, before, {one}) == replace(before, revision=2, key_hashes={"ab": ("predict",)})


def test_tidying_keeps_what_any_state_names(files, artifact, desire, source_directory):
    """Only artefacts that no state names are removed."""
    digests = [artifact(text) for text in ("one", "two", "three")]
    for digest in digests:
        (source_directory / digest.hex).rename(files.artifacts / digest.hex)
    files.tidy(desire(digests[0], revision=1), desire(None, digests[1], revision=2))
    assert files.present() == set(digests[:2])


def test_a_server_without_a_hub_serves_in_place_and_remembers_nothing(tmp_path, desire):
    """Its artefacts stay where they lie, and what a server with a hub remembers in the same directory is left alone."""
    state = desire(Digest(f"sha256:{'1' * 64}"), revision=4)
    with_hub = StateFiles(tmp_path)
    with_hub.keep_desired(state)
    place = tmp_path / "elsewhere" / ("0" * 64)
    place.mkdir(parents=True)
    files = StateFiles(tmp_path, local=tmp_path / "elsewhere")
    assert (files.desired(), files.settled()) == (None, None)
    assert files.present() == {f"sha256:{'0' * 64}"}
    files.keep_desired(NOTHING)
    files.tidy(NOTHING)
    assert place.is_dir()
    assert with_hub.desired() == state
