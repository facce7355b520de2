"""Layouts of packages that a project may have: each imports as it does in plain Python."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mendel.serving.project_imports import ProjectModules

LAYOUTS = {
    "relative": {"pkg/__init__.py": "from .impl import P", "pkg/impl.py": "class P: pass"},
    "absolute": {"pkg/__init__.py": "from pkg.impl import P", "pkg/impl.py": "class P: pass"},
    "module_of_itself": {"pkg/__init__.py": "from . import impl\nP = impl.P", "pkg/impl.py": "class P: pass"},
    "name_of_the_parent": {
        "pkg/__init__.py": "SCALE = 2\nfrom .impl import P",
        "pkg/impl.py": "from pkg import SCALE\nclass P: scale = SCALE",
    },
    "each_other": {
        "pkg/__init__.py": "from .a import P",
        "pkg/a.py": "from . import b\nclass P:\n    other = property(lambda self: b.Q)",
        "pkg/b.py": "from . import a\nclass Q:\n    other = property(lambda self: a.P)",
    },
    "siblings": {
        "pkg/__init__.py": "import pkg.a, pkg.b\nfrom pkg.b import P",
        "pkg/a.py": "import pkg.b as b",
        "pkg/b.py": "import pkg.a as a\nclass P: pass",
    },
    "subpackage": {
        "pkg/__init__.py": "from .deep import P",
        "pkg/deep/__init__.py": "from .er.most import P",
        "pkg/deep/er/__init__.py": "from ... import deep\nfrom ..tools import scale",
        "pkg/deep/er/most.py": "from pkg.deep.tools import scale\nclass P: pass",
        "pkg/deep/tools.py": "scale = 3",
    },
    "star": {"pkg/__init__.py": "from .impl import *", "pkg/impl.py": "__all__ = ['P']\nclass P: pass"},
    "namespace": {"pkg/__init__.py": "from plain.impl import P", "plain/impl.py": "class P: pass"},
    "later": {
        "pkg/__init__.py": "def __getattr__(name):\n    from .impl import P\n    return P",
        "pkg/impl.py": "import pkg\nclass P: pass",
    },
    "importlib": {
        "pkg/__init__.py": "import importlib\nP = importlib.import_module('.impl', __name__).P",
        "pkg/impl.py": "import importlib\nassert importlib.import_module('pkg')\nclass P: pass",
    },
    "module_beside": {"pkg.py": "import tools\nclass P(tools.Base): pass", "tools.py": "import pkg\nclass Base: pass"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_package_that_python_imports_is_imported(layout, tmp_path):
    """Packages that import from themselves, their parents and each other load, and nothing stays in sys.modules."""
    for name, text in LAYOUTS[layout].items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    subprocess.run([sys.executable, "-c", "from pkg import P"], cwd=tmp_path, check=True)
    modules = ProjectModules(tmp_path)
    assert modules.load("pkg").P.__name__ == "P"
    assert modules.load("pkg").P is modules.load("pkg").P
    assert not {name for name in sys.modules if name.partition(".")[0] in {"pkg", "plain", "tools"}}


def test_a_failed_import_says_its_own_error_and_can_be_tried_again(tmp_path):
    """The package is tried anew after its file is mended."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("from .impl import P")
    (tmp_path / "pkg" / "impl.py").write_text("import absent_module")
    modules = ProjectModules(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="absent_module"):
        modules.load("pkg")
    (tmp_path / "pkg" / "impl.py").write_text("class P:\n    mended = True")
    assert modules.load("pkg").P.mended


def test_a_directory_of_data_hides_no_installed_package(tmp_path):
    """As in Python, an installed package goes before a directory without ``__init__.py``."""
    (tmp_path / "click").mkdir()
    (tmp_path / "click" / "model.txt").touch()
    (tmp_path / "pkg.py").write_text("import click\ndef later():\n    import click\n    return click.Choice\n")
    module = ProjectModules(tmp_path).load("pkg")
    assert module.click.Choice is module.later()


def test_a_module_of_the_standard_library_is_nobodys(tmp_path):
    """At load time and later, ``profile`` is Python's own, whatever the project's files are called."""
    (tmp_path / "profile.py").write_text("OWN = True")
    (tmp_path / "pkg.py").write_text("import profile\ndef later():\n    import profile\n    return profile\n")
    module = ProjectModules(tmp_path).load("pkg")
    assert module.profile is module.later()
    assert not hasattr(module.profile, "OWN")


def test_threads_of_a_constructor_may_import_packages(tmp_path):
    """A thread that imports an installed package does not wait for the load that waits for the thread."""
    (tmp_path / "pkg.py").write_text(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def part(number):\n    import click\n    return click.__name__\n"
        "with ThreadPoolExecutor(2) as pool:\n    NAMES = list(pool.map(part, range(2), timeout=20))\n"
    )
    assert ProjectModules(tmp_path).load("pkg").NAMES == ["click", "click"]
