"""What the definitions of a run's page name: the rule of its verdicts, the margin of learning, scores of images."""

from flipjax.metrics.statistics.permutation import LEVEL
from flipjax.results.learning import MARGIN
from flipjax.results.scores import SCORES
from flipjax.results.statistics.verdicts import CORRECTION

GLOSSARY = {"correction": CORRECTION, "level": LEVEL, "margin": MARGIN, "scores": SCORES}
"""By the names in templates/terms.html."""
