// SPDX-License-Identifier: GPL-2.0
#include "kvm_util.h"
#include "processor.h"

#include "host.h"
#include "refusals.h"

/* Errnos as bits; those in use here are small. */
#define E(err)	(1ULL << (err))

/* The number of a SHRINK's tail, for the module itself. */
#define KVM_MEM_SLOTS_NUM	0x7fff

static void begin(struct step *s, const struct model_slot *slot, enum step_kind call)
{
	*s = (struct step) {
		.kind = STEP_INVALID,
		.call = call,
		.slot = *slot,
		.id = slot->id,
		.first = slot->first,
		.place = slot->first,
		.refusals = E(EINVAL),
	};
}

#define say(s, fmt, ...)						\
	snprintf((s)->text, sizeof((s)->text), fmt, ##__VA_ARGS__)

static bool bad_grow(const struct chooser *c, unsigned int i, struct step *s)
{
	const struct model_slot *slot = &c->layout.slot[i];
	uint64_t gap = layout_gap_after(&c->layout, i) * PAGE_SIZE;
	const char *why = "";

	begin(s, slot, STEP_GROW);
	s->size = slot->nr * PAGE_SIZE;
	switch (host_random() % 5) {
	case 0:
		s->size -= host_random() % slot->nr * PAGE_SIZE;
		break;
	case 1:
		s->size += host_random_between(1, PAGE_SIZE - 1);
		s->refusals |= E(EEXIST);
		break;
	case 2:
		s->size = ~0UL << (12 + host_random() % 50);
		s->refusals |= E(EEXIST);
		break;
	case 3:
		s->id |= 7 << 16;
		s->size *= 2;
		why = ", in no address space";
		break;
	default:
		if (i + 1 == c->layout.nr)
			return false;
		s->size += gap + PAGE_SIZE * host_random_between(1, 1000);
		s->refusals = E(EEXIST);
		why = ", over the next";
	}
	say(s, "grow %s to %#lx bytes%s", model_slot_name(slot), s->size, why);
	return true;
}

static bool bad_shrink(const struct chooser *c, unsigned int i, struct step *s)
{
	const struct model_slot *slot = &c->layout.slot[i];
	const char *why = "";

	begin(s, slot, STEP_SHRINK);
	switch (host_random() % 4) {
	case 0:
		s->size = (slot->nr + host_random() % 4) * PAGE_SIZE;
		break;
	case 1:
		s->size = host_random() % slot->nr * PAGE_SIZE + 1 +
			  host_random() % (PAGE_SIZE - 1);
		break;
	case 2:
		if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES)
			return false;
		s->wants_bitmap = true;
		why = ", with a bitmap";
		break;
	default:
		s->id = KVM_MEM_SLOTS_NUM;
		why = ", under a number that none has";
	}
	say(s, "shrink %s to %#lx bytes%s", model_slot_name(slot), s->size, why);
	return true;
}

static bool bad_split(const struct chooser *c, unsigned int i, struct step *s)
{
	const struct model_slot *slot = &c->layout.slot[i];
	struct kvm_memslot_cut *cuts = s->cuts;
	const char *why;
	unsigned int j;

	begin(s, slot, STEP_SPLIT);
	s->nr = 1;
	cuts[0].slot = layout_free_id(&c->layout);
	cuts[0].offset = slot->nr / 2 * PAGE_SIZE;
	switch (host_random() % 8) {
	case 0:
		why = "at its end";
		cuts[0].offset = slot->nr * PAGE_SIZE;
		break;
	case 1:
		why = "at its start";
		cuts[0].offset = 0;
		break;
	case 2:
		why = "inside a page";
		cuts[0].offset += 8;
		break;
	case 3:
		why = "for a number that is taken";
		cuts[0].slot = c->layout.slot[host_random() % c->layout.nr].id;
		s->refusals |= E(EEXIST);
		break;
	case 4:
		why = "with a number named twice";
		s->nr = 2;
		cuts[1] = cuts[0];
		cuts[1].offset += PAGE_SIZE;
		break;
	case 5:
		why = "with a pad";
		cuts[0].pad = 1;
		break;
	case 6:
		why = "into too many";
		s->nr = c->max_pieces;
		if (s->nr > STEP_MAX_OTHERS)
			return false;
		for (j = 0; j < s->nr; j++) {
			cuts[j].offset = (j + 1) * PAGE_SIZE;
			cuts[j].slot = slot->id + 1000 + j;
		}
		s->refusals |= E(E2BIG);
		break;
	default:
		why = "nowhere";
		s->nr = 0;
	}
	/* Each of these is refused for a slot of one page, too: at 0. */
	say(s, "split %s %s", model_slot_name(slot), why);
	return true;
}

static bool bad_merge(const struct chooser *c, unsigned int i, struct step *s)
{
	const struct model_slot *slot = &c->layout.slot[i];
	unsigned int other = host_random() % c->layout.nr;

	begin(s, slot, STEP_MERGE);
	s->nr = 1;
	switch (host_random() % 4) {
	case 0:
		/* Contiguous and alike would be right. */
		if (other == i + 1 && layout_run(&c->layout, i) > 1)
			return false;
		s->ids[0] = c->layout.slot[other].id;
		break;
	case 1:
		s->ids[0] = layout_free_id(&c->layout);
		s->refusals = E(ENOENT);
		break;
	case 2:
		s->nr = 0;
		break;
	default:
		s->nr = c->max_pieces;
		if (s->nr > STEP_MAX_OTHERS)
			return false;
		s->refusals |= E(E2BIG) | E(ENOENT);
	}
	say(s, "merge %s with %u, slot %#x first", model_slot_name(slot), s->nr,
	    s->ids[0]);
	return true;
}

static bool bad_argument(const struct chooser *c, unsigned int i, struct step *s)
{
	const struct model_slot *slot = &c->layout.slot[i];
	uint32_t id = layout_free_id(&c->layout);

	begin(s, slot, STEP_SET_READONLY);
	switch (host_random() % 5) {
	case 0:
		s->readonly = 2;
		say(s, "set_readonly %s 2", model_slot_name(slot));
		break;
	case 1:
		s->readonly = !(slot->flags & KVM_MEM_READONLY);
		s->pad = 1;
		say(s, "set_readonly %s with a pad", model_slot_name(slot));
		break;
	case 2:
		s->id = id;
		s->readonly = 1;
		s->refusals = E(ENOENT);
		say(s, "set_readonly slot %#x, which is not there", id);
		break;
	case 3:
		s->call = STEP_GROW;
		s->id = id;
		s->size = c->layout.nr_pages * PAGE_SIZE;
		s->refusals = E(ENOENT);
		say(s, "grow slot %#x, which is not there", id);
		break;
	default:
		s->call = STEP_SPLIT;
		s->null_argument = true;
		s->refusals = E(EFAULT);
		say(s, "split, without an argument");
	}
	return true;
}

bool refusal_choose(const struct chooser *c, unsigned int i, struct step *s)
{
	switch (host_random() % 5) {
	case 0:
		return bad_grow(c, i, s);
	case 1:
		return bad_shrink(c, i, s);
	case 2:
		return bad_split(c, i, s);
	case 3:
		return bad_merge(c, i, s);
	default:
		return bad_argument(c, i, s);
	}
}
