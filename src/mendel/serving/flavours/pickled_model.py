"""Write and read the pickle of a model, including classes and functions that only the caller's process can import."""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import re
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

from mendel.errors import InvalidInput, ModelNotLoadable
from mendel.serving import model_program
from mendel.serving.flavours.environment_files import PYTHON_FUNCTION
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.packed_code import BY_VALUE

_INSTALLED_BELOW: Final = frozenset({"site-packages", "dist-packages"})
_ID: Final = re.compile(rb"(?=([0-9a-f]{32}))")
"""Matches a text that may be the id of a class in a pickle."""
_STANDARD: Final = sys.stdlib_module_names
_REGISTERED: Final = threading.RLock()
"""Locks cloudpickle's list of modules to pickle by value, which all threads share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PickledModel:
    """
    A model as bytes.

    Attributes:
        by_value: The modules whose classes or functions are inside the pickle, sorted.
        modules: The top-level modules that loading imports, sorted.
    """

    content: bytes
    by_value: tuple[str, ...]
    modules: tuple[str, ...]


def pickled_model(model: Any, *, packed: Callable[[str], bool]) -> PickledModel:
    """
    Pickle *model* so that a process without the caller's own modules can load it.

    The pickle contains the code of lambdas, of classes and functions of ``__main__``, and of classes and functions of
    modules that no distribution has installed.

    Args:
        packed: Tells whether the module with a full name is packed with the artefact; its code is not pickled.

    Raises:
        InvalidInput: A part of the model cannot be pickled.
    """
    import cloudpickle  # noqa: PLC0415 - only when a model is written

    with _REGISTERED, _unregistered_at_the_end() as own:
        while True:
            used = _UsedNames()
            content = _dump(model, used)
            private = {name for name in used.modules if _is_private(name) and not packed(name)}
            if private <= own.keys():
                break
            for name in sorted(private - own.keys()):
                own[name] = sys.modules[name]
                cloudpickle.register_pickle_by_value(own[name])
    by_value = {name for name in used.inside | own.keys() if not packed(name) and _top(name) not in _STANDARD}
    imported = {_top(name) for name in used.modules - by_value if not packed(name)}
    return PickledModel(
        content=content,
        by_value=tuple(sorted(by_value)),
        modules=tuple(sorted(imported - _STANDARD - {"__main__"})),
    )


def pickle_keys(pickled: PickledModel) -> dict[str, Any]:
    """Give the keys of a flavour's section that describe the code inside the pickle; empty without such code."""
    return {BY_VALUE: list(pickled.by_value)} if pickled.by_value else {}


def unpickled_model(path: Path, section: Mapping[str, Any], mlmodel: Mlmodel) -> Any:
    """
    Load the pickle at *path*, whose digest the caller has checked.

    Args:
        section: The section of the flavour, which lists the code that is inside the pickle.

    Raises:
        ModelNotLoadable: The pickle holds code of another version of Python.
    """
    require_same_python(section, mlmodel)
    return model_program.unpickled(str(path), "pickle")


def require_same_python(section: Mapping[str, Any], mlmodel: Mlmodel) -> None:
    """
    Check that code inside the pickle that *section* describes was compiled by this minor version of Python.

    Raises:
        ModelNotLoadable: The code was compiled by another version of Python.
    """
    try:
        model_program.require_python(*pickled_code(section, mlmodel))
    except model_program.NotLoadable as error:
        message, remedy = error.args
        raise ModelNotLoadable(message, remedy=remedy) from None


def pickled_code(section: Mapping[str, Any], mlmodel: Mlmodel) -> tuple[list[str], str | None]:
    """Give the modules whose code is inside the pickle, and the version of Python that wrote it; None if unknown."""
    written = mlmodel.flavors.get(PYTHON_FUNCTION, {}).get("python_version")
    return list(map(str, section.get(BY_VALUE) or ())), None if written is None else str(written)


class _UsedNames:
    """Records the modules of the classes and functions in a model while the model is pickled."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.inside: set[str] = set()

    def add(self, obj: Any) -> None:
        if isinstance(obj, ModuleType):
            self.modules.add(obj.__name__)
            return
        module = getattr(obj, "__module__", None)
        if not isinstance(module, str):
            return
        self.modules.add(module)
        if not _importable(obj, module):
            self.inside.add(module)


def _dump(model: Any, used: _UsedNames) -> bytes:
    import cloudpickle  # noqa: PLC0415 - only when a model is written

    class Recorder(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, type | FunctionType | ModuleType):
                used.add(obj)
            return super().reducer_override(obj)

    buffer = io.BytesIO()
    try:
        Recorder(buffer).dump(model)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInput(
            f"The {type(model).__name__} cannot be pickled: {error}",
            remedy="Remove open files, connections, locks and generators from the model, "
            "or serve the model as a project.",
        ) from error
    return _with_steady_ids(buffer.getvalue())


def _with_steady_ids(content: bytes) -> bytes:
    """
    Replace the random ids that cloudpickle gives to classes inside a pickle by ids that follow from *content*.

    By these ids, a process recognises a class that it has already unpickled. The new ids have the same length, so the
    pickle stays valid.
    """
    from cloudpickle import cloudpickle  # noqa: PLC0415 - only when a model is written

    known: Mapping[Any, str] = getattr(cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {})
    ids = sorted({name.encode() for name in list(known.values())} & set(_ID.findall(content)), key=content.index)
    digest = hashlib.sha256(functools.reduce(lambda rest, name: rest.replace(name, b""), ids, content))
    for place, name in enumerate(ids):
        numbered = digest.copy()
        numbered.update(str(place).encode())
        content = content.replace(name, numbered.hexdigest()[: len(name)].encode())
    return content


@contextmanager
def _unregistered_at_the_end() -> Iterator[dict[str, ModuleType]]:
    import cloudpickle  # noqa: PLC0415 - only when a model is written

    before = cloudpickle.list_registry_pickle_by_value()
    own: dict[str, ModuleType] = {}
    try:
        yield own
    finally:
        for name, module in own.items():
            if name not in before:
                cloudpickle.unregister_pickle_by_value(module)


def _importable(obj: Any, module: str) -> bool:
    found: Any = sys.modules.get(module)
    if module == "__main__" or found is None:
        return False
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


def _top(module: str) -> str:
    return module.partition(".")[0]


def _is_private(name: str) -> bool:
    """Tell whether only this process, and no installed distribution, provides the module *name*."""
    if _top(name) in {*_STANDARD, "mendel", "__main__"} or name not in sys.modules:
        return False
    module = sys.modules[name]
    spec = getattr(module, "__spec__", None)
    origin = getattr(module, "__file__", None) or (None if spec is None else spec.origin)
    if origin in {"built-in", "frozen"}:
        return False
    if origin is None:
        return not getattr(module, "__path__", None) or not _is_installed(next(iter(module.__path__), ""))
    return not _is_installed(origin)


@functools.lru_cache(maxsize=4096)
def _is_installed(path: str) -> bool:
    return not _INSTALLED_BELOW.isdisjoint(Path(path).parts) or Path(path).is_relative_to(_standard_library())


@functools.cache
def _standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))
