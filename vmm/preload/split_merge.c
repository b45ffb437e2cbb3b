// SPDX-License-Identifier: MIT
/*
 * For LD_PRELOAD into a VMM: splits the largest slot of its VM, which should be
 * the guest's memory, and merges it again, all the time, while the VMM goes on
 * with its work and knows nothing of it.
 *
 * The VMM's calls wait until the slot is whole, and what they change is what is
 * split next. Nothing happens before the first KVM_RUN.
 *
 *	SPLIT_MERGE_RATE	operations per second (20)
 *	SPLIT_MERGE_SEED	repeats the places of a run
 *	SPLIT_MERGE_COUNT	a file that always holds the number of operations
 *				made so far, in ten digits and a newline
 *
 * At the end it prints how many operations there were and how many failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm_memslot_ops.h>

#include "interpose.h"

#define PAGE_SIZE	0x1000UL
#define HUGE_SIZE	0x200000UL
/* Smaller slots are ROMs and the like. */
#define MIN_SIZE	(64UL << 20)
#define MAX_CUTS	3

const char *const interposer = "split_merge";

/* Held by whoever changes slots, so that a VMM's call meets its own layout. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int dev_fd = -1, count_fd = -1;
static uint64_t splits, merges, failures, seed, state;
static pthread_t thread;
static bool running, ending;

/* xorshift64* */
static uint64_t random_below(uint64_t end)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 0x2545f4914f6cdd1dUL >> 16) % end;
}

static struct kvm_userspace_memory_region *largest_slot(void)
{
	struct kvm_userspace_memory_region *slot, *largest = NULL;

	for (slot = vmm_slots[0]; slot < vmm_slots[0] + NR_IDS; slot++)
		if (slot->memory_size >= MIN_SIZE &&
		    (!largest || slot->memory_size > largest->memory_size))
			largest = slot;
	return largest;
}

static void publish(void)
{
	char line[16];

	if (count_fd < 0)
		return;
	snprintf(line, sizeof(line), "%010lu\n", splits + merges);
	if (pwrite(count_fd, line, strlen(line), 0) < 0)
		say("writing the count: %m");
}

static bool operate(unsigned long request, const char *name, void *arg)
{
	if (!next_ioctl(dev_fd, request, arg)) {
		publish();
		return true;
	}
	failures++;
	say("%s: %m", name);
	return false;
}

/* In increasing order, every other one at a multiple of a huge page's size. */
static int choose_cuts(const struct kvm_userspace_memory_region *slot,
		       struct kvm_memslot_cut *cuts)
{
	int wanted = 1 + random_below(MAX_CUTS), nr = 0;
	uint64_t share = slot->memory_size / wanted, offset;

	for (int i = 0; i < wanted; i++) {
		offset = i * share + random_below(share);
		offset &= ~((random_below(2) ? HUGE_SIZE : PAGE_SIZE) - 1);
		if (!offset || (nr && offset <= cuts[nr - 1].offset))
			continue;
		cuts[nr] = (struct kvm_memslot_cut) {
			.offset = offset,
			.slot = NR_IDS + nr,
		};
		nr++;
	}
	return nr;
}

static void nap(uint64_t rate)
{
	const struct timespec time = {
		.tv_sec = rate == 1,
		.tv_nsec = 1000000000 / rate % 1000000000,
	};

	nanosleep(&time, NULL);
}

static void split_and_merge(uint64_t rate)
{
	struct {
		struct kvm_memslot_split head;
		struct kvm_memslot_cut cuts[MAX_CUTS];
	} split = {};
	struct {
		struct kvm_memslot_merge head;
		uint32_t slots[MAX_CUTS];
	} merge = {};
	const struct kvm_userspace_memory_region *slot = largest_slot();

	if (!slot)
		return;
	split.head.slot = slot->slot;
	split.head.nr_cuts = choose_cuts(slot, split.cuts);
	if (!split.head.nr_cuts ||
	    !operate(KVM_MEMSLOT_SPLIT, "SPLIT", &split))
		return;
	splits++;
	nap(rate);

	merge.head.slot = slot->slot;
	merge.head.nr_slots = split.head.nr_cuts;
	for (uint32_t i = 0; i < merge.head.nr_slots; i++)
		merge.slots[i] = split.cuts[i].slot;
	if (operate(KVM_MEMSLOT_MERGE, "MERGE", &merge))
		merges++;
}

static void *work(void *arg)
{
	uint64_t rate = number("SPLIT_MERGE_RATE", 20);

	(void)arg;
	while (!__atomic_load_n(&ending, __ATOMIC_RELAXED)) {
		pthread_mutex_lock(&lock);
		split_and_merge(rate);
		pthread_mutex_unlock(&lock);
		nap(rate);
	}
	return NULL;
}

/* At the VM's first KVM_RUN. */
static void start(void)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_MEMSLOT_OPS };
	struct kvm_device_attr attr = {
		.group = KVM_DEV_MEMSLOT_OPS_GRP_OP,
		.attr = KVM_MEMSLOT_OP_SPLIT,
	};

	pthread_mutex_lock(&lock);
	if (running)
		goto out;
	running = true;
	if (next_ioctl(vm_fd, KVM_CREATE_DEVICE, &device)) {
		say("KVM_CREATE_DEVICE: %m");
		goto out;
	}
	dev_fd = device.fd;
	if (next_ioctl(dev_fd, KVM_HAS_DEVICE_ATTR, &attr)) {
		say("the device does not split: %m");
		goto out;
	}
	errno = pthread_create(&thread, NULL, work, NULL);
	if (errno)
		say("pthread_create: %m");
out:
	pthread_mutex_unlock(&lock);
}

static int set_region(int fd, unsigned long request,
		      const struct kvm_userspace_memory_region *region)
{
	int ret, err;

	pthread_mutex_lock(&lock);
	ret = next_ioctl(fd, request, region);
	err = errno;
	if (!ret)
		note_region(region);
	pthread_mutex_unlock(&lock);
	errno = err;
	return ret;
}

int on_ioctl(int fd, unsigned long request, void *arg)
{
	switch (request) {
	case KVM_SET_USER_MEMORY_REGION:
	case KVM_SET_USER_MEMORY_REGION2:	/* begins in the same way */
		return set_region(fd, request, arg);
	case KVM_RUN:
		if (!__atomic_load_n(&running, __ATOMIC_RELAXED))
			start();
		break;
	}
	return next_ioctl(fd, request, arg);
}

void on_start(void)
{
	const char *count = getenv("SPLIT_MERGE_COUNT");

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = time(NULL);
	seed = number("SPLIT_MERGE_SEED", seed) | 1;
	state = seed;
	if (count) {
		count_fd = open(count, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
				0644);
		if (count_fd < 0)
			say("%s: %m", count);
		publish();
	}
}

void on_exit_of_vmm(void)
{
	__atomic_store_n(&ending, true, __ATOMIC_RELAXED);
	if (thread)
		pthread_join(thread, NULL);
	say("%lu splits, %lu merges, %lu failures, seed 0x%lx", splits, merges,
	    failures, seed);
}
