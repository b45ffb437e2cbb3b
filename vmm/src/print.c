// SPDX-License-Identifier: MIT
#include <errno.h>
#include <inttypes.h>

#include "internal.h"

static const char *const names[] = {
	[KVM_LAYOUT_CREATE] = "CREATE",
	[KVM_LAYOUT_DELETE] = "DELETE",
	[KVM_LAYOUT_FLAGS] = "FLAGS",
	[KVM_LAYOUT_GROW] = "GROW",
	[KVM_LAYOUT_SHRINK] = "SHRINK",
	[KVM_LAYOUT_SPLIT] = "SPLIT",
	[KVM_LAYOUT_MERGE] = "MERGE",
	[KVM_LAYOUT_SET_READONLY] = "SET_READONLY",
};

static void print_slot(FILE *to, const region_t *slot)
{
	fprintf(to, " %" PRIu32, slot->slot & 0xffff);
	if (slot->slot >> 16)
		fprintf(to, "@%" PRIu32, slot->slot >> 16);
	fprintf(to, " [%" PRIx64 " %" PRIx64 ")", (uint64_t)slot->guest_phys_addr,
		region_end(slot));
}

static void print_step(FILE *to, const struct kvm_layout_step *step)
{
	const region_t *slot = step->before.memory_size ? &step->before :
							   &step->after;

	fputs(names[step->op], to);
	print_slot(to, slot);
	switch (step->op) {
	case KVM_LAYOUT_CREATE:
		fprintf(to, " at %" PRIx64 "%s%s",
			(uint64_t)slot->userspace_addr,
			slot->flags & KVM_MEM_READONLY ? ", read-only" : "",
			slot->flags & KVM_MEM_LOG_DIRTY_PAGES ? ", logs" : "");
		break;
	case KVM_LAYOUT_GROW:
	case KVM_LAYOUT_SHRINK:
		fprintf(to, " to %" PRIx64, region_end(&step->after));
		break;
	case KVM_LAYOUT_SPLIT:
		fputs(" into", to);
		print_slot(to, &step->after);
		break;
	case KVM_LAYOUT_MERGE:
		fputs(" and", to);
		break;
	case KVM_LAYOUT_FLAGS:
		fprintf(to, ": log %s",
			step->after.flags & KVM_MEM_LOG_DIRTY_PAGES ? "on" :
								      "off");
		break;
	case KVM_LAYOUT_SET_READONLY:
		fprintf(to, ": %s", step->after.flags & KVM_MEM_READONLY ?
			"read-only" : "writable");
		break;
	case KVM_LAYOUT_DELETE:
		break;
	}
	for (size_t i = 0; i < step->nr_others; i++)
		print_slot(to, &step->others[i]);
	if (step->flags & KVM_LAYOUT_HARVEST)
		fputs("; its log is lost", to);
	if (step->flags & KVM_LAYOUT_GAP)
		fputs("; with a gap", to);
}

int kvm_layout_plan_print(const struct kvm_layout_plan *plan, FILE *to)
{
	const struct kvm_layout_step *steps;
	const struct kvm_layout_gap *gaps;
	size_t nr_steps, nr_gaps;

	steps = kvm_layout_plan_steps(plan, &nr_steps);
	gaps = kvm_layout_plan_gaps(plan, &nr_gaps);
	for (size_t i = 0; i < nr_steps; i++) {
		fprintf(to, "%zu: ", i);
		print_step(to, &steps[i]);
		fputc('\n', to);
	}
	for (size_t i = 0; i < nr_gaps; i++)
		fprintf(to, "[%" PRIx64 " %" PRIx64 ") %s from %zu to %zu\n",
			gaps[i].gpa, gaps[i].gpa + gaps[i].size,
			gaps[i].replaced ? "is replaced" : "is missing",
			gaps[i].first, gaps[i].last);
	return ferror(to) ? -EIO : 0;
}
