"""docs/site_pages.py: the pages of the documentation site that are generated, and their links.

``.ci/run`` builds the site; here nothing needs MkDocs.
"""

import posixpath
import re

import pytest

from popgym_arcade import GAMES
from tests.testing import ROOT, script

site_pages = script("docs/site_pages.py")
PAGES = site_pages.generated_pages()
DOCS = {path.name for path in (ROOT / "docs").glob("*.md")}


def flat(menu):
    """The paths in a menu, in order."""
    for entry in menu.values() if isinstance(menu, dict) else menu:
        yield from [entry] if isinstance(entry, str) else flat(entry)


@pytest.mark.parametrize("game", GAMES)
def test_a_game_has_a_page_with_rules_certificate_and_speed(game):
    text = PAGES[f"games/{game}.md"]()
    sections = dict(re.findall(r"^## (\w+).*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == ["Rules", "Memory", "Speed"]
    assert "**Views:**" in sections["Rules"]
    assert text.count(f"| parameter | {game}Easy") == 1
    for level in ("Easy", "Medium", "Hard"):
        assert sections["Memory"].count(f"\n| {game}{level} |") == 1
        assert sections["Speed"].count(f"\n| {game}{level} ") == 2  # a row for each twin


def test_the_speed_of_a_page_is_that_on_two_cores_measured_last():
    page = (ROOT / "docs" / "performance.md").read_text()
    table = site_pages.speed_table(["SkittlesEasy", "TetrisHard"])
    rows = table.splitlines()[2:]
    assert len(rows) == 4 and all(row in page for row in rows)
    assert all(page.index(row) < page.index("## On a GPU") for row in rows)
    before = re.findall(r"^\| SkittlesEasy .*$", page.partition("measured again")[0], re.MULTILINE)
    assert len(before) == 2 and not set(before) & set(rows)
    assert site_pages.speed_table(["Chess"]) == "Not measured yet.\n"


def test_every_public_module_has_a_page():
    names = {module.name for module in site_pages.modules()}
    assert {"", "registry", "games.navigator", "baselines.model.builder", "memory.players"} <= names
    assert not any(name.startswith(("tests", "docs", "test_")) for name in names)
    assert "::: popgym_arcade.wrappers\n" in PAGES["reference/wrappers.md"]()
    navigator = PAGES["reference/games/navigator.md"]()
    assert "::: popgym_arcade.games.navigator.random_path\n" in navigator
    assert "navigator.UP" not in navigator  # unpacked from a range, which mkdocstrings cannot find


@pytest.mark.parametrize(
    "code, expected",
    [
        ("    a: int  # int32[]: its cell", "int32[]: its cell"),
        ("    # whether to draw\n    # the POMDP\n    a: int", "whether to draw the POMDP"),
        ("    # above\n    a: int  # beside", "beside"),
        ("    b: int  # another\n    a: int", ""),
    ],
)
def test_the_comment_of_a_field_is_found(code, expected):
    lines = code.splitlines()
    assert site_pages.field_comment(lines, len(lines), len(lines)) == expected


@pytest.mark.parametrize(
    "source, page, link, expected",
    [
        ("README.md", "index.md", "docs/play.md", "play.md"),
        ("README.md", "index.md", "docs/gallery/Tetris.gif", "gallery/Tetris.gif"),
        ("README.md", "index.md", "CONTRIBUTING.md", "contributing.md"),
        ("README.md", "index.md", "LICENSE", "{}/blob/main/LICENSE"),
        ("README.md", "index.md", "games", "{}/tree/main/games"),
        ("docs/faq.md", "faq.md", "memory.md#method", "memory.md#method"),
        ("docs/faq.md", "faq.md", "memory.json", "memory.json"),
        ("docs/faq.md", "faq.md", "../README.md", "index.md"),
        ("docs/faq.md", "faq.md", "../render.py", "{}/blob/main/render.py"),
        ("docs/faq.md", "faq.md", "make_rules.py", "{}/blob/main/docs/make_rules.py"),
        ("docs/faq.md", "faq.md", "https://docs.jax.dev", "https://docs.jax.dev"),
        ("docs/faq.md", "faq.md", "#speed", "#speed"),
        ("docs/faq.md", "faq.md", "nowhere.md", "nowhere.md"),  # MkDocs reports it
    ],
)
def test_a_links_target_is_on_the_site_or_in_the_repository(source, page, link, expected):
    text = f"[a]({link}), `[b]({link})`\n\n```text\n[c]({link})\n```\n"
    expected = expected.format(site_pages.REPOSITORY)
    changed = text.replace(f"[a]({link})", f"[a]({expected})")
    assert site_pages.site_links(text, source, page) == changed


def test_links_of_generated_pages_lead_somewhere():
    for path, text in PAGES.items():
        if path in site_pages.OUTSIDE.values():
            continue
        for link in re.findall(r"\]\((?!\w+:|#)([^)#]+)", text()):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
            assert target in PAGES or (ROOT / "docs" / target).exists(), f"{path}: {link}"


def test_the_menu_has_every_page_once():
    config = (ROOT / "mkdocs.yml").read_text()
    written = re.findall(r": (\S+\.md)$", config, re.MULTILINE)
    generated = list(flat(site_pages.navigation()))
    assert sorted(written + generated) == sorted({*DOCS, *PAGES})
    assert all(f"- {section}: []\n" in config for section in site_pages.navigation())
