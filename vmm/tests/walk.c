// SPDX-License-Identifier: MIT
/*
 * Walk a plan through the model and judge what each step does: see walk.h.
 */
#include "walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cells.h"
#include "judge.h"

#define PAGE		KVM_LAYOUT_PAGE_SIZE
#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define RO		KVM_MEM_READONLY

/* Who has told of a dirty page. */
#define TOLD_BY_TAIL	(1U << 0)
#define TOLD_BY_HARVEST	(1U << 1)
#define TOLD_AT_END	(1U << 2)
#define TOLD_TWICE	(1U << 3)

typedef struct kvm_userspace_memory_region region_t;

struct walker {
	const struct transition *transition;
	const struct kvm_layout_plan *plan;
	const struct kvm_layout_step *steps;
	size_t nr_steps;
	bool has_all;
	struct cell *cells;
	size_t nr_cells;
	struct kvm_model model;
	struct kvm_layout *layout;
	size_t step;
};

static void *must_alloc(size_t nr, size_t size)
{
	void *p = calloc(nr ? nr : 1, size);

	if (!p)
		abort();
	return p;
}

bool walk_dirty(uint64_t gpa)
{
	uint64_t x = gpa / PAGE * UINT64_C(0x9e3779b97f4a7c15);

	return x >> 63;
}

void walk_make_dirty(struct kvm_model *model)
{
	for (size_t i = 0; i < model->nr_slots; i++) {
		struct kvm_model_slot *slot = &model->slots[i];
		uint64_t gpa = slot->region.guest_phys_addr;

		if (!slot->dirty)
			continue;
		for (uint64_t j = 0; j < slot->region.memory_size / PAGE; j++)
			slot->dirty[j] = walk_dirty(gpa + j * PAGE);
	}
}

/* Dirty bits: who tells which. */

static void tell(struct walker *w, uint64_t gpa, unsigned int who)
{
	struct cell *cell = cells_at(w->cells, w->nr_cells, gpa);
	uint8_t *told;

	if (!cell)
		return;
	told = &cell->told[(gpa - cell->gpa) / PAGE];
	*told |= *told ? TOLD_TWICE | who : who;
}

static void tell_slot(struct walker *w, const struct kvm_model_slot *slot,
		      unsigned int who)
{
	for (uint64_t i = 0;
	     slot->dirty && i < slot->region.memory_size / PAGE; i++)
		if (slot->dirty[i])
			tell(w, slot->region.guest_phys_addr + i * PAGE, who);
}

/* What a VMM does that fetches the log when it is told to. */
static void harvest(struct walker *w, const struct kvm_layout_step *step)
{
	struct kvm_model_slot *slot;

	if (!(step->flags & KVM_LAYOUT_HARVEST))
		return;
	slot = kvm_model_find(&w->model, step->before.slot);
	if (!slot || !slot->dirty)
		return;
	tell_slot(w, slot, TOLD_BY_HARVEST);
	memset(slot->dirty, 0, slot->region.memory_size / PAGE);
}

static uint64_t tail_pages(const struct kvm_layout_step *step)
{
	return (step->before.memory_size - step->after.memory_size) / PAGE;
}

static uint64_t *tail_bitmap(struct walker *w,
			     const struct kvm_layout_step *step)
{
	struct kvm_model_slot *slot;

	if (step->op != KVM_LAYOUT_SHRINK ||
	    !(step->flags & KVM_LAYOUT_DIRTY_TAIL))
		return NULL;
	slot = kvm_model_find(&w->model, step->before.slot);
	if (!slot || !slot->dirty ||
	    step->after.memory_size > slot->region.memory_size ||
	    step->before.memory_size != slot->region.memory_size)
		return NULL;
	return must_alloc(tail_pages(step) / 64 + 1, sizeof(uint64_t));
}

