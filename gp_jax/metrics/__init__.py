"""Exact, named, fast metrics of outpainted video, on arrays.

    from gp_jax.metrics import psnr, ssim, lpips, fvd

    psnr(reference, generated)                    # videos [B, T, H, W, 3], uint8 or float in [-1, 1] -> float
    ssim(reference, generated, mask)              # only where mask (broadcastable to [B, T, H, W]) is 1
    fvd.compute(fvd.merge(part, fvd.state(a, b))) # in parts: see `gp_jax.metrics.metric`

A number means nothing without its flavour: each variant that the literature knows is an entry of its own in
`METRICS`, and says so when it is printed (`gp_jax.metrics.score`). LPIPS and FVD need `gp-jax
fetch` once.

A new metric is a file here that makes a `Metric`, and a line in `METRICS`.
"""

from gp_jax.metrics.frechet import fvd, fvd_stylegan_v, fvd_videogpt
from gp_jax.metrics.metric import Metric, gather
from gp_jax.metrics.perceptual import lpips, lpips_map, lpips_vgg
from gp_jax.metrics.pixels import psnr, psnr_clip, ssim
from gp_jax.metrics.seam import seam
from gp_jax.metrics.temporal import flicker, pulse, warping_error

METRICS: dict[str, Metric] = {
    "psnr": psnr,
    "psnr-clip": psnr_clip,
    "ssim": ssim,
    "lpips": lpips,
    "lpips-vgg": lpips_vgg,
    "fvd": fvd,
    "fvd-stylegan-v": fvd_stylegan_v,
    "fvd-videogpt": fvd_videogpt,
    "warping-error": warping_error,
    "flicker": flicker,
    "pulse": pulse,
    "seam": seam,
}

__all__ = [
    "METRICS",
    "Metric",
    "flicker",
    "fvd",
    "gather",
    "lpips",
    "lpips_map",
    "psnr",
    "pulse",
    "seam",
    "ssim",
    "warping_error",
]
