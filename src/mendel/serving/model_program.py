"""
The program of a process that runs one model, and the conversions of rows and answers that every backend shares.

This file needs only the standard library and numpy, and runs on Python 3.9 and newer, because it runs in the
environment of the model, where Mendel may be absent: ``python model_program.py --control FD --parent PID``.

The parent sends the order to load a model over the control socket. The process then listens on a Unix socket; each
connection begins with the form of the input and carries one call at a time. Each message is a JSON head and raw bytes.
The process trusts what its parent sends; it sends nothing back that needs unpickling.
"""

from __future__ import annotations

import atexit
import base64
import importlib
import inspect
import json
import logging
import math
import os
import pickle
import platform
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Mapping
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

MOST_DENSE = 10_000_000
"""The largest number of elements of a sparse answer that is converted to a dense array."""
INFERRED = "inferred"
"""The dtype of a text column of which only the signature is known: the one that pandas gives a column of text."""
NANOS = "M8[ns]"
WHOLE_DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
LONGEST_TEXT = 500
_LONGEST_DETAIL = 2000
_WHISPERERS = ("asyncio", "httpx", "httpcore", "urllib3")
"""Loggers that tell of each request, with its URL; of them only warnings are logged."""
_MOST_LOG_LINES = 100
"""The number of errors, and of other lines, that a model may log per second."""
_ERRORS = ("error", "critical")
_PR_SET_PDEATHSIG = 1
_LENGTHS = struct.Struct(">IQ")
_BY_NAME = frozenset({"ColumnTransformer", "FunctionTransformer"})
_NAME_ARRAYS = frozenset({"lightgbm", "xgboost", "catboost", "mendel"})
"""The libraries that name the columns of an array themselves; ``mendel`` for our own wrappers of their boosters."""
_GENERATED_NAMES = ("Column_{}", "f{}", "{}")
_CALL_TYPES = (type(None), str, bool, int)
_RAW_BYTES = 8
_BESIDES_MODEL = 256 << 20
"""Memory that libraries reserve and do not use; the parent ends the process when it uses more than its limit."""


class InvalidAnswer(Exception):
    """The model returned a value that JSON cannot represent."""


class NotLoadable(Exception):
    """The model cannot be loaded; the arguments are the message and the remedy."""


# What a model receives