static void tell_tail(struct walker *w, const struct kvm_layout_step *step,
		      const uint64_t *bitmap)
{
	uint64_t gpa = step->before.guest_phys_addr + step->after.memory_size;

	for (uint64_t i = 0; bitmap && i < tail_pages(step); i++)
		if (bitmap[i / 64] >> i % 64 & 1)
			tell(w, gpa + i * PAGE, TOLD_BY_TAIL);
}

static bool may_tell(const struct walker *w, const struct cell *cell,
		     unsigned int told)
{
	if (told & TOLD_TWICE)
		return false;
	if (cell->fate == KEPT)
		return told == TOLD_AT_END;
	if (!w->has_all)
		return told;
	if (cell->fate != STAYS)
		return told == TOLD_BY_TAIL;
	if (cell->after.flags & LOG)
		return told == TOLD_AT_END;
	return told == TOLD_BY_HARVEST;
}

static void judge_dirty(struct walker *w)
{
	for (size_t i = 0; i < w->model.nr_slots; i++)
		tell_slot(w, &w->model.slots[i], TOLD_AT_END);
	for (size_t i = 0; i < w->nr_cells; i++) {
		struct cell *cell = &w->cells[i];
		bool logs = cell->before.there && cell->before.flags & LOG;

		for (uint64_t at = 0; at < cell->size; at += PAGE) {
			unsigned int told = cell->told[at / PAGE];
			bool dirty = logs && walk_dirty(cell->gpa + at);

			if (!judge(P_DIRTY, dirty ? may_tell(w, cell, told) :
				   !told, "page %llx told by %x",
				   (unsigned long long)cell->gpa + at, told))
				return;
		}
	}
}

/* What a step says of the slots. */

static bool says_rightly(const struct kvm_model *model, const region_t *region)
{
	struct kvm_model_slot *slot = kvm_model_find(model, region->slot);

	if (!region->memory_size)
		return !slot;
	return slot && kvm_model_same_region(&slot->region, region);
}

static bool says_others_rightly(const struct kvm_model *model,
				const struct kvm_layout_step *step)
{
	uint64_t last = 0;

	for (size_t i = 0; i < step->nr_others; i++) {
		const region_t *other = &step->others[i];

		if (!other->memory_size || !says_rightly(model, other) ||
		    other->guest_phys_addr < last)
			return false;
		last = other->guest_phys_addr;
	}
	return true;
}

static bool has_others(const struct kvm_layout_step *step)
{
	return step->op == KVM_LAYOUT_SPLIT || step->op == KVM_LAYOUT_MERGE;
}

static void judge_before(struct walker *w, const struct kvm_layout_step *step)
{
	bool holds = has_others(step) == !!step->nr_others;

	if (step->op == KVM_LAYOUT_CREATE)
		holds = holds && !step->before.memory_size &&
			!kvm_model_find(&w->model, step->after.slot);
	else
		holds = holds && step->before.memory_size &&
			says_rightly(&w->model, &step->before);
	if (step->op == KVM_LAYOUT_MERGE)
		holds = holds && says_others_rightly(&w->model, step);
	judge(P_BOOK, holds, "step %zu: other slots before it", w->step);
}

static void judge_after(struct walker *w, const struct kvm_layout_step *step)
{
	bool holds;

	if (step->after.memory_size)
		holds = says_rightly(&w->model, &step->after);
	else
		holds = !kvm_model_find(&w->model, step->before.slot);
	if (step->op == KVM_LAYOUT_SPLIT)
		holds = holds && says_others_rightly(&w->model, step);
	judge(P_BOOK, holds, "step %zu: other slots after it", w->step);
}

static bool loses_log(const struct kvm_layout_step *step)
{
	if (!(step->before.flags & LOG))
		return false;
	return step->op == KVM_LAYOUT_DELETE ||
	       (step->op == KVM_LAYOUT_FLAGS && !(step->after.flags & LOG));
}

static bool has_tail(const struct kvm_layout_step *step)
{
	return step->op == KVM_LAYOUT_SHRINK && step->before.flags & LOG;
}

