"""Searches hyperparameters with Optuna and prunes: python sweeps/examples/optuna_search.py [BATCHES [CONFIG]]

It needs Optuna. Each batch asks for four trials and trains them in one program for some epochs. Each trial then reports
its validation cross-entropy; those that Optuna does not prune go on from their weights, and report again. A step starts
with a fresh optimiser, and a schedule would be that of the step: the rate is constant here.
"""

import dataclasses
import sys

import jax
import optuna

import flipjax

TRIALS = 4  # trained together
STEPS, EPOCHS = 3, 2  # a trial that is never pruned trains for 3 x 2 epochs
RULE = "last"  # keeps the weights of a step's last epoch, from which the next one starts

batches = int(sys.argv[1]) if len(sys.argv) > 1 else 4
config = sys.argv[2] if len(sys.argv) > 2 else "smoke"
changes = {"train.epochs": EPOCHS, "train.patience": EPOCHS, "train.selection": (RULE,), "axes.method": ("ce",)}
train = flipjax.make_train(config, changes | {"axes.rho": (0.9,)})


@jax.jit
def go_on(weights, member):
    """Trains a member for another step, from its weights. One program serves any number of trials."""
    return dataclasses.replace(train, start=weights)(member)


def at(index, tree):
    """Takes one of several members, or what is left of it."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def suggest(trial):
    """Asks for the numbers of a trial: any that `train.member` takes."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
    }


def train_trial(trial, member, trained):
    """Reports each step of a trial, which has trained for one, and returns its last cross-entropy."""
    for step in range(1, STEPS + 1):
        score = float(trained.history["valid_cross_entropy"][-1])
        trial.report(score, step * EPOCHS)
        if step == STEPS:
            return score
        if trial.should_prune():
            raise optuna.TrialPruned
        # Another key: the next step shuffles the images anew.
        member = dataclasses.replace(member, key=jax.random.fold_in(member.key, step))
        trained = go_on(trained.best[RULE].weights, member)


optuna.logging.set_verbosity(optuna.logging.WARNING)
sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=TRIALS, constant_liar=True)
study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.MedianPruner(n_startup_trials=2))
for _ in range(batches):
    trials = [study.ask() for _ in range(TRIALS)]
    members = train.members([suggest(trial) for trial in trials])
    first_step = train.map(members)
    for index, trial in enumerate(trials):
        try:
            study.tell(trial, train_trial(trial, at(index, members), at(index, first_step)))
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
for trial in study.trials:
    epochs = max(trial.intermediate_values)
    numbers = "  ".join(f"{name} {value:.5f}" for name, value in trial.params.items())
    print(f"{numbers}  cross-entropy {trial.value:.4f} after {epochs} epochs, {trial.state.name.lower()}")
print(f"best: trial {study.best_trial.number}, cross-entropy {study.best_value:.4f}")
