"""Foretell a series from its past: windows over one long array, the steps behind them as targets.

    python examples/forecast.py --epochs 2

The series is made up: two years of hourly temperatures, with days, seasons and weather. Yours may be larger than memory
where you give the path of a `.npy` file.
"""

import argparse

import keras
import numpy as np

import loader_client
from loader_service import Dataset

PAST, FUTURE = 72, 12  # hours
HOURS = 2 * 365 * 24


def main() -> None:
    """Train on the first three quarters, and compare with "as it is now" on the last one."""
    parser = argparse.ArgumentParser(description="Train on windows over a long series.")
    parser.add_argument("--epochs", type=int, default=5)
    epochs = parser.parse_args().epochs

    series = make_series()
    cut = HOURS * 3 // 4
    window = {"length": PAST, "offset": PAST, "target_length": FUTURE}
    train = Dataset.from_series(series, series, stop=cut, **window).shuffle(seed=7).batch(128)
    last = Dataset.from_series(series, series, start=cut, stride=FUTURE, **window).batch(32)

    with loader_client.connect() as loader:
        training, held_out = loader.stream(train), loader.stream(last)
        print(f"{training.samples:,} windows of {PAST} hours to train on, {held_out.samples:,} to check")

        model = keras.Sequential([keras.Input((PAST,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(FUTURE)])
        model.compile(keras.optimizers.Adam(0.005), "mae")
        model.fit(training.keras(), validation_data=held_out.keras(), epochs=epochs)

        error = model.evaluate(held_out.keras(), verbose=0)
        naive = np.mean([np.abs(batch["y"] - batch["x"][:, -1:]).mean() for batch in held_out])
    print(f'mean error over the next {FUTURE} hours: {error:.2f} degrees; of "as it is now": {naive:.2f}')


def make_series() -> np.ndarray:
    """Return one temperature for each hour, in tens of degrees."""
    hours, rng = np.arange(HOURS), np.random.default_rng(0)
    weather = np.convolve(rng.normal(0, 0.5, HOURS + 47), np.full(48, 1 / 7), "valid")
    day, year = np.sin(2 * np.pi * hours / 24), np.sin(2 * np.pi * hours / (365 * 24))
    return (1 + 0.4 * day + year + weather).astype(np.float32)


if __name__ == "__main__":
    main()
