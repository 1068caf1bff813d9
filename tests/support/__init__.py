"""What tests of several tiers use: probes, namespaces, registries, images, the command line."""
