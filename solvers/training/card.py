"""The card of a saved model: what it maps, how it was trained, what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def model_card(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card of a model as Markdown."""
    signature = config["signature"]
    grid = " x ".join(str(len(axis)) for axis in signature["coordinates"]) or "not stated"
    facts = {
        "architecture": config["architecture"],
        "parameters (real numbers)": f"{config['parameters']:,}",
        "inputs": ", ".join(signature["inputs"]) or "not named",
        "outputs": ", ".join(signature["outputs"]) or "not named",
        "grid of the training data": grid,
        "boundary": ", ".join(signature["boundary"]) or "not stated",
        "normalisers (x, y)": f"{config['encode']['mode']}, {config['decode']['mode']}",
        "type": config["dtype"],
        "written by": f"solvus {config['solvus']}",
    }
    sections = [
        f"# {config['architecture']}: {facts['inputs']} -> {facts['outputs']}",
        "Takes and returns fields in physical units, (samples, channels, *space).",
        '```\nfrom solvus.solvers.training.surrogate import Surrogate\n\nmodel = Surrogate.load(".")\n'
        "y = model.predict(x)\n```",
        _table("fact", facts),
        "## Settings\n\n" + _table("setting", config["settings"]),
    ]
    if config["meta"]:
        sections.append("## Training\n\n" + _table("setting", _flat(config["meta"])))
    sections.append("## Metrics\n\n" + (_table("metric", _flat(metrics)) if metrics else "None recorded."))
    return "\n\n".join(sections) + "\n"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            out.update(_flat(value, f"{prefix}{name}."))
        else:
            out[prefix + name] = value
    return out


def _table(head: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {head} | value |", "|---|---|"]
    for name, value in rows.items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        lines.append(f"| {name} | {shown} |".replace("\n", " "))
    return "\n".join(lines)
