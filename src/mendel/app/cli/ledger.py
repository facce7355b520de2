"""Commands that show and verify the ledger, and prove what it contains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mendel.app.cli.options import Directory, hub
from mendel.app.cli.output import Grid, Result, progress
from mendel.app.cli.parameters import argument, option
from mendel.app.cli.tables import EVENTS, principal

if TYPE_CHECKING:
    from mendel.client.client import Client
    from mendel.durable import LedgerKey, Receipt
    from mendel.operations.ledger import LedgerProof


def show_ledger(
    *,
    after: Annotated[int, option(metavar="N", help="List the events after this sequence number.")] = 0,
    subject: Annotated[
        str | None, option(metavar="NAME", help="Only events of this model, version or incident.")
    ] = None,
    limit: Annotated[int, option(metavar="N", bounds=(1, 2000), help="Print at most this many events.")] = 1000,
    directory: Directory = None,
) -> Result:
    """List events, oldest first."""
    with hub(directory) as client:
        page, labels = client.events(after=after, limit=limit, subject=subject), client.principals()
    named = [replace(one, event=replace(one.event, actor=principal(one.event.actor, labels))) for one in page.entries]
    return Result(page, [EVENTS.grid(named)])


def verify_ledger(
    *,
    anchors: Annotated[
        str | None,
        option("--anchors", metavar="PLACE", help="Also check copied checkpoints in a directory or in git:REPOSITORY."),
    ] = None,
    key: Annotated[
        list[Path] | None,
        option("--key", metavar="FILE", help="Trust only this public key (PEM) for the copies; may be repeated."),
    ] = None,
    state: Annotated[
        bool,
        option("--state", help="Also rebuild the registry's state from the events, and compare it with the tables."),
    ] = False,
    directory: Directory = None,
) -> Result:
    """
    Check the whole ledger and every signed anchor.

    The hash chain, the Merkle tree, the head row, the recorded checkpoints and the anchors are checked. Each fault is
    printed with its place; the command then exits with 1.
    """
    from mendel.app.anchor_copies import check_copies, read_copies, read_keys  # noqa: PLC0415 - help must be quick

    copies = () if anchors is None else read_copies(anchors)
    with progress("Verifying the ledger") as shown, hub(directory, quiet=True) as client:

        def tell(sofar: LedgerProof) -> None:
            shown.phase("Verifying the ledger", f" {sofar.last:,} entries")

        sizes = [one.size for one in copies if one.size]
        proof = client.verify_ledger(sizes=sizes, tables=state, progress=tell)
        trusted = read_keys(key) if key else _trusted(client)
    if anchors is not None:
        proof = replace(proof, findings=(*proof.findings, *check_copies(copies, proof, trusted, where=anchors)))
    return Result(proof, _proof_lines(proof), exit_code=0 if proof.holds else 1)


def sign_checkpoint(*, directory: Directory = None) -> Result:
    """Sign the ledger as it is now."""
    with hub(directory) as client:
        signed = client.checkpoint()
    return Result(signed, [signed.note.rstrip("\n")])


def show_receipt(
    entry: Annotated[str, argument("ENTRY", "The number of an entry, or the id of its event.")],
    *,
    output: Annotated[
        Path | None, option("--output", "-o", metavar="DIR", help="Write the files of the receipt to DIR.")
    ] = None,
    directory: Directory = None,
) -> Result:
    """
    Print the proof that the ledger contains an entry.

    Anyone can check the proof without Mendel, with openssl and sha256sum.
    """
    from mendel.values.atomic_files import write_atomically  # noqa: PLC0415 - help must be quick

    with hub(directory) as client:
        receipt = client.receipt(entry)
    if output is None:
        return Result(receipt, [receipt.document.rstrip("\n")])
    for name, text, _ in receipt_files(receipt):
        write_atomically(output / name, text.encode())
    return Result(receipt, [f"{output / name}: {what}" for name, _, what in receipt_files(receipt)])


def list_ledger_keys(*, directory: Directory = None) -> Result:
    """List the public keys of checkpoints, oldest first."""
    with hub(directory) as client:
        keys = client.ledger_keys()
    return Result(keys, _key_lines(keys))


def rotate_ledger_key(
    *,
    lost: Annotated[
        bool, option("--lost", help="The former private key is lost: the file ledger.key is gone.")
    ] = False,
    directory: Directory = None,
) -> Result:
    """
    Sign checkpoints with a new key from now on.

    The ledger keeps the former public key, so that the former checkpoints still verify.
    """
    with hub(directory) as client:
        key = client.rotate_ledger_key(lost=lost)
    return Result(key, [f"Checkpoints are now signed with the key {key.id}, which entry {key.since} names.", key.pem])


def _trusted(client: Client) -> dict[str, str]:
    return {key.id: key.pem for key in client.ledger_keys() if key.trusted}


def receipt_files(receipt: Receipt) -> tuple[tuple[str, str, str], ...]:
    """Give the files of *receipt*: the name, the text, and what the file is."""
    return (
        ("receipt.tlog-proof", receipt.document, "entry, proof and checkpoint in one text"),
        ("entry", receipt.entry, "the entry"),
        ("proof", "".join(f"{one}\n" for one in receipt.proof), "the hashes from the entry to the root"),
        ("checkpoint", receipt.checkpoint, "the signed root"),
        ("key.pem", receipt.public_key, "the public key that signed it"),
    )


def _key_lines(keys: Iterable[LedgerKey]) -> Iterator[str]:
    for key in keys:
        use = "signs" if key.signs else "signed formerly" if key.trusted else "NOT trusted"
        yield f"{key.id}: {use}; named by entry {key.since}"
        yield key.pem


def _proof_lines(proof: LedgerProof) -> Iterator[str | Grid]:
    if not proof.holds:
        what = "The ledger or the registry" if proof.tables else "The ledger"
        yield f"{what} was altered: {len(proof.findings)} findings in {proof.last} entries."
        yield from (f"  - {finding.kind}: {finding.message}" for finding in proof.findings)
        return
    yield f"The hash chain of the ledger is intact: entries {proof.first} to {proof.last}, head {proof.head_hash[:16]}."
    if proof.tables:
        yield "Versions, deployments, policies and production periods are what the events of the ledger say."
    else:
        yield "The registry's tables were not compared with the events; compare them with --state."
    if not proof.anchors:
        yield "No anchor was signed yet, so no signature confirms the entries."
        return
    rest = "" if proof.anchored == proof.last else "; later entries are not confirmed by an anchor yet"
    yield f"Signed anchors confirm the entries up to {proof.anchored} ({proof.anchors} anchors){rest}."
