"""Add the pages of the documentation site that are not files in docs/: a hook of MkDocs.

``mkdocs.yml`` names this script. It generates

* a page for each game, from its rules, the certificate's figures and the benchmark's table;
* a page for each module with ``__all__``, which mkdocstrings fills from the docstrings;
* the pages that lie outside docs/, such as README.md, which is the start page.

All links are written as in the repository, where GitHub follows them. On the site, those that leave
docs/ lead to the page made of the file or, if there is none, to the file in the repository.
"""

import ast
import json
import posixpath
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from popgym_arcade.registry import GAMES

DOCS: Path = Path(__file__).parent
ROOT: Path = DOCS.parent
if str(DOCS) not in sys.path:  # MkDocs and tests import this file by its path
    sys.path.append(str(DOCS))

import make_memory  # noqa: E402
import make_rules  # noqa: E402

REPOSITORY: str = "https://github.com/bolt-research/popgym-arcade"
BRANCH: str = "main"
OUTSIDE: dict[str, str] = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""The files outside docs/ that are pages: path in the repository -> path on the site."""

PACKAGE: str = "popgym_arcade"
MODULE_OF_GAMES: str = "games."

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


# --- links ---------------------------------------------------------------------------------------


def source_url(path: str) -> str:
    """The address of a file or folder of the repository."""
    return f"{REPOSITORY}/{'tree' if (ROOT / path).is_dir() else 'blob'}/{BRANCH}/{path}"


def site_links(markdown: str, source: str, page: str) -> str:
    """Make the links of a file lead somewhere on the site; code is left alone.

    markdown: the file's text. source: its path in the repository. page: its path on the site.
    """
    folder = posixpath.dirname(source)

    def target(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        if not (ROOT / path).exists():
            return match[1]  # MkDocs reports it
        on_site = OUTSIDE.get(path, path.removeprefix("docs/") if _is_published(path) else None)
        if on_site is None:
            return source_url(path)
        return posixpath.relpath(on_site, posixpath.dirname(page) or ".")

    pieces = _CODE.split(markdown)
    pieces[::2] = [_LINK.sub(target, piece) for piece in pieces[::2]]
    return "".join(pieces)


def _is_published(path: str) -> bool:
    """Whether a path in the repository is a file that MkDocs copies or renders."""
    return path.startswith("docs/") and (ROOT / path).is_file() and not path.endswith(".py")


# --- a page for each game ------------------------------------------------------------------------


def game_page(game: str) -> str:
    """The page of a game. Its links are those of a file docs/games/GAME.md."""
    module, levels = GAMES[game]
    figures = _figures()
    names = [game + level for level in levels]
    heading, remembered = make_memory.subject(game)
    file = module.__name__.removeprefix(f"{PACKAGE}.").replace(".", "/")
    return f"""\
# {game}

{_animation(game)}

The MDP is on the left, the POMDP on the right; the expert plays. Play it yourself, with both views
side by side:

```sh
popgym-arcade-play {names[0]} --both
```

## Rules

