"""Comparisons with peers; run by scripts/bench, never by pytest: times are not tested."""
