"""Make a dataset as told by a JSON object: the program that tests start, kill and start again."""

import json
import sys
from pathlib import Path

from toy_recipe import Toy

from solvus.datasets.generation.generate import Options, generate


def recipe_of(values):
    if "equation" in values:
        from solvus.datasets.recipes.registry import recipe_named

        return recipe_named(values["equation"], values["resolution"])
    return Toy(**values.get("toy", {}))


def main(values):
    def note(now):
        if "notes" in values:
            with open(values["notes"], "a") as file:
                file.write(f"{now.done}\n")

    options = Options(batch=values.get("batch"), shard=values.get("shard"), progress=note)
    keywords = {"options": options, "seed": values.get("seed", 0)}
    if values.get("executor") == "mpi":
        from mpi4py.futures import MPIPoolExecutor

        with MPIPoolExecutor() as executor:
            generate(recipe_of(values), values["n"], values["out"], executor=executor, **keywords)
    else:
        generate(recipe_of(values), values["n"], values["out"], workers=values.get("workers", 1), **keywords)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
