"""Searches learning rate and weight decay at random, all in one program: python sweeps/examples/random_search.py [N]

The member with the least validation cross-entropy, a scale that all methods share, is chosen; its Flip on the test
images is printed. N is 8 unless given.
"""

import sys

import numpy as np

import flipjax

count = int(sys.argv[1]) if len(sys.argv) > 1 else 8
generator = np.random.default_rng(0)
settings = [
    {"learning_rate": float(10 ** generator.uniform(-4, -2)), "weight_decay": float(10 ** generator.uniform(-4, -1))}
    for _ in range(count)
]
train = flipjax.make_train("smoke", {"train.epochs": 4, "axes.rho": (0.9,), "train.selection": ("val_cross_entropy",)})
trained = train.map(train.members(settings))
scores = np.asarray(trained.best["val_cross_entropy"].score)
for setting, score in zip(settings, scores, strict=True):
    numbers = f"learning rate {setting['learning_rate']:.5f}  weight decay {setting['weight_decay']:.5f}"
    print(f"{numbers}  cross-entropy {score:.4f}")
best = int(scores.argmin())
print(f"best: member {best}, Flip {trained.test['val_cross_entropy'].flip[best].mean():.3f}")
