import numpy as np

from raysynth.draws import Draws, row_words


def test_a_row_draws_the_same_numbers_whatever_its_neighbours():
    whole = Draws.range(7, "generate", 0, 1000)
    part = Draws.of(7, "generate", np.array([999, 3, 500]))
    assert np.array_equal(whole.uniform("z", 4)[[999, 3, 500]], part.uniform("z", 4))
    assert np.array_equal(whole.take(np.array([3])).normal("z"), part.take(np.array([1])).normal("z"))


def test_seed_purpose_name_attempt_and_row_all_matter():
    base = Draws.range(7, "generate", 0, 100)
    others = [Draws.range(8, "generate", 0, 100), Draws.range(7, "train", 0, 100), base.attempt(1)]
    others.append(Draws.range(7, "generate", 100, 200))
    for other in others:
        assert not np.intersect1d(base.words("z"), other.words("z")).size
    assert not np.intersect1d(base.words("z"), base.words("y")).size


def test_uniforms_are_uniform_and_normals_normal():
    draws = Draws.range(1, "test", 0, 200_000)
    uniform, normal = draws.uniform("u", 2), draws.normal("n")
    # tolerance: five standard errors of the mean (0.289 / sqrt(200000)) and of the standard deviation
    assert np.all(np.abs(uniform.mean(0) - 0.5) < 0.0033)
    assert abs(np.corrcoef(uniform.T)[0, 1]) < 0.0112
    assert abs(normal.mean()) < 0.0112 and abs(normal.std() - 1) < 0.0080
    assert uniform.min() > 0 and uniform.max() < 1


def test_draws_are_the_ones_that_old_seeds_gave():
    assert Draws.range(7, "generate", 0, 2).words("z", 2).tolist() == GOLDEN


def test_row_ids_hash_without_collisions():
    words = row_words(["a.csv", "b.csv"], np.repeat([0, 1], 50_000), np.tile(np.arange(50_000), 2))
    assert len(np.unique(words)) == 100_000


GOLDEN = [[14540583410064497471, 12374738395058231866], [16649981935751025055, 14264721109571543036]]
