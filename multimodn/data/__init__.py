"""From tables on disk to prepared patients: sources, cohort, checks, splits, batches."""
