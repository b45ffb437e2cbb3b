// SPDX-License-Identifier: GPL-2.0
#include <stdarg.h>

#include "kvm_util.h"
#include "processor.h"

#include "host.h"
#include "ops.h"
#include "step.h"

static uint64_t end_of(const struct model_slot *s)
{
	return s->first + s->nr;
}

static __printf(2, 3) void say(struct step *s, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(s->text, sizeof(s->text), fmt, args);
	va_end(args);
}

/* ---------------------------------------------------------- descriptions */

static void begin(struct step *s, enum step_kind kind, const struct model_slot *slot)
{
	*s = (struct step) {
		.kind = kind,
		.call = kind,
		.slot = *slot,
		.id = slot->id,
		.flags = slot->flags,
		.first = slot->first,
		.nr_pages = slot->nr,
		.place = slot->first,
	};
}

void step_resize(struct step *s, const struct layout *l, unsigned int i, uint64_t end)
{
	const struct model_slot *slot = &l->slot[i];
	bool grows = end > end_of(slot);

	begin(s, grows ? STEP_GROW : STEP_SHRINK, slot);
	s->size = (end - slot->first) * PAGE_SIZE;
	s->effect = grows ? STEP_BRINGS : STEP_TAKES;
	s->first = grows ? end_of(slot) : end;
	s->nr_pages = grows ? end - end_of(slot) : end_of(slot) - end;
	s->place = s->first;
	s->wants_bitmap = !grows && slot->flags & KVM_MEM_LOG_DIRTY_PAGES;
	say(s, "%s %s to %lu", grows ? "grow" : "shrink", model_slot_name(slot), end);
}

void step_split(struct step *s, const struct layout *l, unsigned int i,
		unsigned int nr, const uint64_t *at)
{
	const struct model_slot *slot = &l->slot[i];
	struct layout after = *l;
	unsigned int j;

	begin(s, STEP_SPLIT, slot);
	s->nr = nr;
	s->place = at[host_random() % nr];
	for (j = 0; j < nr; j++) {
		s->cuts[j].offset = (at[j] - slot->first) * PAGE_SIZE;
		s->cuts[j].slot = layout_free_id(&after);
		layout_add(&after, s->cuts[j].slot, 0, at[j], 0);
	}
	say(s, "split %s into %u, at %lu..%lu", model_slot_name(slot), nr + 1, at[0],
	    at[nr - 1]);
}

void step_merge(struct step *s, const struct layout *l, unsigned int i, unsigned int nr)
{
	const struct model_slot *slot = &l->slot[i];
	unsigned int j;

	begin(s, STEP_MERGE, slot);
	s->nr = nr - 1;
	s->place = slot[host_random_between(1, nr - 1)].first;
	for (j = 1; j < nr; j++)
		s->ids[j - 1] = slot[j].id;
	say(s, "merge %s with the next %u, to %lu", model_slot_name(slot), nr - 1,
	    end_of(&slot[nr - 1]));
}

void step_set_readonly(struct step *s, const struct layout *l, unsigned int i,
		       bool readonly)
{
	begin(s, STEP_SET_READONLY, &l->slot[i]);
	s->readonly = readonly;
	s->flags &= ~KVM_MEM_READONLY;
	s->flags |= readonly ? KVM_MEM_READONLY : 0;
	s->effect = s->flags == s->slot.flags ? STEP_CHANGES_NOTHING :
						STEP_CHANGES_WRITES;
	say(s, "set_readonly %s %u", model_slot_name(&s->slot), readonly);
}

void step_create(struct step *s, const struct model_slot *slot)
{
	begin(s, STEP_CREATE, slot);
	s->size = slot->nr * PAGE_SIZE;
	s->effect = STEP_BRINGS;
	say(s, "create %s", model_slot_name(slot));
}

void step_delete(struct step *s, const struct layout *l, unsigned int i)
{
	begin(s, STEP_DELETE, &l->slot[i]);
	s->effect = STEP_TAKES;
	say(s, "delete %s", model_slot_name(&s->slot));
}

void step_away(struct step *s, const struct layout *l, unsigned int i, uint64_t gpa)
{
	begin(s, STEP_AWAY, &l->slot[i]);
	s->gpa = gpa;
	s->effect = STEP_TAKES;
	say(s, "move %s to %#lx", model_slot_name(&s->slot), gpa);
}

void step_back(struct step *s, const struct step *away)
{
	begin(s, STEP_BACK, &away->slot);
	s->effect = STEP_BRINGS;
	say(s, "move %s back", model_slot_name(&s->slot));
}

void step_log(struct step *s, const struct layout *l, unsigned int i)
{
	begin(s, STEP_LOG, &l->slot[i]);
	s->flags ^= KVM_MEM_LOG_DIRTY_PAGES;
	say(s, "%s logging of %s",
	    s->flags & KVM_MEM_LOG_DIRTY_PAGES ? "begin" : "end",
	    model_slot_name(&s->slot));
}

/* --------------------------------------------------------------- the calls */

static int set(const struct range *r, const struct step *s, uint64_t gpa,
	       uint64_t nr)
{
	return slot_set(r->vm, s->id, s->flags, gpa, nr * PAGE_SIZE,
			r->mem + s->slot.first * PAGE_SIZE);
}

static int make_set_readonly(const struct range *r, const struct step *s)
{
	struct kvm_memslot_set_readonly set = {
		.slot = s->id,
		.readonly = s->readonly,
		.pad = s->pad,
	};

	return ioctl(r->dev, KVM_MEMSLOT_SET_READONLY, &set) ? errno : 0;
}

