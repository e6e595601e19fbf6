"""Beginning a deployment: asking what it is to be, trying each step, writing its files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from vv_exports.cli.commands import DONE, command
from vv_exports.cli.connectors import FIELDS
from vv_exports.cli.findings import steps, told
from vv_exports.console import Console
from vv_exports.errors import RequestError, VVExportsError
from vv_exports.printable import one_line

_SOURCES = ("videovector", "local_archive")
_PROVIDERS = ("local", "s3", "gcs", "azure")
_FORMATS = ("parquet", "jsonl", "csv", "json")
_ASKED: dict[str, tuple[tuple[str, str, str | None], ...]] = {
    "local": (("root", "Which folder", "deliveries"),),
    "s3": (
        ("bucket", "Which bucket", None),
        ("region", "Its region (empty: as the AWS SDK finds it)", ""),
        ("endpoint_url", "The store's address (empty: Amazon's)", ""),
        ("access_key_id_env", "The environment variable with the key's id (empty: where the AWS SDK looks)", ""),
        ("secret_access_key_env", "The environment variable with the secret key (empty: where the AWS SDK looks)", ""),
    ),
    "gcs": (
        ("bucket", "Which bucket", None),
        (
            "credentials_file_env",
            "The environment variable with the key file's path (empty: as Google's libraries)",
            "",
        ),
    ),
    "azure": (
        ("storage_account", "Which storage account", None),
        ("container", "Which container", None),
        ("account_key_env", "The environment variable with the account's key (empty: as Azure's libraries)", ""),
    ),
}
"""What is asked of a provider's connector: the field, the question, and the default, where there is one."""


class _Questions:
    """Asks people on the terminal, and nobody where there is none to be asked."""

    def __init__(self, *, nobody: bool) -> None:
        self.nobody = nobody

    def text(self, option: str, question: str, default: str | None = None) -> str:
        """An answer; the default where nobody can be asked. Raises RequestError where there is none."""
        return str(self._asked(option, question, default=default, type=str)).strip()

    def choice(self, option: str, question: str, allowed: Sequence[str], default: str) -> str:
        """One of a few."""
        return str(self._asked(option, question, default=default, type=click.Choice(allowed)))

    def secret(self, question: str) -> str:
        """What is not shown; empty where nobody can be asked."""
        return "" if self.nobody else str(self._asked("", question, default="", hide_input=True, show_default=False))

    def confirm(self, question: str) -> bool:
        """Yes or no; no where nobody can be asked."""
        if self.nobody:
            return False
        try:
            return click.confirm(question, default=False, err=True)
        except click.Abort:
            raise RequestError(f"stopped at the question {question!r}, and nothing was written") from None

    def _asked(self, option: str, question: str, *, default: str | None, **how: Any) -> Any:
        if self.nobody:
            if default is None:
                raise RequestError(f"{option} is needed, since nobody is to be asked (--no-input)")
            return default
        try:
            return click.prompt(question, default=default, err=True, **how)
        except click.Abort:
            known = f"; where nobody can be asked, give {option} and --no-input" if option else ""
            raise RequestError(f"stopped at the question {question!r}, and nothing was written{known}") from None


@command(
    "init",
    click.option("--source", type=click.Choice(_SOURCES), help="Where prompt runs are read."),
    click.option("--base-url", metavar="URL", help="videovector: the API's address, where it is another one."),
    click.option("--api-key-env", metavar="NAME", help="videovector: the environment variable that holds the API key."),
    click.option("--archive", metavar="FOLDER", help="local_archive: the archive's folder, or its URL."),
    click.option("--index", "index_ids", multiple=True, metavar="ID", help="An index to follow; repeat for more."),
    click.option("--all-indexes", is_flag=True, help="Follow all indexes that the source has."),
    click.option("--from-platform", is_flag=True, help="Take over VideoVector's connectors and export automations."),
    click.option("--connector", "connector_id", default="conn_export", show_default=True, metavar="ID"),
    click.option("--provider", type=click.Choice(_PROVIDERS), help="Where to deliver."),
    *FIELDS,
    click.option("--automation", default="export", show_default=True, metavar="NAME", help="Its name, in each index."),
    click.option("--format", "format_name", type=click.Choice(_FORMATS), help="The format of the files."),
    click.option("--no-input", is_flag=True, help="Ask nothing: what is not named has its default, or is an error."),
    click.option("--untested", is_flag=True, help="Write the files although the source or the destination fail."),
    click.option("--overwrite", is_flag=True, help="Replace files that are there."),
)
def init(console: Console, *, no_input: bool, untested: bool, overwrite: bool, **options: Any) -> int:
    """Begin a deployment here: try the source, choose indexes, try the destination, write vv_exports.yaml, dagster.yaml
    and workspace.yaml. Asks for what no option says. Secrets are never written."""
    from vv_exports.client.setup import NewDeployment

    new = NewDeployment(Path.cwd(), overwrite=overwrite)
    click.get_current_context().call_on_close(new.close)
    questions = _Questions(nobody=no_input)
    tried = _Tried(console, questions, untested=untested)

    _source(new, questions, options)
    tried.that("the source", new.check_source())
    found = new.indexes() if not tried.failed else []
    chosen = _chosen(console, questions, found, options)
    notes: list[str] = []
    fields = {"start": "beginning"}
    if options["from_platform"] or (
        options["provider"] is None and not tried.failed and _wants_platform(new, console, questions)
    ):
        fields["format"] = _format(questions, options)
        notes += new.take_over(chosen, options["automation"], fields)
    else:
        _connector(new, questions, options)
        made = new.make_root(options["connector_id"])
        notes += [f"the folder {one_line(str(made))} is made"] if made else []
        tried.that("the destination", new.check_connector(options["connector_id"]))
        fields["format"] = _format(questions, options)
        for index_id in chosen:
            new.follow(index_id, options["automation"], {**fields, "destination_connector_id": options["connector_id"]})
    written = new.write()
    notes += new.missing_variables()
    _tell(console, written, notes, tried.findings, chosen)
    return DONE


