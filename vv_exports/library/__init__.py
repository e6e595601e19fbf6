"""What somebody's own Dagster project takes of the package: definitions to merge with theirs, and a component."""
