"""The guide's examples run, and its table says what the code offers."""

import re

from mesh_specimens import ALL

from solvus.meshes import FORMATS
from solvus.meshes.formats import REFUSED


def test_the_examples_of_the_guide_run(root):
    text = (root / "docs" / "meshes.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.S))
    assert code.count("assert") >= 10
    exec(compile(code, "docs/meshes.md", "exec"), {})


def test_the_table_of_the_guide_is_the_table_of_the_code(root):
    text = (root / "docs" / "meshes.md").read_text()
    rows = {
        row[0]: row[1:]
        for row in re.findall(r"^\| (\w+) " + r"\| ([^|\n]*?) " * 5 + r"\|$", text, flags=re.M)
    }
    rows.pop("format")
    words = {"": "no", "f": "float64", "fi": "float64, int64", "fiub": "any"}
    every = {cell for mesh in ALL.values() for cell in mesh.cells}
    assert list(rows) == list(FORMATS)
    for name, item in FORMATS.items():
        assert rows[name] == (
            " ".join(item.extensions),
            "all" if set(item.cells) == every else ", ".join(item.cells),
            words[item.data],
            words[item.data if item.cell_data else ""],
            {"file": "in the file", "side-car": "side-car"}[item.tags],
        )
    refused = re.search(r"Refused, with the reason in the message: (.*?)\. meshio", text, flags=re.S)
    assert refused is not None
    assert refused.group(1).replace("\n", " ").split(", ") == sorted(REFUSED)