{make_rules.game_rules(module, {game: levels})}
What all games have in common is in [The rules](../rules.md#all-games). The code is in
[{file}.py]({source_url(file + ".py")}); its functions are [here](../reference/{file}.md).

## Memory: {heading}

{remembered}

{make_memory.picture(game, figures, "../memory")}

{make_memory.table(figures, names)}
[Every POMDP needs memory](../memory.md) explains the players and the columns.

## Speed

{speed_table(names)}
At 1,024 environments of 128 pixels on two CPU cores; [Performance](../performance.md) says how this
was measured, and what the columns mean.
"""


def _animation(game: str) -> str:
    """The Markdown of a game's animation."""
    return f"![{game}: the MDP on the left, the POMDP on the right](../gallery/{game}.gif)"


@cache
def _figures() -> Mapping[str, Mapping[str, Any]]:
    """The certificate's figures by environment."""
    return json.loads(make_memory.FIGURES.read_text())


@cache
def _benchmark() -> tuple[str, dict[tuple[str, str], str]]:
    """The table of docs/performance.md: (its head, {(environment, twin): its last row})."""
    page = (DOCS / "performance.md").read_text()
    text = page.partition("## The table\n")[2].partition("\n## ")[0]
    head = re.search(r"^\| environment +\| twin .*\n\| ---.*\n", text, re.MULTILINE)
    rows = re.findall(r"^(\| (\w+) +\| (MDP|POMDP) +\|.*)$", text, re.MULTILINE)
    return head[0] if head else "", {(name, twin): row for row, name, twin in rows}


def speed_table(names: Iterable[str]) -> str:
    """The rows of the benchmark that concern these environments, as a Markdown table.

    Rows that were measured again appear with their last measurement.
    """
    head, rows = _benchmark()
    wanted = [
        rows[name, twin] for name in names for twin in ("MDP", "POMDP") if (name, twin) in rows
    ]
    return head + "".join(f"{row}\n" for row in wanted) if wanted else "Not measured yet.\n"


def games_page() -> str:
    """The page that shows all games."""
    cells = [
        f"[{_animation(game)}]({game}.md)<br>[{game}]({game}.md): {make_memory.subject(game)[0]}"
        for game in GAMES
    ]
    rows = [f"| {' | '.join(cells[i : i + 2])} |" for i in range(0, len(cells), 2)]
    table = "\n".join(["| | |", "|---|---|", *rows])
    return f"# The games\n\nThe MDP is on the left, the POMDP on the right.\n\n{table}\n"


# --- a page for each module ----------------------------------------------------------------------


class Module(NamedTuple):
    """A module of the package that has ``__all__``."""

    name: str  # below the package, e.g. "games.navigator"; "" for the package itself
    path: str  # in the repository
    summary: str  # the first line of its docstring
    public: list[str]  # the names in __all__ that it defines one by one

    @property
    def page(self) -> str:
        """The path of its page on the site."""
        return f"reference/{self.name.replace('.', '/') or PACKAGE}.md"

    @property
    def full_name(self) -> str:
        """The name by which to import it."""
        return f"{PACKAGE}.{self.name}".rstrip(".")


@cache
def modules() -> tuple[Module, ...]:
    """The modules with ``__all__``, without importing them."""
    found = []
    packages = (path.parent for path in ROOT.glob("*/__init__.py"))
    for path in sorted(
        [*ROOT.glob("*.py"), *(file for room in packages for file in room.rglob("*.py"))]
    ):
        parts = path.relative_to(ROOT).parts
        tree = ast.parse(path.read_text())
        defined = dict(_definitions(tree))
        if "__all__" in defined and path.name != "__main__.py":
            name = ".".join(parts).removesuffix(".py").removesuffix("__init__").rstrip(".")
            summary = (ast.get_docstring(tree) or "").partition("\n")[0]
            public = [word for word in ast.literal_eval(defined["__all__"]) if word in defined]
            found.append(Module(name, "/".join(parts), summary, public))
    return tuple(found)


def _definitions(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """What a module defines, but for unpacked tuples: (name, the value or the statement)."""
    for statement in tree.body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, statement
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=value):
                yield name, value


def module_page(module: Module) -> str:
    """The page of a module. mkdocstrings fills the lines that begin with ``:::``."""
    head = f"# {module.full_name}\n\nIn [{module.path}]({source_url(module.path)}).\n\n"
    if not module.name.startswith(MODULE_OF_GAMES):
        return f"{head}::: {module.full_name}\n"
    # The docstring of a game is its rules, which have a page.
    games = [game for game, (code, _) in GAMES.items() if code.__name__ == module.full_name]
    links = " and ".join(f"[{game}](../../games/{game}.md)" for game in games)
    names = "".join(_entry(f"{module.full_name}.{name}") for name in module.public)
    return f"{head}The rules are those of {links}.\n\n{names}"


def _entry(name: str) -> str:
    """What makes mkdocstrings document one object."""
    options = "    options:\n      show_root_heading: true\n      show_root_full_path: false\n"
    return f"::: {name}\n{options}\n"


def field_comment(lines: Sequence[str], first: int, last: int) -> str:
    """The comment that describes a field of a class: at its end or, if there is none, above it.

    lines: of the file. first, last: the numbers of the field's lines, from 1.
    """
    _, mark, beside = lines[last - 1].rpartition("  # ")
    if mark:
        return beside.strip()
    above = []
    for line in reversed(lines[: first - 1]):
        if not line.lstrip().startswith("# "):
            break
        above.insert(0, line.strip().removeprefix("# "))
    return " ".join(above)


def reference_page() -> str:
    """The page that lists all modules."""
    rows = [
        f"| [{module.full_name}]({posixpath.relpath(module.page, 'reference')}) "
        f"| {module.summary.replace('|', chr(92) + '|')} |"
        for module in modules()
    ]
    introduction = (
        "# API reference\n\nThe public names of each module, which are those in its `__all__`.\n\n"
    )
    return introduction + "\n".join(["| module | content |", "|---|---|", *rows]) + "\n"


# --- the site ------------------------------------------------------------------------------------


def generated_pages() -> dict[str, Callable[[], str]]:
    """All pages that are not files in docs/: path on the site -> what makes its text."""
    return {
        **{page: lambda path=path: (ROOT / path).read_text() for path, page in OUTSIDE.items()},
        "games/index.md": games_page,
        **{f"games/{game}.md": lambda game=game: game_page(game) for game in GAMES},
        "reference/index.md": reference_page,
        **{module.page: lambda module=module: module_page(module) for module in modules()},
    }


def navigation() -> dict[str, list[Any]]:
    """The sections of the menu that list generated pages."""
    packages: dict[str, list[Any]] = {}
    for module in modules():
        package, _, name = module.name.rpartition(".")
        packages.setdefault(package, []).append({name or PACKAGE: module.page})
    core = packages.pop("")
    return {
        "Games": ["games/index.md", *(f"games/{game}.md" for game in GAMES)],
        "API reference": [
            "reference/index.md",
            *core,
            *({package: pages} for package, pages in packages.items()),
        ],
    }


def on_config(config: Any) -> Any:
    """Complete the menu (MkDocs calls this)."""
    sections = navigation()
    config.nav = [
        {name: sections.get(name, pages) for name, pages in item.items()} for item in config.nav
    ]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages (MkDocs calls this)."""
    from mkdocs.structure.files import File  # pyright: ignore[reportMissingImports]

    for path, text in generated_pages().items():
        files.append(File.generated(config, path, content=text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Make links lead somewhere on the site (MkDocs calls this)."""
    path = page.file.src_uri
    source = {page: file for file, page in OUTSIDE.items()}.get(path, f"docs/{path}")
    if path in generated_pages() and path not in OUTSIDE.values():
        return markdown
    return site_links(markdown, source, path)
