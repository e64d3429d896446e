"""Side-by-side benchmarks: the gateway beside nginx and Envoy, in one run, each on one core."""
