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
from .known_errors import KnownErrors
from .losses import EnergyLeft, LineSearchResidual, ResidualNorm
from .network import DirectionNetwork
from .unrolled import UnrolledCG


def train_directions(
    network: DirectionNetwork | UnrolledCG,
    data: Residuals | KnownErrors,
    settings: Training,
    *,
    valid: Residuals | KnownErrors | None = None,
    out: str | Path,
    resume: bool = False,
    callbacks: Sequence[Callback | Callable[[Moment], object]] = (),
    meta: Mapping[str, Any] | None = None,
) -> Trained:
    """Train a network in place by `fit`, and save it with a card in the folder `network` of `out`.

    The loss is `EnergyLeft` on `KnownErrors`, which suit symmetric networks; on `Residuals` it is
    `LineSearchResidual` for a `DCDMNetwork` and `ResidualNorm` for the others. The validation value is the
    same loss on draws of another seed (or on other obstacles).

    Args:
        network: on the device on which it is to be trained; `UnrolledCG` of it to train through steps of CG.
        data: right-hand sides, or residuals of known errors; draws are never repeated within an epoch. For
            several sizes call it for each, smallest first, with folders of their own.
        settings: of `fit`: rate, batch, epochs, seconds, seed.
        valid: chooses the best epoch.
        out: folder for history, checkpoints and the network.
        resume: go on from the newest checkpoint in `out`.
        callbacks: see `fit`.
        meta: more for the card.

    Good values: published are `Training(1000, 10, 1e-4, "adam", 0.0)` on 20,000 right-hand sides for
    `DCDM_64`, batches of 128 for `MultilevelNetwork`. With minutes rather than days: rate 1e-3, `Cosine()`.

    Raises:
        TypeError: validation on another kind of data; `UnrolledCG` without errors.
        Diverged, FolderInUse, OtherTraining, BrokenCheckpoint: as `fit`.
    """
    if valid is not None and type(valid) is not type(data):
        raise TypeError(
            f"training on {type(data).__name__}, validation on {type(valid).__name__}: their losses differ, "
            "take the same kind for both"
        )
    loss: Loss = LineSearchResidual() if isinstance(network, DCDMNetwork) else ResidualNorm()
    if isinstance(data, KnownErrors):
        loss = EnergyLeft(logarithm=isinstance(network, UnrolledCG))
    elif isinstance(network, UnrolledCG):
        raise TypeError("UnrolledCG compares with errors, which Residuals do not have: take KnownErrors")
    watch = None if valid is None else Validation(valid, {"valid": loss})
    trained = fit(network, data, loss, settings, valid=watch, out=out, resume=resume, callbacks=callbacks)
    last = trained.history[-1] if trained.history else {}
    record = {
        "loss": describe(loss),
        "steps of CG per sample": network.steps if isinstance(network, UnrolledCG) else 1,
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
    part = network.network if isinstance(network, UnrolledCG) else network
    part.save(Path(out) / "network", metrics=metrics, meta={**record, **(meta or {})}, overwrite=True)
    return trained
