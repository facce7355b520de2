"""Generate the text of CI workflows that build and push an image for each release tag."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from textwrap import indent

from mendel.errors import InvalidValue
from mendel.projects.entities import ImageRegistry

GITHUB_FILE, GITLAB_FILE = ".github/workflows/release-image.yml", ".gitlab-ci.yml"

# GitHub actions pinned by commit; the comment names the release.
CHECKOUT = "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683  # v4.2.2"
SETUP_PYTHON = "actions/setup-python@a26af69be951a213d495a4c3e4e4022e16d87065  # v5.6.0"
CACHE = "actions/cache@0057852bfaa89a56745cba8c7296529d2fc39830  # v4.3.0"
CONFIGURE_AWS = "aws-actions/configure-aws-credentials@b47578312673ae6fa5b5096b330d9fbac3d116df  # v4.2.1"

JOB_IMAGE = "python:3.11-bookworm@sha256:35d3a4a3d5e42e02ab916d44513a050689f12c0533d45598d229672503fe77ca"
"""The image of the GitLab job, pinned by the digest of its index of all platforms."""

_HOSTS = {"ghcr": "ghcr.io", "dockerhub": "docker.io", "gitlab": "registry.gitlab.com"}
_CREDENTIAL_KEYS = {"docker.io": "https://index.docker.io/v1/"}
_SECRETS = {
    "dockerhub": ("DOCKERHUB_USERNAME", "DOCKERHUB_TOKEN"),
    "gitlab": ("GITLAB_USERNAME", "GITLAB_TOKEN"),
    "custom": ("REGISTRY_USERNAME", "REGISTRY_PASSWORD"),
    "ghcr": ("GHCR_USERNAME", "GHCR_TOKEN"),
}
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?(?:/[A-Za-z0-9._-]+)*")
_PATH = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")
_SOURCE = re.compile(r"git\+(?:https|http|ssh)://[A-Za-z0-9._~:/@%+=,-]+")
_SCP = re.compile(r"(?:[^/@:]+@)?([^/@:]+):(?!//)(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class CiWorkflowInputs:
    """
    The inputs of a generated CI workflow.

    Attributes:
        registry: The image registry to push to.
        repository: The repository's name, which becomes part of image names.
        tool_source: The pip URL of the tool without a revision: ``git+https://...``.
        directory: The project's POSIX path below the repository's root; empty at the root.
    """

    registry: ImageRegistry
    repository: str
    tool_source: str
    directory: str = ""

    def __post_init__(self) -> None:
        _checked(self.tool_source, _SOURCE, "the git repository of Mendel (--tool-url)")
        if "${{" in self.directory or not self.directory.isprintable():
            raise InvalidValue(
                (
                    f"The project's directory {self.directory!r} contains "
                    f"'${{{{' or an unprintable character, which a CI workflow must not contain."
                ),
                remedy="Rename the directory.",
            )


def ci_workflow(top: Path) -> Path | None:
    """Find the first CI file of the repository at *top* that mentions release tags; None when no file does."""
    folder = (top / GITHUB_FILE).parent
    files = sorted(folder.glob("*.y*ml")) if folder.is_dir() else []
    found = (path for path in [*files, top / GITLAB_FILE] if path.is_file())
    return next((path for path in found if "-mlserver-" in path.read_text(encoding="utf-8", errors="replace")), None)


def pip_url(url: str) -> str:
    """
    Convert the repository *url* to a pip URL; SSH becomes HTTPS, which CI machines can read without a key.

    >>> pip_url("git@example.org:team/tool.git")
    'git+https://example.org/team/tool.git'
    """
    if "://" not in url and (scp := _SCP.fullmatch(url)):
        return f"git+https://{scp.group(1)}/{scp.group(2).lstrip('/')}"
    return "git+" + re.sub(
        r"^(?:ssh|git)://(?:[^/@]+@)?([^/:]+)(?::[0-9]+)?/", r"https://\1/", url.removeprefix("git+")
    )


def github_workflow(pipeline: CiWorkflowInputs) -> str:
    """
    Generate a GitHub Actions workflow that installs the tag's tool, then builds, tests and pushes the image.

    Raises:
        InvalidValue: ``deployment.registry`` lacks a key that its type needs, or a value has characters that a
            workflow cannot contain.
    """
    registry = pipeline.registry
    host, namespace = _host(registry), _namespace(registry)
    permissions = {"contents": "read"}
    if registry.type == "ecr":
        permissions["id-token"] = "write"
        login = _filled(
            "github-ecr.yml",
            CONFIGURE_AWS=CONFIGURE_AWS,
            REGION=_quoted(registry.ecr.aws_region or ""),
            IMAGES=_quoted(_images(pipeline)),
        )
    else:
        own = registry.type == "ghcr" and host == _HOSTS["ghcr"]
        user, password = (f"${{{{ secrets.{name} }}}}" for name in _SECRETS[registry.type])
        if own:
            permissions["packages"] = "write"
            user, password = "${{ github.actor }}", "${{ github.token }}"
        login = _filled("github-login.yml", USER=user, PASSWORD=password)
    if namespace is None and registry.type == "ghcr":
        namespace = "${{ github.repository_owner }}"
    return _filled(
        "github.yml",
        PERMISSIONS="\n".join(f"  {name}: {level}" for name, level in permissions.items()),
        LOGIN=login.rstrip(),
        DIRECTORY=_quoted(pipeline.directory or "."),
        TOOL_SOURCE=_quoted(pipeline.tool_source),
        REGISTRY=_quoted(_joined(host, namespace)),
        HOST=_quoted(_CREDENTIAL_KEYS.get(host, host.partition("/")[0])),
        CACHE=_filled("github-cache.yml", CACHE_ACTION=CACHE).rstrip(),
        CHECKOUT=CHECKOUT,
        SETUP_PYTHON=SETUP_PYTHON,
    )


def gitlab_pipeline(pipeline: CiWorkflowInputs) -> str:
    """
    Generate the same workflow for GitLab; without ``deployment.registry`` it pushes to the GitLab project's registry.

    Raises:
        InvalidValue: As :func:`github_workflow`.
    """
    registry = pipeline.registry
    if registry == ImageRegistry() or (registry.type == "gitlab" and registry.url is None):
        exports = 'REGISTRY="$CI_REGISTRY_IMAGE" REGISTRY_HOST="$CI_REGISTRY"'
        exports += ' REGISTRY_USER="$CI_REGISTRY_USER" REGISTRY_PASSWORD="$CI_REGISTRY_PASSWORD"'
        steps = [f"export {exports}"]
    else:
        host = _host(registry)
        namespace = _namespace(registry)
        if namespace is None and registry.type == "ghcr":
            raise _missing_namespace()
        address = _joined(host, namespace)
        steps = [f"export REGISTRY='{address}' REGISTRY_HOST='{_CREDENTIAL_KEYS.get(host, host.partition('/')[0])}'"]
        if registry.type == "ecr":
            steps += _ecr_steps(registry.ecr.aws_region or "", _images(pipeline))
        else:
            user, password = _SECRETS[registry.type]
            steps += [f'export REGISTRY_USER="${user}" REGISTRY_PASSWORD="${password}"']
    script = "\n".join([*steps, "python3 -c '", _text("write_login.txt").rstrip(), "'"])
    return _filled(
        "gitlab.yml",
        LOGIN="    - |\n" + indent(script, " " * 6),
        ID_TOKENS="  id_tokens:\n    AWS_TOKEN:\n      aud: sts.amazonaws.com" if registry.type == "ecr" else "",
        ENTER=_quoted(f"cd {shlex.quote(pipeline.directory or '.')}"),
        TOOL_SOURCE=_quoted(pipeline.tool_source),
        JOB_IMAGE=JOB_IMAGE,
        LOCK=_quoted("/".join(part for part in (pipeline.directory, "mlserver.lock") if part)),
    )


def registry_address(registry: ImageRegistry) -> str | None:
    """
    Give ``host/namespace`` of the registry that images are pushed to; None when ``deployment.registry`` is not set.

    Raises:
        InvalidValue: ``deployment.registry`` lacks a key that its type needs.

    >>> registry_address(ImageRegistry(type="ghcr", namespace="acme"))
    'ghcr.io/acme'
    """
    if registry == ImageRegistry():
        return None
    host, namespace = _host(registry), _namespace(registry)
    if namespace is None and registry.type == "ghcr" and registry.url is None:
        raise _missing_namespace()
    return _joined(host, namespace)


def _missing_namespace() -> InvalidValue:
    return InvalidValue(
        "deployment.registry.namespace is missing.",
        remedy="Set deployment.registry.namespace to the GitHub user or organisation that owns the images.",
    )


def _ecr_steps(region: str, images: str) -> list[str]:
    """Log in to Amazon ECR; the role's ARN is a variable of the GitLab project."""
    return [
        "python3 -m pip install --quiet awscli",
        f"export AWS_DEFAULT_REGION='{region}' AWS_WEB_IDENTITY_TOKEN_FILE=\"$DOCKER_CONFIG/token\"",
        'printf "%s" "$AWS_TOKEN" > "$AWS_WEB_IDENTITY_TOKEN_FILE"',
        'export REGISTRY_USER=AWS REGISTRY_PASSWORD="$(aws ecr get-login-password)"',
        f"aws ecr describe-repositories --repository-names '{images}'\"/$CLASSIFIER\" > /dev/null 2>&1 \\",
        f"  || aws ecr create-repository --repository-name '{images}'\"/$CLASSIFIER\" > /dev/null",
    ]


