"""Law 3 of training: equal numbers of steps, every sample once an epoch."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unet_dist.data.loader import epoch_order, step_places, steps_per_epoch
from unet_dist.evaluate.score import shard


def test_every_sample_once_an_epoch_for_all_sizes_and_ranks() -> None:
    for number in range(1, 81):
        for world in range(1, 17):
            batch = 2 * world
            order = epoch_order(number, seed=0, epoch=0)
            steps = steps_per_epoch(number, batch)
            seen: Counter[int] = Counter()
            for rank in range(world):
                for step in range(steps):
                    [places] = step_places(
                        order, step=step, batch=batch, accumulation=1, rank=rank, world=world
                    )
                    assert len(places) == 2
                    seen.update(place.crop for place in places if place.counts)
            assert seen == Counter(range(number))


@given(
    number=st.integers(1, 60),
    world=st.integers(1, 6),
    accumulation=st.integers(1, 3),
    per_pass=st.integers(1, 3),
)
def test_a_step_holds_the_same_samples_whatever_the_ranks(
    number: int, world: int, accumulation: int, per_pass: int
) -> None:
    batch = world * accumulation * per_pass
    order = epoch_order(number, seed=1, epoch=2)
    for step in range(steps_per_epoch(number, batch)):
        shared = [
            place
            for rank in range(world)
            for part in step_places(
                order, step=step, batch=batch, accumulation=accumulation, rank=rank, world=world
            )
            for place in part
        ]
        alone = step_places(order, step=step, batch=batch, accumulation=1, rank=0, world=1)[0]
        assert sorted(shared) == sorted(alone)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = epoch_order(50, seed=3, epoch=4)
    assert np.array_equal(first, epoch_order(50, seed=3, epoch=4))
    assert not np.array_equal(first, epoch_order(50, seed=3, epoch=5))
    assert not np.array_equal(first, epoch_order(50, seed=4, epoch=4))


@given(st.integers(1, 200), st.integers(1, 16))
def test_evaluation_shards_hold_each_image_once(number: int, world: int) -> None:
    shards = [shard(range(number), rank, world) for rank in range(world)]
    assert sorted(item for part in shards for item in part) == list(range(number))
