// SPDX-License-Identifier: MIT
/*
 * The sequence.  A transition falls into parts that have nothing to do with each
 * other; in each of them, in this order:
 *
 *	tails that only go; flags of whole present slots; SPLIT at what stays; what
 *	else only goes; logs that end together; flags of single pieces and of groups;
 *	what is replaced, each going before its coming; what only comes; MERGE; the
 *	log off of the whole
 *
 * SHRINK takes from a slot's end, so of what is replaced in one present slot the
 * last goes first.  GROW adds at the end, so what comes to one wanted slot comes
 * in order.  Neighbours share either the one or the other, never both, so that one
 * order suits all.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pieces.h"
#include "steps.h"
#include "toggles.h"

#define LOG	KVM_MEM_LOG_DIRTY_PAGES

/**
 * struct planning - what a plan is made of
 * @t: the transition
 * @toggles: when its flags change
 * @steps: the steps so far
 * @whole: for each present slot its node
 * @scratch: as many entries as there are pieces
 * @cuts: the same
 */
struct planning {
	struct transition *t;
	struct toggles toggles;
	struct steps steps;
	size_t *whole;
	size_t *scratch;
	uint64_t *cuts;
};

/* Sets those of the flags that are in the mask. */
static void set_flags(struct planning *p, size_t node, uint32_t mask,
		      uint32_t flags)
{
	uint32_t now;

	if (!mask || p->steps.error)
		return;
	now = steps_slot(&p->steps, node)->flags;
	steps_set_flags(&p->steps, node, (now & ~mask) | (flags & mask));
}

/* Makes slots of a present slot's pieces. */
static void split(struct planning *p, size_t old)
{
	struct transition *t = p->t;
	size_t begin = t->old.begin[old], end = t->old.end[old];
	size_t node = p->whole[old], nr = 0;

	for (size_t i = begin + 1; i < end; i++) {
		const struct piece *piece = &t->pieces[i];

		/* Without SHRINK, what goes has to be deleted as a slot. */
		if (piece->kept ||
		    (!t->able.shrink && t->pieces[i - 1].kept))
			p->cuts[nr++] = piece->gpa;
	}
	if (nr && p->steps.error)
		return;
	p->scratch[0] = node;
	if (nr) {
		size_t made = steps_split(&p->steps, node, p->cuts, nr);

		for (size_t i = 0; i < nr; i++)
			p->scratch[i + 1] = made + i;
	}
	for (size_t i = begin, k = 0; i < end; i++) {
		if (k < nr && p->cuts[k] == t->pieces[i].gpa)
			k++;
		t->pieces[i].node = p->scratch[k];
	}
}

static void merge(struct planning *p, size_t begin, size_t end)
{
	for (size_t i = begin; i < end; i++)
		p->scratch[i - begin] = p->t->pieces[i].node;
	steps_merge(&p->steps, p->scratch, end - begin);
}

static size_t last_step(const struct planning *p)
{
	return p->steps.plan->nr_steps - 1;
}

static void go(struct planning *p, struct chunk *chunk)
{
	const struct piece *first = &p->t->pieces[chunk->first];
	const region_t *slot;

	if (p->steps.error)
		return;
	slot = steps_slot(&p->steps, first->node);
	if (p->t->able.shrink)
		steps_resize(&p->steps, first->node,
			     first->gpa - slot->guest_phys_addr);
	else
		steps_delete(&p->steps, first->node);
	chunk->step = last_step(p);
}

