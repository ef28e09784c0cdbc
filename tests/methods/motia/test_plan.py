"""Windows cover a clip of any length, each frame's shares are one; the sampler's way has the published length."""

import numpy as np
import pytest

from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.motia.insertion import insertion
from gp_jax.methods.motia.plan import LENGTH, STRIDE, chunks, windows
from gp_jax.methods.motia.schedule import rows, walk

SCHEDULE = NoiseSchedule(beta_start=0.00085, beta_end=0.012, steps_offset=1)


@pytest.mark.parametrize("num_frames", [1, 2, 15, 16, 17, 19, 20, 40, 64, 101])
@pytest.mark.parametrize("plan", [windows, chunks])
def test_every_frame_has_its_whole_share(plan, num_frames):
    shares = np.zeros(num_frames)
    made = plan(num_frames)
    for window in made:
        assert len(window.frames) == LENGTH and window.frames == window.times
        assert set(np.diff(window.frames)) <= ({1} if num_frames >= LENGTH else {0, 1})
        for position, share in zip(window.kept, window.shares, strict=True):
            shares[window.frames[position]] += share
    np.testing.assert_allclose(shares, 1)
    starts = [window.frames[0] for window in made]
    stride = STRIDE if plan is windows else LENGTH
    assert set(np.diff(starts)[:-1]) <= {stride} and all(np.diff(starts) <= stride)
    assert made[-1].frames[-1] == num_frames - 1


def test_no_frames_are_no_clip():
    with pytest.raises(UserError, match="no frames"):
        windows(0)


@pytest.mark.parametrize(
    "steps, repeats, evaluations", [(50, 4, 158), (25, 4, 73), (50, 0, 50), (12, 1, 18), (2, 4, 2)]
)
def test_noise_regret_has_the_published_number_of_evaluations(steps, repeats, evaluations):
    path = walk(steps, repeats)
    assert len(path) == evaluations
    level = 0
    for step, back in path:  # each begins at the level that the one before it ended on
        assert step == level
        level = step + 1 - 3 * back
    assert level == steps and not path[-1][1]


def test_a_perfect_network_keeps_the_levels_of_noise():
    """With the noise itself predicted and regret's noise 0, latents are alpha * clean + sigma * noise in every row."""
    way = rows(SCHEDULE, 50, 7.5, 15, 4)
    alpha, sigma = SCHEDULE.alpha.astype(np.float64), SCHEDULE.sigma.astype(np.float64)
    clean, noise = 0.7, -1.3
    latent = alpha[981] * clean + sigma[981] * noise
    for row, after in zip(way, [*way[1:], None]):
        t = int(row.timestep)
        np.testing.assert_allclose(latent, alpha[t] * clean + sigma[t] * noise, rtol=1e-4)
        estimate = row.noisy_to_clean * latent + row.noise_to_clean * noise
        np.testing.assert_allclose(estimate, clean, rtol=1e-3)
        latent = row.keep * latent + row.clean_weight * estimate
        if row.holds:
            np.testing.assert_allclose(latent, row.source_weight * clean + row.noise_weight * noise, rtol=1e-3)
        if row.regret:
            assert after and after.noise == row.regret_noise == row.noise + 1 and after.timestep == t + 40
            np.testing.assert_allclose(row.stay**2 + row.regret**2, 1, rtol=1e-6)
            # Noise of a level and fresh noise are noise of the level that it goes back to.
            np.testing.assert_allclose(
                (row.stay * row.noise_weight) ** 2 + row.regret**2, sigma[int(after.timestep)] ** 2, rtol=1e-4
            )
            latent = alpha[t + 40] * clean + sigma[t + 40] * noise
    np.testing.assert_allclose(latent, clean, rtol=1e-3)
    assert [row.timestep for row in way][:4] == [981, 961, 941, 981] and not way[-1].holds
    assert {int(row.timestep) for row in way if row.guidance > 1} == set(range(701, 982, 20))


def test_insertion_has_the_golden_values():
    wide = insertion(Canvas.from_pads(64, 64, 32, 32, 0, 0), 1.0)
    np.testing.assert_allclose(wide[0, [0, 31, 32]], [0.36787944, 0.96923323, 1], rtol=1e-6)
    np.testing.assert_allclose(wide.mean(), 0.81114756, rtol=1e-6)
    around = insertion(Canvas.from_pads(64, 64, 32, 32, 32, 32), 2.0)
    np.testing.assert_allclose([around[0, 0], around[10, 31]], [0.60653066, 0.98449644], rtol=1e-6)
    np.testing.assert_allclose(around.mean(), 0.85178859, rtol=1e-6)
    assert (insertion(Canvas.from_size(8, 8, 8, 8), 0.5) == 1).all()
