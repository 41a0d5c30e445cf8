"""The house stands: imports, sizes, packages, words, docstrings. Each check is shown to be able to fail."""

import ast
import importlib
import inspect
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("meshes", "operators", "solvers", "datasets", "solvus")  # each may import those before it
FOLDERS = {"meshes": "meshes", "operators": "operators", "solvers": "solvers", "datasets": "datasets"}
FOLDERS["solvus"] = "src/solvus"
LONGEST_FILE, MOST_PARAMETERS = 500, 8


def tracked_files() -> list[Path]:
    """Files that git keeps or would keep."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in sorted(set(listing.stdout.splitlines())) if (ROOT / line).is_file()]


FILES = tracked_files()
LIBRARY = [
    path
    for path in FILES
    if path.suffix == ".py" and path.is_relative_to(ROOT)
    and any(path.is_relative_to(ROOT / folder) for folder in FOLDERS.values())
]  # fmt: skip


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> list[str]:
    """Dotted name of a library file as a list that starts with its layer, [] for the root package itself."""
    for layer, folder in FOLDERS.items():
        if path.is_relative_to(ROOT / folder):
            inner = path.relative_to(ROOT / folder).with_suffix("").parts
            parts = [*([] if layer == "solvus" else [layer]), *inner]
            return parts[:-1] if parts[-1] == "__init__" else parts
    raise AssertionError(path)


def import_faults(source: str, path: Path) -> list[str]:
    """Imports of a library file that are absolute where they must be relative, or point the wrong way."""
    module = module_of(path)
    layer = module[0] if module and module[0] in LAYERS else "solvus"
    package = module if path.name == "__init__.py" else module[:-1]
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            targets = [(node.module or "").split(".")]
        elif isinstance(node, ast.ImportFrom):
            if node.level - 1 > len(package):
                faults.append(f"line {node.lineno}: leaves the package")
                continue
            base = package[: len(package) - (node.level - 1)]
            inner = [*base, *(node.module or "").split(".")] if node.module else base
            names = [[*inner, alias.name] for alias in node.names] if not inner else [inner]
            for target in names:
                to = target[0] if target[0] in LAYERS else "solvus"
                if LAYERS.index(to) > LAYERS.index(layer):
                    faults.append(f"line {node.lineno}: {layer} imports {to}")
            continue
        else:
            continue
        for target in targets:
            if target[0] in (*LAYERS, "tests", "benchmarks", "examples"):
                faults.append(f"line {node.lineno}: absolute import of {target[0]}")
    return faults


def parameter_faults(source: str) -> list[str]:
    """Functions with more parameters than the rules allow."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            a = node.args
            given = [p.arg for p in [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg] if p]
            count = len([p for p in given if p not in ("self", "cls", "ctx")])
            if count > MOST_PARAMETERS:
                faults.append(f"line {node.lineno}: {node.name} takes {count} parameters")
    return faults


def print_faults(source: str) -> list[str]:
    """Calls of print, and of sys.exit."""
    return [
        f"line {node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit", "quit")
    ]


def size_faults(source: str) -> list[str]:
    """A file that is too long."""
    lines = source.count("\n")
    return [f"{lines} lines"] if lines > LONGEST_FILE else []


UNFINISHED = "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"])
WORDS = re.compile(
    rf"\b(?:{UNFINISHED})\b"
    + r"|(?i:\bfor n"
    + r"ow\b|\bsimpl"
    + r"ified\b|\bplace"
    + r"holder|\bfoun"
    + r"der\b|\bissue #?\d|\bin a real impl"
    + r"ementation)"
)
MACHINE = re.compile(
    r"(?<![\w.])/(?:wo"
    + r"rk|ho"
    + r"me|ro"
    + r"ot|Us"
    + r"ers)/\w\w|/opt/(?:py"
    + r"pi|wheels)|py"
    + r"pi\.org|pythonho"
    + r"sted|download\.pyt"
    + r"orch|index"
    + r"-url"
)


def word_faults(text: str) -> list[str]:
    """Words of unfinished work, paths of one machine, hosts of package registries."""
    return [
        f"line {number}: {found.group(0)!r}"
        for number, line in enumerate(text.splitlines(), 1)
        for found in [*WORDS.finditer(line), *MACHINE.finditer(line)]
    ]