static void come(struct planning *p, struct chunk *chunk)
{
	struct piece *first = &p->t->pieces[chunk->first];
	struct piece *last = &p->t->pieces[chunk->end - 1];
	size_t new = first->new, node;
	uint64_t size = last->gpa + last->size - first->gpa;
	region_t slot = p->t->new.slots[new];

	if (p->steps.error)
		return;
	if (p->t->able.grow && chunk->first > p->t->new.begin[new]) {
		const region_t *base;

		node = first[-1].node;
		base = steps_slot(&p->steps, node);
		assert(region_end(base) == first->gpa);
		steps_resize(&p->steps, node, base->memory_size + size);
	} else {
		slot.userspace_addr += first->gpa - slot.guest_phys_addr;
		slot.guest_phys_addr = first->gpa;
		slot.memory_size = size;
		slot.flags |= p->toggles.late[new] & LOG;
		node = steps_create(&p->steps, slot);
	}
	for (size_t i = chunk->first; i < chunk->end; i++)
		p->t->pieces[i].node = node;
	chunk->step = last_step(p);
}

/* What is replaced, from the piece on that is the first of a run that goes. */
static size_t replace_run(struct planning *p, size_t piece)
{
	struct transition *t = p->t;
	size_t out = t->pieces[piece].out, end;

	while (t->outs[out].goes_on)
		out++;
	end = t->outs[out].end;
	for (;; out--) {
		struct chunk *chunk = &t->outs[out];

		go(p, chunk);
		for (size_t i = chunk->first; i < chunk->end; i++) {
			if (!is_pair(&t->pieces[i]))
				continue;
			if (!--t->ins[t->pieces[i].in].nr_pairs)
				come(p, &t->ins[t->pieces[i].in]);
		}
		if (chunk->first <= piece)
			return end;
	}
}

/* What a present slot becomes, before its pieces go different ways. */
static void prepare_old(struct planning *p, size_t old)
{
	struct transition *t = p->t;
	size_t last = t->pieces[t->old.end[old] - 1].out;
	size_t node = steps_node(&p->steps, &t->old.slots[old]);

	p->whole[old] = node;
	if (last != NONE && t->able.shrink && !t->outs[last].nr_pairs) {
		t->pieces[t->outs[last].first].node = node;
		go(p, &t->outs[last]);
	}
	set_flags(p, node, p->toggles.early[old], ~t->old.slots[old].flags);
	split(p, old);
}

/* Flags that a piece gets by itself, before or after what is replaced. */
static void set_alone(struct planning *p, size_t piece, bool after)
{
	const struct piece *this = &p->t->pieces[piece];
	uint32_t late = 0;

	/* What goes behind it is logged to its end. */
	if (p->t->able.shrink && has_pair_behind(p->t, piece))
		late = p->t->old.slots[this->old].flags & LOG;
	set_flags(p, this->node,
		  p->toggles.alone[piece] & (after ? late : ~late),
		  p->t->new.slots[this->new].flags);
}

/* Whether a piece has nothing else to change by itself, and at once, than its log. */
static bool only_ends_log(const struct planning *p, size_t i)
{
	const struct transition *t = p->t;

	return t->pieces[i].kept && p->toggles.alone[i] == LOG &&
	       t->old.slots[t->pieces[i].old].flags & LOG &&
	       !has_pair_behind(t, i);
}

/*
 * The index behind the neighbours in one wanted slot of which that is so. A group
 * that gets its flags as one is not among them.
 */
static size_t end_of_logs(const struct planning *p, size_t first, size_t end)
{
	const struct piece *pieces = p->t->pieces;
	size_t i = first;

	while (i < end && only_ends_log(p, i) &&
	       pieces[i].new == pieces[first].new &&
	       steps_slot(&p->steps, pieces[i].node)->flags ==
	       steps_slot(&p->steps, pieces[first].node)->flags &&
	       (i == first || !p->toggles.group[i]))
		i++;
	return i;
}

/* Three logs or more end sooner if they are made one first. */
static void end_logs(struct planning *p, size_t begin, size_t end)
{
	size_t in_group = begin;

	if (!p->t->able.merge)
		return;
	for (size_t i = begin, to; i < end && !p->steps.error; i = to) {
		to = end_of_logs(p, i, end);
		if (p->toggles.group[i])
			in_group = p->toggles.group_end[i];
		if (to <= i)
			to = i + 1;
		if (to - i < 3 || i < in_group)
			continue;
		merge(p, i, to);
		set_flags(p, p->t->pieces[i].node, LOG, 0);
		for (size_t k = i; k < to; k++)
			p->toggles.alone[k] = 0;
	}
}

