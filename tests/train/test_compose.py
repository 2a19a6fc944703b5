"""From the command line to recipes: typos are named, sweeps are whole, nothing is left on disk."""

import itertools
import os
from dataclasses import replace

import pytest
import toys
import yaml

from tiny_audio.model.errors import ConfigError
from tiny_audio.train.compose import compose_recipe, compose_sweep
from tiny_audio.train.experiments import EXPERIMENTS
from tiny_audio.train.folder import folder_of, remember
from tiny_audio.train.hardware import multiplies_bf16
from tiny_audio.train.recipe import Recipe

QUICK = "+experiment=quickstart"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, which composing leaves as it is."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert os.getcwd() == str(folder)
    assert not [p for p in folder.iterdir() if p.name not in ("runs", "mine")]  # of the tests below


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([QUICK, "sead=1"], "The recipe .*has no 'sead'. Did you mean 'seed'"),
        ([QUICK, "+sead=1"], "Recipe has no 'sead'. Did you mean 'seed'"),
        ([QUICK, "data.bach_s=60"], "data .*has no 'bach_s'. Did you mean 'batch_s'"),
        ([QUICK, "stages.projecter.minutes=3"], "stages .*Did you mean 'projector'"),
        (
            [QUICK, "stages.projector.learning_rates.projector=1e-3"],
            "stages.projector .*Did you mean 'learning_rate'",
        ),
        ([QUICK, "+data.sources.mine.paht=x"], "SourceConfig has no 'paht'. Did you mean 'path'"),
        ([QUICK, "~data.sources.clibs"], "data.sources .*Did you mean 'clips'"),
        ([QUICK, "data.sources.mine.path=x"], "data.sources .*has no 'mine'. Valid: clips"),
        ([QUICK, "seed.value=1"], "seed.value: seed is 0 and has no parts"),
        ([QUICK, "data.augment.speed=1"], r"Give all of it: data.augment=\{speed: …\}"),
        (["+experiment=quickstrat"], "Did you mean 'quickstart'"),
        (["seed=1"], r"Name one experiment: .*\+experiment=NAME.*quickstart"),
        ([QUICK, "+experiment=mufun"], "Name one experiment"),
        (["runs/none/recipe.yaml"], "There is no recipe runs/none/recipe.yaml"),
        ([QUICK, "seed"], "Error parsing override 'seed'"),
        ([QUICK, "seed=1,2"], "(?s)seed=1,2.*To sweep over it, add --multirun"),
    ],
)
def test_a_typo_names_the_nearest_key(arguments, said):
    with pytest.raises(ConfigError, match=said):
        compose_recipe(arguments)


