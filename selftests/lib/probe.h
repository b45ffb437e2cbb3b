/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vCPUs that access guest memory as they are told, and a VMM that says what
 * became of it: an access went to memory, or it came out as MMIO.
 *
 * Unlike the hammer's, this VMM drops the writes that come out. So whatever is
 * new in the host's memory was written by a vCPU without anybody's leave, or by
 * the test.
 */
#ifndef SELFTESTS_PROBE_H
#define SELFTESTS_PROBE_H

#include "host.h"
#include "memslot_ops.h"

#define PROBE_MAX_VCPUS		4
#define PROBE_MAX_RANGES	32
/* Tests start their slots here, and their range in guest memory there. */
#define PROBE_SLOT		2
#define PROBE_GPA		(4 * GIGA_SIZE)

enum probe_how {
	PROBE_READ,
	PROBE_WRITE,
	/* A read from a port to memory, which KVM has to emulate. */
	PROBE_INS,
	/* A copy of one byte from MMIO to memory: likewise. */
	PROBE_MOVS,
};

struct probe_config {
	int nr_vcpus;
	uint64_t size;			/* of the range, in bytes */
	uint32_t ring_size;		/* of dirty rings, in bytes; 0: none */
	uint64_t program_pages;		/* beyond what the library expects of programs */
	/*
	 * Enabled in the guest. Otherwise they are only in loops, if at all, for a
	 * fault that is to hold an operation up must not be resolved asynchronously.
	 */
	bool interrupts;
};

/* What became of an access. */
struct probe_result {
	uint64_t value;			/* that a read got */
	int nr_reads, nr_writes;	/* that came out as MMIO */
	uint64_t gpa, data;		/* of the last such write */
	uint32_t len;
	int err;			/* of KVM_RUN */
	bool ring_full;			/* so it is not over: see probe_go_on() */
};

struct probe;

/* Makes the VM and its vCPUs, but no slot for the range. */
struct probe *probe_create(const struct probe_config *config);
void probe_free(struct probe *p);
struct kvm_vm *probe_vm(struct probe *p);
struct kvm_vcpu *probe_vcpu(struct probe *p, int id);

/* One access by a vCPU; MMIO and ports read as @value. */
struct probe_result probe_access(struct probe *p, int id, enum probe_how how,
				 uint64_t gpa, uint64_t value);
uint64_t probe_read(struct probe *p, uint64_t gpa);
void probe_write(struct probe *p, uint64_t gpa, uint64_t value);
/* Ends an access, or a stopped loop, that was begun before the vCPU's dirty ring was full. */
struct probe_result probe_go_on(struct probe *p, int id);
/* Whether that is why the vCPU has left what it was told. */
bool probe_ring_is_full(struct probe *p, int id);
/* Whether a read of vCPU 0 comes out as MMIO. */
bool probe_is_mmio(struct probe *p, uint64_t gpa);

/* The same in two halves: the vCPU runs in a thread of its own in between. */
void probe_begin(struct probe *p, int id, enum probe_how how, uint64_t gpa,
		 uint64_t value);
bool probe_is_over(struct probe *p, int id);
struct probe_result probe_end(struct probe *p, int id);

/*
 * Lets a vCPU read or write the first word of its own of each of @nr pages from
 * @gpa on, again and again. What it writes begins with the number of the page.
 */
void probe_loop(struct probe *p, int id, enum probe_how how, uint64_t gpa,
		uint64_t nr);
/* The same over the pages of several ranges, or every @stride-th of them. */
struct probe_range {
	uint64_t gpa;
	uint64_t nr;
	uint64_t stride;
};

void probe_loop_ranges(struct probe *p, int id, enum probe_how how,
		       const struct probe_range *ranges, size_t nr);
/* Until each vCPU that loops has begun, and ended, @times more rounds. */
void probe_wait(struct probe *p, uint64_t times);
/* Ends all loops. */
void probe_stop(struct probe *p);
/* MMIO exits in loops, and the lowest and highest address of any. */
struct probe_exits {
	uint64_t reads, writes;
	uint64_t low, high;
	uint64_t wrong;			/* writes of what was not to be there */
};

struct probe_exits probe_exits(struct probe *p);
void probe_forget_exits(struct probe *p);

/* Page faults that KVM took for the vCPUs. */
uint64_t probe_faults(struct probe *p);

#endif