/* A part of the transition, see above. */
static void plan_part(struct planning *p, size_t begin, size_t end)
{
	struct transition *t = p->t;
	const struct toggles *toggles = &p->toggles;
	struct piece *pieces = t->pieces;

	for (size_t i = begin; i < end; i++)
		if (pieces[i].old != NONE && t->old.begin[pieces[i].old] == i)
			prepare_old(p, pieces[i].old);
	for (size_t i = begin; i < end; i++) {
		size_t out = pieces[i].out;

		if (out != NONE && t->outs[out].first == i &&
		    !t->outs[out].nr_pairs && t->outs[out].step == NONE)
			go(p, &t->outs[out]);
	}
	end_logs(p, begin, end);
	for (size_t i = begin; i < end; i++)
		if (pieces[i].kept)
			set_alone(p, i, false);
	for (size_t i = begin; i < end; i++) {
		if (!toggles->group[i])
			continue;
		merge(p, i, toggles->group_end[i]);
		set_flags(p, pieces[i].node, toggles->group[i],
			  t->new.slots[pieces[i].new].flags);
	}
	for (size_t i = begin; i < end;) {
		if (pieces[i].out == NONE || !t->outs[pieces[i].out].nr_pairs)
			i++;
		else
			i = replace_run(p, i);
	}
	for (size_t i = begin; i < end; i++)
		if (pieces[i].kept)
			set_alone(p, i, true);
	for (size_t i = begin; i < end; i++) {
		size_t in = pieces[i].in;

		if (in != NONE && t->ins[in].first == i &&
		    t->ins[in].step == NONE)
			come(p, &t->ins[in]);
	}
	for (size_t i = begin; i < end; i++) {
		size_t new = pieces[i].new;

		if (new == NONE || t->new.begin[new] != i)
			continue;
		merge(p, i, t->new.end[new]);
		set_flags(p, pieces[i].node, toggles->late[new], 0);
	}
}

/* The end of the part that begins with a piece; whether it has both sides. */
static size_t part_end(const struct transition *t, size_t begin, bool *goes,
		       bool *comes)
{
	const struct piece *piece;
	size_t i = begin;

	*goes = *comes = false;
	do {
		piece = &t->pieces[i++];
		*goes |= piece->old != NONE;
		*comes |= piece->new != NONE;
	} while (i < t->nr_pieces &&
		 ((piece->old != NONE && piece->old == piece[1].old) ||
		  (piece->new != NONE && piece->new == piece[1].new)));
	return i;
}

/* First what only goes, for it frees numbers, and at last what only comes. */
static void plan_parts(struct planning *p)
{
	static const struct { bool goes, comes; } order[] = {
		{ true, false }, { true, true }, { false, true },
	};
	bool goes, comes;

	for (size_t k = 0; k < 3; k++) {
		for (size_t i = 0, end; i < p->t->nr_pieces; i = end) {
			end = part_end(p->t, i, &goes, &comes);
			if (goes == order[k].goes && comes == order[k].comes)
				plan_part(p, i, end);
		}
	}
}

static void note_gap(struct kvm_layout_plan *plan, const struct transition *t,
		     const struct piece *piece)
{
	struct kvm_layout_gap gap = {
		.gpa = piece->gpa,
		.size = piece->size,
		.first = t->outs[piece->out].step,
		.last = t->ins[piece->in].step,
		.replaced = !stays(t, piece),
	};

	for (size_t i = gap.first; i < gap.last; i++)
		plan->steps[i].flags |= KVM_LAYOUT_GAP;
	plan->gaps[plan->nr_gaps++] = gap;
}

