"""Groups of any number of classes and scenes."""

import itertools
import re

import numpy as np
import pytest

from flipjax.groups import TWO_BY_TWO, Groups


def test_two_by_two_is_the_papers():
    assert TWO_BY_TWO.named == {"0": (0,), "1": (1,), "2": (2,), "3": (3,), "common": (0, 3), "rare": (1, 2)}
    groups = np.arange(4, dtype=np.int32)
    np.testing.assert_array_equal(TWO_BY_TWO.moved(groups), groups ^ 1)
    assert TWO_BY_TWO.moved(groups).dtype == np.int32


@pytest.mark.parametrize(("classes", "scenes"), [(2, 2), (4, 4), (5, 3), (3, 2)])
def test_every_group_is_a_class_in_a_scene(classes, scenes):
    groups = Groups(classes, scenes)
    numbers = np.arange(groups.count)
    pairs = list(itertools.product(range(classes), range(scenes)))
    assert list(zip(groups.class_of(numbers), groups.scene_of(numbers), strict=True)) == pairs
    assert [groups.of(*pair) for pair in pairs] == numbers.tolist()
    assert [groups.kind_of(group) == "common" for group in numbers] == [scene == y % scenes for y, scene in pairs]
    assert sorted(groups.common + groups.rare) == numbers.tolist()
    moved = [groups.moved(numbers, steps) for steps in range(scenes)]
    assert all((groups.class_of(each) == groups.class_of(numbers)).all() for each in moved)
    assert (np.sort(moved, axis=0) == np.sort(np.array(pairs)[:, :1] * scenes + np.arange(scenes), axis=1).T).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 2), "expected at least two classes and two scenes, found 1, 2"),
        ((2, 3), "usual: expected each of 3 scenes for some class, found ((0,), (1,))"),
        ((2, 2, ((0,),)), "usual: expected for each of 2 classes some of its scenes, found ((0,),)"),
        ((2, 2, ((0, 1), (1,))), "usual: expected for each of 2 classes"),
        ((2, 2, ((0,), ())), "usual: expected for each of 2 classes"),
        ((2, 2, ((0,), (2,))), "usual: expected each of 2 scenes"),
    ],
)
def test_usual_scenes_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Groups(*arguments)
