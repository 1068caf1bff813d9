"""Random names for containers that were given none: an adjective and a person of computing, as is the custom."""

from __future__ import annotations

import os

ADJECTIVES = (
    "amber", "brave", "brisk", "calm", "candid", "clever", "cosmic", "crisp", "curious", "daring", "deft", "eager",
    "earnest", "fair", "fearless", "fleet", "fond", "frank", "gentle", "gifted", "glad", "graceful", "happy", "hardy",
    "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mild", "modest",
    "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "ready", "serene",
    "sharp", "silent", "sleek", "smart", "solid", "spry", "steady", "sunny", "swift", "tidy", "vivid", "warm", "wise",
    "witty", "young", "zesty",
)  # fmt: skip
PEOPLE = (
    "adleman", "allen", "babbage", "backus", "bartik", "berners", "boole", "borg", "cerf", "church", "clarke", "codd",
    "cook", "corbato", "curry", "dahl", "diffie", "dijkstra", "easley", "eckert", "engelbart", "estrin", "feinler",
    "floyd", "gilbreth", "goldberg", "granville", "hamilton", "hellman", "hennessy", "hoare", "holberton", "hopper",
    "iverson", "johnson", "kahn", "karp", "kay", "kernighan", "knuth", "lamarr", "lamport", "liskov", "lovelace",
    "mccarthy", "meitner", "milner", "minsky", "naur", "neumann", "noyce", "perlis", "perlman", "ritchie", "rivest",
    "shamir", "shannon", "spence", "tarjan", "thompson", "turing", "wilkes", "wing", "zuse",
)  # fmt: skip


def random_name() -> str:
    """Return one of 4,096 names."""
    a, b = os.urandom(2)
    return f"{ADJECTIVES[a % len(ADJECTIVES)]}_{PEOPLE[b % len(PEOPLE)]}"