def listed_packages() -> set[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return set(settings["tool"]["setuptools"]["packages"])


def folder_packages() -> set[str]:
    """Packages that the folders hold, by their import names."""
    found = set()
    for path in LIBRARY:
        parts = module_of(path)
        package = parts if path.name == "__init__.py" else parts[:-1]
        found.add(".".join(["solvus", *package]))
    return found


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_library_file_keeps_the_rules(path):
    source = path.read_text()
    standalone = path.parts[-2] == "fem" and "__main__" in source  # a program for another interpreter
    faults = import_faults(source, path) + parameter_faults(source) + size_faults(source)
    faults += [] if path.name in ("cli.py",) or standalone else print_faults(source)
    assert not faults
    assert ast.get_docstring(ast.parse(source)), "no module docstring"


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".py" and p not in LIBRARY], ids=name)
def test_other_python_files_are_short(path):
    assert not size_faults(path.read_text())


def test_no_file_speaks_of_one_machine_or_of_unfinished_work():
    faults = {}
    for path in FILES:
        try:
            found = word_faults(path.read_text())
        except UnicodeDecodeError:
            continue
        if found:
            faults[name(path)] = found
    assert not faults


def test_every_package_is_listed():
    assert listed_packages() == folder_packages()


def test_every_library_folder_is_a_package():
    folders = {path.parent for path in LIBRARY}
    assert not [name(f) for f in folders if not (f / "__init__.py").exists()]


def test_the_root_cannot_shadow_other_packages():
    assert not (ROOT / "conftest.py").exists()
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_no_catch_all_modules():
    names = {"utils.py", "util.py", "help" + "ers.py", "common.py", "misc.py"}
    assert not [name(p) for p in FILES if p.name in names]


def undocumented(package: str) -> list[str]:
    """Exported names of a package that have no docstring of their own, and public methods without one."""
    module = importlib.import_module(package)
    faults = []
    for exported in getattr(module, "__all__", []):
        thing = getattr(module, exported)
        if not (inspect.isclass(thing) or inspect.isroutine(thing)):
            continue
        own = thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__
        if not own or own.startswith(f"{exported}("):  # a dataclass writes its signature there
            faults.append(f"{package}.{exported}")
        if inspect.isclass(thing) and thing.__module__.startswith("solvus"):
            for attribute, value in vars(thing).items():
                if inspect.isfunction(value) and not attribute.startswith("_") and not inspect.getdoc(value):
                    faults.append(f"{package}.{exported}.{attribute}")
    return faults


@pytest.mark.parametrize("package", sorted(listed_packages()))
def test_every_exported_name_is_documented(package):
    assert not undocumented(package)


# --- each check is able to fail -----------------------------------------------------------------------------

SPECIMENS = {
    "upwards": ("operators/linear/csr.py", "from ...solvers.base import solve", "operators imports solvers"),
    "from root": ("meshes/grid.py", "from .. import solvers", "meshes imports solvers"),
    "api": ("solvers/base.py", "from .. import cli", "solvers imports solvus"),
    "absolute": ("solvers/base.py", "import solvus.meshes", "absolute import of solvus"),
    "bare": ("solvers/base.py", "from meshes import Grid", "absolute import of meshes"),
    "tests": ("meshes/grid.py", "import tests.conftest", "absolute import of tests"),
    "outside": ("meshes/grid.py", "from ... import torch", "leaves the package"),
}


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_a_wrong_import_is_found(specimen):
    path, source, fault = SPECIMENS[specimen]
    assert fault in "; ".join(import_faults(source, ROOT / path))


def test_right_imports_are_let_through():
    assert not import_faults(
        "from ...operators.linear import CSR\nimport torch", ROOT / "solvers/krylov/cg.py"
    )
    assert not import_faults(
        "from .solvers import solve\nfrom . import bench", ROOT / "src/solvus/__init__.py"
    )


def test_long_signatures_files_and_prints_are_found():
    nine = ", ".join("abcdefghi")
    assert parameter_faults(f"def f({nine}): ...") == ["line 1: f takes 9 parameters"]
    assert not parameter_faults("def f(self, a, b, *, c): ...")
    assert size_faults("x = 1\n" * 501) == ["501 lines"]
    assert print_faults("def f():\n    print('x')") == ["line 2: print"]


@pytest.mark.parametrize(
    "text",
    [
        "# TO" + "DO later",
        "works for n" + "ow",
        "a simpl" + "ified model",
        "see /wo" + "rk/main/x",
        "py" + "pi.org",
    ],
)
def test_forbidden_words_are_found(text):
    assert word_faults(text)


def test_missing_docstrings_are_found(monkeypatch):
    import solvus.meshes as module

    bare = type("Bare", (), {"__module__": "solvus.meshes", "act": lambda self: None})
    monkeypatch.setattr(module, "Bare", bare, raising=False)
    monkeypatch.setattr(module, "__all__", [*module.__all__, "Bare"])
    assert undocumented("solvus.meshes") == ["solvus.meshes.Bare", "solvus.meshes.Bare.act"]