static void note_move(struct planning *p, const struct piece *piece)
{
	const region_t *from = &p->t->old.slots[piece->old];
	const region_t *to = steps_slot(&p->steps, piece->node);
	struct kvm_layout_plan *plan = p->steps.plan;

	plan->moves[plan->nr_moves++] = (struct kvm_layout_move){
		.gpa = piece->gpa,
		.size = piece->size,
		.from = from->slot,
		.to = to->slot,
		.from_offset = piece->gpa - from->guest_phys_addr,
		.to_offset = piece->gpa - to->guest_phys_addr,
		.from_flags = from->flags,
		.to_flags = to->flags,
	};
}

/* What follows from the steps. */
static void note_results(struct planning *p)
{
	struct kvm_layout_plan *plan = p->steps.plan;
	struct transition *t = p->t;

	plan->gaps = malloc((t->nr_pieces + 1) * sizeof(*plan->gaps));
	plan->moves = malloc((t->nr_pieces + 1) * sizeof(*plan->moves));
	if (!plan->gaps || !plan->moves) {
		p->steps.error = -ENOMEM;
		return;
	}
	for (size_t i = 0; i < t->nr_pieces; i++) {
		if (t->pieces[i].kept)
			note_move(p, &t->pieces[i]);
		else if (is_pair(&t->pieces[i]))
			note_gap(plan, t, &t->pieces[i]);
	}
}

/* From a transition of which the sides' slots and what the host can do are set. */
static int plan_transition(struct transition *t, const struct kvm_layout *layout,
			   struct kvm_layout_plan **plan)
{
	struct planning p = { .t = t };
	int error;

	error = toggles_choose(&p.toggles, t);
	if (error)
		return error;
	error = steps_init(&p.steps, layout, t->able.max_pieces);
	p.whole = malloc((t->old.nr + 1) * sizeof(*p.whole));
	p.scratch = malloc((t->nr_pieces + 1) * sizeof(*p.scratch));
	p.cuts = malloc((t->nr_pieces + 1) * sizeof(*p.cuts));
	if (!error && (!p.whole || !p.scratch || !p.cuts))
		p.steps.error = -ENOMEM;
	if (!p.steps.error)
		plan_parts(&p);
	if (!p.steps.error)
		note_results(&p);
	error = p.steps.error;
	*plan = steps_finish(&p.steps);
	free(p.whole);
	free(p.scratch);
	free(p.cuts);
	toggles_destroy(&p.toggles);
	return error;
}

/*
 * Whether a piece goes on with the wanted slot so far, in a map; of which something
 * is replaced, or not.
 */
static bool goes_on(const struct transition *t, size_t i, const region_t *slot,
		    bool replaced, const struct able *able)
{
	const struct piece *piece = &t->pieces[i];
	const region_t *new = &t->new.slots[piece->new];

	if (!i || region_end(slot) != piece->gpa || slot->flags != new->flags ||
	    slot->userspace_addr - slot->guest_phys_addr !=
	    new->userspace_addr - new->guest_phys_addr ||
	    slot->memory_size + piece->size > KVM_LAYOUT_MAX_SIZE)
		return false;
	/* Only what is one slot already; what comes is added to that. */
	if (piece->kept)
		return piece[-1].kept && piece[-1].old == piece->old;
	return able->grow || !(piece[-1].kept || (replaced && is_pair(piece)));
}

/*
 * The slots that a map needs least for: where a present slot ends within it, one
 * may end too.  Return: how many
 */
