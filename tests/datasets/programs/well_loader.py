"""Read a dataset with the package the_well, in an interpreter that has it; save what it returns."""

import sys

import numpy as np
from the_well.data import WellDataset


def main(folder: str, split: str, out: str) -> None:
    dataset = WellDataset(
        path=folder, well_split_name=split, n_steps_input=1, n_steps_output=1, use_normalization=False
    )
    about = dataset.metadata
    names = [name for rank in range(3) for name in about.field_names[rank]]
    constant = [name for rank in range(3) for name in about.constant_field_names[rank]]
    items = [dataset[i] for i in range(len(dataset))]
    arrays = {key: np.stack([item[key].numpy() for item in items]) for key in items[0]}
    np.savez(out, names=names, constant_names=constant, scalars=about.constant_scalar_names, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
