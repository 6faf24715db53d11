"""What README and docs show works, as it stands there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            # Line numbers of an error are the page's.
            yield pytest.param(page, "\n" * line + match[1], id=f"{page.relative_to(ROOT)}:{line}")


@pytest.mark.compiled
@pytest.mark.parametrize(("page", "code"), list(blocks()))
def test_code_blocks_run(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    inner = [link for link in links if not link.startswith("http")]
    assert [link for link in inner if not (page.parent / link).exists()] == []


def test_readme_names_the_two_commands():
    """.ci/run takes the second one from there."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert "python -m pip install . && python -m gdl" in lines
    assert 'python -m pip install ".[test]" && python -m pytest' in lines