class _Tried:
    """What was tried before anything is written, and whether to go on where it fails."""

    def __init__(self, console: Console, questions: _Questions, *, untested: bool) -> None:
        self._console = console
        self._questions = questions
        self._untested = untested
        self.findings: list[Any] = []
        self.failed = False

    def that(self, what: str, check: Any) -> None:
        """Tell the steps of a check. Raises RequestError where one fails, and nobody wants to go on."""
        code, findings = told(self._console, check)
        self.findings += findings
        if code == DONE:
            return
        self.failed = True
        if self._untested or self._questions.confirm(f"{what} cannot be used yet, see above. Go on all the same?"):
            return
        failed = next(one for one in findings if one.outcome == "failed")
        raise RequestError(
            f"{what} cannot be used yet, so nothing was written ({failed.step}: {failed.detail}). Mend it, or write "
            "the files all the same with --untested"
        )


def _source(new: Any, questions: _Questions, options: dict[str, Any]) -> None:
    kind = options["source"] or ("local_archive" if options["archive"] else None)
    kind = kind or questions.choice("--source", "Where are the prompt runs", _SOURCES, "videovector")
    if kind == "local_archive":
        path = options["archive"] or questions.text("--archive", "The archive's folder")
        new.read_from({"kind": kind, "path": path})
        return
    variable = options["api_key_env"] or questions.text(
        "--api-key-env", "The environment variable that holds the API key", "VIDEO_VECTOR_API_KEY"
    )
    new.read_from({"kind": kind, "base_url": options["base_url"], "api_key_env": variable})
    if not os.environ.get(variable):
        key = questions.secret(f"{variable} is not set. The key, for now (it is neither shown nor written)")
        if key:
            os.environ[variable] = key
            new.borrowed.append(variable)


def _chosen(console: Console, questions: _Questions, found: Sequence[Any], options: dict[str, Any]) -> list[str]:
    known = [one.index_id for one in found]
    chosen = list(options["index_ids"])
    if not chosen and options["all_indexes"]:
        chosen = known
    elif not chosen and known:
        for number, one in enumerate(found, 1):
            console.note(f"{number:>4}  {one_line(one.index_id)}  {one_line(one.name)}")
        answer = questions.text(
            "--index or --all-indexes", "Which indexes (numbers or ids, with commas; or all)", "all"
        )
        named = [part.strip() for part in answer.split(",") if part.strip()]
        chosen = known if answer.lower() == "all" else [_by_number(part, known) for part in named]
    if known and (unknown := [one for one in chosen if one not in known]):
        raise RequestError(
            f"the source has no index {one_line(', '.join(unknown))}; it has: {one_line(', '.join(known))}. Nothing "
            "was written"
        )
    if not chosen:
        raise RequestError("there is no index to follow: name one with --index. Nothing was written")
    return list(dict.fromkeys(chosen))


def _by_number(part: str, known: Sequence[str]) -> str:
    """An index by its number in the list, or by its id, which may be a number too."""
    is_number = part not in known and part.isdecimal() and 1 <= int(part) <= len(known)
    return known[int(part) - 1] if is_number else part


def _wants_platform(new: Any, console: Console, questions: _Questions) -> bool:
    """Whether what is registered at the platform is to be taken over. Asked where there is something."""
    if questions.nobody:
        return False
    try:
        found = new.platform_connectors()
    except VVExportsError as error:
        console.note(f"Warning: whether there is something to take over is not known: {error}")
        return False
    if not found:
        return False
    known = one_line(", ".join(found))
    return questions.confirm(f"Take over VideoVector's connectors ({known}) and its export automations?")


def _connector(new: Any, questions: _Questions, options: dict[str, Any]) -> None:
    provider = options["provider"] or questions.choice("--provider", "Where to deliver", _PROVIDERS, "local")
    asked = {field: (question, default) for field, question, default in _ASKED[provider]}
    names = [str(param.name) for param in init.params if isinstance(param, click.Option)]
    fields: dict[str, Any] = {"provider": provider}
    of_connectors = names[names.index("provider") + 1 : names.index("automation")]
    for name in (*asked, *(one for one in of_connectors if one not in asked)):
        value = options[name]
        if value in {None, ()} and name in asked:
            value = questions.text(f"--{name.replace('_', '-')}", *asked[name])
        if value not in {None, (), ""}:
            fields[name] = list(value) if isinstance(value, tuple) else value
    new.add_connector(options["connector_id"], fields)
    _ = new.config  # what is wrong with it is said now


def _format(questions: _Questions, options: dict[str, Any]) -> str:
    return options["format_name"] or questions.choice("--format", "In which format", _FORMATS, "parquet")


def _tell(
    console: Console, written: Sequence[Any], notes: Sequence[str], findings: Sequence[Any], chosen: Sequence[str]
) -> None:
    following = ["vv-exports automations run --all", "vv-exports ui"]
    if console.as_json:
        document = {"files": [vars(one) for one in written], "indexes": chosen, "notes": notes, "next": following}
        console.document({**document, "checks": steps(list(findings))})
        return
    for one in written:
        console.line(f"{one.path} is {one.outcome}{f': {one.note}' if one.note else ''}")
    for note in notes:
        console.line(f"  {note}")
    console.line(f"next: `{following[0]}` delivers now; `{following[1]}` delivers while it runs, and shows it")
