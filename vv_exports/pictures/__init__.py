"""Pictures of a prompt run and of a collection, as SVG that Dagster's interface and a page in a browser show."""
