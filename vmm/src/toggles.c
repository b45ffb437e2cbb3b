// SPDX-License-Identifier: MIT
/*
 * Each piece that needs a change gets it by itself, with its present slot (before
 * that is split) or with what it is merged with.  Present slots and groups take
 * turns along guest addresses, so the best choice is found in one pass: for each
 * piece and each choice for its slot and its group, the fewest steps so far.
 *
 * Switching the log off is a question of its own: what goes is logged to its end,
 * and what comes may be logged for a while, so that no group has to be merged early
 * for it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "toggles.h"

#define RO	KVM_MEM_READONLY
#define LOG	KVM_MEM_LOG_DIRTY_PAGES

/* Sets of flags, as indexes. */
#define NR_SETS	4

static const uint32_t sets[NR_SETS] = { 0, RO, LOG, RO | LOG };

/**
 * struct link - a piece that is kept, between its present slot and its group
 * @piece: index
 * @need: flags to change
 * @left: index of the present slot
 * @left_can: those that the whole slot can change
 * @right: what identifies the group
 * @right_can: those that the whole group can change
 * @right_more: steps that this takes in addition
 */
struct link {
	size_t piece;
	uint32_t need;
	size_t left;
	uint32_t left_can;
	size_t right;
	uint32_t right_can;
	unsigned int right_more;
};

/* The fewest steps so far with this choice, and the choice of the link before. */
struct best {
	unsigned int steps;
	unsigned char from;
};

static unsigned int count(uint32_t flags)
{
	return !!(flags & RO) + !!(flags & LOG);
}

/* Whether an end that can change @can can change this. */
static bool possible(uint32_t set, uint32_t can)
{
	return !(set & ~can);
}

/* What the choices for the link's two ends cost, but for an end that goes on. */
static unsigned int cost(const struct link *link, uint32_t left, uint32_t right,
			 bool same_left, bool same_right)
{
	unsigned int steps = count(link->need & ~left & ~right);

	if (!same_left)
		steps += count(left);
	if (!same_right && right)
		steps += count(right) + link->right_more;
	return steps;
}

static bool any_need(const struct link *links, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (links[i].need)
			return true;
	return false;
}

/* Chooses the sets of flags for the ends of each link. */
static int choose(const struct link *links, size_t nr, uint32_t *left,
		  uint32_t *right)
{
	struct best (*best)[NR_SETS * NR_SETS];
	size_t end = 0;

	if (!any_need(links, nr)) {
		memset(left, 0, nr * sizeof(*left));
		memset(right, 0, nr * sizeof(*right));
		return 0;
	}
	best = malloc(nr * sizeof(*best));
	if (!best)
		return -ENOMEM;
	for (size_t i = 0; i < nr; i++) {
		const struct link *link = &links[i];
		bool same_left = i && link[-1].left == link->left;
		bool same_right = i && link[-1].right == link->right;

		for (int now = 0; now < NR_SETS * NR_SETS; now++) {
			uint32_t l = sets[now / NR_SETS];
			uint32_t r = sets[now % NR_SETS];
			struct best *to = &best[i][now];

			to->steps = -1;
			if (!possible(l, link->left_can) ||
			    !possible(r, link->right_can) || (l & r))
				continue;
			for (int was = 0; was < NR_SETS * NR_SETS; was++) {
				unsigned int steps = i ? best[i - 1][was].steps : 0;

				if (steps == -1U ||
				    (same_left &&
				     was / NR_SETS != now / NR_SETS) ||
				    (same_right &&
				     was % NR_SETS != now % NR_SETS))
					continue;
				steps += cost(link, l, r, same_left,
					      same_right);
				if (steps < to->steps)
					*to = (struct best){ steps, was };
				if (!i)
					break;
			}
		}
	}
	for (size_t now = 0; now < NR_SETS * NR_SETS; now++)
		if (best[nr - 1][now].steps < best[nr - 1][end].steps)
			end = now;
	for (size_t i = nr; i--; end = best[i][end].from) {
		left[i] = sets[end / NR_SETS];
		right[i] = sets[end % NR_SETS];
	}
	free(best);
	return 0;
}

static uint32_t old_flags(const struct transition *t, size_t piece)
{
	return t->old.slots[t->pieces[piece].old].flags;
}

