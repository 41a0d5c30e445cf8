"""Training of correction networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...training.fit import fit
from ...training.logs import Callback, Moment
from ...training.losses import describe
from ...training.outcome import Trained
from ...training.settings import Training
from ...training.validation import Validation
from .data import CorrectionData
from .losses import NotayLoss
from .network import CorrectionNetwork


def train_correction(
    network: CorrectionNetwork,
    data: CorrectionData,
    settings: Training,
    *,
    valid: CorrectionData | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback | Callable[[Moment], object]] = (),
    meta: Mapping[str, Any] | None = None,
) -> Trained:
    """Train a network in place by `fit`, and save it with a card in the folder `network` of `out`.

    The loss is `NotayLoss`; for `StencilResidual`, which does not look at the solutions, call `fit`.

    Args:
        network: on the device on which it is to be trained.
        data: of one grid. For fresh coefficients or another size call it again, with another folder.
        settings: of `fit`: rate, batch, epochs, seconds, seed.
        valid: chooses the best epoch, by the same loss.
        out: folder for history, checkpoints and the network.
        resume: go on from the newest checkpoint in `out`.
        callbacks: see `fit`.
        meta: more for the card.

    Good values: `Training(epochs, 8, 2e-3, "adam", 0.0, schedule=Cosine(), clip=1.0)`.

    Raises:
        Diverged, FolderInUse, OtherTraining, BrokenCheckpoint: as `fit`.
    """
    loss = NotayLoss()
    watch = None if valid is None else Validation(valid, {"valid": loss})
    trained = fit(network, data, loss, settings, valid=watch, out=out, resume=resume, callbacks=callbacks)
    if out is None:
        return trained
    last = trained.history[-1] if trained.history else {}
    record = {
        "loss": describe(loss),
        "grid": " x ".join(map(str, data.grid.shape)),
        "systems": data.systems,
        "residuals": f"after {', '.join(map(str, data.steps))} steps of flexible CG",
        "data seed": data.seed,
        "batch": settings.batch,
        "steps": last.get("step", 0),
        "learning rate": settings.learning_rate,
        "seed": settings.seed,
        "seconds": round(trained.seconds, 1),
        "device": str(next(network.parameters()).device),
    }
    metrics = {"train": last.get("train"), "valid": trained.best, "best epoch": trained.best_epoch}
    network.save(Path(out) / "network", metrics=metrics, meta={**record, **(meta or {})}, overwrite=True)
    return trained