static void judge_flags(struct walker *w, const struct kvm_layout_step *step)
{
	bool gap = false;
	uint32_t known = KVM_LAYOUT_GAP | KVM_LAYOUT_HARVEST |
			 KVM_LAYOUT_DIRTY_TAIL;

	for (size_t i = 0; i < w->nr_cells; i++)
		gap |= w->cells[i].is_missing;
	judge(P_FLAGS, gap == !!(step->flags & KVM_LAYOUT_GAP),
	      "step %zu: something is %smissing", w->step, gap ? "" : "not ");
	judge(P_FLAGS,
	      loses_log(step) == !!(step->flags & KVM_LAYOUT_HARVEST),
	      "step %zu: a log is %slost", w->step,
	      loses_log(step) ? "" : "not ");
	judge(P_FLAGS, has_tail(step) ==
	      !!(step->flags & KVM_LAYOUT_DIRTY_TAIL),
	      "step %zu: flag of a tail's dirty bits", w->step);
	judge(P_FLAGS, !(step->flags & ~known), "step %zu: flags %x", w->step,
	      step->flags);
}

/* New numbers are out of those that plans may use. */
static bool may_be_used(const struct walker *w, uint32_t slot)
{
	const struct transition *t = w->transition;

	if (slot >> 16 == t->as_id &&
	    (slot & 0xffff) - t->first < t->nr_ids)
		return true;
	/* What has been deleted may come back under its own number. */
	for (size_t i = 0; !w->has_all && i < t->nr_gone; i++)
		if (t->slots[i].slot == slot)
			return true;
	return false;
}

static void judge_numbers(struct walker *w, const struct kvm_layout_step *step)
{
	if (step->op == KVM_LAYOUT_CREATE)
		judge(P_NUMBERS, may_be_used(w, step->after.slot),
		      "step %zu uses number %x", w->step, step->after.slot);
	if (step->op != KVM_LAYOUT_SPLIT)
		return;
	for (size_t i = 0; i < step->nr_others; i++)
		judge(P_NUMBERS, may_be_used(w, step->others[i].slot),
		      "step %zu uses number %x", w->step,
		      step->others[i].slot);
}

static void judge_op(struct walker *w, const struct kvm_layout_step *step)
{
	bool is_of_kvm = step->op == KVM_LAYOUT_CREATE ||
			 step->op == KVM_LAYOUT_DELETE ||
			 step->op == KVM_LAYOUT_FLAGS;

	judge(P_CALLS, is_of_kvm || w->transition->ops & 1U << step->op,
	      "step %zu: operation %d is not offered", w->step, step->op);
	if (w->has_all)
		judge(P_DELETES, step->op != KVM_LAYOUT_DELETE,
		      "step %zu deletes", w->step);
}

/* What a step does to a cell. */

static bool same_place(const struct kvm_model_place *a,
		       const struct kvm_model_place *b)
{
	if (a->there != b->there)
		return false;
	return !a->there || (a->hva == b->hva && a->flags == b->flags &&
			     a->slot == b->slot && a->offset == b->offset);
}

/* Each flag is as it was or as it will be. */
static bool flags_are_between(uint32_t now, uint32_t before, uint32_t after)
{
	return !((now ^ before) & (now ^ after));
}

#define JUDGE_CELL(w, cell, property, holds, what)			\
	judge(property, holds, "step %zu: %llx %s", (w)->step,		\
	      (unsigned long long)(cell)->gpa, what)

static void judge_missing(struct walker *w, struct cell *cell)
{
	if (cell->now.there) {
		if (cell->is_missing)
			cell->last = w->step;
		cell->is_missing = false;
		return;
	}
	if (cell->is_missing)
		return;
	JUDGE_CELL(w, cell, P_GAPS, !cell->was_missing, "is missing twice");
	cell->is_missing = true;
	cell->was_missing = true;
	cell->first = w->step;
}

