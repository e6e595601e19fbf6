"""Files that people and their programs put where the pipeline keeps its own."""

from pathlib import Path

FOREIGN: dict[str, bytes] = {
    ".DS_Store": b"\x00\x00\x00\x01Bud1",
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "desktop.ini": b"[.ShellClassInfo]\r\n",
    "README.txt": b"what this folder is for",
    "NOTES.md~": b"an editor's copy",
    "empty": b"",
    "x.parquet": b"PAR1 of somebody else PAR1",
    "copy of part-00000-0000000000000000.parquet": b"a copy",
    "part-00000-0000000000000000.parquet": b"the name is of our form, the hash is not of this content",
    "part-00000-0000000000000000.parquet.bak": b"a copy",
    "00000000000000000001 (1).json": b"{}",
    "0000000001.json.zst.part": b"(\xb5/\xfd",
    "a name\nof two lines.md": b"two lines",
    "folder/inside.txt": b"below a folder of its own",
    "_hidden/inside.parquet": b"below a folder that some readers skip",
}
"""Name -> content."""


def put_foreign_files(top: Path) -> dict[Path, bytes]:
    """Put all of them into a folder and every folder below. Returns each path's content."""
    folders = [top, *(path for path in top.rglob("*") if path.is_dir())]
    put = {folder / name: content for folder in folders for name, content in FOREIGN.items()}
    for path, content in put.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return put


def changed(put: dict[Path, bytes]) -> list[Path]:
    """Those that are not there any more, byte for byte."""
    return [path for path, content in put.items() if not path.is_file() or path.read_bytes() != content]
