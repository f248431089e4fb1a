"""Groups of any number of classes and scenes."""

import itertools

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


def test_usual_scenes_that_cannot_be_are_refused():
    for usual in (((0,),), ((0, 1), (1,)), ((0,), ()), ((0,), (2,))):
        with pytest.raises(ValueError, match="usual"):
            Groups(2, 2, usual)
    for numbers in ((1, 2), (2, 3)):
        with pytest.raises(ValueError, match=r"groups|usual"):
            Groups(*numbers)
    evaluated = Groups(2, 2, ((0,), ()), partial=True)
    assert (evaluated.common, evaluated.rare, evaluated.sides_of(1)) == ((0,), (1,), ((), ()))
