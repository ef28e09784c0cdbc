"""The command `gp-jax`: one file per subcommand, parsing and printing only."""
