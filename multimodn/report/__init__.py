"""What a person looks at: figures, and the report of a run as one page."""
