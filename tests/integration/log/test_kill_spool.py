"""A writer that is killed loses nothing it acknowledged."""

from __future__ import annotations

from mendel.predictions import Spool, id_texts, read_segment, sealed_segments

KILLS = 60


def logged(directory):
    found = []
    for segment in sealed_segments(directory):
        content = read_segment(segment.path)
        found += [name for block in content.blocks for name in id_texts(block.prediction_ids)]
    return found


def test_every_acknowledged_row_survives_kill_9_and_none_is_doubled(start, tmp_path):
    """Killed sixty times at random moments, a spool holds every acknowledged row exactly once, in gapless segments."""
    writers = start("append_and_die", tmp_path, KILLS, 11)
    output, _ = writers.communicate(timeout=60)
    acknowledged = output.splitlines()
    with Spool(tmp_path, "s1"):
        pass
    found = logged(tmp_path)
    assert len(acknowledged) > KILLS
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    numbers = [segment.seq for segment in sealed_segments(tmp_path)]
    assert numbers == list(range(1, len(numbers) + 1))