static void judge_stays(struct walker *w, struct cell *cell)
{
	enum property property = w->has_all ? P_STAYS : P_STAYS_SOME;
	const struct kvm_model_place *now = &cell->now;

	judge_missing(w, cell);
	if (w->has_all)
		JUDGE_CELL(w, cell, P_STAYS, now->there, "is missing");
	if (!now->there)
		return;
	JUDGE_CELL(w, cell, property, now->hva == cell->before.hva,
		   "leads elsewhere");
	JUDGE_CELL(w, cell, property,
		   flags_are_between(now->flags, cell->before.flags,
				     cell->after.flags),
		   "has flags that it had not and will not have");
}

static void judge_new(struct walker *w, struct cell *cell)
{
	const struct kvm_model_place *now = &cell->now;

	JUDGE_CELL(w, cell, P_COMES, now->there && now->hva == cell->after.hva,
		   "has come and is not there");
	JUDGE_CELL(w, cell, P_COMES,
		   !((now->flags ^ cell->after.flags) & RO),
		   "has come and is not read-only as it will be");
}

static void judge_comes(struct walker *w, struct cell *cell)
{
	cell->has_changed |= cell->now.there;
	if (cell->has_changed)
		judge_new(w, cell);
}

static void judge_goes(struct walker *w, struct cell *cell)
{
	cell->has_changed |= !cell->now.there;
	JUDGE_CELL(w, cell, P_COMES, cell->has_changed ? !cell->now.there :
		   cell->now.hva == cell->before.hva,
		   "goes and is there again, or leads elsewhere");
}

static void judge_replaced(struct walker *w, struct cell *cell)
{
	struct kvm_model_place *now = &cell->now;

	judge_missing(w, cell);
	if (!now->there) {
		JUDGE_CELL(w, cell, P_COMES, !cell->has_changed,
			   "was replaced and is missing again");
		return;
	}
	if (now->hva != cell->before.hva)
		cell->has_changed = true;
	if (cell->has_changed)
		judge_new(w, cell);
	else
		JUDGE_CELL(w, cell, P_COMES, !cell->was_missing,
			   "is there again as it was");
}

static void judge_cell(struct walker *w, struct cell *cell)
{
	bool uniform = kvm_model_look(&w->model, cell->gpa, cell->size,
				      &cell->now);

	if (!JUDGE_CELL(w, cell, P_COMES, uniform, "is cut"))
		return;
	switch (cell->fate) {
	case KEPT:
		JUDGE_CELL(w, cell, P_STAYS,
			   same_place(&cell->now, &cell->before),
			   "is none of the plan's business and changes");
		break;
	case STAYS:
		judge_stays(w, cell);
		break;
	case COMES:
		judge_comes(w, cell);
		break;
	case GOES:
		judge_goes(w, cell);
		break;
	case REPLACED:
		judge_replaced(w, cell);
		break;
	}
}

static void judge_cells(struct walker *w)
{
	uint64_t size = 0;

	for (size_t i = 0; i < w->nr_cells; i++) {
		judge_cell(w, &w->cells[i]);
		if (w->cells[i].now.there)
			size += w->cells[i].size;
	}
	judge(P_COMES, size == kvm_model_size(&w->model),
	      "step %zu: there is what is in neither layout", w->step);
}

/* The step a second time is none from here. */
static void judge_done(struct walker *w, const struct kvm_layout_step *step)
{
	int err = kvm_layout_step_done(w->layout, step);

	judge(P_DONE, !err, "step %zu: error %d", w->step, err);
	judge(P_DONE, kvm_model_is(&w->model, w->layout),
	      "step %zu: other slots", w->step);
	err = kvm_layout_step_done(w->layout, step);
	judge(P_AGAIN, err == -EINVAL, "step %zu again: error %d", w->step,
	      err);
	judge(P_AGAIN, kvm_model_is(&w->model, w->layout),
	      "step %zu again: other slots", w->step);
}

