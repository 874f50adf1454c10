import random

import numpy as np
import pytest

from loader_service.dataset.replay import Replayed, generators_in, length_of, seed_all
from loader_service.protocol.errors import DatasetError


class Shuffled:
    """As tutorials write it: an order that `on_epoch_end` makes anew."""

    def __init__(self):
        self.on_epoch_end()

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return self.indexes[i], np.random.random(), random.random()

    def on_epoch_end(self):
        self.indexes = np.arange(20)  # five have 120 orders: two of six would now and then be the same
        np.random.shuffle(self.indexes)


class Stateful(Shuffled):
    """Shuffles what it shuffled before: an epoch depends on all those before it."""

    def __init__(self):
        self.indexes = list(range(20))
        self.rng = np.random.default_rng()
        self.calls = []

    def __getitem__(self, i):
        return self.indexes[i], self.rng.random()

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self):
        self.calls.append("end")
        self.rng.shuffle(self.indexes)


@pytest.mark.parametrize("kind", [Shuffled, Stateful])
def test_an_item_is_a_function_of_seed_epoch_and_number_in_whatever_order_it_is_asked_for(kind):
    wanted = [(epoch, number) for epoch in range(4) for number in range(5)]
    there = {each: Replayed(kind, seed=7).item(*each) for each in wanted}
    onwards, backwards = Replayed(kind, seed=7), Replayed(kind, seed=7)

    assert {each: onwards.item(*each) for each in wanted} == there
    assert {each: backwards.item(*each) for each in reversed(wanted)} == there


@pytest.mark.parametrize("kind", [Shuffled, Stateful])
def test_each_epoch_and_each_seed_has_an_order_of_its_own(kind):
    orders = {
        (seed, epoch): tuple(int(Replayed(kind, seed).item(epoch, number)[0]) for number in range(5))
        for seed in range(2)
        for epoch in range(3)
    }

    assert len(set(orders.values())) == 6


def test_each_item_of_each_epoch_has_random_numbers_of_its_own():
    replayed = Replayed(Shuffled, seed=7)

    drawn = [number for epoch in range(2) for item in range(5) for number in replayed.item(epoch, item)[1:]]

    assert len(set(drawn)) == 20


def test_the_methods_of_an_epoch_are_called_as_keras_calls_them():
    assert Replayed(Stateful, seed=7).at(1).calls == ["end", "begin", "end", "begin"]


def test_two_epochs_that_are_read_in_turns_take_one_object_each():
    """The next epoch is prefetched while this one is read: nobody may replay from the beginning at each turn."""
    made = []

    def make():
        made.append(Stateful())
        return made[-1]

    replayed = Replayed(make, seed=7)
    for epoch in range(10):
        for number in range(5):
            replayed.item(epoch, number)
            replayed.item(epoch + 1, number)

    assert len(made) == 2
    assert max(len(each.calls) for each in made) == 22  # eleven epochs: an end and a beginning each


def test_an_object_whose_epoch_raises_is_replaced_by_a_pristine_one():
    class Fails(Shuffled):
        fails = True

        def on_epoch_end(self):
            super().on_epoch_end()
            if Fails.fails and hasattr(self, "begun"):
                raise OSError("no disk")
            self.begun = True

    replayed = Replayed(Fails, seed=7)
    with pytest.raises(OSError, match="no disk"):
        replayed.item(3, 0)
    Fails.fails = False

    assert replayed.item(3, 0) == Replayed(Fails, seed=7).item(3, 0)


class Inner:
    def __init__(self):
        self.rng = random.Random()

    def __call__(self):
        return self.rng.random()


class Hoards:
    shared = np.random.RandomState(1)

    def __init__(self):
        self.rng = np.random.default_rng()
        self.twins = [np.random.Generator(np.random.MT19937()), np.random.Generator(np.random.SFC64())]
        self.augment = Inner()
        self.same = self.rng
        self.ids = [str(number) for number in range(1000)]

    def draw(self):
        twins = [twin.random() for twin in self.twins]
        return [self.rng.random(), *twins, self.augment(), self.shared.random(), random.random(), np.random.random()]


def test_generators_are_found_in_attributes_lists_classes_and_objects_within():
    paths = [path for path, _ in generators_in(Hoards())]

    assert sorted(paths) == [".augment.rng", ".rng", ".shared", ".twins.0", ".twins.1"]


def test_every_generator_is_seeded_and_each_differently():
    hoards, others = Hoards(), Hoards()
    seed_all(hoards, 7)
    first = hoards.draw()
    seed_all(others, 7)

    assert others.draw() == first
    assert len(set(first)) == len(first)
    seed_all(hoards, 8)
    assert not set(hoards.draw()) & set(first)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([], "made is empty: its length is 0, expected the batches of an epoch, at least 1"),
        (3, "made is int, which has no __getitem__"),
        (type("Unsized", (), {"__getitem__": None})(), "made is Unsized, which has no __len__"),
        (type("Endless", (), {"num_batches": None, "__getitem__": None})(), "made has no end: its num_batches is"),
    ],
)
def test_an_object_without_a_length_is_refused(found, told):
    with pytest.raises(DatasetError, match=told):
        length_of(found, "made")


def test_num_batches_stands_in_for_a_length():
    assert length_of(type("Counted", (), {"num_batches": 3, "__getitem__": None})(), "made") == 3