# The types of all other keys are told apart in the same way (tests/model/test_config.py).
WRONG = {
    "seed=1.5": r"Recipe.seed is 1.5 \(float\), expected int",
    "data=5": "Recipe.data is 5",
    "data.batch_s=0": "data.batch_s=0 must be greater than 0",
    "~stages.projector": "no stages",
    "stages.projector.learning_rate.projector=abc": "Stage.learning_rate",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_type_or_value_is_refused(override):
    with pytest.raises(ConfigError, match=WRONG[override]):
        compose_recipe([QUICK, override])


@pytest.mark.slow
def test_overrides_change_what_they_name_and_nothing_else():
    changes = ["seed=7", "stages.projector.minutes=3", "data.validation_clips=5", "name=mine"]
    found, plain = compose_recipe([QUICK, *changes]).to_dict(), compose_recipe([QUICK]).to_dict()
    plain |= {"seed": 7, "name": "mine"}
    plain["stages"]["projector"]["minutes"] = 3
    plain["data"]["validation_clips"] = 5
    assert found == plain


def trained(folder) -> None:
    """As if a stage had been saved there."""
    (folder / "projector").mkdir()
    (folder / "projector" / "step-00000001.safetensors").touch()


@pytest.mark.slow
def test_new_entries_are_added_with_a_plus():
    made = compose_recipe(
        [
            QUICK,
            "+data.sources.mine.path=some/clips",
            "+data.sources.mine.weight=0.25",
            "data.sources.clips.copies=2",
            "+stages.projector.learning_rate.decoder=1e-4",
            "data.augment={noise: 0.5}",
        ]
    )
    assert list(made.data.sources) == ["clips", "mine"]
    assert made.data.sources["mine"].path == "some/clips"
    assert made.data.sources["mine"].weight == 0.25
    before = EXPERIMENTS["quickstart"]().stages["projector"].learning_rate
    assert made.stages["projector"].learning_rate == {**before, "decoder": 1e-4}
    assert made.data.augment.noise == 0.5
    mine = compose_recipe([QUICK, "+data.sources.mine.path=x", "~data.sources.clips"])
    assert list(mine.data.sources) == ["mine"]


@pytest.mark.slow
def test_paths_and_texts_stay_as_they_are_written():
    paths = ["a b/c.jsonl", "hf:some/set:clean", "x=y.yaml", "5", "~/clips", "läuft/你好"]
    for path in paths:
        made = compose_recipe([QUICK, f"+data.sources.mine.path='{path}'"])
        assert made.data.sources["mine"].path == path
    assert compose_recipe([QUICK, "output=runs/quick.yaml"]).output == "runs/quick.yaml"


# Sweeps ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_is_every_combination_in_a_folder_of_its_own():
    seeds, minutes = (1, 2, 3), (0.5, 2)
    given = [QUICK, "seed=1,2,3", "name=it", "stages.projector.minutes=0.5,2"]
    made = compose_sweep(given)
    found = [(r.seed, r.stages["projector"].minutes) for r in made]
    assert sorted(found) == list(itertools.product(seeds, minutes))
    assert {r.output for r in made} == {
        f"runs/it/seed={seed},stages.projector.minutes={m}"
        for seed, m in itertools.product(seeds, minutes)
    }
    for recipe in made:
        assert recipe.output.endswith(
            f"seed={recipe.seed},stages.projector.minutes={recipe.stages['projector'].minutes:g}"
        )


@pytest.mark.slow
def test_a_sweep_over_experiments_and_new_keys():
    made = compose_sweep(
        ["+experiment=quickstart,mufun", "+data.sources.mine.path=a/b,c", "output=out"]
    )
    assert [r.name for r in made] == ["quickstart", "quickstart", "mufun", "mufun"]
    assert [r.data.sources["mine"].path for r in made] == ["a/b", "c"] * 2
    assert len({r.output for r in made}) == 4
    assert made[0].output == "out/experiment=quickstart,data.sources.mine.path=a_b"


def test_a_sweep_without_a_comma_is_one_run():
    (made,) = compose_sweep([QUICK, "seed=3"])
    assert (made.seed, made.output) == (3, "runs/quickstart/all")


def test_a_sweep_refuses_typos_like_everything_else():
    with pytest.raises(ConfigError, match="Did you mean 'seed'"):
        compose_sweep([QUICK, "sead=1,2"])
    with pytest.raises(ConfigError, match="Error parsing override"):
        compose_sweep([QUICK, "seed"])


# A run's own recipe ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", toys.quick(EXPERIMENTS, ("mufun_full",)))
def test_every_experiment_composes_and_goes_through_yaml(name):
    made = compose_recipe([f"+experiment={name}"])
    assert made == EXPERIMENTS[name]()
    written = yaml.safe_dump(made.to_dict(), sort_keys=False, allow_unicode=True)
    assert Recipe.from_dict(yaml.safe_load(written)) == made
    assert compose_recipe([f"experiment={name}"]) == made


@pytest.mark.slow
def test_a_runs_recipe_is_composed_again():
    given = [QUICK, "seed=5", "+stages.projector.learning_rate.decoder=1e-5", "data.nonspeech=0.1"]
    made = compose_recipe([*given, "name='ünï'", "output=mine/run"])
    made = remember(made, folder_of(made))
    assert compose_recipe(["mine/run/recipe.yaml"]) == made
    changed = compose_recipe(["mine/run/recipe.yaml", "seed=6"])
    assert (changed.seed, changed.stages) == (6, made.stages)
    trained(folder_of(made))
    with pytest.raises(ConfigError, match="seed: 5 there, 6 now"):
        remember(changed, folder_of(changed))


@pytest.mark.slow
def test_each_run_of_a_sweep_can_be_repeated_and_swept_again():
    for made in compose_sweep([QUICK, "seed=1,2"]):
        made = remember(made, folder_of(made))
        path = folder_of(made) / "recipe.yaml"
        assert compose_recipe([str(path)]) == made
        again = compose_sweep([str(path), "data.block=64,128"])
        assert [r.data.block for r in again] == [64, 128]
        assert {r.seed for r in again} == {made.seed}
        assert again[0].output == f"runs/quickstart/seed={made.seed}/data.block=64"
    with pytest.raises(ConfigError, match="Did you mean 'seed'"):
        compose_recipe([str(path), "sead=2"])


@pytest.mark.slow
def test_composing_leaves_nothing_behind():
    """Hydra would write outputs/ and change into it (the fixture looks)."""
    compose_recipe([QUICK])
    compose_sweep([QUICK, "seed=1,2"])
    assert not os.listdir()


@pytest.mark.slow
def test_a_run_keeps_the_precision_that_it_began_with(tmp_path):
    """On another machine "auto" would be another arithmetic, and not the same run."""
    recipe = compose_recipe([QUICK])
    assert recipe.precision == "auto"
    settled = remember(recipe, tmp_path)
    assert settled.precision == ("bf16" if multiplies_bf16() else "fp32")
    path, other = tmp_path / "recipe.yaml", {"bf16": "fp32", "fp32": "bf16"}[settled.precision]
    path.write_text(path.read_text().replace(settled.precision, other))
    trained(tmp_path)
    assert remember(recipe, tmp_path).precision == other
    with pytest.raises(ConfigError, match="precision"):
        remember(settled, tmp_path)


def test_a_recipe_of_an_earlier_version_is_read_where_it_asked_for_nothing(tmp_path):
    """Its folder is taken up, too; a key that asked for something is refused by its name."""
    made = remember(replace(EXPERIMENTS["quickstart"](), output=str(tmp_path)), tmp_path)
    path = tmp_path / "recipe.yaml"
    earlier = yaml.safe_load(path.read_text())
    earlier["stages"]["projector"] |= {"packing": False, "distill": None}
    path.write_text(yaml.safe_dump(earlier))
    (tmp_path / "result.json").write_text("{}")  # something was trained
    assert compose_recipe([str(path)]) == made
    assert remember(made, tmp_path) == made
    earlier["stages"]["projector"]["packing"] = True
    path.write_text(yaml.safe_dump(earlier))
    with pytest.raises(ConfigError, match="'packing'"):
        compose_recipe([str(path)])
    with pytest.raises(ConfigError, match=r"stages\.projector\.packing"):
        remember(made, tmp_path)


IGNORED = {
    "data.augment would have no effect": ["data.augment={}"],
    "they need data.augment": ["data.sources.clips.copies=2"],
    "'clips' is negative": ["+stages.projector.weights.clips=-1"],
    "1e9 clips nothing": ["stages.projector.clip_norm=0"],
    "must be 1 or more": ["log_every=0"],
    "is a share": ["data.nonspeech=-0.5"],
}


@pytest.mark.parametrize("said", toys.quick(IGNORED, ("1e9 clips nothing",)))
def test_what_would_be_ignored_is_refused(said):
    with pytest.raises(ConfigError, match=said):
        compose_recipe([QUICK, *IGNORED[said]])


def test_a_table_fills_an_empty_one_without_a_plus():
    """As three pages show it: model.projector='{kind: mlp, k: 4, hidden: 256}'."""
    given = ["+experiment=quickstart", "model.projector={kind: mlp, k: 4, hidden: 256}"]
    recipe = compose_recipe(given)
    assert recipe.model.projector == {"kind": "mlp", "k": 4, "hidden": 256}
    assert compose_recipe([given[0], f"+{given[1]}"]).model == recipe.model
    rates = compose_recipe([given[0], "stages.projector.learning_rate={projector: 1e-4}"])
    assert rates.stages["projector"].learning_rate == {"projector": 1e-4}
    with pytest.raises(ConfigError, match="frames"):
        compose_recipe([given[0], "stages.projector={frames: 3}"])
