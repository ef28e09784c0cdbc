"""Weights that other people published: fetched once, held against their digests, kept in the cache."""
