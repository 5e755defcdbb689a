"""Connected components against a union-find, on graphs of every shape."""

import random
from itertools import combinations, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longattn.etl.dedup.components import check_labels, components
from longattn.udfs.errors import LongAttnError

pytestmark = pytest.mark.spark

Edge = tuple[str, str]


def union_find(edges):
    """Smallest node connected to each node, on one machine."""
    parent = {}

    def find(node):
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in edges:
        low, high = sorted((find(a), find(b)))
        parent[high] = low
    return {node: find(node) for node in parent}


def frame(spark, edges, partitions=3):
    return spark.createDataFrame(edges, "a string, b string").repartition(partitions)


def labels(spark, edges, **options):
    rows = components(frame(spark, edges), **options).collect()
    result = {row["node"]: row["component"] for row in rows}
    assert len(rows) == len(result)
    return result


def chain(name, length, rng):
    """Nodes in random order of their names along the chain, the hard case for small labels."""
    nodes = [f"{name}{i:04}" for i in range(length)]
    rng.shuffle(nodes)
    return list(pairwise(nodes))


def sorted_chain(name, length):
    nodes = [f"{name}{i:04}" for i in range(length)]
    return list(pairwise(nodes))


def star(name, leaves, centre):
    return [(f"{name}{centre:04}", f"{name}{i:04}") for i in range(leaves) if i != centre]


def clique(name, size):
    return list(combinations([f"{name}{i:04}" for i in range(size)], 2))


def test_long_chains_stars_cliques_loops_and_repeats(spark):
    rng = random.Random(0)
    edges = [
        *chain("chain", 300, rng),
        *sorted_chain("sorted", 300),
        *star("low", 200, 0),
        *star("high", 200, 199),
        *star("mid", 200, 77),
        *clique("clique", 20),
        ("loop", "loop"),
        ("twice", "again"),
        ("again", "twice"),
        ("twice", "again"),
    ]
    rng.shuffle(edges)
    assert labels(spark, edges, max_rounds=14) == union_find([e for e in edges if e[0] != e[1]])


NODES = st.integers(0, 25)
GRAPHS = st.lists(st.lists(st.tuples(NODES, NODES), max_size=30), min_size=1, max_size=30)


@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(GRAPHS)
def test_random_graphs_equal_union_find(spark, graphs):
    """Many graphs side by side in one call: a Spark job costs more than the graphs."""
    edges = [
        (f"{g}-{a:02}", f"{g}-{b:02}") for g, graph in enumerate(graphs) for a, b in graph if a != b
    ]
    assert labels(spark, edges) == union_find(edges)


def test_no_edges_no_labels(spark):
    assert labels(spark, []) == {}


def test_too_few_rounds_are_an_error(spark):
    with pytest.raises(LongAttnError, match="not converged after 2 rounds"):
        labels(spark, chain("c", 200, random.Random(1)), max_rounds=2)


@pytest.mark.parametrize("lost", ["row", "link"])
def test_a_label_lost_on_the_way_is_an_error(spark, lost):
    edges = [("a", "b"), ("b", "c"), ("d", "e")]
    kept = {"row": [("a", "a"), ("b", "a")], "link": [("a", "a"), ("b", "a"), ("c", "c")]}[lost]
    rows = [*kept, ("d", "d"), ("e", "d")]
    with pytest.raises(LongAttnError, match="1 edges have ends with different labels"):
        check_labels(
            frame(spark, edges), spark.createDataFrame(rows, "node string, component string")
        )
