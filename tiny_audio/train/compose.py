"""Making recipes from `+experiment=NAME key=value …`. Hydra composes; the dataclasses have the last
word.

An experiment is a complete recipe, so every key that exists can be overridden and any other is a
typo. Nothing of Hydra's reaches the disk, and the working directory stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_audio.model.errors import ConfigError, needing
from tiny_audio.train.experiments import EXPERIMENTS
from tiny_audio.train.recipe import Recipe, without_removed

with needing("tiny-audio train", "train"):
    from hydra import compose, initialize
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.config_store import ConfigStore
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException


def compose_recipe(arguments: Sequence[str]) -> Recipe:
    """Make one recipe from `+experiment=NAME` (or a recipe.yaml) and overrides.

    Raises `ConfigError`; an unknown key names the nearest one.
    """
    experiment, overrides = experiment_of(arguments)
    values = values_of(experiment)
    store = ConfigStore.instance()
    store.store(name="recipe", node={})
    store.store(group="experiment", name="chosen", node=values, package="_global_")
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        for override in parsed:
            if not override.is_add() and not override.is_force_add():
                check_key(values, str(override.key_or_group))
        lines = [filling(override) for override in parsed]
        with initialize(version_base=None, config_path=None):
            made = compose("recipe", overrides=["+experiment=chosen", *lines])
        plain: Any = OmegaConf.to_container(made, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{error} (in: {' '.join(arguments)})") from error
    return Recipe.from_dict(plain)


def filling(override: Any) -> str:
    """Return the override so that a table (`model.projector={kind: mlp}`) fills an empty one.

    Hydra would ask for `+` there. A wrong key in the table is refused by its dataclass.
    """
    plain = not (override.is_add() or override.is_force_add() or override.is_delete())
    is_table = plain and isinstance(override.value(), dict)
    return f"{'++' if is_table else ''}{override.input_line}"


def compose_sweep(arguments: Sequence[str]) -> list[Recipe]:
    """Make all combinations of `key=a,b`, each with a folder below the experiment's."""
    files = [a for a in arguments if is_recipe_file(a)]  # whose paths Hydra cannot parse
    try:
        rest = [a for a in arguments if a not in files]
        parsed = OverridesParser.create().parse_overrides(rest)
    except HydraException as error:
        raise ConfigError(f"{error} (in: {' '.join(arguments)})") from error
    jobs = [job for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
    swept = {o.key_or_group for o in parsed if o.is_sweep_override()}
    recipes = []
    for job in jobs:
        recipe = compose_recipe([*files, *job])
        varied = [o for o in job if o.lstrip("+").split("=")[0] in swept]
        name = ",".join(o.lstrip("+").replace("/", "_") for o in varied) or "all"
        recipes.append(replace(recipe, output=f"{recipe.output or f'runs/{recipe.name}'}/{name}"))
    return recipes


def experiment_of(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the experiment to begin with, and the overrides."""
    prefixes = ("+experiment=", "experiment=")
    named = [a for a in arguments if a.startswith(prefixes) or is_recipe_file(a)]
    if len(named) != 1:
        raise ConfigError(
            f"Name one experiment: tiny-audio train +experiment=NAME key=value …, or give the "
            f"recipe.yaml of a run. Experiments: {', '.join(sorted(EXPERIMENTS))}."
        )
    chosen = named[0] if is_recipe_file(named[0]) else named[0].split("=", 1)[-1]
    return chosen, [a for a in arguments if a != named[0]]


def is_recipe_file(argument: str) -> bool:
    """Tell whether an argument is a path, which may hold a `=`, and not `key=name.yaml`."""
    file = argument.endswith((".yaml", ".yml"))
    return file and ("=" not in argument or Path(argument).is_file())


def values_of(experiment: str) -> dict[str, Any]:
    """Return every key of an experiment with its value."""
    if experiment.endswith((".yaml", ".yml")):
        path = Path(experiment)
        if not path.is_file():
            raise ConfigError(f"There is no recipe {path}; give the recipe.yaml of a run.")
        found: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        return Recipe.from_dict(without_removed(found)).to_dict()
    if experiment not in EXPERIMENTS:
        raise ConfigError.unknown(experiment, EXPERIMENTS, "The table of experiments")
    return EXPERIMENTS[experiment]().to_dict()


def check_key(values: Mapping[str, Any], dotted: str) -> None:
    """Refuse a key that the recipe does not have; new entries of a table are added with `+`."""
    here: Any = values
    for depth, key in enumerate(dotted.split(".")):
        if not isinstance(here, Mapping):
            above = ".".join(dotted.split(".")[:depth])
            cure = f" Give all of it: {above}={{{key}: …}}." if here is None else ""
            raise ConfigError(f"{dotted}: {above} is {here!r} and has no parts.{cure}")
        if key not in here:
            at = ".".join(dotted.split(".")[:depth])
            raise ConfigError.unknown(key, here, f"{at or 'The recipe'} (of {dotted})")
        here = here[key]
