"""Colours and symbols: one colour per package everywhere, one symbol per method within its package."""

from __future__ import annotations

from .groups import Group

# (light page, dark page); hues after Okabe and Ito (2008), distinct for colour-blind readers too
_COLOURS = {
    "solvus": ("#0067a5", "#4db4f0"),
    "scipy": ("#b06f00", "#f0a830"),
    "pyamg": ("#00805a", "#2cc797"),
    "petsc": ("#c24a00", "#ff7d3a"),
    "dolfinx": ("#a8518a", "#e58fc5"),
    "scikit-fem": ("#6b6b00", "#d9cf4a"),
    "neuraloperator": ("#5b5fc7", "#9ea2ff"),
    "deepxde": ("#7a4a21", "#cf9a6a"),
}
_OTHER = ("#555d66", "#aab3bd")
SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "cross",
    "star",
    "hexagon",
    "pentagon",
    "x",
)


def colour_class(package: str) -> str:
    """Return the CSS class that carries a package's colour."""
    return f"p-{package}" if package in _COLOURS else "p-other"


def colour_rules() -> str:
    """Return the CSS rules of the colours, for light and dark pages."""

    def rules(side: int, scope: str) -> str:
        table = {**_COLOURS, "other": _OTHER}
        return "".join(f"{scope} .p-{name}{{--c:{pair[side]}}}" for name, pair in table.items())

    dark_system = rules(1, ":root:not([data-theme=light])")
    dark_chosen = rules(1, ":root[data-theme=dark]")
    return f"{rules(0, ':root')}@media (prefers-color-scheme:dark){{{dark_system}}}{dark_chosen}"


def symbols(group: Group) -> dict[tuple[str, str], str]:
    """Give every method of a group a symbol, different within its package as long as there are enough."""
    count: dict[str, int] = {}
    found = {}
    for package, method in group.methods:
        place = count.setdefault(package, 0)
        count[package] += 1
        open_again = "-open" if (place // len(SYMBOLS)) % 2 else ""
        found[package, method] = SYMBOLS[place % len(SYMBOLS)] + open_again
    return found
