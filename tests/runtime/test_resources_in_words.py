"""When no node can take an agent, the message says what the nodes have: on a lean node nobody else would."""

from hanse.runtime.cluster import resources_in_words

HERE = {
    "NodeManagerAddress": "127.0.0.1",
    "Alive": True,
    "Resources": {"CPU": 8.0, "memory": 4e9, "node:127.0.0.1": 1.0, "object_store_memory": 1e9},
}


def test_each_living_node_says_what_it_has_to_give():
    far = {"NodeManagerAddress": "10.0.0.2", "Alive": True, "Resources": {"GPU": 0.5, "node:10.0.0.2": 1.0}}
    gone = {**far, "NodeManagerAddress": "10.0.0.3", "Alive": False}
    assert (
        resources_in_words([HERE, far, gone]) == "Of the nodes, 10.0.0.2 has GPU 0.5; 127.0.0.1 has CPU 8, memory 4e+09"
    )


def test_a_node_that_has_nothing_and_no_node_at_all():
    bare = {**HERE, "Resources": {"node:127.0.0.1": 1.0}}
    assert resources_in_words([bare]) == "Of the nodes, 127.0.0.1 has nothing"
    assert resources_in_words([{**HERE, "Alive": False}]) == "No node is alive"