static bool make_step(struct walker *w, const struct kvm_layout_step *step)
{
	uint64_t *bitmap;
	int err;

	judge_before(w, step);
	judge_op(w, step);
	judge_numbers(w, step);
	harvest(w, step);
	bitmap = tail_bitmap(w, step);
	err = kvm_model_step(&w->model, step, bitmap);
	if (!err)
		tell_tail(w, step, bitmap);
	free(bitmap);
	if (!judge(P_CALLS, !err, "step %zu: error %d", w->step, err))
		return false;
	judge_after(w, step);
	judge_cells(w);
	judge_flags(w, step);
	judge_done(w, step);
	return true;
}

/* What is known when all steps are made. */

static void judge_gap(struct walker *w, const struct cell *cell,
		      const struct kvm_layout_gap *gaps, size_t nr)
{
	size_t found = 0;

	for (size_t i = 0; i < nr; i++) {
		const struct kvm_layout_gap *gap = &gaps[i];

		if (cell->gpa < gap->gpa ||
		    cell->gpa + cell->size > gap->gpa + gap->size)
			continue;
		found += gap->first == cell->first && gap->last == cell->last &&
			 gap->replaced == (cell->fate == REPLACED);
	}
	JUDGE_CELL(w, cell, P_GAPS, found == 1, "is missing and not told");
}

static void judge_gaps(struct walker *w)
{
	const struct kvm_layout_gap *gaps;
	uint64_t missing = 0, told = 0;
	size_t nr;

	gaps = kvm_layout_plan_gaps(w->plan, &nr);
	for (size_t i = 0; i < w->nr_cells; i++) {
		const struct cell *cell = &w->cells[i];

		if (!cell->was_missing)
			continue;
		missing += cell->size;
		judge_gap(w, cell, gaps, nr);
		if (w->has_all)
			JUDGE_CELL(w, cell, P_NEIGHBOURS,
				   cell->fate == REPLACED &&
				   cell->last == cell->first + 1,
				   "is missing for longer than a step");
	}
	for (size_t i = 0; i < nr; i++)
		told += gaps[i].size;
	judge(P_GAPS, missing == told, "%llx bytes are missing, told %llx",
	      (unsigned long long)missing, (unsigned long long)told);
	judge(P_GAPS, kvm_layout_plan_blinks(w->plan) == (nr > 0),
	      "%zu gaps, and the plan says otherwise", nr);
}

static bool tells_move(const struct cell *cell,
		       const struct kvm_layout_move *move)
{
	uint64_t offset = cell->gpa - move->gpa;

	return move->from == cell->before.slot &&
	       move->from_offset + offset == cell->before.offset &&
	       move->from_flags == cell->before.flags &&
	       move->to == cell->now.slot &&
	       move->to_offset + offset == cell->now.offset &&
	       move->to_flags == cell->now.flags;
}

static void judge_move(struct walker *w, const struct cell *cell,
		       const struct kvm_layout_move *moves, size_t nr)
{
	size_t found = 0;

	for (size_t i = 0; i < nr; i++)
		if (cell->gpa >= moves[i].gpa &&
		    cell->gpa + cell->size <= moves[i].gpa + moves[i].size)
			found += tells_move(cell, &moves[i]);
	JUDGE_CELL(w, cell, P_MOVES, found == 1, "stays and is not told");
}

static void judge_moves(struct walker *w)
{
	const struct kvm_layout_move *moves;
	uint64_t stays = 0, told = 0, end = 0;
	size_t nr;

	moves = kvm_layout_plan_moves(w->plan, &nr);
	for (size_t i = 0; i < w->nr_cells; i++) {
		const struct cell *cell = &w->cells[i];

		if (cell->fate != STAYS || cell->was_missing)
			continue;
		stays += cell->size;
		judge_move(w, cell, moves, nr);
	}
	for (size_t i = 0; i < nr; i++) {
		judge(P_MOVES, moves[i].size && moves[i].gpa >= end,
		      "move %zu is not behind the one before", i);
		end = moves[i].gpa + moves[i].size;
		told += moves[i].size;
	}
	judge(P_MOVES, stays == told, "%llx bytes stay, told %llx",
	      (unsigned long long)stays, (unsigned long long)told);
}

