"""Load an artefact in a fresh interpreter, which has none of the caller's own modules."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Final

from mendel.errors import MendelError, Unsupported

_PATIENCE: Final = timedelta(minutes=5)
_MOST_EXAMPLES: Final = 10_000
_MODULE: Final = "mendel.adapters.processes.trial_load"
_REMEDY: Final = (
    "Pass the files and directories of the model's own modules as code_paths=, or serve the model as a project."
)


def require_loadable_elsewhere(directory: Path) -> None:
    """
    Load the artefact in *directory* in a fresh interpreter, and predict its input example there.

    Raises:
        Unsupported: A process without the caller's own modules cannot load the model, or its prediction fails.
    """
    with tempfile.TemporaryDirectory(prefix="mendel-trial-") as elsewhere:
        environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
        try:
            ended = subprocess.run(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", _MODULE, str(directory.resolve())],
                cwd=elsewhere,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PATIENCE.total_seconds(),
            )
        except subprocess.TimeoutExpired as error:
            raise Unsupported(
                f"A fresh Python process did not load the model within {_PATIENCE}.", remedy=_REMEDY
            ) from error
    if ended.returncode == 0:
        return
    last = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
    raise Unsupported(f"Only this process can load the model; a fresh Python process cannot: {last}", remedy=_REMEDY)


def main() -> None:
    """Load the artefact whose directory is the first argument; exit 1 with one line on stderr if that fails."""
    try:
        _try(Path(sys.argv[1]))
    except MendelError as error:
        sys.exit(f"{error.message} {getattr(error, 'detail', '')}".replace("\n", " "))


def _try(directory: Path) -> None:
    """Load the artefact, predict its input example, and replace its parity report by the result of this process."""
    from mendel.serving import check_predictor, load_predictor, predict_example  # noqa: PLC0415 - in the child only
    from mendel.serving.input_codec import InputCodec  # noqa: PLC0415
    from mendel.serving.parity import write_parity  # noqa: PLC0415
    from mendel.serving.probe_rows import read_probe  # noqa: PLC0415

    predictor = load_predictor(directory, digest=None, project=None)
    descriptor = predictor.descriptor
    codec = InputCodec(descriptor.contract, order=descriptor.order, max_rows=_MOST_EXAMPLES)
    predict_example(directory, codec, predictor.predict)
    if (probe := read_probe(directory)) is not None:
        write_parity(directory, check_predictor(predictor, probe))


if __name__ == "__main__":
    main()
