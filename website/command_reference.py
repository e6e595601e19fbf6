"""The page of commands, of what the command line says of itself."""

from collections.abc import Iterator

import click
from markdown_text import paragraphs, prose, table

from vv_exports.cli import main
from vv_exports.cli.commands import COMMON


def page() -> str:
    """The page."""
    common = options(click.command("any")(COMMON[0](COMMON[1](lambda: None))))
    parts = [
        "# Commands",
        "Made of the command line, which says the same with `-h` behind any command. Every command also has "
        + " and ".join(f"`{option.opts[0]}` ({prose((option.help or '').rstrip('.'))})" for option in common)
        + ". The exit code is 0 for done, 1 where the work failed, 2 where the request or the configuration is wrong.",
    ]
    for path, command in commands(main):
        usage = " ".join(["vv-exports", *path, *command.collect_usage_pieces(click.Context(command))])
        parts += [f"## {' '.join(path)}", f"```text\n{usage}\n```", paragraphs(command.help or "")]
        rows = [
            (_spelled(one), prose(one.help or ""))
            for one in options(command)
            if one.name not in {option.name for option in common}
        ]
        if rows:
            parts.append(table(("Option", ""), rows))
    return "\n\n".join(parts) + "\n"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its words, in the order in which help lists them."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def options(command: click.Command) -> list[click.Option]:
    """The options of a command."""
    return [one for one in command.params if isinstance(one, click.Option) and not one.hidden]


def _spelled(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    value = option.make_metavar(click.Context(click.Command("any")))
    return f"{names} `{value}`"
