"""What slow commands tell a person while they work."""

from __future__ import annotations

import io
import time

import pytest

from mendel.app.progress import Progress, showing


def test_a_file_gets_one_line_for_each_phase():
    """Without a terminal, each phase is one plain line, written when it begins."""
    stream = io.StringIO()
    with showing("Reading", stream=stream) as shown:
        assert stream.getvalue() == "Reading ...\n"
        shown.phase("Training", " 3 of 7")
        shown.phase("Training", " 4 of 7")
    assert stream.getvalue() == "Reading ...\nTraining ...\n"


def test_fast_work_is_silent():
    """Work that ends before *after_s* writes nothing."""
    stream = io.StringIO()
    with showing("Connecting", stream=stream, after_s=60.0) as shown:
        shown.phase("Opening")
    assert not stream.getvalue()


def test_a_terminal_line_is_removed_at_the_end():
    """On a terminal, the moving line has the newest detail, and nothing of it remains."""
    stream = io.StringIO()
    with showing("Training", stream=stream, moving=True) as shown:
        shown.phase("Training", " 3 of 7")
        deadline = time.monotonic() + 10
        while "Training ... 3 of 7" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "Training ... 3 of 7" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_an_error_ends_the_progress():
    """The line is removed also when the work fails."""
    stream = io.StringIO()
    with pytest.raises(RuntimeError), showing("Training", stream=stream, moving=True):
        raise RuntimeError
    assert stream.getvalue().endswith("\r\x1b[K")


def test_nothing_is_written_without_a_stream():
    """With ``--json`` there is no stream, and phases are not shown."""
    with showing("Training", stream=None) as shown:
        shown.phase("Registering")
    assert (shown.stream, shown.moving) == (None, False)


def test_the_work_goes_on_when_nobody_reads():
    """A closed stream, for example of a pipe whose reader ended, ends the progress and not the work."""
    for broken in (BrokenPipeError, ValueError):
        stream = Unread(broken)
        with showing("Stopping the server", stream=stream, moving=False) as shown:
            shown.phase("Killing the server")
        assert stream.written == ["Stopping the server ...\n"]


class Unread(io.StringIO):
    """A stream that nobody reads any longer."""

    def __init__(self, error):
        super().__init__()
        self.error, self.written = error, []

    def write(self, text):
        self.written.append(text)
        raise self.error


def test_a_phase_without_its_own_line_removes_the_line_before():
    """A line that was drawn for an earlier phase is removed at the end."""
    stream = io.StringIO()
    shown = Progress(stream, moving=True, after_s=0.01)
    shown.phase("Connecting")
    shown._show()
    shown.phase("Opening")
    shown.end()
    assert stream.getvalue().endswith("\r\x1b[K")
