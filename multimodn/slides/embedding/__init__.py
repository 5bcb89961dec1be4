"""From slides to tile features: tile encoders, resuming, processes, clusters."""
