"""Texts of others without what opens anything: a store's or a server's errors, which are to be shown, and fields of
results, which are to be kept.

Some stores repeat the headers of the request that they refuse, with its signature and the session token in them.
"""

import html
import re
from collections.abc import Iterable
from functools import lru_cache

_LONGEST = 300
_LOOKED_AT = 20_000
"""Characters of a text that are looked at: a page of megabytes would take minutes."""
_SHORTEST_SECRET = 6
_KNOWN_BY = 12
"""Characters of a secret by which it is known, since some quote the beginning of a header alone."""

_NAMES = "|".join((
    r"x-[a-z0-9-]{0,60}(?:token|signature|credential|secret|key|authorization)[a-z0-9-]{0,60}",
    r"(?:access|refresh|id|session|security)_?token|client_?secret|secret(?:_?access)?_?key|account_?key",
    r"shared_?access_?signature|signature|sig|assertion|password|upload_id|string_?to_?sign|credential",
))  # fmt: skip
# Links without a query match too: otherwise each of many in a row would be looked through to the end of all.
_LINK = re.compile(r"""(\bhttps?://[^\s"'<>?#]*)([?#][^\s"'<>]*)?""", re.IGNORECASE)
_USER = re.compile(r"""(\bhttps?://)[^\s/"'<>?#@]*@""", re.IGNORECASE)
_WEB = re.compile("https?://", re.IGNORECASE)
_BETWEEN = r"""(?:["']?\s*(?:[:=>]|%3[ad])|["']\s*,(?:\s*["']?value["']?\s*[:=])?)\s*b?["']?"""
_MASKED: tuple[tuple[str, str], ...] = (
    # These hold spaces and commas.
    (rf"""(\b(?:proxy-)?authorization|\b(?:set-)?cookie)({_BETWEEN})[^\r\n"'<>]+""", r"\1\2***"),
    (r"""\b(AWS4-[A-Z0-9-]+)\s[^\r\n"'<>]+""", r"\1 ***"),
    # Long headers are folded: they go on in a line that begins with a blank.
    (rf"""(?<![a-z0-9])({_NAMES})({_BETWEEN})[^\s&;,"'<>]+(?:\r?\n[ \t]+[^\s&;,:"'<>]+(?=\s|$))*""", r"\1\2***"),
    (r"""\b(bearer|sharedkey(?:lite)?|AWS(?= [A-Z0-9]{16,}:))\s+[^\s"'<>,;]{6,}""", r"\1 ***"),
    (r"\b(token|api[_-]?key)([ =:]+)[A-Za-z0-9._~+/-]{16,}=*", r"\1\2***"),
    (r"\b(?:ya29\.|sk_[a-z]+_|eyJ[\w-]+\.)[\w.+/=-]+", "***"),
    # Nothing that is for people has no gap for so long.
    (r"[A-Za-z0-9+/_%-]{100,}={0,2}", "***"),
)


def quoted(text: str, secrets: Iterable[str] = (), *, longest: int = _LONGEST) -> str:
    """What others said, for an error or a log line: no more than ``longest`` characters, without control characters
    and anything that is, or looks like, a secret."""
    text = html.unescape(text[:_LOOKED_AT])
    known = {spelled for secret in secrets for spelled in (secret, html.unescape(secret))}
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = _without(text, secret)
    text = without_link_secrets(text)
    for pattern, instead in _MASKED:
        text = re.sub(pattern, instead, text, flags=re.IGNORECASE)
    text = " ".join(text.split())
    text = "".join(one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode() for one in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def without_link_secrets(text: str) -> str:
    """The text with every web link cut where its query begins: signatures and tokens stand there."""
    if _WEB.search(text) is None:
        return text
    return _LINK.sub(lambda link: f"{link[1]}?***" if link[2] else link[1], _USER.sub(r"\1***@", text))


def holds_link(value: object) -> bool:
    """Whether there is a web link anywhere in a decoded JSON value."""
    match value:
        case str():
            return "://" in value and _WEB.search(value) is not None
        case list():
            return any(map(holds_link, value))
        case dict():
            return any(map(holds_link, value.values()))
        case _:
            return False


def _without(text: str, secret: str) -> str:
    """The text without a secret, and without any beginning of it that is long enough to be known by; also where it is
    cut into lines or percent-encoded."""
    beginning = re.compile(_GAP.join(map(_written, secret[:_KNOWN_BY])))
    kept, end = [], 0
    while (found := beginning.search(text, end)) is not None:
        kept += [text[end : found.start()], "***"]
        end = found.end()
        for character in secret[_KNOWN_BY:]:
            following = re.compile(_GAP + _written(character)).match(text, end)
            if following is None:
                break
            end = following.end()
        if len(secret) > _KNOWN_BY:
            rest = _REST.match(text, end)
            end = rest.end() if rest else end
    return "".join([*kept, text[end:]])


_GAP = r"(?:\s|\\[nrt])*"
_REST = re.compile(r"[A-Za-z0-9+/=_%.-]*")


@lru_cache(maxsize=256)
def _written(character: str) -> str:
    """A pattern for the ways to write a character in a URL, in JSON, and as it is."""
    encoded = "".join(f"%(?:25)*{byte:02x}" for byte in character.encode(errors="surrogatepass"))
    return rf"\\?(?:{re.escape(character)}|(?i:{encoded}|u{ord(character):04x}))"
