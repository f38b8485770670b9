/* SPDX-License-Identifier: MIT */
/*
 * tree.c - nodes in the order of their keys, with what the owner knows of each node's subtree
 *
 *        p              n
 *       / \            / \
 *      n   c   <-->   a   p        rotated: the order a n b p c stays, and so does what is known of all five
 *     / \                / \
 *    a   b              b   c
 *
 * A node is inserted at the end of a branch and rotated up to its priority; one that is removed is rotated
 * down until it has one child at most. Either takes two rotations on average.
 */
#include "base/tree.h"

/* The end of a branch. */
static struct tree_node *outermost(struct tree_node *node, enum tree_side side)
{
	while (node && node->child[side])
		node = node->child[side];
	return node;
}

struct tree_node *tree_next(const struct tree *tree, const struct tree_node *node,
			    enum tree_side side)
{
	if (!node)
		return outermost(tree->root, !side);
	if (node->child[side])
		return outermost(node->child[side], !side);
	while (node->parent && node->parent->child[side] == node)
		node = node->parent;
	return node->parent;
}

static void child_set(struct tree *tree, struct tree_node *parent, enum tree_side side,
		      struct tree_node *node)
{
	if (parent)
		parent->child[side] = node;
	else
		tree->root = node;
	if (node)
		node->parent = parent;
}

static enum tree_side side_of(const struct tree_node *node)
{
	return node->parent && node->parent->child[TREE_HIGHER] == node;
}

static void rotate_up(struct tree *tree, struct tree_node *node)
{
	struct tree_node *parent = node->parent;
	enum tree_side side = side_of(node);

	child_set(tree, parent->parent, side_of(parent), node);
	child_set(tree, parent, side, node->child[!side]);
	child_set(tree, node, !side, parent);
	if (tree->renew) {
		tree->renew(tree, parent);
		tree->renew(tree, node);
	}
}

void tree_renew(const struct tree *tree, struct tree_node *node)
{
	while (node && tree->renew && tree->renew(tree, node))
		node = node->parent;
}

/* Marsaglia's xorshift32; 0 would stay 0. */
static uint32_t random_next(struct tree *tree)
{
	uint32_t random = tree->random ? tree->random : 1;

	random ^= random << 13;
	random ^= random >> 17;
	random ^= random << 5;
	return tree->random = random;
}

void tree_insert(struct tree *tree, struct tree_node *node, struct tree_node *before)
{
	struct tree_node *parent = before;
	enum tree_side side = TREE_HIGHER;

	if (!before || before->child[TREE_HIGHER]) {
		parent = outermost(before ? before->child[TREE_HIGHER] : tree->root, TREE_LOWER);
		side = TREE_LOWER;
	}
	node->child[TREE_LOWER] = node->child[TREE_HIGHER] = NULL;
	node->priority = random_next(tree);
	child_set(tree, parent, side, node);
	if (tree->renew)
		tree->renew(tree, node);
	while (node->parent && node->parent->priority < node->priority)
		rotate_up(tree, node);
	tree_renew(tree, node->parent);
}

void tree_remove(struct tree *tree, struct tree_node *node)
{
	struct tree_node *lower, *higher, *parent;

	while ((lower = node->child[TREE_LOWER]) && (higher = node->child[TREE_HIGHER]))
		rotate_up(tree, lower->priority > higher->priority ? lower : higher);
	parent = node->parent;
	child_set(tree, parent, side_of(node), lower ? lower : node->child[TREE_HIGHER]);
	tree_renew(tree, parent);
}