def _images(pipeline: CiWorkflowInputs) -> str:
    """The ECR repository path of the images, which must exist before a push."""
    named = _joined(pipeline.registry.ecr.repository_prefix, pipeline.repository)
    return _checked(named, _PATH, "the repository's name (repository.name)")


def _host(registry: ImageRegistry) -> str:
    if registry.url is not None:
        return _checked(registry.url.removeprefix("https://").rstrip("/"), _ADDRESS, "deployment.registry.url")
    if registry.type == "ecr":
        account, region = registry.ecr.registry_id, registry.ecr.aws_region
        _checked(account or "", re.compile(r"[0-9]{12}"), "deployment.registry.ecr.registry_id")
        _checked(region or "", re.compile(r"[a-z0-9-]+"), "deployment.registry.ecr.aws_region")
        return f"{account}.dkr.ecr.{region}.amazonaws.com"
    if registry.type == "custom":
        raise InvalidValue(
            "deployment.registry.url is missing.",
            remedy="Set deployment.registry.url to the address of the custom registry, host[:port].",
        )
    return _HOSTS[registry.type]


def _namespace(registry: ImageRegistry) -> str | None:
    if registry.type == "ecr":
        named, key = registry.ecr.repository_prefix, "deployment.registry.ecr.repository_prefix"
    else:
        named, key = registry.namespace, "deployment.registry.namespace"
    if named is None and registry.type in {"dockerhub", "gitlab"} and registry.url is None:
        raise InvalidValue(
            f"{key} is missing.",
            remedy=f"Set {key} to the {registry.type} user or organisation that owns the images.",
        )
    return None if named is None else _checked(named.strip("/"), _PATH, key)


