/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vCPUs that read, write and execute pages of a range of guest memory at random, all
 * the time, while the test changes what is in a slot and how. For each page the test
 * sets a rule: an access must reach memory, may, or must never. The first access that
 * breaks one ends the process, which says what it was.
 *
 * The pages are those of pages.h. Where all that is touched stays memory, hammer.h will
 * do.
 */
#ifndef SELFTESTS_TOUCHERS_H
#define SELFTESTS_TOUCHERS_H

#include <stdbool.h>
#include <stdint.h>

#include "host.h"

#define TOUCHERS_MAX_PAGES	(16 * HUGE_PAGES)

struct kvm_vm;

struct touchers_config {
	int nr_vcpus;			/* 1 to PAGES_MAX_VCPUS */
	uint64_t gpa;			/* of the range */
	uint64_t nr;			/* of pages in it */
	bool guest_4k;			/* guest page tables of 4 KiB pages */
	/* Those whose contents the host throws away as it likes: whatever they hold is right. */
	uint64_t scratch_first, scratch_nr;
};

/*
 * Maps notes and the range for the guest of a VM that notes_vm_create() made. Each rule
 * is "never".
 */
void touchers_init(struct kvm_vm *vm, const struct touchers_config *config);
/* What each vCPU wrote to each page, for struct pages_config. */
const uint64_t *touchers_counters(void);
/* They do nothing until they are started. */
void touchers_add_vcpus(struct kvm_vm *vm);

/*
 * Orders to the vCPUs. Each takes effect before it returns. To start them is to turn on
 * KVM_FEP where that can be, until host_restore().
 */
void touchers_start(void);
void touchers_pause(void);
void touchers_resume(void);
void touchers_stop(void);

/* Until each vCPU has touched so many more pages. */
void touchers_wait(uint64_t nr);
/* Half of all touches are of these from now on. */
void touchers_set_hot(uint64_t first, uint64_t nr);

/*
 * What becomes of pages is settled: accesses land, or they do not. @flags, here and below:
 * of the slot that they are in, or were.
 */
void touchers_set_rules(uint64_t first, uint64_t nr, bool there, uint32_t flags);
/* It is about to change: accesses may land, or not. */
void touchers_relax_rules(uint64_t first, uint64_t nr, uint32_t flags);
/* The same of writes alone. */
void touchers_relax_writes(uint64_t first, uint64_t nr);
/* Until nobody executes pages whose rules are relaxed. */
void touchers_wait_fetches(uint64_t first, uint64_t nr);
/* When it returns nobody touches them, until there are other rules. */
void touchers_shun(uint64_t first, uint64_t nr);

struct touchers_sums {
	uint64_t touches;
	uint64_t changing;		/* of those; their rule was not strict */
	uint64_t exits;
};

/* Of all vCPUs, since they were started. */
struct touchers_sums touchers_sums(void);

#endif
