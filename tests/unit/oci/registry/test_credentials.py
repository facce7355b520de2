"""Credential files of docker and podman, and their helpers."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mendel.adapters.oci.registry.auth_challenges import BasicChallenge, BearerChallenge, parse_challenges
from mendel.adapters.oci.registry.credentials import Anonymous, IdentityToken, Keychain, Login, ask_helper
from mendel.errors import InvalidSettings, MendelError, ProgramFailed

SECRET = "s3cr3t-peas"


def auth(user: str, password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def wrote(path: Path, tree: Any) -> Path:
    path.write_text(json.dumps(tree))
    return path


def test_docker_s_file(tmp_path: Path) -> None:
    """Entries are found by host, whatever scheme or API version their key has; docker.io has its old address."""
    tree = {
        "auths": {
            "https://index.docker.io/v1/": auth("hub"),
            "ghcr.io": auth("cat"),
            "https://quay.io/v2/": {"username": "quay", "password": "a:b"},
            "azure.example:5000": {"identitytoken": "longlived", **auth("00000000")},
        }
    }
    keychain = Keychain([tmp_path / "absent.json", wrote(tmp_path / "config.json", tree)])
    assert keychain.find("docker.io", "library/python") == Login(user="hub", password=SECRET)
    assert keychain.find("ghcr.io") == Login(user="cat", password=SECRET)
    assert keychain.find("quay.io") == Login(user="quay", password="a:b")
    assert keychain.find("azure.example:5000") == IdentityToken(token="longlived")
    assert keychain.find("azure.example") == Anonymous()


def test_podman_s_file_may_name_repositories(tmp_path: Path) -> None:
    """The longest name that the repository lies below wins."""
    tree = {"auths": {"r.io": auth("all"), "r.io/acme": auth("acme"), "r.io/acme/x": auth("x")}}
    keychain = Keychain([wrote(tmp_path / "auth.json", tree)])
    found = [keychain.find("r.io", path) for path in ("acme/x", "acme/y", "acmee/x", "")]
    assert [one.user for one in found if isinstance(one, Login)] == ["x", "acme", "all", "all"]


def test_what_is_given_goes_first_and_only_to_its_host(tmp_path: Path) -> None:
    """A login given for one registry is not shown to another."""
    file = wrote(tmp_path / "c.json", {"auths": {"r.io": auth("file"), "other.io": auth("other")}})
    keychain = Keychain([file], given={"r.io": Login(user="given", password="x")})
    assert keychain.find("r.io") == Login(user="given", password="x")
    assert keychain.find("other.io") == Login(user="other", password=SECRET)
    assert keychain.find("third.io") == Anonymous()


def test_helpers_are_asked(tmp_path: Path) -> None:
    """A helper for the host goes before the entries, the store comes after them; its token user means a token."""
    asked = []

    def ask(program: str, registry: str) -> str:
        asked.append((program, registry))
        if registry == "none.io":
            return ""
        user = "<token>" if program.endswith("store") else "helped"
        return json.dumps({"ServerURL": registry, "Username": user, "Secret": SECRET})

    tree = {"auths": {"r.io": auth("file")}, "credHelpers": {"gcr.io": "gcloud"}, "credsStore": "store"}
    keychain = Keychain([wrote(tmp_path / "c.json", tree)], ask=ask)
    assert keychain.find("gcr.io") == Login(user="helped", password=SECRET)
    assert keychain.find("r.io") == Login(user="file", password=SECRET)
    assert keychain.find("docker.io") == IdentityToken(token=SECRET)
    assert keychain.find("none.io") == Anonymous()
    assert asked == [
        ("docker-credential-gcloud", "gcr.io"),
        ("docker-credential-store", "https://index.docker.io/v1/"),
        ("docker-credential-store", "none.io"),
    ]


def test_a_real_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper is a program that reads the host and prints JSON; what it prints when it fails is not repeated."""
    program = tmp_path / "docker-credential-peas"
    program.write_text(
        '#!/bin/sh\nread host\n[ "$1" = get ] || exit 9\n'
        f'[ "$host" = bad.io ] && echo "{SECRET}" && exit 1\n'
        '[ "$host" = none.io ] && echo "credentials not found in native keychain" && exit 1\n'
        f'echo "{{\\"Username\\":\\"$host\\",\\"Secret\\":\\"{SECRET}\\"}}"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    keychain = Keychain([wrote(tmp_path / "c.json", {"credsStore": "peas"})])
    assert keychain.find("r.io") == Login(user="r.io", password=SECRET)
    assert keychain.find("none.io") == Anonymous()
    with pytest.raises(ProgramFailed, match="ended with exit code 1") as failed:
        keychain.find("bad.io")
    assert SECRET not in f"{failed.value}{failed.value.log_tail}{failed.value.__cause__}"
    with pytest.raises(ProgramFailed, match="not installed"):
        ask_helper("docker-credential-no-such", "r.io")


@pytest.mark.parametrize(
    "content",
    [SECRET, f'["{SECRET}"]', json.dumps({"auths": {"r.io": {"auth": SECRET}}}), "{" + SECRET,
     json.dumps({"credsStore": "../" + SECRET})],
)  # fmt: skip
def test_a_broken_file_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    """A file that cannot be read is named; its content, secret as it may be, is not."""
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(InvalidSettings, match=r"config\.json") as refused:
        Keychain([file]).find("r.io")
    assert SECRET not in f"{refused.value}{refused.value.__cause__}"


def test_a_helper_that_babbles_is_refused_without_showing_it(tmp_path: Path) -> None:
    """What a helper says in place of JSON may be the secret, and stays out of the error and its cause."""
    file = wrote(tmp_path / "c.json", {"credHelpers": {"r.io": "babble"}})
    with pytest.raises(MendelError) as refused:
        Keychain([file], ask=lambda *_: SECRET).find("r.io")
    assert SECRET not in f"{refused.value}{refused.value.__cause__}"


def test_secrets_do_not_show() -> None:
    """Neither a login nor a token shows its secret when printed."""
    shown = f"{Login(user='u', password=SECRET)}{IdentityToken(token=SECRET)!r}"
    assert SECRET not in shown + repr(Keychain(given={"r.io": Login(user="u", password=SECRET)}))


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ([], None),
        (["Negotiate"], None),
        (['Basic realm="r"'], BasicChallenge()),
        (["basic"], BasicChallenge()),
        (['Bearer realm="https://a/t",service="s"'], BearerChallenge(realm="https://a/t", service="s")),
        (
            ['Basic realm="x, y", Bearer realm="https://a/t?b=c",scope="repository:a:pull repository:b:pull"'],
            BearerChallenge(realm="https://a/t?b=c", scopes=("repository:a:pull", "repository:b:pull")),
        ),
        (["Basic", "BEARER realm=https://a/t , error=insufficient_scope"], BearerChallenge(realm="https://a/t")),
        (['Bearer realm="unfinished'], None),
    ],
)
def test_challenges(headers: list[str], challenge: object) -> None:
    """Bearer goes before Basic, in one header or several, quoted or not; what cannot be read asks for nothing."""
    assert parse_challenges(headers) == challenge