static size_t map_slots(const struct transition *t, const struct able *able,
			region_t *slots)
{
	region_t *slot = slots;
	bool replaced = false;
	size_t nr = 0;

	for (size_t i = 0; i < t->nr_pieces; i++) {
		const struct piece *piece = &t->pieces[i];
		const region_t *new;

		if (piece->new == NONE)
			continue;
		if (nr && goes_on(t, i, slot, replaced, able)) {
			slot->memory_size += piece->size;
			replaced |= is_pair(piece);
			continue;
		}
		replaced = is_pair(piece);
		new = &t->new.slots[piece->new];
		slot = &slots[nr++];
		*slot = *new;
		slot->guest_phys_addr = piece->gpa;
		slot->userspace_addr += piece->gpa - new->guest_phys_addr;
		slot->memory_size = piece->size;
	}
	return nr;
}

static int plan_partition(struct transition *t, const struct kvm_layout *layout,
			  struct kvm_layout_plan **plan)
{
	int error = transition_init(t);

	if (error)
		return error;
	error = plan_transition(t, layout, plan);
	transition_destroy(t);
	return error;
}

/* In terms of a map's own slots. */
static int plan_own_slots(const struct transition *t,
			  const struct kvm_layout *layout,
			  struct kvm_layout_plan **plan)
{
	/* What stays, whatever this host can keep. */
	struct transition all = {
		.able = { true, true, true, true, true, SIZE_MAX },
		.old = t->old,
		.new = t->new,
	};
	struct transition own = { .able = t->able, .old = t->old };
	region_t *slots;
	int error;

	error = transition_init(&all);
	if (error)
		return error;
	slots = malloc((all.nr_pieces + 1) * sizeof(*slots));
	if (slots) {
		own.new.slots = slots;
		own.new.nr = map_slots(&all, &t->able, slots);
		error = plan_partition(&own, layout, plan);
	} else {
		error = -ENOMEM;
	}
	transition_destroy(&all);
	free(slots);
	return error;
}

/* Bytes that are missing for want of an operation. */
static uint64_t blinks(const struct kvm_layout_plan *plan)
{
	uint64_t size = 0;

	for (size_t i = 0; i < plan->nr_gaps; i++)
		if (!plan->gaps[i].replaced)
			size += plan->gaps[i].size;
	return size;
}

static bool is_better(const struct kvm_layout_plan *plan,
		      const struct kvm_layout_plan *other)
{
	uint64_t size = blinks(plan), other_size = blinks(other);

	return size < other_size ||
	       (size == other_size && plan->nr_steps < other->nr_steps);
}

/* Of the map's own slots and those that were named, whatever is better. */
static int plan_map(struct transition *t, const struct kvm_layout *layout,
		    struct kvm_layout_plan **plan)
{
	struct kvm_layout_plan *own = NULL, *named = NULL;
	int own_error = plan_own_slots(t, layout, &own);
	int error = plan_partition(t, layout, &named);

	if (own_error == -ENOMEM || error == -ENOMEM) {
		kvm_layout_plan_free(own);
		kvm_layout_plan_free(named);
		return -ENOMEM;
	}
	if (!own || (named && is_better(named, own))) {
		kvm_layout_plan_free(own);
		*plan = named;
		return error;
	}
	kvm_layout_plan_free(named);
	*plan = own;
	return 0;
}

/* Of what goes, and whether all of it is known, and named once. */
static int take_gone(const struct kvm_layout *layout, const uint32_t *gone,
		     size_t nr, region_t *slots)
{
	for (size_t i = 0; i < nr; i++) {
		const region_t *slot = kvm_layout_find(layout, gone[i]);

		if (!slot)
			return -EINVAL;
		if (slot->flags & ~KNOWN_FLAGS)
			return -EOPNOTSUPP;
		slots[i] = *slot;
	}
	qsort(slots, nr, sizeof(*slots), region_by_gpa);
	for (size_t i = 1; i < nr; i++)
		if (slots[i].slot == slots[i - 1].slot)
			return -EINVAL;
	return 0;
}

static bool goes(const region_t *slot, const region_t *gone, size_t nr)
{
	return nr && bsearch(slot, gone, nr, sizeof(*gone), region_by_gpa);
}

