"""Asking a Dagster webserver that runs: to load the code location again, with the configuration as it is by now."""

import json
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from vv_exports.errors import RequestError, RunFailedError, TransientError

LOCATION = "vv_exports"
"""The code location's name, as `workspace.yaml` has it. Dagster keeps the state of sensors under it."""
_SECONDS = 180
"""A location with hundreds of indexes takes minutes on a busy machine."""
_RELOAD = """
mutation Reload($location: String!) {
  reloadRepositoryLocation(repositoryLocationName: $location) {
    __typename
    ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message } } }
    ... on ReloadNotSupported { message }
    ... on RepositoryLocationNotFound { message }
    ... on UnauthorizedError { message }
    ... on PythonError { message }
  }
}
"""


def reload_location(url: str, location: str = LOCATION) -> None:
    """Have the webserver at an address load a code location again. Returns when that is loaded.

    Raises RequestError where the address or the location is wrong, RunFailedError where the location does not load, and
    TransientError where nobody answers.
    """
    asked = f"the webserver at {url} was asked to load the code location {location!r} again"
    answer = _asked(url, {"query": _RELOAD, "variables": {"location": location}}, asked)
    reloaded = (answer.get("data") or {}).get("reloadRepositoryLocation")
    if not isinstance(reloaded, dict):
        raise RequestError(f"{asked}, and does not know how: {json.dumps(answer)[:500]}. Is it Dagster's?")
    if reloaded["__typename"] != "WorkspaceLocationEntry":
        raise RequestError(f"{asked}, and refused: {reloaded.get('message') or reloaded['__typename']}")
    loaded = reloaded["locationOrLoadError"] or {}
    if loaded.get("__typename") == "PythonError":
        raise RunFailedError(f"{asked}, which failed: {str(loaded.get('message')).strip()}")


def _asked(url: str, body: dict[str, Any], asked: str) -> dict[str, Any]:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise RequestError(f"{url!r} is no address of a webserver; write it as http://127.0.0.1:3000")
    request = Request(  # noqa: S310 - its scheme is checked
        f"{url.rstrip('/')}/graphql",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Accept": "application/json"},
    )
    try:
        with _opener(url).open(request, timeout=_SECONDS) as answer:
            said = json.load(answer)
    except HTTPError as error:
        kind = TransientError if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR else RequestError
        raise kind(f"{asked}, and answered {error.code} {error.reason}") from error
    except (URLError, TimeoutError, ConnectionError) as error:
        why = error.reason if isinstance(error, URLError) else error
        raise TransientError(
            f"{asked}, and does not answer: {why}. Start it (`vv-exports ui`), or name its address with --url; one "
            "that is started later reads the configuration then"
        ) from error
    except ValueError as error:
        raise RequestError(f"{asked}, and answered no JSON: is it Dagster's?") from error
    return said if isinstance(said, dict) else {}


def _opener(url: str) -> OpenerDirector:
    """No proxy leads to this machine, whatever the environment says of others."""
    is_here = urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"}
    return build_opener(ProxyHandler({})) if is_here else build_opener()
