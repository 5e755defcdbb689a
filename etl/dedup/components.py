"""Connected components by alternating large-star and small-star.

Kiveris et al. 2014, "Connected Components in MapReduce and Beyond". Every edge points from a node
to a smaller one. Both steps keep what is connected connected; edges move only to smaller nodes, so
the process ends, and it ends only when each component is a star around its smallest node. Rounds
grow as the logarithm of the longest chain (measured; proven: its square).

A row lost between rounds would split a component without a sign of it (graphframes#872). So rows
are kept by run.frames.cut_lineage, where a loss is an error, and the result is checked against
the edges that came in.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longattn.etl.run.frames import cut_lineage, multiset_hash
from longattn.udfs.errors import LongAttnError

MAX_ROUNDS = 40


def components(edges: DataFrame, max_rounds: int = MAX_ROUNDS) -> DataFrame:
    """Label every node of edges (a, b) with the smallest node it is connected to.

    Returns (node, component), one row per node. Nodes are strings; order and direction of edges and
    repeated edges make no difference, and an edge from a node to itself is none. Raises
    LongAttnError when it has not converged after `max_rounds` or when an edge's two ends have
    different labels.
    """
    edges = edges.where(F.col("a") != F.col("b"))
    stars = cut_lineage(_downward(edges))
    seen = _checksum(stars)
    for _ in range(max_rounds):
        if not seen[0]:
            break
        stars = cut_lineage(_small_star(_large_star(stars)))
        before, seen = seen, _checksum(stars)
        if seen == before:
            break
    else:
        raise LongAttnError(f"components: not converged after {max_rounds} rounds")
    labels = _labels(stars)
    check_labels(edges, labels)
    return labels


def check_labels(edges: DataFrame, labels: DataFrame) -> None:
    """Raise LongAttnError unless both ends of every edge (a, b) carry the same label."""
    label_a = labels.select(F.col("node").alias("a"), F.col("component").alias("label_a"))
    label_b = labels.select(F.col("node").alias("b"), F.col("component").alias("label_b"))
    labelled = edges.join(label_a, "a", "left").join(label_b, "b", "left")
    same = F.coalesce(F.col("label_a") == F.col("label_b"), F.lit(False))
    broken = labelled.where(~same).count()
    if broken:
        raise LongAttnError(
            f"components: {broken} edges have ends with different labels; rows were lost on the way"
        )


def _downward(edges: DataFrame) -> DataFrame:
    """Distinct edges (high, low) with high > low."""
    return edges.select(
        F.greatest("a", "b").alias("high"), F.least("a", "b").alias("low")
    ).distinct()


def _large_star(edges: DataFrame) -> DataFrame:
    """Link every larger neighbour of a node to the smallest node around it."""
    node, neighbour = F.col("node"), F.col("neighbour")
    turned = edges.select(F.col("low").alias("node"), F.col("high").alias("neighbour"))
    around = edges.select(F.col("high").alias("node"), F.col("low").alias("neighbour")).union(
        turned
    )
    smallest = around.groupBy("node").agg(F.least(F.min("neighbour"), node).alias("low"))
    linked = around.where(neighbour > node).join(smallest, "node")
    return linked.select(neighbour.alias("high"), "low").distinct()


def _small_star(edges: DataFrame) -> DataFrame:
    """Link a node and all its smaller neighbours to the smallest of them."""
    smallest = edges.groupBy("high").agg(F.min("low").alias("smallest"))
    linked = edges.join(smallest, "high").select(F.col("low").alias("high"), "smallest")
    both = linked.union(smallest.select("high", "smallest")).withColumnRenamed("smallest", "low")
    return both.where(F.col("high") != F.col("low")).distinct()


def _labels(stars: DataFrame) -> DataFrame:
    """Nodes of converged stars with their centre, the centres included."""
    leaves = stars.select(F.col("high").alias("node"), F.col("low").alias("component"))
    centres = stars.select(F.col("low").alias("node"), F.col("low").alias("component")).distinct()
    return leaves.union(centres)


def _checksum(edges: DataFrame) -> tuple[int, str]:
    """Number of edges and a hash of them whatever their order."""
    row = edges.agg(F.count("*"), multiset_hash("high", "low")).collect()[0]
    return row[0], row[1]
