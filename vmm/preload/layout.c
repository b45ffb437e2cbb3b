// SPDX-License-Identifier: MIT
/*
 * For LD_PRELOAD into a VMM that deletes slots and creates others instead: what
 * it asks for is put off until it does something else, and is then carried out as
 * libkvm-layout plans it.  The VMM knows nothing of it.
 *
 * It has to guess where the VMM's transaction ends.  In a thread that runs a vCPU
 * that is at its next KVM_RUN; else it is at any other call to KVM, before memory
 * is unmapped, and before the thread waits for events.  Dirty rings are beyond it.
 *
 *	KVM_LAYOUT_OPS	operations that may be used, as in struct
 *			kvm_layout_host (all that there are)
 *	KVM_LAYOUT_SHOW	print each plan that is more than creations
 *
 * At the end it prints how often slots were exchanged, in how many steps, and what
 * was missing in between.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include <kvm-layout.h>

#include "interpose.h"

const char *const interposer = "kvm-layout-preload";

/* Recursive: the library's own calls come here, too. */
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static struct kvm_layout_host host;
/* What KVM has. */
static struct kvm_layout *layouts[NR_SPACES];
/* Something has been put off: by whom, and whether slots that are there go. */
static bool pending, pending_deletion;
static pthread_t owner;
/* This thread is carrying out what was put off. */
static __thread bool busy;
static bool has_run, show;

static struct {
	uint64_t exchanges;	/* transactions in which slots went and came */
	uint64_t steps;		/* of them */
	uint64_t blinks;	/* ranges that stay, but were missing */
	uint64_t replaced;	/* ranges that got another host address */
	uint64_t failures;
} counts;

static bool same(const struct kvm_userspace_memory_region *a,
		 const struct kvm_userspace_memory_region *b)
{
	return a->guest_phys_addr == b->guest_phys_addr &&
	       a->memory_size == b->memory_size &&
	       a->userspace_addr == b->userspace_addr && a->flags == b->flags;
}

static bool is_wanted(uint32_t as_id,
		      const struct kvm_userspace_memory_region *slot)
{
	for (size_t i = 0; i < NR_IDS; i++)
		if (same(&vmm_slots[as_id][i], slot))
			return true;
	return false;
}

static bool is_there(uint32_t as_id,
		     const struct kvm_userspace_memory_region *slot)
{
	const struct kvm_userspace_memory_region *found;

	found = kvm_layout_at(layouts[as_id], slot->guest_phys_addr);
	return found && same(found, slot);
}

static void count(const struct kvm_layout_plan *plan)
{
	const struct kvm_layout_gap *gaps;
	size_t nr;

	kvm_layout_plan_steps(plan, &nr);
	counts.exchanges++;
	counts.steps += nr;
	gaps = kvm_layout_plan_gaps(plan, &nr);
	for (size_t i = 0; i < nr; i++)
		if (gaps[i].replaced)
			counts.replaced++;
		else
			counts.blinks++;
	if (show)
		kvm_layout_plan_print(plan, stderr);
}

/* Turns what KVM has in an address space into what the VMM wants. */
static int carry_out(uint32_t as_id)
{
	static struct kvm_userspace_memory_region come[NR_IDS];
	static uint32_t gone[NR_IDS];
	const struct kvm_userspace_memory_region *slots;
	size_t nr, nr_gone = 0, nr_come = 0;
	struct kvm_layout_plan *plan;
	int error;

	slots = kvm_layout_slots(layouts[as_id], &nr);
	for (size_t i = 0; i < nr; i++)
		if (!is_wanted(as_id, &slots[i]))
			gone[nr_gone++] = slots[i].slot;
	for (size_t i = 0; i < NR_IDS; i++)
		if (vmm_slots[as_id][i].memory_size &&
		    !is_there(as_id, &vmm_slots[as_id][i]))
			come[nr_come++] = vmm_slots[as_id][i];
	if (!nr_gone && !nr_come)
		return 0;

	error = kvm_layout_plan(&host, layouts[as_id], gone, nr_gone, come,
				nr_come, KVM_LAYOUT_PARTITION, &plan);
	if (error)
		return error;
	if (nr_gone && nr_come)
		count(plan);
	error = kvm_layout_apply(&host, layouts[as_id], plan, NULL, NULL);
	kvm_layout_plan_free(plan);
	return error;
}

/* With the lock held. */
static void flush(void)
{
	int err = errno;

	if (!pending || busy)
		return;
	busy = true;
	for (uint32_t as_id = 0; as_id < NR_SPACES; as_id++) {
		int error = carry_out(as_id);

		if (error) {
			counts.failures++;
			say("address space %u: %s", as_id, strerror(-error));
		}
	}
	busy = false;
	pending = false;
	pending_deletion = false;
	errno = err;
}

