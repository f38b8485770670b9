/* SPDX-License-Identifier: MIT */
/*
 * tree.h - nodes in the order of their keys, with what the owner knows of each node's subtree
 *
 * A node lies in a structure of the owner's. All keys differ; the owner may change one as long as the order
 * stays the same.
 *
 * The tree is a treap (Seidel, Aragon 1996): its shape is that of a random order, about 2 ln n deep. The
 * numbers are the same in each run.
 *
 * Nothing allocates. Not locked: the owner serialises.
 */
#ifndef BASE_TREE_H
#define BASE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tree_side { TREE_LOWER, TREE_HIGHER };

struct tree_node {
	struct tree_node *child[2], *parent; /* enum tree_side */
	uint64_t key;
	uint32_t priority; /* not below its children's */
};

struct tree {
	struct tree_node *root;
	/* Compute again what is known of the node's subtree, from its children; did it change? NULL: nothing is. */
	bool (*renew)(const struct tree *tree, struct tree_node *node);
	uint32_t random;
};

/* The node with the highest key that is not above this one; NULL when there is none. */
static inline struct tree_node *tree_before(const struct tree *tree, uint64_t key)
{
	struct tree_node *node = tree->root, *found = NULL;

	while (node) {
		bool higher = node->key <= key;

		found = higher ? node : found;
		node = node->child[higher];
	}
	return found;
}

/* The neighbour of a node; of NULL: the first one in this direction. NULL when there is none. */
struct tree_node *tree_next(const struct tree *tree, const struct tree_node *node,
			    enum tree_side side);

/* Insert a node behind the one before it, or NULL: tree_before() its key. */
void tree_insert(struct tree *tree, struct tree_node *node, struct tree_node *before);
void tree_remove(struct tree *tree, struct tree_node *node);

/* What the owner knows of a node has changed. */
void tree_renew(const struct tree *tree, struct tree_node *node);

#endif
