"""Versions change under load, and nobody who asks notices."""

from __future__ import annotations

import pytest

MODEL = "credit"
SWAPS = 6


@pytest.mark.race
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_swapping_back_and_forth_under_load_fails_no_request(two_versions, load):
    """Six promotions back and forth under load over every door: each takes effect, and no request fails."""
    two_versions.settings["MENDEL_SERVING__WORKERS"] = "2"
    with two_versions.up(), two_versions.client() as client:
        two_versions.serves(1)
        with load(two_versions) as traffic:
            for swap in range(SWAPS):
                number = 2 - swap % 2
                client.promote(f"{MODEL}@{number}", reason=f"swap {swap}")
                two_versions.serves(number)
        assert traffic.failures == []
        assert traffic.unlogged == 0
        assert {door for door, _ in traffic.versions} == {"rest", "grpc", "zmq"}
        assert {version for _, version in traffic.versions} == {1, 2}
        assert [tenure.version for tenure in client.history(MODEL)][-SWAPS:] == [2, 1] * (SWAPS // 2)
