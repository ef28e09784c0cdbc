"""One trainer for all stages: `gp_jax.training.loop.train(config, workdir)`."""
