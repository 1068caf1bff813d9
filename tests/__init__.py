"""Tests of rootless; docs/testing.md tells how they are run."""
