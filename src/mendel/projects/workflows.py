"""CI workflows that make images of release tags: pure text from a project's registry."""

from __future__ import annotations

from pathlib import Path

GITHUB_FOLDER, GITLAB_FILE = ".github/workflows", ".gitlab-ci.yml"


def ci_workflow(top: Path) -> Path | None:
    """The first CI file of the repository at *top* that speaks of release tags; None where there is none."""
    folder = top / GITHUB_FOLDER
    files = sorted(folder.glob("*.y*ml")) if folder.is_dir() else []
    found = (path for path in [*files, top / GITLAB_FILE] if path.is_file())
    return next((path for path in found if "-mlserver-" in path.read_text(encoding="utf-8", errors="replace")), None)
