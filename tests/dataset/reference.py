"""The plainest way to make a batch: one sample after the other, one step after the other, then stack."""

import numpy as np

from loader_service.dataset.draws import DrawKeys, stream_key, uniforms
from loader_service.dataset.order import ShuffledOrder
from loader_service.dataset.transforms.transform import FieldTransform
from loader_service.dataset.units import Turn, fused, groups_of


def plain_sample(declaration, reader, fields, epoch, sample_id, position):
    """Return one sample after all transforms; none of them is handed a row to write into.

    Runs of geometric steps are one step here, too: tests/dataset/test_fusing.py holds them against single ones.
    """
    sample = reader.read(sample_id, fields)
    keys, draws = DrawKeys(declaration.seed), {}
    for number, transform in enumerate(declaration.transforms):
        if isinstance(transform, FieldTransform):
            key = stream_key("draws", declaration.seed, epoch, number)
            draws[number] = uniforms(key, np.array([position]), transform.draws)
    turn = Turn(epoch, draws, keys, position=position)
    for unit in fused(declaration.transforms, groups_of(declaration.transforms)):
        sample = unit.apply({name: np.asarray(value) for name, value in sample.items()}, turn, {})
    return sample


def plain_batch(dataset, n):
    """Return batch `n` of a dataset, as `compute` should; padding is left out."""
    declaration = dataset.declaration
    table = {ref: dataset.tables[ref] for ref in dataset.tables}
    source = declaration.source
    reader = source.reader(source.make_index(lambda ref: table[ref.table]), lambda ref: table[ref.table])
    fields = frozenset(reader.model(0))
    epoch, batch = divmod(n, dataset.batches_per_epoch)
    first = batch * declaration.batch.size
    positions = np.arange(first, min(first + declaration.batch.size, len(reader)))
    ids = ShuffledOrder(len(reader), declaration.seed, epoch).ids(positions) if declaration.shuffle else positions
    samples = [
        plain_sample(declaration, reader, fields, epoch, sample_id, position)
        for sample_id, position in zip(ids.tolist(), positions.tolist(), strict=True)
    ]
    return {field: np.stack([np.asarray(sample[field]) for sample in samples]) for field in samples[0]}


def assert_same(got, expected):
    """Compare fields, shapes, dtypes and bytes."""
    assert list(got) == list(expected)
    for field, array in got.items():
        assert (array.shape, array.dtype) == (expected[field].shape, expected[field].dtype), field
        assert array.tobytes() == expected[field].tobytes(), field
