"""JSON Pointers (RFC 6901): where in a document a value stands. It knows nothing of schemas or columns."""


def pointer(*tokens: str | int) -> str:
    """The pointer that goes through these property names and list indexes; ``''`` is the whole document."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)


def tokens(text: str) -> list[str]:
    """The property names and list indexes of a pointer. Raises ValueError."""
    if not text:
        return []
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not a JSON Pointer: it neither is empty nor starts with '/'")
    return [token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/")]
