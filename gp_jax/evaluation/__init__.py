"""Protocols, data sets and the harness that compares methods."""
