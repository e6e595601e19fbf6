"""The steps of a check, told as they come."""

from collections.abc import Iterable
from typing import Any

from vv_exports.cli.commands import DONE, FAILED, WRONG_REQUEST
from vv_exports.console import Console
from vv_exports.errors import RequestError

_MARKS = {"ok": "ok     ", "warning": "WARNING", "failed": "FAILED "}


def told(console: Console, check: Iterable[Any]) -> tuple[int, list[Any]]:
    """Tell a check's findings as they come. Returns the exit code, and the findings."""
    findings = []
    for finding in check:
        findings.append(finding)
        console.line(f"{_MARKS[finding.outcome]} {finding.step}: {finding.detail}")
    errors = [one.error for one in findings if one.error is not None]
    if any(isinstance(error, RequestError) for error in errors):
        return WRONG_REQUEST, findings
    return FAILED if errors else DONE, findings


def steps(findings: list[Any]) -> list[dict[str, str]]:
    return [{"step": one.step, "outcome": one.outcome, "detail": one.detail} for one in findings]
