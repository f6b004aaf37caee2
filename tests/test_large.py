"""More than 2^31 elements: offsets must not be taken in 32 bits. Nothing here takes the memory."""

import numpy as np
import pytest
from helpers import assert_close

import lead_fast as lf
from lead_fast import reference
from lead_fast.ntk import sample_rows

ROWS, WIDTH = 2_200_000, 1000  # 2.2e9 > 2^31


def test_rates_read_rows_far_into_a_file(tmp_path):
    path = tmp_path / "sparse.bin"
    features = np.memmap(path, np.float16, "w+", shape=(ROWS, WIDTH))  # a sparse file
    labels = np.zeros(ROWS, np.int8)
    labels[-40:] = 1
    rng = np.random.default_rng(0)
    features[-40:] = rng.standard_normal((40, WIDTH))
    head = lf.Head(WIDTH, 2, hidden=(16,))
    chosen = sample_rows(labels, n_samples=8)
    rates = lf.class_rates(features, labels, head, n_samples=8)
    for k, rows in chosen.items():
        assert len(rows) == 8
        part = np.array(features[rows])
        exact = reference.class_rates(part.astype(np.float64), np.zeros(8, int), head, n_samples=8)
        assert_close(rates[k], exact[0], 1e-5 * exact[0])
    # Zeros everywhere else: only the weights of the output layer and the biases count there.
    assert rates[1] > 10 * rates[0] > 0


@pytest.mark.parametrize("cross_entropy", ["distribution", "logits"])
def test_scores_of_many_rows(cross_entropy):
    row = np.full(WIDTH, 1e-4, np.float32)
    row[0], row[-1] = 0.25, 0.6501
    initial = np.broadcast_to(row, (ROWS, WIDTH))  # one row in memory
    labels = np.zeros(ROWS, np.int16)
    labels[-1_000_000:] = WIDTH - 1
    rates = np.linspace(1e4, 2e5, WIDTH)
    score = lf.evolved_score(
        initial, labels, rates, [1.0], cross_entropy=cross_entropy, classes=np.arange(WIDTH)
    )
    pair = reference.evolved_score(
        np.stack([row, row]).astype(np.float64),
        np.array([0, WIDTH - 1]),
        rates,
        [1.0],
        cross_entropy=cross_entropy,
        classes=np.arange(WIDTH),
    )
    each = [
        reference.evolved_score(
            row[None].astype(np.float64),
            np.array([k]),
            rates,
            [1.0],
            cross_entropy=cross_entropy,
            classes=np.arange(WIDTH),
        )[0]
        for k in (0, WIDTH - 1)
    ]
    assert_close(pair[0], np.mean(each), 1e-12)
    share = 1_000_000 / ROWS
    assert_close(score[0], (1 - share) * each[0] + share * each[1], 1e-9)
