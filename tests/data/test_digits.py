"""scikit-learn's digits as CIFAR-10's stand-in, and subsets that are fixed and nested."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
import torch
from sklearn.datasets import load_digits

from kit.data.base import first_per_class
from kit.data.digits import digits


def test_digits_are_scikit_learns():
    bunch = load_digits()
    known = {image.astype(int).tobytes(): label for image, label in zip(bunch.images, bunch.target, strict=True)}
    data = digits(8)
    seen = Counter()
    for split in (data.train, data.test):
        pixels = split.images.pixels
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels[..., 0], pixels[..., 2])
        for image, label in zip(pixels[..., 0], split.labels, strict=True):
            original = (image.double() * 16 / 255).round().long().numpy()
            assert known[original.tobytes()] == int(label)
            seen[original.tobytes()] += 1
    assert sum(seen.values()) == 1797
    assert set(seen) == set(known)
    assert torch.bincount(data.test.labels).tolist() == [40] * 10
    assert not data.flip
    assert data.classes == tuple("0123456789")


@pytest.mark.numerics
def test_digits_are_resized_bilinearly():
    small, large = digits(8), digits(16)
    expected = torch.nn.functional.interpolate(
        small.train.images.pixels.permute(0, 3, 1, 2).float(), size=16, mode="bilinear"
    )
    difference = large.train.images.pixels.permute(0, 3, 1, 2).float() - expected
    assert difference.abs().max() <= 1
    assert torch.equal(small.train.labels, large.train.labels)


def test_subsets_are_balanced_fixed_and_nested():
    labels = torch.tensor([0, 1, 2] * 50)
    few, more = first_per_class(labels, 5), first_per_class(labels, 20)
    assert torch.bincount(labels[few]).tolist() == [5, 5, 5]
    assert set(few.tolist()) < set(more.tolist())
    assert first_per_class(labels, None).tolist() == list(range(150))
    assert len(first_per_class(labels, 1000)) == 150
    by_hash = sorted(range(50), key=lambda place: hashlib.sha256(f"shuffle 1: {place}".encode()).digest())
    assert few.tolist() == sorted(3 * place + label for place in by_hash[:5] for label in range(3))


@pytest.mark.numerics
@pytest.mark.parametrize(("px", "fingerprint"), [(12, "64710f2f69dd"), (16, "e758b217444d"), (32, "95aea90b7ae7")])
def test_resized_digits_and_so_runs_hashes_are_the_same_on_every_processor(px, fingerprint):
    assert digits(px).fingerprint.startswith(fingerprint)