/* Whether a slot that is not among those that go is in the way. */
static bool in_the_way(const struct kvm_layout *layout, const region_t *gone,
		       size_t nr_gone, const region_t *region)
{
	const region_t *slots;
	size_t nr, i;

	slots = kvm_layout_slots(layout, &nr);
	for (i = layout_index(layout, region->guest_phys_addr);
	     i < nr && slots[i].guest_phys_addr < region_end(region); i++)
		if (!goes(&slots[i], gone, nr_gone))
			return true;
	return false;
}

static int take_come(const struct kvm_layout *layout,
		     const region_t *come, size_t nr,
		     const region_t *gone, size_t nr_gone, region_t *slots)
{
	if (nr)
		memcpy(slots, come, nr * sizeof(*slots));
	qsort(slots, nr, sizeof(*slots), region_by_gpa);
	for (size_t i = 0; i < nr; i++) {
		if (!region_valid(&slots[i]) || slots[i].flags & ~KNOWN_FLAGS)
			return -EINVAL;
		if (i && region_end(&slots[i - 1]) > slots[i].guest_phys_addr)
			return -EINVAL;
		if (in_the_way(layout, gone, nr_gone, &slots[i]))
			return -EINVAL;
	}
	return 0;
}

static struct able able_of(const struct kvm_layout_host *host)
{
	bool pieces = host->max_pieces >= 2;

	return (struct able){
		.grow = host->ops >> KVM_LAYOUT_GROW & 1,
		.shrink = host->ops >> KVM_LAYOUT_SHRINK & 1,
		.split = pieces && host->ops >> KVM_LAYOUT_SPLIT & 1,
		.merge = pieces && host->ops >> KVM_LAYOUT_MERGE & 1,
		.set_readonly = host->ops >> KVM_LAYOUT_SET_READONLY & 1,
		.max_pieces = host->max_pieces,
	};
}

int kvm_layout_plan(const struct kvm_layout_host *host,
		    const struct kvm_layout *layout,
		    const uint32_t *gone, size_t nr_gone,
		    const struct kvm_userspace_memory_region *come,
		    size_t nr_come, enum kvm_layout_mode mode,
		    struct kvm_layout_plan **plan)
{
	struct transition t = { .able = able_of(host) };
	region_t *olds = malloc((nr_gone + 1) * sizeof(*olds));
	region_t *news = malloc((nr_come + 1) * sizeof(*news));
	struct kvm_layout_plan *made = NULL;
	int error = -ENOMEM;

	if (!olds || !news)
		goto out;
	error = take_gone(layout, gone, nr_gone, olds);
	if (error)
		goto out;
	error = take_come(layout, come, nr_come, olds, nr_gone, news);
	if (error)
		goto out;
	t.old.slots = olds;
	t.old.nr = nr_gone;
	t.new.slots = news;
	t.new.nr = nr_come;
	if (mode == KVM_LAYOUT_PARTITION)
		error = plan_partition(&t, layout, &made);
	else if (mode == KVM_LAYOUT_MAP)
		error = plan_map(&t, layout, &made);
	else
		error = -EINVAL;
	if (!error)
		*plan = made;
out:
	free(olds);
	free(news);
	return error;
}

const struct kvm_layout_step *
kvm_layout_plan_steps(const struct kvm_layout_plan *plan, size_t *nr)
{
	*nr = plan->nr_steps;
	return plan->steps;
}

const struct kvm_layout_gap *
kvm_layout_plan_gaps(const struct kvm_layout_plan *plan, size_t *nr)
{
	*nr = plan->nr_gaps;
	return plan->gaps;
}

const struct kvm_layout_move *
kvm_layout_plan_moves(const struct kvm_layout_plan *plan, size_t *nr)
{
	*nr = plan->nr_moves;
	return plan->moves;
}

bool kvm_layout_plan_blinks(const struct kvm_layout_plan *plan)
{
	return plan->nr_gaps;
}
