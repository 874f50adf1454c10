"""Mixup and CutMix, in line."""

import numpy as np
import pytest

from loader_service import Dataset
from loader_service.dataset.draws import uniforms
from loader_service.dataset.finish.beta import BETA_DRAWS, symmetric_beta
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.shard import Shard

ROWS = 22


def pictures(dtype="uint8"):
    """Return flat pictures, so that a mixed value tells of whom it was mixed."""
    values = np.arange(ROWS) * 10
    return np.broadcast_to(values[:, None, None, None], (ROWS, 8, 6, 3)).astype(dtype)


def labelled(dtype="uint8", **fields):
    return Dataset.from_arrays(image=pictures(dtype), label=np.arange(ROWS), **fields).one_hot("label", ROWS)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_mixup_mixes_pictures_and_labels_by_one_share(dtype):
    dataset = labelled(dtype).mixup(0.4).shuffle(3).batch(8)

    batches = [dataset.compute(n) for n in range(6)]

    assert dataset.spec["image"].dtype == dtype
    for batch in batches:
        np.testing.assert_allclose(batch["label"].sum(axis=1), 1, atol=1e-6)
        assert ((batch["label"] > 0).sum(axis=1) <= 2).all()
        expected = batch["label"] @ (np.arange(ROWS) * 10)
        tolerance = 0.51 if dtype == "uint8" else 1e-3
        assert np.abs(batch["image"] - expected[:, None, None, None]).max() <= tolerance
    assert any(((batch["label"] > 0.2).sum(axis=1) == 2).any() for batch in batches)
    assert all(np.array_equal(batch["image"], dataset.compute(n)["image"]) for n, batch in enumerate(batches))


def test_cutmix_puts_a_box_of_another_picture_in_and_labels_tell_its_area():
    dataset = labelled(mask=pictures("int64")[..., :1]).cutmix(field=["image", "mask"]).shuffle(3).batch(8)

    for n in range(6):
        batch = dataset.compute(n)
        assert np.array_equal(batch["image"][..., :1], batch["mask"])
        np.testing.assert_allclose(batch["label"].sum(axis=1), 1, atol=1e-6)
        shares = (batch["mask"].reshape(-1, 48)[:, :, None] == np.arange(ROWS) * 10).mean(axis=1)
        np.testing.assert_allclose(batch["label"], shares, atol=1e-6)
        for mask in batch["mask"][..., 0]:
            values, counts = np.unique(mask, return_counts=True)
            if len(values) > 1:
                rows, columns = np.nonzero(mask == values[counts.argmin()])
                box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
                assert (
                    counts.min() in (box, 48 - (np.ptp(np.nonzero(mask == values[counts.argmax()])) + 1)) or box >= 24
                )


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_rows_that_pad_the_last_batch_take_no_part(method):
    """22 samples in batches of 8: two rows of the last one are zeros, of weight 0, and nobody is mixed with them."""
    dataset = getattr(labelled(), method)().batch(8, remainder="pad")

    batch = dataset.compute(2)

    assert batch["weight"].tolist() == [1] * 6 + [0] * 2
    np.testing.assert_allclose(batch["label"].sum(axis=1), batch["weight"], atol=1e-6)
    assert not batch["image"][6:].any()
    assert batch["image"][:6].min() >= 159


def test_a_short_last_batch_is_mixed_within_itself():
    batch = labelled().mixup().batch(8).compute(2)

    assert len(batch["image"]) == 6
    assert not batch["label"][:, :16].any()


def test_rows_are_mixed_with_their_probability():
    batch = labelled().mixup(8, probability=0.3).batch(ROWS)

    alone = np.mean([(batch.compute(n)["label"].max(axis=1) == 1).mean() for n in range(40)])

    assert abs(alone - (0.7 + 0.3 / ROWS)) < 5 * np.sqrt(0.21 / (40 * ROWS))


