"""The drift alarm where images of a patient are alike, and after normal images.

    python sweeps/studies/monitor/clusters.py

Scores of five images of a patient share their patient's score up to a little noise. Counts the streams of 200 patients
that ever alarm without drift, where images are taken as independent and where patients are clusters; and the images
until the alarm after a rise by one standard deviation that follows 0, 100 or 1,000 normal images. Prints both tables
and writes clusters.csv beside this file.
"""

import argparse
import pathlib

import numpy as np

from flipjax import monitor
from flipjax.support.frames import to_frame, write_csv

TOGETHER, NOISE = 5, 0.3
"""Images of a patient, and the standard deviation of an image within its patient; patients differ by 1."""
REFERENCE, PATIENTS = 100, 200
"""Patients of the reference and of the stream."""
LEVELS = (0.01, 0.05)
BEFORE = (0, 100, 1000)
"""Normal images before the rise."""


def draw(generator, patients):
    """Returns the scores of images, and their patients."""
    scores = np.repeat(generator.normal(size=patients), TOGETHER)
    return scores + NOISE * generator.normal(size=len(scores)), np.repeat(np.arange(patients), TOGETHER)


def false_alarms(generator, streams):
    """Yields rows: the share of streams that ever alarm without drift."""
    least = {"images": [], "patients": []}
    for _ in range(streams):
        scores, patient = draw(generator, REFERENCE + PATIENTS)
        first = REFERENCE * TOGETHER
        # An alarm would end the test.
        options = {"flag_rate": 0.5, "false_alarm": 1e-12}
        alone = monitor.fit(scores[:first], **options)
        least["images"].append(list(monitor.watch(alone, scores[first:]))[-1].p_value)
        together = monitor.fit(scores[:first], clusters=patient[:first], **options)
        verdicts = monitor.watch(together, scores[first:], clusters=patient[first:])
        least["patients"].append(list(verdicts)[-1].p_value)
    for unit, p_values in least.items():
        for level in LEVELS:
            yield {
                "study": "no drift",
                "independent": unit,
                "level": level,
                "alarms": np.mean(np.array(p_values) <= level),
            }


def delays(generator):
    """Yields rows: median images until the alarm."""
    fitted = monitor.fit(generator.normal(size=1000))
    for before in BEFORE:
        delay = monitor.alarm_delay(fitted, fitted.scores + 1, before=before)
        yield {"study": "rise by 1", "independent": "images", "level": 0.01, "before": before, "delay": delay}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    generator = np.random.default_rng(0)
    table = to_frame([*false_alarms(generator, parser.parse_args().streams), *delays(generator)])
    print(table.to_string(index=False))
    write_csv(pathlib.Path(__file__).with_name("clusters.csv"), table)


if __name__ == "__main__":
    main()
