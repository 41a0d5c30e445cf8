"""Training of direction networks on right-hand sides that are made on the way, without solutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...training.fit import fit
from ...training.logs import Callback, Moment
from ...training.losses import Loss, describe
from ...training.outcome import Trained
from ...training.settings import Training
from ...training.validation import Validation
from .box_modes import Residuals
from .dcdm_network import DCDMNetwork
from .losses import LineSearchResidual, ResidualNorm
from .network import DirectionNetwork


def train_directions(
    network: DirectionNetwork,
    data: Residuals,
    settings: Training,
    *,
    valid: Residuals | None = None,
    out: str | Path,
    resume: bool = False,
    callbacks: Sequence[Callback | Callable[[Moment], object]] = (),
    meta: Mapping[str, Any] | None = None,
) -> Trained:
    """Train a network in place by `fit`, and save it with a card in the folder `network` of `out`.

    The loss is `LineSearchResidual` for a `DCDMNetwork` and `ResidualNorm` for the others. The
    validation value is the same loss on draws of another seed (or on other obstacles).

    Args:
        network: on the device on which it is to be trained.
        data: right-hand sides; draws are never repeated within an epoch. For several sizes call it for each,
            smallest first, with folders of their own.
        settings: of `fit`: rate, batch, epochs, seconds, seed.
        valid: chooses the best epoch.
        out: folder for history, checkpoints and the network.
        resume: go on from the newest checkpoint in `out`.
        callbacks: see `fit`.
        meta: more for the card.

    Good values: published are `Training(1000, 10, 1e-4, "adam", 0.0)` on 20,000 right-hand sides for
    `DCDM_64`, batches of 128 for `MultilevelNetwork`. With minutes rather than days: rate 1e-3, `Cosine()`.

    Raises:
        Diverged, FolderInUse, OtherTraining, BrokenCheckpoint: as `fit`.
    """
    loss: Loss = LineSearchResidual() if isinstance(network, DCDMNetwork) else ResidualNorm()
    watch = None if valid is None else Validation(valid, {"valid": loss})
    trained = fit(network, data, loss, settings, valid=watch, out=out, resume=resume, callbacks=callbacks)
    last = trained.history[-1] if trained.history else {}
    record = {
        "loss": describe(loss),
        "box": " x ".join(str(n - 2) for n in data.images[0].shape[1:]),
        "scenes": len(data.images),
        "samples per epoch": len(data),
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