def _checked(text: str, shape: re.Pattern[str], what: str) -> str:
    if not shape.fullmatch(text):
        raise InvalidValue(
            f"{what} is missing." if not text else f"{what} is {text!r}, which has characters that are not allowed.",
            remedy="Correct the value in mlserver.yaml; use only letters, digits and . _ - /",
        )
    return text


def _joined(*parts: str | None) -> str:
    return "/".join(part.strip("/") for part in parts if part)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _text(name: str) -> str:
    return resources.files("mendel.projects").joinpath("templates", name).read_text(encoding="utf-8")


def _filled(name: str, **values: str) -> str:
    """Fill in the @@WORDS@@ of a template; a script gets the indentation of the line that names it."""
    scripts = {
        word.upper(): _text(f"{word}.txt").rstrip() for word in ("read_tag", "assert_tool", "write_login", "try")
    }
    lines = []
    for line in _text(name).splitlines():
        word = line.strip().strip("@")
        if line.strip() == f"@@{word}@@":
            margin = "" if word in values else line[: line.index("@")]
            lines += indent({**scripts, **values}[word], margin).splitlines()
        else:
            lines.append(re.sub(r"@@([A-Z_]+)@@", lambda found: values[found.group(1)], line))
    return "\n".join(lines) + "\n"
