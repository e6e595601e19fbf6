"""What a store, or a proxy before it, says in its errors, made fit to be shown: without secrets, short, in one line.

Some repeat the headers of the request that they refuse, with its signature and the session token in them.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote

_LONGEST = 300
_SHORTEST_SECRET = 6
_KNOWN_BY = 12
"""Characters of a secret by which it is known, since some quote the beginning of a header alone."""

_NAMES = "|".join((
    r"x-[a-z0-9-]*(?:token|signature|credential|secret|key|authorization)[a-z0-9-]*",
    r"(?:access|refresh|id|session|security)_?token|client_?secret|secret(?:_?access)?_?key|account_?key",
    r"shared_?access_?signature|signature|sig|assertion|password|upload_id|string_?to_?sign|credential",
))  # fmt: skip
_BETWEEN = r"""(?:["']?\s*(?:[:=>]|%3[ad])|["']\s*,(?:\s*["']?value["']?\s*[:=])?)\s*b?["']?"""
_MASKED: tuple[tuple[str, str], ...] = (
    (r"""(\bhttps?://)[^\s/"'<>?#@]*@""", r"\1***@"),
    (r"""(\bhttps?://[^\s"'<>?#]*)[?#][^\s"'<>]*""", r"\1?***"),
    # These hold spaces and commas.
    (rf"""(\b(?:proxy-)?authorization|\b(?:set-)?cookie)({_BETWEEN})[^\r\n"'<>]+""", r"\1\2***"),
    (r"""\b(AWS4-[A-Z0-9-]+)\s[^\r\n"'<>]+""", r"\1 ***"),
    (rf"""(?<![a-z0-9])({_NAMES})({_BETWEEN})[^\s&;,"'<>]+""", r"\1\2***"),
    (r"""\b(bearer|sharedkey(?:lite)?|AWS(?= [A-Z0-9]{16,}:))\s+[^\s"'<>,;]{6,}""", r"\1 ***"),
    (r"\b(?:ya29\.|sk_[a-z]+_|eyJ[\w-]+\.)[\w.+/=-]+", "***"),
    # Nothing that is for people has no gap for so long.
    (r"[A-Za-z0-9+/_%-]{100,}={0,2}", "***"),
)


def quoted(text: str, secrets: Iterable[str] = (), *, longest: int = _LONGEST) -> str:
    """What a store said, for an error or a log line: no more than ``longest`` characters, without control characters
    and anything that is, or looks like, a secret."""
    for secret in sorted(secrets, key=len, reverse=True):
        for written in dict.fromkeys((secret, quote(secret, safe=""))):
            if len(written) >= _SHORTEST_SECRET:
                text = text.replace(written, "***")
            if len(written) > _KNOWN_BY:
                text = re.sub(re.escape(written[:_KNOWN_BY]) + r"[A-Za-z0-9+/=_%.-]*", "***", text)
    for pattern, instead in _MASKED:
        text = re.sub(pattern, instead, text, flags=re.IGNORECASE)
    text = " ".join(text.split())
    text = "".join(one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode() for one in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"
