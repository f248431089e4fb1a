"""What scene swap and scores cost a sweep: python sweeps/scene_swap/cost.py CONFIG

CPU seconds of an epoch of the members of one seed at rho .95, and of each set of questions about what one rule keeps of
them, without compilation.
"""

import dataclasses
import importlib.util
import sys
import time

import jax

from flipjax.config import PopulationSpec
from flipjax.plan import plan
from flipjax.sweep.program import layout_of, load_pool, make_members, make_study
from flipjax.sweep.scenes import training_scenes
from flipjax.training import placement, population
from flipjax.training.assess import Questions

NOTHING = {"logits": False, "passes": False, "masks": False}
QUESTIONS = {
    "plain": Questions("none", **NOTHING),
    "scenes": Questions(**NOTHING),
    "scenes, mirrored": Questions(mirror=True, **NOTHING),
    "scenes and scores": Questions(),
    "all, mirrored": Questions(mirror=True),
}


def seconds(call):
    """CPU seconds of the second call."""
    call()
    start = time.process_time()
    call()
    return time.process_time() - start


def main(path):
    spec = importlib.util.spec_from_file_location("config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.axes.rho = (0.95,)
    config.axes.seed = (0,)
    config.population.devices = 1
    program = plan(config)[0]
    study = make_study(program, *load_pool(program))
    layout = layout_of(program, PopulationSpec(**config.population), members=len(program.settings))
    current = population.create(program.experiment, layout, make_members(program, study))
    validation = study.tables["val"]
    shared = placement.share(layout, (study.pool, validation.rows, validation.groups, validation.refit))

    def epoch():
        nonlocal current
        current, _ = population.run_epoch(program.experiment, layout, current, *shared)
        jax.block_until_ready(current.states.status)

    print(f"{len(program.settings)} members, an epoch: {seconds(epoch):.2f} s")
    train = dataclasses.replace(program.experiment.train, selection=program.experiment.train.selection[:1])
    experiment = dataclasses.replace(program.experiment, train=train)
    given = training_scenes(study, config.intervene, seed=program.experiment.split.seed)
    for name, questions in QUESTIONS.items():
        total = 0.0
        for table in study.tables.values():
            last = None if questions.scenes == "none" else given
            asked = placement.share(layout, (study.pool, table.rows, last))
            total += seconds(lambda q=questions, a=asked: population.map_selected(experiment, layout, current, q, *a))
        print(f"{name}: {total:.2f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