/* A wanted slot has the number of its first piece. */
static void judge_first_numbers(struct walker *w)
{
	if (!w->has_all || w->transition->mode != KVM_LAYOUT_PARTITION)
		return;
	for (size_t i = 0; i < w->nr_cells; i++) {
		const struct cell *cell = &w->cells[i];

		if (cell->fate == STAYS && !cell->before.offset &&
		    cell->gpa == cell->wanted->guest_phys_addr)
			JUDGE_CELL(w, cell, P_NUMBERS,
				   cell->now.slot == cell->before.slot,
				   "has not the number of its first piece");
	}
}

static void judge_swaps(struct walker *w)
{
	const struct transition *t = w->transition;

	/* A map may blink less for more. */
	if (!t->ops && t->mode == KVM_LAYOUT_PARTITION)
		judge(P_SWAPS, w->model.nr_swaps <= 2 * t->nr_gone + t->nr_come,
		      "%lu swaps", w->model.nr_swaps);
}

static void judge_arrival(struct walker *w)
{
	judge(P_END, transition_is_target(w->transition, &w->model),
	      "other slots at the end");
	judge_gaps(w);
	judge_moves(w);
	judge_first_numbers(w);
	judge_swaps(w);
	if (!w->transition->no_bitmaps)
		judge_dirty(w);
}

static size_t count_lines(const char *text, size_t size)
{
	size_t nr = 0;

	for (size_t i = 0; i < size; i++)
		nr += text[i] == '\n';
	return nr;
}

static void judge_print(struct walker *w)
{
	size_t nr_gaps, nr_lines, size;
	char *text;
	FILE *to = open_memstream(&text, &size);
	int err;

	if (!to)
		abort();
	err = kvm_layout_plan_print(w->plan, to);
	fclose(to);
	kvm_layout_plan_gaps(w->plan, &nr_gaps);
	nr_lines = count_lines(text, size);
	judge(P_PRINT, !err && nr_lines >= w->nr_steps + nr_gaps,
	      "error %d, %zu lines for %zu steps and %zu gaps", err, nr_lines,
	      w->nr_steps, nr_gaps);
	free(text);
}

static void end_walk(struct walker *w)
{
	cells_free(w->cells, w->nr_cells);
	kvm_layout_free(w->layout);
	kvm_model_fini(&w->model);
}

void walk(const struct transition *transition,
	  const struct kvm_layout_plan *plan, struct walked *walked)
{
	struct walker w = {
		.transition = transition,
		.plan = plan,
		.has_all = transition->ops == KVM_LAYOUT_ALL_OPS,
		.layout = transition_layout(transition),
	};

	memset(walked, 0, sizeof(*walked));
	judge_subject(transition, plan);
	transition_model(transition, &w.model);
	walk_make_dirty(&w.model);
	w.cells = cells_make(transition, &w.nr_cells);
	w.steps = kvm_layout_plan_steps(plan, &w.nr_steps);
	walked->nr_numbers = w.model.nr_slots;
	for (w.step = 0; w.step < w.nr_steps; w.step++) {
		if (!make_step(&w, &w.steps[w.step]))
			break;
		if (walked->nr_numbers < w.model.nr_slots)
			walked->nr_numbers = w.model.nr_slots;
	}
	walked->nr_steps = w.nr_steps;
	walked->nr_swaps = w.model.nr_swaps;
	judge_print(&w);
	if (w.step == w.nr_steps) {
		judge_arrival(&w);
		walked->arrived = transition_is_target(transition, &w.model);
	}
	end_walk(&w);
}
