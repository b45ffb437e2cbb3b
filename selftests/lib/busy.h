/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VM whose vCPUs go through a range of memory, page by page, again and again; for what counts
 * how much they do. Whether all that they find is right is for hammer.h.
 */
#ifndef SELFTESTS_BUSY_H
#define SELFTESTS_BUSY_H

#include "kvm_util.h"

#define BUSY_MAX_VCPUS	32

struct busy_config {
	int nr_vcpus;			/* may be 0 */
	uint64_t gpa, size;		/* of the range, in huge frames */
	bool writes;			/* instead of reads */
	bool apart;			/* leave the first CPU to others, if there are more */
};

struct busy;

struct busy *busy_create(const struct busy_config *config);
void busy_free(struct busy *b);
struct kvm_vm *busy_vm(struct busy *b);

/* When the range is in a slot. */
void busy_start(struct busy *b);
void busy_stop(struct busy *b);

/* All vCPUs are out of KVM_RUN until they are released. */
void busy_hold(struct busy *b);
void busy_release(struct busy *b);

/* Until each vCPU has touched all of the range once more. */
void busy_wait(struct busy *b);

uint64_t busy_touches(struct busy *b);
/* Page faults that KVM took for the vCPUs. */
uint64_t busy_faults(struct busy *b);
/* The longest time between two touches since the last call, in nanoseconds. */
uint64_t busy_longest_stall(struct busy *b);

#endif
