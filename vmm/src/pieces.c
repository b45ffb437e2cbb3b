// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>

#include "pieces.h"

static uint64_t hva_at(const region_t *slot, uint64_t gpa)
{
	return slot->userspace_addr + (gpa - slot->guest_phys_addr);
}

bool stays(const struct transition *t, const struct piece *piece)
{
	return piece->old != NONE && piece->new != NONE &&
	       hva_at(&t->old.slots[piece->old], piece->gpa) ==
	       hva_at(&t->new.slots[piece->new], piece->gpa);
}

bool has_pair_behind(const struct transition *t, size_t piece)
{
	const struct piece *next = &t->pieces[piece + 1];

	return piece + 1 < t->nr_pieces && next->old == t->pieces[piece].old &&
	       !next->kept && t->outs[next->out].nr_pairs;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The next end or start above @gpa that a side has, from its slot @index on. */
static uint64_t next_edge(const struct side *side, size_t index, uint64_t gpa)
{
	if (index == side->nr)
		return UINT64_MAX;
	if (side->slots[index].guest_phys_addr > gpa)
		return side->slots[index].guest_phys_addr;
	return region_end(&side->slots[index]);
}

static bool covers(const struct side *side, size_t index, uint64_t gpa)
{
	return index < side->nr && side->slots[index].guest_phys_addr <= gpa;
}

static void take_part(struct side *side, size_t index, size_t piece)
{
	if (side->end[index] == NONE)
		side->begin[index] = piece;
	side->end[index] = piece + 1;
}

static void cut(struct transition *t)
{
	size_t i = 0, j = 0;
	uint64_t gpa = 0;

	while (i < t->old.nr || j < t->new.nr) {
		uint64_t end = least(next_edge(&t->old, i, gpa),
				     next_edge(&t->new, j, gpa));
		struct piece piece = {
			.gpa = gpa,
			.size = end - gpa,
			.old = covers(&t->old, i, gpa) ? i : NONE,
			.new = covers(&t->new, j, gpa) ? j : NONE,
			.out = NONE,
			.in = NONE,
			.node = NONE,
		};

		if (piece.old != NONE)
			take_part(&t->old, i, t->nr_pieces);
		if (piece.new != NONE)
			take_part(&t->new, j, t->nr_pieces);
		piece.kept = stays(t, &piece);
		if (piece.old != NONE || piece.new != NONE)
			t->pieces[t->nr_pieces++] = piece;
		gpa = end;
		i += i < t->old.nr && region_end(&t->old.slots[i]) == gpa;
		j += j < t->new.nr && region_end(&t->new.slots[j]) == gpa;
	}
}

static size_t count_kept(const struct transition *t, size_t begin, size_t end)
{
	size_t nr = 0;

	for (size_t i = begin; i < end; i++)
		nr += t->pieces[i].kept;
	return nr;
}

/* Gives up these pieces. Whether any were kept. */
static bool give_up(struct transition *t, size_t begin, size_t end)
{
	bool any = false;

	for (size_t i = begin; i < end; i++) {
		any |= t->pieces[i].kept;
		t->pieces[i].kept = false;
	}
	return any;
}

/*
 * Whether flags of a piece would change together with those of another that stays
 * but is not kept, for it is still in the same slot.
 */
static bool spills(const struct transition *t, size_t piece)
{
	const struct piece *this = &t->pieces[piece];

	if (!this->kept || t->old.slots[this->old].flags ==
			   t->new.slots[this->new].flags)
		return false;
	for (size_t i = piece + 1; i < t->old.end[this->old] &&
	     !t->pieces[i].kept; i++)
		if (stays(t, &t->pieces[i]))
			return true;
	return false;
}

/* Whether something goes, or comes, behind a piece that is kept. */
static bool has_tail(const struct transition *t, size_t begin, size_t end)
{
	for (size_t i = begin + 1; i < end; i++)
		if (!t->pieces[i].kept && t->pieces[i - 1].kept)
			return true;
	return false;
}

/* What of a present slot cannot be had out of it with what there is. */
static bool limit_old(struct transition *t, size_t index)
{
	size_t begin = t->old.begin[index], end = t->old.end[index];
	uint32_t flags = t->old.slots[index].flags;
	bool changed = false, tail;
	size_t kept;

	for (size_t i = begin; i < end; i++) {
		struct piece *piece = &t->pieces[i];

		if (piece->kept && !t->able.set_readonly &&
		    (t->new.slots[piece->new].flags ^ flags) &
		    KVM_MEM_READONLY) {
			piece->kept = false;
			changed = true;
		}
	}
	for (size_t i = end; i-- > begin;) {
		if (spills(t, i)) {
			t->pieces[i].kept = false;
			changed = true;
		}
	}
	kept = count_kept(t, begin, end);
	if (!kept || t->able.split)
		return changed;

	/* Without SPLIT only its beginning can be had. */
	tail = has_tail(t, begin, end);
	if (!t->pieces[begin].kept || (tail && !t->able.shrink))
		return give_up(t, begin, end);
	if (kept > 1) {
		if (!t->able.shrink)
			return give_up(t, begin, end);
		return give_up(t, begin + 1, end);
	}
	return changed;
}

/* What of a wanted slot cannot be put together. */
static bool limit_new(struct transition *t, size_t index)
{
	size_t begin = t->new.begin[index], end = t->new.end[index];
	size_t kept = count_kept(t, begin, end);

	if (!kept || t->able.merge)
		return false;
	if (!t->pieces[begin].kept)
		return give_up(t, begin, end);
	if (end - begin == 1)
		return false;
	if (!t->able.grow)
		return give_up(t, begin, end);
	return give_up(t, begin + 1, end);
}

/*
 * Without all operations, not all that stays can be kept.  What one slot gives up
 * may make another give up more; at the end nothing changes any more.
 */
static void limit(struct transition *t)
{
	bool changed;

	do {
		changed = false;
		for (size_t i = 0; i < t->old.nr; i++)
			changed |= limit_old(t, i);
		for (size_t i = 0; i < t->new.nr; i++)
			changed |= limit_new(t, i);
	} while (changed);
}

/*
 * Divides what goes (or comes) of a slot into chunks.  Each run of neighbours is
 * one, or where it can be done in parts one for each piece that is replaced, with
 * what follows it.
 */
static void divide(struct transition *t, size_t begin, size_t end, bool goes,
		   bool in_parts)
{
	struct chunk *chunks = goes ? t->outs : t->ins, *chunk = NULL;
	size_t *nr = goes ? &t->nr_outs : &t->nr_ins;

	for (size_t i = begin; i < end; i++) {
		struct piece *piece = &t->pieces[i];

		if (piece->kept) {
			chunk = NULL;
			continue;
		}
		if (!chunk ||
		    (in_parts && is_pair(piece) && chunk->nr_pairs)) {
			bool goes_on = chunk;

			if (goes_on && goes)
				chunk->goes_on = true;
			chunk = &chunks[(*nr)++];
			*chunk = (struct chunk){
				.first = i,
				.goes_on = goes_on && !goes,
				.step = NONE,
			};
		}
		chunk->end = i + 1;
		chunk->nr_pairs += is_pair(piece);
		*(goes ? &piece->out : &piece->in) = *nr - 1;
	}
}

static int allocate(struct side *side)
{
	side->begin = malloc((side->nr + 1) * sizeof(*side->begin));
	side->end = malloc((side->nr + 1) * sizeof(*side->end));
	if (!side->begin || !side->end)
		return -ENOMEM;
	for (size_t i = 0; i < side->nr; i++)
		side->end[i] = NONE;
	return 0;
}

int transition_init(struct transition *t)
{
	size_t most = 2 * (t->old.nr + t->new.nr) + 1;

	t->pieces = malloc(most * sizeof(*t->pieces));
	t->outs = malloc(most * sizeof(*t->outs));
	t->ins = malloc(most * sizeof(*t->ins));
	if (!t->pieces || !t->outs || !t->ins || allocate(&t->old) ||
	    allocate(&t->new)) {
		transition_destroy(t);
		return -ENOMEM;
	}
	cut(t);
	limit(t);
	for (size_t i = 0; i < t->old.nr; i++)
		divide(t, t->old.begin[i], t->old.end[i], true,
		       t->able.shrink);
	for (size_t i = 0; i < t->new.nr; i++)
		divide(t, t->new.begin[i], t->new.end[i], false,
		       t->able.grow || t->able.merge);
	return 0;
}

void transition_destroy(struct transition *t)
{
	free(t->old.begin);
	free(t->old.end);
	free(t->new.begin);
	free(t->new.end);
	free(t->pieces);
	free(t->outs);
	free(t->ins);
}
