"""The sessions of nox run what there is."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_what_a_session_names_is_there() -> None:
    """A file of tests that was moved is not left out of the long forms in silence."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    named = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and str(node.value).startswith("tests/")
    }
    assert len(named) > 10
    assert [name for name in named if not (ROOT / str(name)).exists()] == []