int step_make(const struct range *r, const struct step *s, void *bitmap)
{
	const uint64_t gpa = r->gpa + s->slot.first * PAGE_SIZE;

	switch (s->call) {
	case STEP_GROW:
		return slot_grow(r->dev, s->id, s->size);
	case STEP_SHRINK:
		return slot_shrink(r->dev, s->id, s->size,
				   s->wants_bitmap ? bitmap : NULL);
	case STEP_SPLIT:
		if (s->null_argument)
			return ioctl(r->dev, KVM_MEMSLOT_SPLIT, NULL) ? errno : 0;
		return slot_split(r->dev, s->id, s->nr, s->cuts);
	case STEP_MERGE:
		return slot_merge(r->dev, s->id, s->nr, s->ids);
	case STEP_SET_READONLY:
		return make_set_readonly(r, s);
	case STEP_DELETE:
		return slot_set(r->vm, s->id, 0, 0, 0, NULL);
	case STEP_AWAY:
		return set(r, s, s->gpa, s->slot.nr);
	case STEP_CREATE:
	case STEP_BACK:
	case STEP_LOG:
		return set(r, s, gpa, s->slot.nr);
	default:
		TEST_FAIL("there is no step %d", s->call);
		return 0;
	}
}

/* --------------------------------------------------------------- the model */

static unsigned int index_of(const struct layout *l, uint32_t id)
{
	unsigned int i;

	for (i = 0; i < l->nr; i++) {
		if (l->slot[i].id == id)
			return i;
	}
	TEST_FAIL("the model has no slot %#x", id);
	return 0;
}

static void apply_split(struct layout *l, const struct step *s, unsigned int i)
{
	uint64_t end = end_of(&s->slot), at;
	unsigned int j;

	l->slot[i].nr = s->cuts[0].offset / PAGE_SIZE;
	for (j = 0; j < s->nr; j++) {
		uint64_t next = j + 1 < s->nr ?
				s->slot.first + s->cuts[j + 1].offset / PAGE_SIZE : end;

		at = s->slot.first + s->cuts[j].offset / PAGE_SIZE;
		layout_add(l, s->cuts[j].slot, s->flags, at, next - at);
	}
}

static void apply_merge(struct layout *l, const struct step *s, unsigned int i)
{
	unsigned int j;

	for (j = 0; j < s->nr; j++) {
		l->slot[i].nr += l->slot[i + 1].nr;
		layout_remove(l, i + 1);
	}
}

void layout_apply(struct layout *l, const struct step *s)
{
	unsigned int i;

	switch (s->kind) {
	case STEP_INVALID:
		return;
	case STEP_CREATE:
	case STEP_BACK:
		layout_add(l, s->id, s->flags, s->slot.first, s->slot.nr);
		return;
	default:
		i = index_of(l, s->id);
	}

	switch (s->kind) {
	case STEP_GROW:
		l->slot[i].nr += s->nr_pages;
		return;
	case STEP_SHRINK:
		l->slot[i].nr -= s->nr_pages;
		if (!l->slot[i].nr)
			layout_remove(l, i);
		return;
	case STEP_SPLIT:
		apply_split(l, s, i);
		return;
	case STEP_MERGE:
		apply_merge(l, s, i);
		return;
	case STEP_DELETE:
	case STEP_AWAY:
		layout_remove(l, i);
		return;
	default:
		l->slot[i].flags = s->flags;
	}
}

/* --------------------------------------------------------------- the checks */

void model_slot_assert(const struct range *r, const struct model_slot *s)
{
	slot_assert(r->vm, s->id, s->flags, r->gpa + s->first * PAGE_SIZE,
		    s->nr * PAGE_SIZE, r->mem + s->first * PAGE_SIZE);
}

void model_slot_assert_gone(struct kvm_vm *vm, uint32_t id)
{
	int err = slot_set(vm, id, 0, 0, 0, NULL);

	TEST_ASSERT(err == EINVAL, "deleting slot %#x, which is not there: %s", id,
		    err ? strerror(err) : "done");
}

static void assert_one(const struct range *r, const struct layout *l, uint32_t id)
{
	if (layout_is_free(l, id))
		model_slot_assert_gone(r->vm, id);
	else
		model_slot_assert(r, &l->slot[index_of(l, id)]);
}

void step_assert(const struct range *r, const struct layout *l, const struct step *s)
{
	unsigned int j;

	if (s->kind == STEP_AWAY) {
		slot_assert(r->vm, s->id, s->flags, s->gpa, s->slot.nr * PAGE_SIZE,
			    r->mem + s->slot.first * PAGE_SIZE);
		return;
	}
	assert_one(r, l, s->slot.id);
	for (j = 0; j < s->nr && s->kind == STEP_SPLIT; j++)
		assert_one(r, l, s->cuts[j].slot);
	for (j = 0; j < s->nr && s->kind == STEP_MERGE; j++)
		assert_one(r, l, s->ids[j]);
}

void layout_assert_all(const struct range *r, const struct layout *l)
{
	unsigned int i;

	for (i = 0; i < l->nr; i++)
		model_slot_assert(r, &l->slot[i]);
	for (i = 0; i < LAYOUT_MAX_SLOTS; i++) {
		if (layout_is_free(l, l->first_id + i))
			model_slot_assert_gone(r->vm, l->first_id + i);
	}
}
