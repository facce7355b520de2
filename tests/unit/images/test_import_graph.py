"""Local imports: what Python would read of the project, told from the text alone."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from mendel.images.import_graph import import_graph, module_files

FORMS = {
    "plain": ("import a", {"a.py"}),
    "dotted": ("import p.q.r", {"p/__init__.py", "p/q/__init__.py", "p/q/r.py"}),
    "renamed": ("import p.x as y", {"p/__init__.py", "p/x.py"}),
    "several": ("import a, p.x", {"a.py", "p/__init__.py", "p/x.py"}),
    "a name of a module": ("from a import f", {"a.py"}),
    "a submodule": ("from p import x", {"p/__init__.py", "p/x.py"}),
    "a star": ("from a import *", {"a.py"}),
    "a star over __all__": ("from s import *", {"s/__init__.py", "s/one.py"}),
    "a directory without __init__": ("from n.deep import leaf", {"n/deep/leaf.py"}),
    "in a function": ("def f():\n    import a", {"a.py"}),
    "in try": ("try:\n    import a\nexcept ImportError:\n    import b", {"a.py", "b.py"}),
    "under a condition": ("import sys\nif sys.argv:\n    from p import x", {"p/__init__.py", "p/x.py"}),
    "import_module": ("import importlib\nimportlib.import_module('p.x')", {"p/__init__.py", "p/x.py"}),
    "import_module, renamed": ("from importlib import import_module as im\nim('a')", {"a.py"}),
    "import_module, relative": (
        "from importlib import import_module\nimport_module('.x', 'p')",
        {"p/__init__.py", "p/x.py"},
    ),
    "__import__": ("__import__('a')", {"a.py"}),
    "through others": ("import chain", {"chain.py", "a.py"}),
    "in a circle": ("import c1", {"c1.py", "c2.py"}),
    "relative in a package": ("import rel.m", {"rel/__init__.py", "rel/m.py", "rel/n.py", "rel/deep/__init__.py"}),
    "of Python and of others": ("import json, numpy.linalg\nfrom os import path", set()),
    "a name that is no module": ("from p import NOTHING", {"p/__init__.py"}),
    "above the top": ("from .. import a", set()),
    "a package before a module": ("import both", {"both/__init__.py"}),
}
FILES = {
    "a.py": "f = 1",
    "b.py": "",
    "p/__init__.py": "",
    "p/x.py": "y = 1",
    "p/q/__init__.py": "",
    "p/q/r.py": "",
    "s/__init__.py": "__all__ = ['one', 'NAME']",
    "s/one.py": "",
    "s/two.py": "",
    "n/deep/leaf.py": "",
    "chain.py": "import a",
    "c1.py": "import c2",
    "c2.py": "import c1",
    "rel/__init__.py": "",
    "rel/m.py": "from . import n\nfrom .deep import thing",
    "rel/n.py": "",
    "rel/deep/__init__.py": "thing = 1",
    "both.py": "",
    "both/__init__.py": "",
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def graph_of(root: Path, *modules: str):
    return import_graph(root, modules, lambda name: (root / name).read_bytes())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_import_is_followed(tmp_path, form):
    """Whatever form an import has, its files are found, and no others."""
    text, expected = FORMS[form]
    write(tmp_path, {**FILES, "model.py": text})
    assert set(graph_of(tmp_path, "model").files) == {"model.py", *expected}


def test_what_python_imports_is_in_the_graph(tmp_path):
    """On random projects, every file that Python itself reads is in the graph: an import never fails in the image."""
    rng = random.Random(7)
    names = ["m0", "m1", "k.m2", "k.m3", "k.j.m4", "n.m5"]
    for turn in range(5):
        root = tmp_path / str(turn)
        write(root, {"k/__init__.py": "from . import m3", "k/j/__init__.py": ""})
        for index, name in enumerate(names):
            later = rng.sample(names[index + 1 :], k=min(2, len(names) - index - 1))
            lines = [f"import {other}" if rng.random() < 0.5 else _from(other) for other in later]
            write(root, {f"{name.replace('.', '/')}.py": "\n".join(lines)})
        program = (
            "import sys; sys.path.insert(0, sys.argv[1]); import m0\n"
            "files = [getattr(m, '__file__', None) or '' for m in sys.modules.values()]\n"
            "print(*(file for file in files if file.startswith(sys.argv[1])))"
        )
        out = subprocess.run(
            [sys.executable, "-B", "-S", "-c", program, str(root)], capture_output=True, text=True, check=True
        ).stdout
        read = {Path(path).relative_to(root).as_posix() for path in out.split()}
        assert read <= set(graph_of(root, "m0").files)


def _from(name: str) -> str:
    package, _, last = name.rpartition(".")
    return f"from {package} import {last}" if package else f"import {name}"


def test_faults_are_told_with_file_and_line(tmp_path):
    """Every module that is not Python is a reason with its line, and the rest of the graph is still read."""
    write(tmp_path, {"model.py": "import bad\nimport worse\nimport fine", "fine.py": "import a", "a.py": ""})
    (tmp_path / "bad.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "worse.py").write_bytes(b"x = '\xff'\n")
    graph = graph_of(tmp_path, "model")
    assert any(reason.startswith("bad.py:2: the file is not Python") for reason in graph.reasons)
    assert any(reason.startswith("worse.py") for reason in graph.reasons)
    assert "a.py" in graph.files


@pytest.mark.parametrize(
    "content", [b"x = 1\0", b"(" * 5000, b"x = " + b"-" * 100_000 + b"1", b"# -*- coding: nothing -*-\n"]
)
def test_no_text_breaks_the_reader(tmp_path, content):
    """Null bytes, towers of brackets and unknown encodings are reasons, not crashes."""
    (tmp_path / "model.py").write_bytes(content)
    assert graph_of(tmp_path, "model").reasons


def test_what_a_text_does_not_tell_is_a_hint(tmp_path):
    """Computed names, a changed sys.path, compiled modules and names of Python's own modules are pointed out."""
    text = "import sys, importlib, fast, random\nsys.path.insert(0, 'src')\nimportlib.import_module(sys.argv[1])"
    write(tmp_path, {"model.py": text, "fast.cpython-311-x86_64-linux-gnu.so": "", "random.py": ""})
    graph = graph_of(tmp_path, "model")
    assert "fast.cpython-311-x86_64-linux-gnu.so" in graph.files
    hints = " ".join(graph.hints)
    assert "model.py:2 changes sys.path" in hints
    assert "model.py:3 imports a module by a computed name" in hints
    assert "fast.cpython" in hints
    assert "random.py hides the module random" in hints


def test_nothing_is_imported(tmp_path):
    """Code that would act when imported does not act."""
    write(tmp_path, {"model.py": f"open({str(tmp_path / 'acted')!r}, 'w')\nimport other", "other.py": "1/0"})
    assert graph_of(tmp_path, "model").files == ("model.py", "other.py")
    assert not (tmp_path / "acted").exists()


def test_only_the_whole_name_counts_as_there(tmp_path):
    """A package without the asked submodule is not the module."""
    write(tmp_path, FILES)
    assert module_files(tmp_path, "p.x") == (("p/__init__.py", "p/x.py"), True)
    assert module_files(tmp_path, "p.missing") == (("p/__init__.py",), False)
    assert module_files(tmp_path, "n") == ((), False)
