"""Are the files of a collection what was delivered, as far as somebody looked?"""

from vv_exports.automations.verifications import LastVerification
from vv_exports.checks.outcome import OF_A_COLLECTION, CheckOutcome, runs_named
from vv_exports.printable import counted

_NAME = "verification"


def verification(index_id: str, automation: str, uri: str, last: LastVerification) -> CheckOutcome:
    """Of the last verification of what is at ``uri``: one of another place says nothing of it."""
    if last.at is None or last.uri != uri:
        return CheckOutcome(
            index_id,
            ("exports", automation),
            _NAME,
            passed=True,
            severity=OF_A_COLLECTION[_NAME].severity,
            description=(
                "No file was read again yet: a reconciliation (a schedule of the automation, or its asset in Dagster) "
                "or `vv-exports verify` does that."
            ),
            at=None,
        )
    by = "`vv-exports verify`" if last.by == "verify" else "the reconciliation"
    read = f"{by} read {last.files_read} of {counted(last.files, 'file')}"
    mended = f"{counted(last.mended_count, 'prompt run')} had missing or damaged files"
    if last.problem_count:
        what = f"{read} and found {counted(last.problem_count, 'problem')}. {last.problems[0]}"
    elif last.mended_count:
        what = f"{read}; {mended}, which were delivered again: {runs_named(last.mended)}."
    else:
        what = f"{read}, and all is as it was delivered."
    return CheckOutcome(
        index_id,
        ("exports", automation),
        _NAME,
        passed=not last.problem_count and not last.mended_count,
        severity="ERROR" if last.problem_count else "WARN",
        description=what[0].upper() + what[1:],
        at=last.at,
        figures={
            "files": last.files,
            "files_read": last.files_read,
            "problems": last.problem_count,
            "prompt_runs_put_right": last.mended_count,
            "verified_by": last.by,
        },
        prompt_runs=last.mended,
        rows=[{"problem": problem} for problem in last.problems],
    )
