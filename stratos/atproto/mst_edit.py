"""Edits of a Merkle Search Tree: pure functions from one tree to the next that touch only the nodes on one path.

Untouched subtrees keep their identity (the same CID or `Node`). The result of every edit is canonical if the tree was.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from stratos.atproto.cid import Cid
from stratos.atproto.mst_node import Child, Node, key_height
from stratos.atproto.mst_reader import NodeReader


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree in memory or storage: its top node and that node's layer. The empty tree has no top, and layer 0."""

    top: Child
    layer: int


EMPTY_TREE = Tree(None, 0)


def path_to(reader: NodeReader, tree: Tree, raw: bytes, lowest: int) -> list[tuple[Node, int]]:
    """The way down to a key as far as layer `lowest`: each node, and the index of the first of its keys not below the key."""
    path: list[tuple[Node, int]] = []
    child, layer = tree.top, tree.layer
    while child is not None and layer >= lowest:
        node = reader.node(child, layer)
        index = bisect_left(node.keys, raw)
        path.append((node, index))
        child, layer = node.children[index], layer - 1
    return path


def with_entry(reader: NodeReader, tree: Tree, raw: bytes, value: Cid) -> tuple[Tree, Cid | None]:
    """The tree with a key set to a value, and the value that the key had."""
    height = key_height(raw)
    if tree.top is None or height > tree.layer:
        left, right = _split(reader, tree.top, tree.layer, raw)
        rise = height - 1 - tree.layer
        return Tree(Node((raw,), (value,), (_lifted(left, rise), _lifted(right, rise))), height), None
    path = path_to(reader, tree, raw, height)
    lowest = tree.layer - len(path) + 1
    if lowest > height:
        leaf = Node((raw,), (value,), (None, None))
        return _replaced(tree, path, _lifted(leaf, lowest - 1 - height)), None
    node, index = path.pop()
    if not node.holds(index, raw):
        left, right = _split(reader, node.children[index], height - 1, raw)
        return _replaced(tree, path, _inserted(node, index, raw, value, left, right)), None
    previous = node.values[index]
    if previous == value:
        return tree, previous
    values = (*node.values[:index], value, *node.values[index + 1 :])
    return _replaced(tree, path, Node(node.keys, values, node.children, node.heads)), previous


def without_entry(reader: NodeReader, tree: Tree, raw: bytes) -> tuple[Tree, Cid | None]:
    """The tree without a key, and the value that the key had."""
    height = key_height(raw)
    path = path_to(reader, tree, raw, height)
    if not path:
        return tree, None
    node, index = path.pop()
    if not node.holds(index, raw):
        return tree, None
    merged = _merged(reader, node.children[index], node.children[index + 1], height - 1)
    rest = _node_or_nothing(
        node.keys[:index] + node.keys[index + 1 :],
        node.values[:index] + node.values[index + 1 :],
        (*node.children[:index], merged, *node.children[index + 2 :]),
    )
    return _trimmed(reader, _replaced(tree, path, rest)), node.values[index]


def _inserted(node: Node, index: int, raw: bytes, value: Cid, left: Child, right: Child) -> Node:
    return Node(
        (*node.keys[:index], raw, *node.keys[index:]),
        (*node.values[:index], value, *node.values[index:]),
        (*node.children[:index], left, right, *node.children[index + 1 :]),
    )


def _replaced(tree: Tree, path: list[tuple[Node, int]], child: Child) -> Tree:
    """The tree with another subtree at the end of a path."""
    for node, index in reversed(path):
        children = node.children
        children = (*children[:index], child, *children[index + 1 :])
        if node.keys or child is not None:
            child = Node(node.keys, node.values, children, node.heads)
    return Tree(child, tree.layer)


def _trimmed(reader: NodeReader, tree: Tree) -> Tree:
    """The tree without the nodes above its highest key."""
    child, layer = tree.top, tree.layer
    while child is not None:
        node = reader.node(child, layer)
        if node.keys:
            return Tree(child, layer)
        child, layer = node.children[0], layer - 1
    return EMPTY_TREE


def _split(reader: NodeReader, child: Child, layer: int, raw: bytes) -> tuple[Child, Child]:
    """The parts of a subtree below and above a key that it does not hold."""
    if child is None:
        return None, None
    node = reader.node(child, layer)
    index = bisect_left(node.keys, raw)
    left, right = _split(reader, node.children[index], layer - 1, raw)
    if index == 0 and left is None:
        return None, child
    if index == len(node.keys) and right is None:
        return child, None
    return (
        _node_or_nothing(node.keys[:index], node.values[:index], (*node.children[:index], left)),
        _node_or_nothing(node.keys[index:], node.values[index:], (right, *node.children[index + 1 :])),
    )


def _merged(reader: NodeReader, left: Child, right: Child, layer: int) -> Child:
    """Two neighbouring subtrees of one layer as one."""
    if left is None or right is None:
        return right if left is None else left
    lower, upper = reader.node(left, layer), reader.node(right, layer)
    middle = _merged(reader, lower.children[-1], upper.children[0], layer - 1)
    children = (*lower.children[:-1], middle, *upper.children[1:])
    return Node(lower.keys + upper.keys, lower.values + upper.values, children)


def _lifted(child: Child, layers: int) -> Child:
    """A subtree under so many nodes without keys; nothing stays nothing."""
    if child is not None:
        for _ in range(layers):
            child = Node((), (), (child,))
    return child


def _node_or_nothing(keys: tuple[bytes, ...], values: tuple[Cid, ...], children: tuple[Child, ...]) -> Child:
    return Node(keys, values, children) if keys or children[0] is not None else None