static uint32_t new_flags(const struct transition *t, size_t piece)
{
	return t->new.slots[t->pieces[piece].new].flags;
}

/* What a kept piece has to change: only the log being switched off, or the rest. */
static uint32_t needs(const struct transition *t, size_t piece, bool off)
{
	uint32_t change = old_flags(t, piece) ^ new_flags(t, piece);
	uint32_t gone = old_flags(t, piece) & LOG;

	return off ? change & gone : change & ~gone;
}

/* What all kept pieces need, if there are several of them. */
static uint32_t all_need(const struct transition *t, size_t begin, size_t end,
			 bool off)
{
	uint32_t all = RO | LOG;
	size_t nr = 0;

	for (size_t i = begin; i < end; i++) {
		if (!t->pieces[i].kept)
			continue;
		all &= needs(t, i, off);
		nr++;
	}
	return nr > 1 ? all : 0;
}

/*
 * What a present slot can change as a whole.  What stays must not change with it
 * though it is not kept, and what goes is logged to its end; but a tail that only
 * goes has gone by then.
 */
static uint32_t left_can(const struct transition *t, size_t old, bool off)
{
	size_t begin = t->old.begin[old], end = t->old.end[old];
	size_t last = t->pieces[end - 1].out;

	if (last != NONE && t->able.shrink && !t->outs[last].nr_pairs)
		end = t->outs[last].first;
	for (size_t i = begin; i < end; i++)
		if (!t->pieces[i].kept && (off || stays(t, &t->pieces[i])))
			return 0;
	return all_need(t, begin, end, off);
}

/*
 * Whether the log of all of a group will still have to be switched off when the
 * group is merged, or of none.
 */
static bool log_is_even(const struct transition *t,
			const struct toggles *toggles, size_t begin, size_t end)
{
	uint32_t any = 0, all = LOG;

	for (size_t i = begin; i < end; i++) {
		uint32_t pending = needs(t, i, true) &
				   ~toggles->early[t->pieces[i].old];

		if (!toggles->late[t->pieces[i].new] && !has_pair_behind(t, i))
			pending = 0;
		any |= pending;
		all &= pending;
	}
	return any == all || !any;
}

/* Whether KVM takes a slot of the group, and of what is replaced behind it. */
static bool fits(const struct transition *t, size_t begin, size_t end)
{
	const struct piece *last = &t->pieces[end - 1];
	size_t old = last->old;

	if (has_pair_behind(t, end - 1))
		while (last < t->pieces + t->nr_pieces - 1 &&
		       last[1].old == old && !last[1].kept)
			last++;
	return last->gpa + last->size - t->pieces[begin].gpa <=
	       KVM_LAYOUT_MAX_SIZE;
}

/* The index behind the last kept neighbour in the same wanted slot. */
static size_t neighbours_end(const struct transition *t, size_t first)
{
	size_t end = first;

	while (end < t->nr_pieces && t->pieces[end].kept &&
	       t->pieces[end].new == t->pieces[first].new)
		end++;
	return end;
}

/* The same, of those with the same need. */
static size_t alike_end(const struct transition *t, size_t first)
{
	size_t end = first, most = neighbours_end(t, first);

	while (end < most && needs(t, end, false) == needs(t, first, false))
		end++;
	return end;
}

/* Whether a group is not all there is to merge of its wanted slot. */
static bool has_company(const struct transition *t, size_t begin, size_t end)
{
	size_t new = t->pieces[begin].new;

	if (begin != t->new.begin[new])
		return true;
	for (size_t i = end; i < t->new.end[new]; i++)
		if (t->pieces[i].kept)
			return true;
	return false;
}

/*
 * Whether a wanted slot's log can be switched off at the end for all of it: what has
 * come by then has been logged meanwhile, which what stays must not be.
 */
static uint32_t late_can(const struct transition *t, size_t new)
{
	size_t begin = t->new.begin[new], end = t->new.end[new];

	for (size_t i = begin; i < end; i++)
		if (!t->pieces[i].kept && stays(t, &t->pieces[i]))
			return 0;
	return all_need(t, begin, end, true);
}