def test_steps_that_mix_the_same_field_follow_one_another():
    """The second reads what the first one has written, and must not write to the same place."""
    dataset = labelled("float32").mixup(1).cutmix(1).batch(ROWS)

    batch = dataset.compute(0)

    np.testing.assert_allclose(batch["label"].sum(axis=1), 1, atol=1e-6)
    means = batch["image"].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, batch["label"] @ (np.arange(ROWS) * 10), rtol=1e-4, atol=1e-3)
    assert (batch["label"] > 0).sum(axis=1).max() > 2


def test_each_epoch_and_each_seed_mixes_otherwise():
    first = labelled().mixup().batch(ROWS)

    mixed = [first.compute(0), first.compute(1), labelled().mixup().shuffle(1).batch(ROWS).compute(0)]

    assert len({batch["label"].sum(axis=0).tobytes() for batch in mixed}) == 3


def test_a_shard_is_mixed_within_itself():
    plan = labelled().mixup().batch(8, remainder="drop").plan

    rows = plan.compute(0, Shard(1, 2))

    assert rows["label"].shape == (4, ROWS)
    assert not rows["label"][:, :4].any()


def test_padded_rows_and_functions_on_batches_go_with_mixing(user_module):
    module = user_module("def double(batch): return {**batch, 'x': 2 * batch['x']}\n")
    rows = [np.full((k, 2), 1, np.float32) for k in (3, 1, 5, 2)]
    dataset = Dataset.from_arrays(x=rows, y=np.eye(4, dtype=np.float32)).pad("x").mixup(1, field="x", label="y")

    batch = dataset.map_batch(f"{module}:double").batch(4).compute(0)

    assert batch["x"].shape == (4, 5, 2)
    np.testing.assert_allclose(batch["x"][:, 0], 2, rtol=1e-6)
    np.testing.assert_allclose(batch["y"].sum(axis=0), 1, atol=1)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1, 4])
def test_shares_have_the_distribution_that_they_should_have(alpha):
    """Moments of Beta(alpha, alpha): mean 1/2, variance 1 / (4 (2 alpha + 1)), and its fourth."""
    shares = symmetric_beta(alpha, uniforms(5, np.arange(40_000), BETA_DRAWS)) - 0.5
    variance = 1 / (4 * (2 * alpha + 1))

    assert (np.abs(shares) <= 0.5).all()
    assert abs(shares.mean()) < 5 * np.sqrt(variance / 40_000)
    assert abs(shares.var() / variance - 1) < 0.03
    assert abs((shares**4).mean() / (3 / (16 * (2 * alpha + 1) * (2 * alpha + 3))) - 1) < 0.05


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            lambda d: d.mixup(),
            r"mixup: field 'label' is int64 \(\), and class numbers .* Say .one_hot\('label', classes\)",
        ),
        (
            lambda d: d.cutmix(label="image"),
            r"cutmix: field 'image' is uint8 .* Say .cast\('image', 'float32'\) before",
        ),
        (
            lambda d: d.mixup(field="picture"),
            r"mixup: there is no field 'picture'; the sample has \['image', 'label'\]",
        ),
        (lambda d: d.one_hot("label", 22).cutmix(field="label"), r"cutmix: field 'label' is .*, expected a picture"),
        (
            lambda d: d.one_hot("label", 22).cast("image", "int64").mixup(),
            "mixup: field 'image' is int64 .*: cast it first",
        ),
        (lambda d: d.mixup(0), "mixup: alpha: input should be greater than 0, got 0"),
        (lambda d: d.cutmix(probability=2), "cutmix: probability: input should be less than or equal to 1, got 2"),
        (lambda d: d.mixup().rescale(2), "rescale: it acts on samples, so say it before mixup"),
        (lambda d: d.map_batch("copy:copy").mixup(), "mixup: say it before map_batch"),
    ],
)
def test_what_cannot_be_mixed_is_refused_with_what_to_do(made, told):
    with pytest.raises(DatasetError, match=told):
        made(Dataset.from_arrays(image=pictures(), label=np.arange(ROWS))).batch(4).plan  # noqa: B018 - it is opened