/* Before something that must meet the slots as the VMM knows them. */
static void settle(void)
{
	if (!__atomic_load_n(&pending, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&lock);
	flush();
	pthread_mutex_unlock(&lock);
}

/* The same where it matters only what this thread has put off. */
static void settle_mine(void)
{
	if (!__atomic_load_n(&pending, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&lock);
	if (pthread_equal(owner, pthread_self()))
		flush();
	pthread_mutex_unlock(&lock);
}

static int set_region(const struct kvm_userspace_memory_region *region)
{
	uint32_t as_id = region->slot >> 16, id = region->slot & 0xffff;
	bool flags_only;

	if (pending && !pthread_equal(owner, pthread_self()))
		flush();
	flags_only = as_id < NR_SPACES && id < NR_IDS && region->memory_size &&
		     vmm_slots[as_id][id].memory_size;
	note_region(region);
	owner = pthread_self();
	pending_deletion |= !region->memory_size;
	__atomic_store_n(&pending, true, __ATOMIC_RELEASE);
	/* What is written from now on has to be logged. */
	if (flags_only)
		flush();
	return 0;
}

/* The number that KVM knows the VMM's slot by. */
static uint32_t real_number(uint32_t slot)
{
	uint32_t as_id = slot >> 16, id = slot & 0xffff;
	const struct kvm_userspace_memory_region *found;

	if (as_id >= NR_SPACES || id >= NR_IDS)
		return slot;
	if (!is_there(as_id, &vmm_slots[as_id][id]))
		flush();
	found = kvm_layout_at(layouts[as_id],
			      vmm_slots[as_id][id].guest_phys_addr);
	return found ? found->slot : slot;
}

static int get_dirty_log(int fd, const struct kvm_dirty_log *log)
{
	struct kvm_dirty_log real = *log;

	real.slot = real_number(log->slot);
	return next_ioctl(fd, KVM_GET_DIRTY_LOG, &real);
}

static int clear_dirty_log(int fd, const struct kvm_clear_dirty_log *log)
{
	struct kvm_clear_dirty_log real = *log;

	real.slot = real_number(log->slot);
	return next_ioctl(fd, KVM_CLEAR_DIRTY_LOG, &real);
}

static int create_vm(int fd, void *arg)
{
	int vm = next_ioctl(fd, KVM_CREATE_VM, arg), error;

	if (vm < 0)
		return vm;
	busy = true;
	error = kvm_layout_host_open(vm, &host);
	busy = false;
	if (error)
		say("the operations cannot be had: %s", strerror(-error));
	host.ops &= number("KVM_LAYOUT_OPS", KVM_LAYOUT_ALL_OPS);
	if (!host.ops)
		say("without the operations");
	for (uint32_t as_id = 0; as_id < NR_SPACES; as_id++)
		layouts[as_id] = kvm_layout_new(as_id, 0, host.nr_slots);
	return vm;
}

/* Whether other vCPUs go on running with what is still there. */
static void before_run(void)
{
	if (!__atomic_load_n(&pending, __ATOMIC_ACQUIRE) &&
	    __atomic_load_n(&has_run, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&lock);
	if (!has_run || !pending_deletion ||
	    pthread_equal(owner, pthread_self()))
		flush();
	has_run = true;
	pthread_mutex_unlock(&lock);
}

int on_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	if (busy || _IOC_TYPE(request) != KVMIO)
		return next_ioctl(fd, request, arg);
	switch (request) {
	case KVM_RUN:
		before_run();
		return next_ioctl(fd, request, arg);
	case KVM_CREATE_VM:
		return create_vm(fd, arg);
	case KVM_SET_USER_MEMORY_REGION:
	case KVM_SET_USER_MEMORY_REGION2:	/* begins in the same way */
		pthread_mutex_lock(&lock);
		ret = set_region(arg);
		break;
	case KVM_GET_DIRTY_LOG:
		pthread_mutex_lock(&lock);
		ret = get_dirty_log(fd, arg);
		break;
	case KVM_CLEAR_DIRTY_LOG:
		pthread_mutex_lock(&lock);
		ret = clear_dirty_log(fd, arg);
		break;
	default:
		settle();
		return next_ioctl(fd, request, arg);
	}
	pthread_mutex_unlock(&lock);
	return ret;
}

/* The function of that name that this library stands before. */
static void *next_of(const char *name, void **next)
{
	if (!*next)
		*next = dlsym(RTLD_NEXT, name);
	return *next;
}

/* Memory that goes must have left KVM before. */
int munmap(void *addr, size_t size)
{
	static void *next;
	int (*call)(void *addr, size_t size) = next_of("munmap", &next);

	settle();
	return call(addr, size);
}

int madvise(void *addr, size_t size, int advice)
{
	static void *next;
	int (*call)(void *addr, size_t size, int advice) =
		next_of("madvise", &next);

	if (advice == MADV_DONTNEED || advice == MADV_REMOVE)
		settle();
	return call(addr, size, advice);
}

int ppoll(struct pollfd *fds, nfds_t nr, const struct timespec *timeout,
	  const sigset_t *signals)
{
	static void *next;
	int (*call)(struct pollfd *fds, nfds_t nr,
		    const struct timespec *timeout, const sigset_t *signals) =
		next_of("ppoll", &next);

	settle_mine();
	return call(fds, nr, timeout, signals);
}

/* What ppoll() is where it is checked. */
int __ppoll_chk(struct pollfd *fds, nfds_t nr, const struct timespec *timeout,
		const sigset_t *signals, size_t size);

int __ppoll_chk(struct pollfd *fds, nfds_t nr, const struct timespec *timeout,
		const sigset_t *signals, size_t size)
{
	static void *next;
	int (*call)(struct pollfd *fds, nfds_t nr,
		    const struct timespec *timeout, const sigset_t *signals,
		    size_t size) = next_of("__ppoll_chk", &next);

	settle_mine();
	return call(fds, nr, timeout, signals, size);
}

void on_start(void)
{
	show = number("KVM_LAYOUT_SHOW", 0);
}

void on_exit_of_vmm(void)
{
	say("%lu exchanges of slots in %lu steps: %lu blinks, %lu ranges replaced, %lu failures",
	    counts.exchanges, counts.steps, counts.blinks, counts.replaced,
	    counts.failures);
}