def stacked(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """
    Give *columns* as one array of shape (rows, columns).

    Its type is the common type of the columns; without a common type, ``object`` with dates as ``datetime``.
    """
    kinds = {column.dtype.kind for column in columns}
    if kinds <= set("fiub") or kinds == {"M"}:
        return np.column_stack(columns)
    return np.column_stack([column.astype(object) for column in columns])


def contract_array(contract: Any, columns: Sequence[NDArray[Any]], matrix: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """Give the array of shape (rows, columns) that a model with this input contract receives."""
    kinds = {column.held_as for column in contract.columns}
    if any(column.missing != "None" for column in contract.columns) or (NANOS in kinds and len(kinds) > 1):
        missing = map(_with_missing, contract.columns, columns)
        return np.column_stack([_as_objects(values) for values in missing])
    array = matrix()
    return array if contract.array_dtype is None else array.astype(contract.array_dtype, copy=False)


def contract_frame(contract: Any, columns: Sequence[NDArray[Any]]) -> Any:
    """Give the pandas data frame that a model with this input contract receives."""
    import pandas as pd  # noqa: PLC0415 - only for models that were fitted on a frame

    names = [column.name for column in contract.columns]
    return pd.DataFrame(dict(zip(names, map(pandas_column, contract.columns, columns))), copy=False)


def pandas_column(column: Any, values: NDArray[Any]) -> Any:
    """Convert one column of a batch to the dtype that the model was fitted on."""
    import pandas as pd  # noqa: PLC0415 - only for models that were fitted on a frame

    if column.content == "datetime" and column.dtype != "object":
        return _times(pd, column.dtype, values)
    if column.categories is not None:
        categories = pd.Index(list(column.categories), dtype=column.categories_dtype)
        codes = categories.get_indexer_for(pd.Index(values, dtype=object))
        return pd.Categorical.from_codes(codes, categories=categories, ordered=column.ordered)
    if column.dtype == INFERRED:
        return pd.Series(values, dtype=pd.Series(["text"]).dtype)
    if column.dtype == "object":
        return pd.Series(_with_missing(column, values), dtype=object)
    if values.dtype == object or not is_numpy(column.dtype):
        return pd.array(list(values), dtype=column.dtype)
    return values.astype(column.dtype, copy=False)


def is_numpy(dtype: str) -> bool:
    """Tell whether *dtype* is a numpy type of numbers or booleans, and not a type of pandas."""
    return dtype in WHOLE_DTYPES or dtype in {"float16", "float32", "float64", "bool"}


def _times(pd: Any, dtype: str, values: NDArray[Any]) -> Any:
    unit, _, zone = dtype[len("datetime64[") : -1].partition(", ")
    index = pd.DatetimeIndex(values.astype("M8[" + unit + "]"))
    return index.tz_localize("UTC").tz_convert(zone) if zone else index


def _with_missing(column: Any, values: NDArray[Any]) -> NDArray[Any]:
    """Give the values of an ``object`` column with the kind of null that the model was fitted on."""
    values = _as_objects(values)
    gone = [_is_null(value) for value in values]
    if any(gone):
        values = values.copy()
        values[gone] = _missing(column.missing)
    return values


def _missing(name: str) -> Any:
    if name == "NA":
        import pandas as pd  # noqa: PLC0415 - only for models that were fitted on a frame

        return pd.NA
    return np.nan if name == "nan" else None


def _is_null(value: object) -> bool:
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, (float, np.floating, np.datetime64, Decimal)) and value != value  # noqa: PLR0124 - NaN, NaT


def _as_objects(values: NDArray[Any]) -> NDArray[Any]:
    """Convert to Python objects; times in nanoseconds to pandas objects, because numpy would give whole numbers."""
    if values.dtype == NANOS:
        import pandas as pd  # noqa: PLC0415 - only for models that were fitted on times

        objects: NDArray[Any] = pd.DatetimeIndex(values).to_numpy(dtype=object)
        return objects
    return values.astype(object)


# What becomes of its answer


def plain(value: Any) -> Any:
    """
    Convert *value* to values that JSON can represent; NaN and infinities become None.

    Raises:
        InvalidAnswer: JSON cannot represent the type of the value.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise InvalidAnswer("The model returned a whole number that does not fit in 64 bits.")
    if isinstance(value, _CALL_TYPES):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    return _foreign(value)


def _foreign(value: Any) -> Any:
    """Convert arrays, data frames and times, recognised by their methods so that pandas need not be imported."""
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray):
        return _listed(value)
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        if math.prod(value.shape) > MOST_DENSE:
            raise InvalidAnswer(
                f"The model returned a sparse matrix of shape {value.shape}, which is too large to send."
            )
        return _listed(value.toarray())
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return [plain(row) for row in value.to_dict(orient="records")]
    if hasattr(value, "to_numpy"):
        return _listed(value.to_numpy())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise InvalidAnswer(f"The model returned a value of type {type(value).__name__}, which JSON cannot represent.")


def _listed(array: NDArray[Any]) -> Any:
    if array.dtype.kind in "biuU":
        return array.tolist()
    if array.dtype.kind == "f" and np.isfinite(array).all():
        return array.tolist()
    return plain(array.tolist())


# What a fitted model tells about its columns


def fitted_names(model: Any, given: Sequence[str] = ()) -> tuple[str, ...] | None:
    """
    Give the names of the columns that *model* was fitted on; None for a model that was fitted on an array.

    Args:
        model: The fitted model.
        given: The column names of the data frame that the caller gave with the model. LightGBM, XGBoost and CatBoost
            invent names for the columns of an array: invented names count only if the data frame has the same names.
            LightGBM also replaces spaces in names by underscores.
    """
    library = type(model).__module__.partition(".")[0]
    for attribute in ("feature_names_in_", "feature_names_"):
        try:
            names = getattr(model, attribute, None)
        except (AttributeError, ValueError, RuntimeError):  # XGBoost and CatBoost raise for a model without names
            continue
        if names is None or isinstance(names, str) or not len(names) or not all(isinstance(n, str) for n in names):
            continue
        found = tuple(map(str, names))
        if library in {"lightgbm", "mendel"}:
            spelt = {name.replace(" ", "_"): name for name in given}
            found = tuple(spelt.get(name, name) for name in found)
        if set(found) == set(given) or not _generated(library, found):
            return found
    return None


def answers_arrays_alike(model: Any) -> bool:
    """
    Tell whether *model* first converts a numeric data frame to an array, so that it may receive the array directly.

    True for scikit-learn's own estimators, unless a part of *model* selects columns by name, calls a function of the
    user, or is configured to output data frames.
    """
    return all(
        type(part).__module__.partition(".")[0] == "sklearn"
        and type(part).__name__ not in _BY_NAME
        and not vars(part).get("_sklearn_output_config")
        for part in estimator_parts(model)
    )


def forget_names(model: Any) -> None:
    """Delete the column names, so that scikit-learn takes arrays without a warning per call."""
    for part in estimator_parts(model):
        part.__dict__.pop("feature_names_in_", None)


def estimator_parts(model: Any) -> list[Any]:
    """Give *model* and every estimator inside it, each once."""
    found: dict[int, Any] = {}
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if isinstance(part, (list, tuple)):
            waiting.extend(part)
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif hasattr(part, "get_params") and hasattr(part, "__dict__") and id(part) not in found:
            found[id(part)] = part
            waiting.extend(vars(part).values())
    return list(found.values())


def _generated(library: str, names: Sequence[str]) -> bool:
    """Tell whether *library* invented the column names because the model was fitted on an array."""
    return library in _NAME_ARRAYS and any(
        all(name == made.format(place) for place, name in enumerate(names)) for made in _GENERATED_NAMES
    )


def classes_of(model: Any) -> list[Any] | None:
    """Give the classes; for several outputs one list of classes each; None for a model without classes."""
    classes = getattr(model, "classes_", None)
    if isinstance(classes, list) and classes and all(isinstance(inner, np.ndarray) for inner in classes):
        return [inner.tolist() for inner in classes]
    if classes is None or getattr(classes, "ndim", 0) != 1 or not len(classes):
        return None
    values: list[Any] = classes.tolist()
    return values


# How a model is loaded


def built(module: Any, class_name: str, kwargs: Mapping[str, Any], model_dir: str | None) -> Any:
    """Create the predictor of a project; *model_dir* replaces that argument where the class takes it."""
    kind = getattr(module, class_name, None)
    if kind is None:
        raise NotLoadable(f"The module {module.__name__} has no class {class_name}.", "")
    if model_dir is not None and "model_dir" in inspect.signature(kind).parameters:
        kwargs = dict(kwargs, model_dir=model_dir)
    return kind(**kwargs)


def packed_kwargs(kwargs: Mapping[str, Any]) -> str:
    """Give keyword arguments as text for the order; dates and keys that are numbers arrive as they are."""
    return base64.b64encode(pickle.dumps(dict(kwargs), protocol=4)).decode("ascii")


def _unpacked_kwargs(packed: str) -> dict[str, Any]:
    kwargs: dict[str, Any] = pickle.loads(base64.b64decode(packed))
    return kwargs


def unpickled(path: str, form: str) -> Any:
    """Load a pickled model, whose digest was checked before."""
    if form == "joblib":
        import joblib  # noqa: PLC0415 - only where a model is loaded

        return joblib.load(path)
    if form in {"cloudpickle", "pickle"}:
        with open(path, "rb") as file:
            return pickle.load(file)
    if form == "skops":
        import skops.io  # noqa: PLC0415 - only where a model is loaded

        return skops.io.load(path)
    raise NotLoadable(f"The model is serialised as {form!r}; servers load joblib, pickle, cloudpickle and skops.", "")


def require_python(inside: Sequence[str], written: str | None) -> None:
    """Raise NotLoadable if a pickle with the code of the modules *inside* was written by another version of Python."""
    here = platform.python_version()
    if inside and written is not None and written.split(".")[:2] != here.split(".")[:2]:
        raise NotLoadable(
            f"The model contains code ({', '.join(inside)}) that was pickled with Python {written}; "
            f"this is Python {here}.",
            "Register the model with this version of Python, or pass its modules as code_paths=.",
        )


class _Model:
    """The loaded model of this process, and what its callers must know of it."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self.order = order
        self.model, self.facts = _load(order)
        if not callable(getattr(self.model, "predict", None)):
            raise NotLoadable(f"The object of type {type(self.model).__name__} has no method predict.", "")
        given = order["names"]
        self.facts = {
            "class_name": type(self.model).__name__,
            "module": type(self.model).__module__,
            "classes": classes_of(self.model),
            "dataframe": None,
            "proba": callable(getattr(self.model, "predict_proba", None)),
            "width": 1,
            "names": None if order["kind"] == "class" else fitted_names(self.model),
            "given_names": fitted_names(self.model, given) if given else None,
            "arrays_alike": bool(given) and answers_arrays_alike(self.model),
            **self.facts,
        }
        self.word = json_line({"loaded": _builtin(self.facts)})
        self.turns = _Turns(order.get("width") or self.facts["width"], order["call_limit"])


def _builtin(value: Any) -> Any:
    """Replace the numbers of numpy by Python's."""
    if isinstance(value, dict):
        return {name: _builtin(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_builtin(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value


def _load(order: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    kind = order["kind"]
    if kind == "class":
        module = importlib.import_module(order["module"])
        model = built(module, order["class_name"], _unpacked_kwargs(order["kwargs"]), order["model_dir"])
        fitted = getattr(model, "classes_", None)
        classes = None if fitted is None else list(getattr(fitted, "tolist", lambda: fitted)())
        return model, {"classes": classes, "dataframe": getattr(model, "input_type", None) == "dataframe"}
    if kind == "pickle":
        require_python(order["inside"], order["python"])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
            return unpickled(order["file"], order["form"]), {}
    return _loaded_by_mendel(order["directory"])


def _loaded_by_mendel(directory: str) -> tuple[Any, dict[str, Any]]:
    """Load a model of a flavour that needs Mendel's own loader, where Mendel is installed."""
    try:
        loading = importlib.import_module("mendel.serving.artifact_loading")  # most environments have no Mendel
    except ImportError as error:
        raise NotLoadable(
            "A model of this flavour needs Mendel in the environment of its process.",
            "Install Mendel there, or set serving.backend to thread.",
        ) from error
    try:
        predictor = loading.loaded_alone(directory)
    except importlib.import_module("mendel.errors").MendelError as error:
        raise NotLoadable(error.message, error.remedy) from error
    described = predictor.descriptor
    return predictor.model, {
        "class_name": described.class_name,
        "module": described.module,
        "classes": described.classes,
        "dataframe": described.dataframe,
        "width": described.width,
    }


# Calls


def send(connection: socket.socket, head: Mapping[str, Any], *parts: Any) -> None:
    """Send one message: the lengths, the JSON *head*, and the raw bytes of *parts*."""
    text = json.dumps(head).encode("ascii")
    total = sum(memoryview(part).nbytes for part in parts)
    first = _LENGTHS.pack(len(text), total) + text
    if total <= 1 << 16:
        connection.sendall(b"".join((first, *parts)))
        return
    connection.sendall(first)
    for part in parts:
        connection.sendall(memoryview(part).cast("B"))


def receive(reader: BinaryIO) -> tuple[Any, bytearray] | None:
    """Receive one message from a buffered reader of the socket; None at the end of the connection."""
    start = reader.read(_LENGTHS.size)
    if not start:
        return None
    if len(start) < _LENGTHS.size:
        raise ConnectionResetError
    head, size = _LENGTHS.unpack(start)
    text, body = reader.read(head), bytearray(size)
    if len(text) < head or reader.readinto(body) < size:  # type: ignore[attr-defined]
        raise ConnectionResetError
    return json.loads(text), body


def packed_columns(
    columns: Sequence[NDArray[Any]], floats: NDArray[np.float64] | None
) -> tuple[dict[str, Any], list[Any]]:
    """Give the head and the bytes that carry a batch to the process of a model."""
    if floats is not None:
        return {"rows": len(floats), "floats": floats.shape[1]}, [np.ascontiguousarray(floats)]
    parts: list[Any] = [np.ascontiguousarray(column).tobytes() for column in columns if column.dtype != object]
    objects = [column.tolist() for column in columns if column.dtype == object]
    if objects:
        parts.append(pickle.dumps(objects, protocol=4))
    return {"rows": len(columns[0]), "dtypes": [column.dtype.str for column in columns]}, [b"".join(parts)]


def _unpacked_columns(head: Mapping[str, Any], body: bytearray) -> tuple[list[NDArray[Any]], NDArray[Any] | None]:
    rows = head["rows"]
    if "floats" in head:
        floats = np.frombuffer(body, dtype=np.float64).reshape(rows, head["floats"])
        return list(floats.T), floats
    columns: list[Any] = []
    at = 0
    for dtype in head["dtypes"]:
        if dtype == "|O":
            columns.append(None)
            continue
        columns.append(np.frombuffer(body, dtype=dtype, count=rows, offset=at))
        at += columns[-1].nbytes
    if None in [column if column is None else 0 for column in columns]:
        objects = iter(pickle.loads(bytes(body[at:])))
        columns = [_objects(next(objects)) if column is None else column for column in columns]
    return columns, None


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    column = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        column[place] = value
    return column


def packed_answer(answer: Any) -> tuple[list[Any], list[Any]]:
    """
    Give the description and the bytes of what ``predict`` or ``predict_proba`` returned.

    Arrays of numbers travel as bytes, and so does a list of such arrays; everything else as JSON.
    """
    if hasattr(answer, "to_numpy") and not hasattr(answer, "columns"):
        answer = answer.to_numpy()
    if _is_raw(answer):
        return ["array", answer.dtype.str, answer.shape], [np.ascontiguousarray(answer)]
    if isinstance(answer, list) and answer and all(map(_is_raw, answer)):
        return (
            ["arrays", [(array.dtype.str, array.shape) for array in answer]],
            [np.ascontiguousarray(array) for array in answer],
        )
    return ["plain", plain(answer)], []


def unpacked_answer(told: Sequence[Any], body: bytearray, at: int) -> tuple[Any, int]:
    """Give the value that :func:`packed_answer` packed, and the place of the next value in *body*."""
    if told[0] == "plain":
        return told[1], at
    arrays = []
    for dtype, shape in [told[1:]] if told[0] == "array" else told[1]:
        arrays.append(np.frombuffer(body, dtype=dtype, count=math.prod(shape), offset=at).reshape(shape))
        at += arrays[-1].nbytes
    return (arrays[0] if told[0] == "array" else arrays), at


def _is_raw(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind in "biuf"
        and value.dtype.itemsize <= _RAW_BYTES
        and value.ndim > 0
    )


class _Turns:
    """
    Lets *width* calls run at once, and ends the process when one of them takes longer than *limit* seconds.

    The timer of the operating system ends it (SIGALRM), because a hung call may hold the lock of the interpreter.
    """

    def __init__(self, width: int, limit: float) -> None:
        self._free = threading.Semaphore(width)
        self._limit = limit
        self._lock = threading.Lock()
        self._ends: dict[int, float] = {}  # the time by which the call of each thread must end, the oldest first

    def take(self, *, wait: bool) -> bool:
        if not self._free.acquire(blocking=wait):
            return False
        with self._lock:
            self._ends[threading.get_ident()] = time.monotonic() + self._limit
            self._set_timer()
        return True

    def give_back(self) -> None:
        with self._lock:
            del self._ends[threading.get_ident()]
            self._set_timer()
        self._free.release()

    def _set_timer(self) -> None:
        first = next(iter(self._ends.values()), None)
        left = 0.0 if first is None else max(0.001, first - time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, left)


class _Connection:
    """The calls of one caller."""

    def __init__(self, connection: socket.socket, loaded: _Model) -> None:
        self._connection, self._loaded = connection, loaded
        self._reader = connection.makefile("rb")
        self._form: Any = None

    def run(self) -> None:
        try:
            while True:
                message = receive(self._reader)
                if message is None:
                    return
                if "form" in message[0]:
                    self._form = _read_form(message[0]["form"])
                    if self._form.forget_names:
                        forget_names(self._loaded.model)
                else:
                    self._answer(*message)
        except OSError:
            return
        finally:
            self._connection.close()

    def _answer(self, head: Mapping[str, Any], body: bytearray) -> None:
        turns = self._loaded.turns
        waited = not turns.take(wait=False)
        if waited:
            send(self._connection, {"waiting": True})
            turns.take(wait=True)
        try:
            if waited:
                send(self._connection, {"waiting": False})  # raises OSError if the caller has left: nobody to call for
            reply, parts = self._called(head, body)
        finally:
            turns.give_back()
        send(self._connection, reply, *parts)

    def _called(self, head: Mapping[str, Any], body: bytearray) -> tuple[dict[str, Any], list[Any]]:
        model = self._loaded.model
        try:
            x = self._input(head, body)
            answer, parts = packed_answer(model.predict(x))
            if not head["proba"]:
                return {"answer": answer}, parts
            proba, more = packed_answer(model.predict_proba(x))
            return {"answer": answer, "proba": proba}, parts + more
        except InvalidAnswer as error:
            return {"invalid": str(error)}, []
        except BaseException as error:  # noqa: BLE001 - whatever a model raises is its own fault
            return {"fault": _fault(error)}, []

    def _input(self, head: Mapping[str, Any], body: bytearray) -> Any:
        form = self._form
        columns, floats = _unpacked_columns(head, body)
        if form.contract is not None and form.contract.columns:
            if form.dataframe:
                return contract_frame(form.contract, columns)
            return contract_array(form.contract, columns, lambda: stacked(columns) if floats is None else floats)
        if form.dataframe:
            import pandas as pd  # noqa: PLC0415 - only for models that want a frame

            return pd.DataFrame(dict(zip(head["names"], columns)))
        return stacked(columns) if floats is None else floats


def _read_form(form: Mapping[str, Any]) -> Any:
    contract = form["contract"]
    if contract is not None:
        columns = [SimpleNamespace(**column) for column in contract["columns"]]
        contract = SimpleNamespace(columns=columns, array_dtype=contract["array_dtype"])
    return SimpleNamespace(contract=contract, dataframe=form["dataframe"], forget_names=form["forget_names"])


def _fault(error: BaseException) -> dict[str, str]:
    """Describe an exception of the model: the type and the place for logs, the text for the caller alone."""
    return {"kind": _kinds(error), "at": _places(error), "text": str(error)[:LONGEST_TEXT]}


def _kinds(error: BaseException) -> str:
    kinds: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(kinds) < 4:  # noqa: PLR2004 - as many as the server tells of its own faults
        kinds.append(type(cause).__name__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " from ".join(kinds)


def _places(error: BaseException) -> str:
    found = [
        f"{frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return " < ".join(reversed(found[-6:]))


# What the model logs


class _Parent:
    """
    Sends lines to the parent: what became of the load, and what the model logs.

    A log line is dropped if the parent does not read, and beyond a number of lines per second.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._second, self._dropped = 0, 0
        self._lines = {True: 0, False: 0}  # in this second: errors, which other lines do not displace, and others
        self._renew_lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        """Make a new lock: in a process that the model forks, another thread may hold the old one for ever."""
        self._lock = threading.RLock()

    def tell(self, line: bytes) -> None:
        with self._lock:
            self._control.sendall(line)

    def log(self, level: str, event: str, **more: object) -> None:
        with self._lock:
            second = int(time.monotonic())
            if second != self._second:
                self._second, self._lines = second, {True: 0, False: 0}
            is_error = level in _ERRORS
            self._lines[is_error] += 1
            if self._lines[is_error] > _MOST_LOG_LINES:
                self._dropped += 1
                return
            dropped = {"dropped": self._dropped} if self._dropped else {}
            line = json_line({"log": level, "event": event[:_LONGEST_DETAIL], **more, **dropped})
            try:
                sent = self._control.send(line, socket.MSG_DONTWAIT)
                self._dropped = 0
                if sent < len(line):
                    self._control.sendall(line[sent:])
            except BlockingIOError:
                self._dropped += 1
            except OSError:  # the parent has ended, and this process ends, too
                return

    def log_error(self, event: str, error: BaseException | None) -> None:
        self.log("error", event, **_logged_fault(error))

    def take_logs(self, level: int) -> None:
        """
        Send log records, warnings and unhandled exceptions of the model to the parent.

        Of a warning and an exception only the type and the place are sent, because the text may quote a caller.
        """
        root = logging.getLogger()
        root.handlers[:] = [_ToParent(self)]
        root.setLevel(level)
        for name in _WHISPERERS:
            logging.getLogger(name).setLevel(max(level, logging.WARNING))
        sys.excepthook = lambda _, error, __: self.log_error("crashed", error)
        threading.excepthook = lambda end: self.log_error("thread_crashed", end.exc_value)
        sys.unraisablehook = lambda found: self.log_error("exception_ignored", found.exc_value)

        def warned(_message: object, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
            self.log("warning", "python_warning", fault=category.__name__, at=f"{os.path.basename(filename)}:{lineno}")

        warnings.showwarning = warned  # type: ignore[assignment]


class _ToParent(logging.Handler):
    """Sends log records to the parent, exceptions as type and place."""

    def __init__(self, parent: _Parent) -> None:
        super().__init__()
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except Exception:  # noqa: BLE001 - the caller's arguments do not fit its template
            event = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        fault = _logged_fault(record.exc_info[1] if record.exc_info else None)
        level = logging.getLevelName(min(50, max(10, record.levelno // 10 * 10))).lower()
        self._parent.log(level, event, logger=record.name, **fault)


def _logged_fault(error: BaseException | None) -> dict[str, str]:
    return {} if error is None else {"fault": _kinds(error), "at": _places(error)}


def json_line(told: Mapping[str, Any]) -> bytes:
    """Write *told* as one line, as parent and process send to each other."""
    return json.dumps(told).encode("ascii") + b"\n"


def resident_bytes(process: str) -> int | None:
    """Give the resident memory of a process in bytes; None if the system does not report it (Linux does)."""
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return None


# The process


def main(arguments: Sequence[str]) -> None:
    """Load the model that the parent orders, and answer calls until the parent closes the control socket."""
    given = dict(zip(arguments[::2], arguments[1::2]))
    _die_with_parent(int(given["--parent"]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _leave_the_end_to_the_parent()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    os.dup2(2, 1)  # what the model prints goes to the error output
    sys.stdout = sys.stderr
    control = socket.socket(fileno=int(given["--control"]))
    lines = control.makefile("rb")
    ordered = lines.readline()
    if not ordered:  # the parent has ended or needs the process no longer
        return
    order = json.loads(ordered)
    parent = _Parent(control)
    parent.take_logs(order["log_level"])
    _prepare(order)
    loaded = _loaded(order, parent)
    if loaded is None:
        return
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(order["address"])
    listener.listen(128)
    threading.Thread(target=_accept, args=(listener, loaded), daemon=True).start()
    parent.tell(loaded.word)
    told = lines.readline()  # empty when the parent has ended
    if told:
        _close(loaded.model, parent)
        atexit._run_exitfuncs()  # noqa: SLF001 - libraries flush what they hold; os._exit would lose it
    os._exit(0)


def _leave_the_end_to_the_parent() -> None:
    """
    Do nothing on SIGTERM: the server may get it for all its processes, and then first finishes its requests.

    Processes that the model starts end on SIGTERM as usual.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - Linux only

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _prepare(order: Mapping[str, Any]) -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    others = [place for place in sys.path if place != here]
    standard = [place for place in others if _is_standard(place)]
    sys.path[:] = [*standard, *order["path"], *(place for place in others if place not in standard)]
    if sys.pycache_prefix is None:  # nothing is written beside the files of the model
        sys.dont_write_bytecode = True
    if order["most_memory"]:
        import resource  # noqa: PLC0415 - not on every platform

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = 2 * order["most_memory"] + _BESIDES_MODEL
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard < 0 else min(most, hard), hard))


def _is_standard(place: str) -> bool:
    """Tell whether the directory *place* has modules of the standard library, which no file of a project replaces."""
    library = os.path.dirname(os.__file__)
    name = os.path.basename(place)
    if os.path.dirname(place) == library:
        return "packages" not in name
    return place == library or name == "python{}{}.zip".format(*sys.version_info[:2])


def _loaded(order: Mapping[str, Any], parent: _Parent) -> _Model | None:
    try:
        return _Model(order)
    except NotLoadable as error:
        message, remedy = error.args
        failed = {"message": message, "detail": "", "remedy": remedy}
    except ModuleNotFoundError as error:
        failed = {
            "message": f"{order['doing']} needs the module {error.name!r}, which is not installed here.",
            "detail": "",
            "remedy": "Install the package that provides it in the environment of this model.",
        }
    except BaseException as error:  # noqa: BLE001 - whatever the model's code raises is its own fault
        place = _places(error).partition(" < ")[0]
        failed = {
            "message": f"{order['doing']} failed with {_kinds(error)}" + (f" at {place}." if place else "."),
            "detail": f"{type(error).__name__}: {error}"[:_LONGEST_DETAIL],
            "remedy": "",
        }
    parent.tell(json_line({"failed": failed}))
    return None


def _accept(listener: socket.socket, loaded: _Model) -> None:
    while True:
        connection, _ = listener.accept()
        try:
            threading.Thread(target=_Connection(connection, loaded).run, daemon=True).start()
        except RuntimeError:  # the limit of memory or of processes is reached: this caller is told by the end
            connection.close()


def _close(model: Any, parent: _Parent) -> None:
    close = getattr(model, "close", None)
    if callable(close):
        try:
            close()
        except BaseException as error:  # noqa: BLE001 - the process ends anyway
            parent.log_error("model_not_closed", error)


if __name__ == "__main__":
    main(sys.argv[1:])
