/* SPDX-License-Identifier: MIT */
/*
 * A transition in pieces: all that goes and comes, cut where something begins or
 * ends, in the order of guest addresses, and what becomes of each piece.
 */
#ifndef KVM_LAYOUT_PIECES_H
#define KVM_LAYOUT_PIECES_H

#include "internal.h"

#define NONE	SIZE_MAX

/* What the host can do. */
struct able {
	bool grow;
	bool shrink;
	bool split;
	bool merge;
	bool set_readonly;
	size_t max_pieces;
};

/**
 * struct piece - a range with one fate
 * @gpa: its start
 * @size: bytes
 * @old: index of the present slot that has it, or NONE
 * @new: index of the wanted slot that has it, or NONE
 * @kept: it stays, and this host can keep it; else what has an @old goes and what
 *	has a @new comes
 * @out: index of the chunk in which it goes, or NONE
 * @in: index of the chunk in which it comes, or NONE
 * @node: index of the slot that has it at the moment, see steps.h; while it has
 *	none, NONE
 */
struct piece {
	uint64_t gpa;
	uint64_t size;
	size_t old;
	size_t new;
	bool kept;
	size_t out;
	size_t in;
	size_t node;
};

/**
 * struct chunk - neighbouring pieces that go, or come, in one step
 * @first: index of the first piece
 * @end: index behind the last one
 * @goes_on: the next chunk (of those that go: the one in front) is of the same run
 *	and has to be dealt with first
 * @nr_pairs: pieces in it that are replaced and wait for their other half
 * @step: the step that it went or came with
 */
struct chunk {
	size_t first;
	size_t end;
	bool goes_on;
	size_t nr_pairs;
	size_t step;
};

/**
 * struct side - the present or the wanted slots of the transition
 * @slots: by guest address
 * @nr: how many
 * @begin: for each the index of its first piece, and at the end one behind the
 *	last; its pieces are neighbours
 * @end: for each the index behind its last piece
 */
struct side {
	const region_t *slots;
	size_t nr;
	size_t *begin;
	size_t *end;
};

struct transition {
	struct able able;
	struct side old;
	struct side new;
	struct piece *pieces;
	size_t nr_pieces;
	struct chunk *outs;
	size_t nr_outs;
	struct chunk *ins;
	size_t nr_ins;
};

/*
 * Fills in all but @able and the slots of the sides, which stay the caller's.
 * Return: 0 or -ENOMEM
 */
int transition_init(struct transition *transition);
void transition_destroy(struct transition *transition);

/* Whether a piece is at the same host address in both layouts. */
bool stays(const struct transition *t, const struct piece *piece);
/* Whether something of the same present slot goes behind a piece and is replaced. */
bool has_pair_behind(const struct transition *t, size_t piece);

/* Whether a piece is in both layouts, but not kept. */
static inline bool is_pair(const struct piece *piece)
{
	return piece->old != NONE && piece->new != NONE && !piece->kept;
}

#endif /* KVM_LAYOUT_PIECES_H */