static struct link off_link(const struct transition *t, size_t i,
			    const struct link *before)
{
	const struct piece *piece = &t->pieces[i];
	struct link link = {
		.piece = i,
		.need = needs(t, i, true),
		.left = piece->old,
		.right = piece->new,
	};

	/* What the ends of a link can do is found out once for each of them. */
	link.left_can = before && before->left == link.left ?
			before->left_can : left_can(t, piece->old, true);
	if (before && before->right == link.right)
		link.right_can = before->right_can;
	else if (t->able.merge)
		link.right_can = late_can(t, piece->new);
	return link;
}

/*
 * A group is all kept neighbours, if they have a need in common, or else those that
 * have the same.
 */
static size_t find_group(const struct transition *t, size_t first, size_t *most)
{
	size_t end = neighbours_end(t, first);

	if (first < *most || !all_need(t, first, end, false)) {
		if (first >= *most)
			*most = end;
		return alike_end(t, first);
	}
	return end;
}

static struct link other_link(const struct transition *t,
			      struct toggles *toggles, size_t i, size_t group,
			      const struct link *before)
{
	size_t end = toggles->group_end[group];
	struct link link = {
		.piece = i,
		.need = needs(t, i, false),
		.left = t->pieces[i].old,
		.right = group,
	};

	link.left_can = before && before->left == link.left ?
			before->left_can : left_can(t, link.left, false);
	if (before && before->right == group) {
		link.right_can = before->right_can;
		link.right_more = before->right_more;
	} else {
		if (t->able.merge && log_is_even(t, toggles, group, end) &&
		    fits(t, group, end))
			link.right_can = all_need(t, group, end, false);
		link.right_more = has_company(t, group, end);
	}
	return link;
}

static void note(struct toggles *toggles, const struct link *links, size_t nr,
		 const uint32_t *left, const uint32_t *right, uint32_t *joint)
{
	for (size_t i = 0; i < nr; i++) {
		toggles->early[links[i].left] |= left[i];
		toggles->alone[links[i].piece] |=
			links[i].need & ~left[i] & ~right[i];
		joint[links[i].right] |= right[i];
	}
}

static int choose_all(struct toggles *toggles, const struct transition *t,
		      struct link *links, uint32_t *left, uint32_t *right)
{
	size_t nr = 0;
	int error;

	for (size_t i = 0; i < t->nr_pieces; i++)
		if (t->pieces[i].kept) {
			links[nr] = off_link(t, i, nr ? &links[nr - 1] : NULL);
			nr++;
		}
	error = choose(links, nr, left, right);
	if (error)
		return error;
	note(toggles, links, nr, left, right, toggles->late);

	nr = 0;
	for (size_t i = 0, group = 0, end = 0, most = 0; i < t->nr_pieces; i++) {
		if (!t->pieces[i].kept)
			continue;
		if (i >= end) {
			group = i;
			end = find_group(t, i, &most);
			toggles->group_end[group] = end;
		}
		links[nr] = other_link(t, toggles, i, group,
				       nr ? &links[nr - 1] : NULL);
		nr++;
	}
	error = choose(links, nr, left, right);
	if (!error)
		note(toggles, links, nr, left, right, toggles->group);
	return error;
}

int toggles_choose(struct toggles *toggles, const struct transition *t)
{
	size_t nr = t->nr_pieces + 1;
	struct link *links = calloc(nr, sizeof(*links));
	uint32_t *choices = calloc(2 * nr, sizeof(*choices));
	int error = -ENOMEM;

	toggles->early = calloc(t->old.nr + 1, sizeof(*toggles->early));
	toggles->alone = calloc(nr, sizeof(*toggles->alone));
	toggles->group = calloc(nr, sizeof(*toggles->group));
	toggles->group_end = calloc(nr, sizeof(*toggles->group_end));
	toggles->late = calloc(t->new.nr + 1, sizeof(*toggles->late));
	if (links && choices && toggles->early && toggles->alone &&
	    toggles->group && toggles->group_end && toggles->late)
		error = choose_all(toggles, t, links, choices, choices + nr);
	if (error)
		toggles_destroy(toggles);
	free(links);
	free(choices);
	return error;
}

void toggles_destroy(struct toggles *toggles)
{
	free(toggles->early);
	free(toggles->alone);
	free(toggles->group);
	free(toggles->group_end);
	free(toggles->late);
}
