"""Makes a TFDS data set that a sweep reads, without TensorFlow: python sweeps/examples/tfds_builder.py [DATA_DIR]

Put your photos in place of `examples`. A mask holds 0 and 1 + the photo's class (or one value for all), in one channel.
"""

import io
import sys

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def encode(pixels):
    """Returns PNG bytes: arrays would ask for TensorFlow."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def examples():
    """Yields a photo, its mask, its class and its scene: 8 of each of the four groups."""
    generator = np.random.default_rng(0)
    for index in range(32):
        animal, place = index % 2, index // 2 % 2
        photo = generator.integers(0, 80, (32, 32, 3)) + 100 * place
        mask = np.zeros((32, 32), np.uint8)
        mask[8:24, 8:24] = 1 + animal
        photo[mask > 0] += 60 * animal
        yield {"image": encode(photo.astype(np.uint8)), "mask": encode(mask), "class": animal, "scene": place}


class Pets(tfds.core.GeneratorBasedBuilder):
    """Cats and dogs at home and in the street."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "mask": tfds.features.Image(shape=(None, None, 1)),
            "class": tfds.features.ClassLabel(names=["cat", "dog"]),
            "scene": tfds.features.ClassLabel(names=["home", "street"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}  # one split: a sweep divides it

    def _generate_examples(self):
        yield from enumerate(examples())


data_dir = [*sys.argv[1:], "runs/tfds"][0]
Pets(data_dir=data_dir, file_format="array_record").download_and_prepare()
pool = f"--config.pool.name=tfds --config.pool.root=pets --config.pool.data_dir={data_dir}"
sizes = "--config.split.n_train=16 --config.split.n_val=8 --config.split.n_test=8 --config.train.epochs=1"
print(f"flipjax sweep --config coco_cd {pool} {sizes} --config.axes.rho=.5 --config.axes.seed=0")
