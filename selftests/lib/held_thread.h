/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Threads that stand at a chosen place inside KVM for as long as a test likes, by
 * modules/held_thread.c.
 */
#ifndef SELFTESTS_HELD_THREAD_H
#define SELFTESTS_HELD_THREAD_H

#include "../modules/held_thread.h"

#include "async.h"
#include "probe.h"

/* Whether the host has the module. */
bool held_thread_possible(void);

/*
 * An access by a vCPU that faults, and finds its slot, or none; and before it does anything
 * about it, much may happen. The vCPU must have run before.
 */
struct late_access {
	struct probe *p;
	int id;
	enum probe_how how;
	uint64_t gpa, value;
	struct probe_result result;
	int dev;
	struct async thread;
};

/* Returns when the vCPU stands in the fault. Until the end it is inside KVM's read section. */
void late_access_begin(struct late_access *l, struct probe *p, int id,
		       enum probe_how how, uint64_t gpa, uint64_t value);
struct probe_result late_access_end(struct late_access *l);

/*
 * Somebody who zaps all mappings of a range, as KVM does for a guest that changes how its
 * memory is cached: holds no lock half-way, but a pointer into the rmaps, if there are any.
 */
struct late_zap {
	struct held_thread_zap zap;
	int dev;
	struct async thread;
};

/* Returns when that is half-way. Something must be mapped. */
void late_zap_begin(struct late_zap *l, struct kvm_vm *vm, uint64_t gpa,
		    uint64_t size);
void late_zap_end(struct late_zap *l);

#endif
