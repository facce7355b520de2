"""
Checks of any server against the Open Inference Protocol v2, over REST and gRPC.

    report = mendel.conformance.check("http://127.0.0.1:8008", model="credit")
    assert report.conforms, report.failed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.conformance.check_table import GRPC_CHECKS, REST_CHECKS, SPECIFICATION, Check
    from mendel.conformance.conformance_run import check
    from mendel.conformance.findings import Finding, Report, Requirement, Transport, Verdict
    from mendel.conformance.junit_report import junit_xml
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "GRPC_CHECKS",
    "REST_CHECKS",
    "SPECIFICATION",
    "Check",
    "Finding",
    "Report",
    "Requirement",
    "Transport",
    "Verdict",
    "check",
    "junit_xml",
]
