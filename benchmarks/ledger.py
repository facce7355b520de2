"""
The ledger at size: appending, signing a checkpoint, proving an entry, and verifying all of it.

``python benchmarks/ledger.py --entries 1000000`` fills a database in a temporary directory with events like those of a
busy hub, 500 in a transaction, and then measures over that ledger. Times of single calls are the median and the 95th
percentile of 200 calls; each call commits to disk as a hub does.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from mendel.adapters.files import FileAnchors, FileSigningKeys
from mendel.adapters.sql import SqlUnitOfWork, all_stores, open_engine, prepare_schema
from mendel.durable import Event, LedgerVerification, Notary, UnitOfWork, VerifiedRange
from mendel.operations.ledger import PIECE

_CALLS = 200
_AT_ONCE = 500
_BOUND_S = 20


def main() -> None:
    """Fill a ledger and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    entries = parser.parse_args().entries
    with tempfile.TemporaryDirectory() as directory:
        measure(Path(directory), entries)


def measure(root: Path, entries: int) -> None:
    """Measure over a ledger of so many *entries*."""
    engine = open_engine(root / "mendel.db")
    prepare_schema(engine)
    unit = SqlUnitOfWork(engine, all_stores(), rng=random.Random(0))
    notary = Notary(
        unit, FileSigningKeys(root / "ledger.key"), [FileAnchors(root / "anchors")], lambda: uuid.uuid4().hex
    )
    began = time.perf_counter()
    for _ in range(entries // _AT_ONCE):
        unit.write(lambda tx: [tx.append(happened()) for _ in range(_AT_ONCE)])
    filled = time.perf_counter() - began
    appends = timed(lambda _: unit.write(lambda tx: tx.append(happened())))
    checkpoints = timed(lambda _: (unit.write(lambda tx: tx.append(happened())), notary.checkpoint(datetime.now(UTC))))
    receipts = timed(lambda number: notary.receipt(entries * number // _CALLS + 1))
    size = (root / "mendel.db").stat().st_size
    verified, pieces, last = verify(unit, notary)
    rows = (
        ("append one event and commit", told(appends)),
        ("the same, and sign, record and store a checkpoint", told(checkpoints)),
        ("prove one entry (receipt)", told(receipts)),
        ("fill the ledger, 500 events a transaction", f"{filled:.1f} s, {filled / entries * 1e6:.0f} us each"),
        ("bytes per entry in the database", f"{size / last:.0f}"),
        (f"verify in {pieces} pieces (bound {_BOUND_S} s for 1,000,000)", verified),
    )
    print(f"ledger of {last:,} entries")
    for what, result in rows:
        print(f"  {what:<60} {result}")
    engine.dispose()


def verify(unit: UnitOfWork, notary: Notary) -> tuple[str, int, int]:
    """Verify the whole ledger; gives the time, the number of pieces and the last entry."""
    verification, reached, pieces = LedgerVerification(unit, notary), VerifiedRange(), 0
    began, computed = time.perf_counter(), time.process_time()
    while True:
        piece = verification.piece(reached, limit=PIECE)
        reached, pieces = piece.reached, pieces + 1
        if piece.findings:
            sys.exit(f"The ledger does not verify: {piece.findings[0].message}")
        if piece.complete:
            passed, computed = time.perf_counter() - began, time.process_time() - computed
            return f"{passed:.1f} s, of which {computed:.1f} s on the processor", pieces, reached.last


def timed(act: Callable[[int], object]) -> list[float]:
    """Give the milliseconds of each of 200 calls, sorted."""
    taken = []
    for number in range(_CALLS):
        began = time.perf_counter()
        act(number)
        taken.append((time.perf_counter() - began) * 1e3)
    return sorted(taken)


def told(milliseconds: list[float]) -> str:
    """Write the median and the 95th percentile."""
    return f"median {statistics.median(milliseconds):.2f} ms, p95 {milliseconds[len(milliseconds) * 95 // 100]:.2f} ms"


def happened() -> Event:
    """Make an event with the data of a stage change."""
    facts = {"f1": 0.8125, "precision": 0.75, "recall": 0.875}
    return Event(
        id=uuid.uuid4().hex,
        type="model.stage_changed",
        subject="credit@17",
        time=datetime.now(UTC),
        actor="key:0123456789ab",
        data={
            "model_id": "credit/17",
            "idempotency_key": uuid.uuid4().hex,
            "registered_version": 17,
            "baseline_metrics": facts,
            "metadata": {"owner": "risk", "framework": "scikit-learn"},
            "from_stage": "sandbox",
            "to_stage": "production",
            "reason": "the retrained version passed its gates",
            "generation": 42,
        },
    )


if __name__ == "__main__":
    main()
