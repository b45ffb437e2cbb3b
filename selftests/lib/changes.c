// SPDX-License-Identifier: GPL-2.0
#include "kvm_util.h"
#include "processor.h"

#include "changes.h"
#include "level.h"
#include "ops.h"
#include "step.h"

/* Numbers of slots are in disorder, as they may be. */
#define FIRST	CHANGE_SLOT
#define SECOND	(CHANGE_SLOT + 5)
#define THIRD	(CHANGE_SLOT + 3)

#define CUT	CHANGE_CUT
#define HALF	(CHANGE_PAGES / 2)
/* On the boundary of a frame. */
#define LATE	(3 * HUGE_PAGES)

#define ONE(_nr)							\
{									\
	.nr = 1,							\
	.slot = { { .id = FIRST, .nr = (_nr) } },			\
}

#define THREE								\
{									\
	.nr = 3,							\
	.slot = {							\
		{ .id = FIRST, .nr = CUT },				\
		{ .id = SECOND, .first = CUT, .nr = LATE - CUT },	\
		{ .id = THIRD, .first = LATE, .nr = HUGE_PAGES },	\
	},								\
}

#define HALVES(_flags)							\
{									\
	.nr = 2,							\
	.slot = {							\
		{ .id = FIRST, .nr = HALF },				\
		{							\
			.id = SECOND, .flags = (_flags),		\
			.first = HALF, .nr = HALF,			\
		},							\
	},								\
}

const struct change changes[NR_CHANGES] = {
	[CHANGE_GROW] = {
		.name = "GROW",
		.before = ONE(CUT),
		.after = ONE(CHANGE_PAGES),
		.stays = CUT,
		.quiet = { CUT, CUT },
	},
	[CHANGE_SHRINK] = {
		.name = "SHRINK",
		.before = ONE(CHANGE_PAGES),
		.after = ONE(CUT),
		.stays = CUT,
		.quiet = { CUT - 1, HUGE_PAGES },
	},
	[CHANGE_SPLIT] = {
		.name = "SPLIT",
		.before = ONE(CHANGE_PAGES),
		.after = THREE,
		.stays = CHANGE_PAGES,
		.quiet = { CUT - 1, HUGE_PAGES },
	},
	[CHANGE_MERGE] = {
		.name = "MERGE",
		.before = THREE,
		.after = ONE(CHANGE_PAGES),
		.stays = CHANGE_PAGES,
		.quiet = { CHANGE_PAGES, CHANGE_PAGES },
	},
	[CHANGE_PROTECT] = {
		.name = "SET_READONLY 1",
		.before = HALVES(0),
		.after = HALVES(KVM_MEM_READONLY),
		.stays = CHANGE_PAGES,
		.quiet = { HALF, HALF },
	},
	[CHANGE_UNPROTECT] = {
		.name = "SET_READONLY 0",
		.before = HALVES(KVM_MEM_READONLY),
		.after = HALVES(0),
		.stays = CHANGE_PAGES,
		.quiet = { HALF, HALF },
	},
};

bool change_may_zap_all(const struct change *c)
{
	return c == &changes[CHANGE_SHRINK] && level_shadows();
}

static int make_split(int dev, const struct layout *after)
{
	struct kvm_memslot_cut cuts[CHANGE_FRAMES] = {};
	unsigned int i;

	for (i = 1; i < after->nr; i++) {
		cuts[i - 1].offset = after->slot[i].first * PAGE_SIZE;
		cuts[i - 1].slot = after->slot[i].id;
	}
	return slot_split(dev, FIRST, after->nr - 1, cuts);
}

static int make_merge(int dev, const struct layout *before)
{
	uint32_t ids[CHANGE_FRAMES];
	unsigned int i;

	for (i = 1; i < before->nr; i++)
		ids[i - 1] = before->slot[i].id;
	return slot_merge(dev, FIRST, before->nr - 1, ids);
}

int change_make(int dev, const struct change *c)
{
	const uint64_t size = c->after.slot[0].nr * PAGE_SIZE;

	switch (c - changes) {
	case CHANGE_GROW:
		return slot_grow(dev, FIRST, size);
	case CHANGE_SHRINK:
		return slot_shrink(dev, FIRST, size, NULL);
	case CHANGE_SPLIT:
		return make_split(dev, &c->after);
	case CHANGE_MERGE:
		return make_merge(dev, &c->before);
	default:
		return slot_set_readonly(dev, SECOND, c->after.slot[1].flags);
	}
}

int change_call(void *arg)
{
	struct change_call *call = arg;

	return change_make(call->dev, call->change);
}

void layout_create(struct kvm_vm *vm, const struct layout *l, uint64_t gpa,
		   char *mem)
{
	const struct model_slot *s;
	int err;

	for (s = l->slot; s < l->slot + l->nr; s++) {
		err = slot_set(vm, s->id, s->flags, gpa + s->first * PAGE_SIZE,
			       s->nr * PAGE_SIZE, mem + s->first * PAGE_SIZE);
		TEST_ASSERT(!err, "cannot make slot %u: %s", s->id,
			    strerror(err));
	}
}

void layout_delete(struct kvm_vm *vm, const struct layout *l)
{
	const struct model_slot *s;
	int err;

	for (s = l->slot; s < l->slot + l->nr; s++) {
		err = slot_set(vm, s->id, 0, 0, 0, NULL);
		TEST_ASSERT(!err, "cannot delete slot %u: %s", s->id,
			    strerror(err));
	}
}

void layout_assert(struct kvm_vm *vm, const struct layout *l, uint64_t gpa,
		   char *mem)
{
	const struct range range = { .vm = vm, .gpa = gpa, .mem = mem };
	const uint32_t ids[] = { FIRST, SECOND, THIRD };
	const struct model_slot *s;
	unsigned int i;

	for (s = l->slot; s < l->slot + l->nr; s++)
		model_slot_assert(&range, s);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		if (layout_is_free(l, ids[i]))
			model_slot_assert_gone(vm, ids[i]);
	}
}
