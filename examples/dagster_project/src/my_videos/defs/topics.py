import dagster as dg
import pyarrow.dataset as ds


@dg.asset(
    ins={
        "segments": dg.AssetIn(
            key=["idx_news", "exports", "editors"],
            metadata={"prompt_id": "prm_topics"},
        )
    }
)
def topics(segments: ds.Dataset) -> dg.MaterializeResult[None]:
    """How many segments of the news have which topic."""
    rows = segments.to_table(columns=["metadata"])
    named = [row["topic"] for row in rows["metadata"].to_pylist()]
    return dg.MaterializeResult(metadata={topic: named.count(topic) for topic in sorted(set(named))})
