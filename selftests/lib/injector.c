// SPDX-License-Identifier: GPL-2.0
/*
 * Makes operations in the VMs of a test that knows nothing of them, such that
 * nobody can tell: neither its guest nor the test itself.
 *
 * It learns of VMs and slots from the test's own calls, as ioctl() and close()
 * are wrapped. A thread changes their slots all the time and undoes it: pieces
 * get numbers that the test does not use, and memory comes and goes where no
 * slot of that VM has ever been. Whenever the test names a slot, all are as it
 * knows them: a lock sees to that. Besides,
 *
 *  - a slot that is created goes through all operations before its creator knows;
 *  - every other deletion is a SHRINK instead;
 *  - a dirty log is read, cleared, or reset right after a round trip;
 *  - KVM_PRE_FAULT_MEMORY finds pieces.
 *
 * Nobody may harvest a dirty ring while one of these operations runs, and
 * harvesting is no call. So the thread leaves VMs with rings alone, and they
 * get theirs while the test sleeps.
 */
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

#include "kvm_util.h"
#include "processor.h"

#include "host.h"
#include "injector.h"
#include "memslot_ops.h"
#include "old_kvm.h"
#include "ops.h"

#define MAX_VMS		8
#define MAX_NUMBERS	(1 << 15)
#define MAX_CUTS	8
/* Not more, or a test with all the slots that there can be takes an hour. */
#define ALL_OF_THE_FIRST	16
#define THEN_ONE_OF		512

struct slot {
	uint32_t id;
	uint32_t flags;
	uint64_t gfn;
	uint64_t nr;
	uint64_t hva;
};

struct range {
	uint64_t gfn;
	uint64_t nr;
};

/* All of its slots are in address space 0; others would not be noticed. */
struct vm {
	int fd;
	int dev;
	bool has_ring;
	bool refuses;
	uint64_t nr_ops, nr_resizes, nr_refused;
	uint32_t nr_numbers;
	struct slot *slots;
	unsigned int nr_slots;
	unsigned int nr_created;
	bool used[MAX_NUMBERS];
	/* Where slots have been. A guest may look there. */
	struct range *left;
	unsigned int nr_left;
};

enum op { GROW, SHRINK, SPLIT, MERGE, SET_READONLY, NR_OPS };

static const char * const op_names[] = {
	"GROW", "SHRINK", "SPLIT", "MERGE", "SET_READONLY",
};

static struct {
	pthread_mutex_t lock;
	pthread_t thread;
	bool runs;
	bool stops;
	uint64_t max_gfn;
	struct vm *vms[MAX_VMS];
	uint64_t done[NR_OPS];
	uint64_t nr_deletions;
	uint64_t nr_refused;
} injector = {
	/* Who holds it closes files as well. */
	.lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP,
};

static struct vm *vm_of(int fd)
{
	int i;

	for (i = 0; i < MAX_VMS; i++) {
		if (injector.vms[i] && injector.vms[i]->fd == fd)
			return injector.vms[i];
	}
	return NULL;
}

static void succeeded(struct vm *vm, int err, enum op op)
{
	TEST_ASSERT(!err, "injected: %s: %s", op_names[op], strerror(err));
	injector.done[op]++;
	vm->nr_ops++;
	vm->nr_resizes += op == GROW || op == SHRINK;
}

static void resize(struct vm *vm, uint32_t id, uint64_t from, uint64_t to)
{
	if (to > from)
		succeeded(vm, slot_grow(vm->dev, id, to * PAGE_SIZE), GROW);
	else
		succeeded(vm, slot_shrink(vm->dev, id, to * PAGE_SIZE, NULL),
			  SHRINK);
}

static void set_readonly(struct vm *vm, uint32_t id, bool readonly)
{
	succeeded(vm, slot_set_readonly(vm->dev, id, readonly), SET_READONLY);
}

/* A number that the test does not use; false if there is none above @id. */
static bool find_number(struct vm *vm, uint32_t *id)
{
	while (++*id < vm->nr_numbers) {
		if (!vm->used[*id])
			return true;
	}
	return false;
}

/* Cuts anywhere, more often than not inside a word of a bitmap. */
static unsigned int split(struct vm *vm, const struct slot *slot, uint32_t *ids)
{
	struct kvm_memslot_cut cuts[MAX_CUTS] = { 0 };
	uint32_t id = host_random_between(0, vm->nr_numbers / 2);
	unsigned int wanted = host_random_between(1, MAX_CUTS), n;
	uint64_t at = 0;

	for (n = 0; n < wanted && slot->nr - at > 1; n++) {
		if (!find_number(vm, &id))
			break;
		at += host_random_between(1, (slot->nr - at) / 2);
		cuts[n].offset = at * PAGE_SIZE;
		cuts[n].slot = id;
		ids[n] = id;
	}
	if (n)
		succeeded(vm, slot_split(vm->dev, slot->id, n, cuts), SPLIT);
	return n;
}

static void merge(struct vm *vm, const struct slot *slot, unsigned int n,
		  const uint32_t *ids)
{
	unsigned int first = n ? host_random_between(0, n - 1) : 0;

	if (first)
		succeeded(vm, slot_merge(vm->dev, slot->id, first, ids), MERGE);
	if (n)
		succeeded(vm, slot_merge(vm->dev, slot->id, n - first,
					 ids + first), MERGE);
}

static void split_and_merge(struct vm *vm, const struct slot *slot)
{
	uint32_t ids[MAX_CUTS];
	unsigned int n = split(vm, slot, ids);

	merge(vm, slot, n, ids);
}

/* One error of an operation may make up for another's. */
static void assert_undone(struct vm *vm, struct slot slot)
{
	slot_assert(&(struct kvm_vm){ .fd = vm->fd }, slot.id, slot.flags,
		    slot.gfn * PAGE_SIZE, slot.nr * PAGE_SIZE, (void *)slot.hva);
}

static bool overlap(uint64_t a, uint64_t nr_a, uint64_t b, uint64_t nr_b)
{
	return a < b + nr_b && b < a + nr_a;
}

static bool never_had_memory(struct vm *vm, uint64_t gfn, uint64_t nr)
{
	unsigned int i;

	for (i = 0; i < vm->nr_slots; i++) {
		if (overlap(gfn, nr, vm->slots[i].gfn, vm->slots[i].nr))
			return false;
	}
	for (i = 0; i < vm->nr_left; i++) {
		if (overlap(gfn, nr, vm->left[i].gfn, vm->left[i].nr))
			return false;
	}
	return gfn + nr - 1 <= injector.max_gfn;
}

/* Nobody looks behind its end, so that may even become read-only. */
static void grow_and_shrink(struct vm *vm, const struct slot *slot)
{
	uint64_t more = host_random_between(1, 600);
	struct kvm_memslot_cut cut = { .offset = slot->nr * PAGE_SIZE };

	if (!never_had_memory(vm, slot->gfn + slot->nr, more))
		return;

	resize(vm, slot->id, slot->nr, slot->nr + more);
	if (host_random() & 1 && find_number(vm, &cut.slot)) {
		succeeded(vm, slot_split(vm->dev, slot->id, 1, &cut), SPLIT);
		set_readonly(vm, cut.slot, true);
		set_readonly(vm, cut.slot, false);
		resize(vm, cut.slot, more, 0);
	} else {
		resize(vm, slot->id, slot->nr + more, slot->nr);
	}
}

/* For a while, slots are not as the test knows them. */
static void change_and_undo(struct vm *vm)
{
	const struct slot *slot;
	uint32_t ids[MAX_CUTS];
	unsigned int n;

	slot = &vm->slots[host_random_between(0, vm->nr_slots - 1)];
	if (host_random() % 4 == 0) {
		grow_and_shrink(vm, slot);
	} else {
		n = split(vm, slot, ids);
		usleep(host_random_between(0, 2000));
		merge(vm, slot, n, ids);
	}
	assert_undone(vm, *slot);
}

static void *injector_thread(void *unused)
{
	struct vm *vm;

	while (!READ_ONCE(injector.stops)) {
		pthread_mutex_lock(&injector.lock);
		vm = injector.vms[host_random_between(0, MAX_VMS - 1)];
		if (vm && vm->nr_slots && !vm->has_ring && !vm->refuses)
			change_and_undo(vm);
		pthread_mutex_unlock(&injector.lock);
		/* A mutex is not fair. */
		usleep(host_random_between(100, 2000));
	}
	return NULL;
}

static void vm_came(int fd, unsigned long type)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int i;

	TEST_ASSERT(vm, "no memory");
	vm->fd = fd;
	vm->dev = -1;
	/* It may have private memory. */
	vm->refuses = type;
	vm->nr_numbers = __real_ioctl(fd, KVM_CHECK_EXTENSION,
				      KVM_CAP_NR_MEMSLOTS);
	TEST_ASSERT(vm->nr_numbers && vm->nr_numbers <= MAX_NUMBERS,
		    "the VM has %u slots", vm->nr_numbers);
	vm->slots = calloc(vm->nr_numbers, sizeof(*vm->slots));
	TEST_ASSERT(vm->slots, "no memory");

	for (i = 0; injector.vms[i]; i++)
		TEST_ASSERT(i < MAX_VMS - 1, "too many VMs");
	injector.vms[i] = vm;
}

static void vm_goes(struct vm *vm)
{
	int i;

	for (i = 0; injector.vms[i] != vm; i++)
		;
	injector.vms[i] = NULL;
	injector.nr_refused += vm->nr_refused;
	if (vm->dev >= 0) {
		memslot_ops_assert_stats(vm->dev, vm->nr_ops, vm->nr_resizes,
					 vm->nr_refused);
		__real_close(vm->dev);
	}
	free(vm->left);
	free(vm->slots);
	free(vm);
}

static struct slot *find_slot(struct vm *vm, uint32_t id)
{
	unsigned int i;

	if (id < vm->nr_numbers && vm->used[id]) {
		for (i = 0; i < vm->nr_slots; i++) {
			if (vm->slots[i].id == id)
				return &vm->slots[i];
		}
	}
	return NULL;
}

static void range_left(struct vm *vm, const struct slot *slot)
{
	unsigned int i;

	for (i = 0; i < vm->nr_left; i++) {
		if (vm->left[i].gfn == slot->gfn && vm->left[i].nr == slot->nr)
			return;
	}
	vm->left = realloc(vm->left, (vm->nr_left + 1) * sizeof(*vm->left));
	TEST_ASSERT(vm->left, "no memory");
	vm->left[vm->nr_left++] = (struct range){ slot->gfn, slot->nr };
}

static void slot_left(struct vm *vm, struct slot *slot)
{
	range_left(vm, slot);
	vm->used[slot->id] = false;
	*slot = vm->slots[--vm->nr_slots];
}

static void slot_came(struct vm *vm, const struct slot *slot)
{
	struct kvm_memslot_cut cut = { .offset = PAGE_SIZE };
	uint64_t less;
	int err;

	vm->used[slot->id] = true;
	vm->slots[vm->nr_slots++] = *slot;
	if (vm->dev < 0)
		vm->dev = memslot_ops_open(&(struct kvm_vm){ .fd = vm->fd });

	if (vm->refuses || slot->flags & KVM_MEM_GUEST_MEMFD) {
		TEST_ASSERT(slot->nr > 1 && find_number(vm, &cut.slot),
			    "nothing to ask for");
		err = slot_split(vm->dev, slot->id, 1, &cut);
		TEST_ASSERT(err == EOPNOTSUPP, "private memory: %s",
			    strerror(err));
		vm->refuses = true;
		vm->nr_refused++;
		return;
	}
	if (vm->nr_created++ >= ALL_OF_THE_FIRST &&
	    vm->nr_created % THEN_ONE_OF)
		return;

	if (slot->nr > 1) {
		split_and_merge(vm, slot);
		less = host_random_between(1, slot->nr - 1);
		resize(vm, slot->id, slot->nr, less);
		resize(vm, slot->id, less, slot->nr);
	}
	if (!(slot->flags & KVM_MEM_READONLY)) {
		set_readonly(vm, slot->id, true);
		set_readonly(vm, slot->id, false);
	}
	assert_undone(vm, *slot);
}

/* What both structs begin with. */
static int set_region(struct vm *vm, unsigned long request,
		      const struct kvm_userspace_memory_region *region)
{
	const struct slot wanted = {
		.id = region->slot,
		.flags = region->flags,
		.gfn = region->guest_phys_addr / PAGE_SIZE,
		.nr = region->memory_size / PAGE_SIZE,
		.hva = region->userspace_addr,
	};
	struct slot *slot = find_slot(vm, region->slot);
	int ret;

	if (slot && !region->memory_size && !vm->refuses &&
	    injector.nr_deletions++ % 2 == 0) {
		resize(vm, slot->id, slot->nr, 0);
		slot_left(vm, slot);
		return 0;
	}
	ret = old_kvm_ioctl(vm->fd, request, (void *)region);
	if (ret)
		return ret;

	if (slot && !region->memory_size) {
		slot_left(vm, slot);
	} else if (slot) {
		if (slot->gfn != wanted.gfn)
			range_left(vm, slot);
		*slot = wanted;
	} else {
		slot_came(vm, &wanted);
	}
	return 0;
}

static int dirty_log(struct vm *vm, uint32_t id, unsigned long request, void *arg)
{
	struct slot *slot = find_slot(vm, id);

	if (slot && !vm->refuses)
		split_and_merge(vm, slot);
	return old_kvm_ioctl(vm->fd, request, arg);
}

static void change_rings_slots(struct vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->nr_slots; i++) {
		if (vm->slots[i].flags & KVM_MEM_LOG_DIRTY_PAGES)
			split_and_merge(vm, &vm->slots[i]);
	}
}

/* On a vCPU, of which nobody knows here whose it is. */
static int pre_fault(int fd, unsigned long request, void *arg)
{
	const struct kvm_pre_fault_memory *range = arg;
	struct slot *slot = NULL;
	uint32_t ids[MAX_CUTS];
	unsigned int i, k, n = 0;
	struct vm *vm = NULL;
	int ret, err;

	for (i = 0; i < MAX_VMS && !slot; i++) {
		vm = injector.vms[i];
		for (k = 0; vm && !vm->refuses && k < vm->nr_slots; k++) {
			if (overlap(vm->slots[k].gfn, vm->slots[k].nr,
				    range->gpa / PAGE_SIZE, 1))
				slot = &vm->slots[k];
		}
		if (slot)
			break;
	}
	if (slot)
		n = split(vm, slot, ids);
	ret = old_kvm_ioctl(fd, request, arg);
	err = errno;
	if (slot)
		merge(vm, slot, n, ids);
	errno = err;
	return ret;
}

static int vm_ioctl_of_test(struct vm *vm, unsigned long request, void *arg)
{
	const struct kvm_enable_cap *cap = arg;

	switch (request) {
	case KVM_SET_USER_MEMORY_REGION:
	case KVM_SET_USER_MEMORY_REGION2:
		return set_region(vm, request, arg);
	case KVM_GET_DIRTY_LOG:
		return dirty_log(vm, ((struct kvm_dirty_log *)arg)->slot, request,
				 arg);
	case KVM_CLEAR_DIRTY_LOG:
		return dirty_log(vm, ((struct kvm_clear_dirty_log *)arg)->slot,
				 request, arg);
	case KVM_RESET_DIRTY_RINGS:
		change_rings_slots(vm);
		break;
	case KVM_ENABLE_CAP:
		if (cap->cap == KVM_CAP_DIRTY_LOG_RING ||
		    cap->cap == KVM_CAP_DIRTY_LOG_RING_ACQ_REL)
			vm->has_ring = true;
		break;
	}
	return old_kvm_ioctl(vm->fd, request, arg);
}

static int ioctl_of_test(int fd, unsigned long request, void *arg)
{
	struct vm *vm;
	int ret;

	switch (request) {
	case KVM_CREATE_VM:
	case KVM_SET_USER_MEMORY_REGION:
	case KVM_SET_USER_MEMORY_REGION2:
	case KVM_GET_DIRTY_LOG:
	case KVM_CLEAR_DIRTY_LOG:
	case KVM_RESET_DIRTY_RINGS:
	case KVM_ENABLE_CAP:
	case KVM_PRE_FAULT_MEMORY:
		break;
	default:
		return old_kvm_ioctl(fd, request, arg);
	}

	pthread_mutex_lock(&injector.lock);
	vm = vm_of(fd);
	if (vm)
		ret = vm_ioctl_of_test(vm, request, arg);
	else if (request == KVM_PRE_FAULT_MEMORY)
		ret = pre_fault(fd, request, arg);
	else
		ret = old_kvm_ioctl(fd, request, arg);
	if (request == KVM_CREATE_VM && ret >= 0)
		vm_came(ret, (unsigned long)arg);
	pthread_mutex_unlock(&injector.lock);
	return ret;
}

int __wrap_close(int fd)
{
	struct vm *vm;

	if (injector.runs) {
		pthread_mutex_lock(&injector.lock);
		vm = vm_of(fd);
		if (vm)
			vm_goes(vm);
		pthread_mutex_unlock(&injector.lock);
	}
	return __real_close(fd);
}

int injector_usleep(useconds_t usec)
{
	int i, k;

	if (!injector.runs)
		return usleep(usec);

	for (i = 0; i < 4; i++) {
		usleep(usec / 4);
		pthread_mutex_lock(&injector.lock);
		for (k = 0; k < MAX_VMS; k++) {
			if (injector.vms[k] && injector.vms[k]->has_ring)
				change_rings_slots(injector.vms[k]);
		}
		pthread_mutex_unlock(&injector.lock);
	}
	return 0;
}

void injector_start(void)
{
	sigset_t all, before;

	injector.max_gfn = (1UL << kvm_cpu_property(X86_PROPERTY_MAX_PHY_ADDR)) /
			   PAGE_SIZE - 1;
	injector.runs = true;
	old_kvm_hook = ioctl_of_test;

	/* The test's signals are for its own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	TEST_ASSERT(!pthread_create(&injector.thread, NULL, injector_thread, NULL),
		    "cannot create a thread");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

uint64_t injector_stop(void)
{
	uint64_t sum = 0;
	int i;

	WRITE_ONCE(injector.stops, true);
	pthread_join(injector.thread, NULL);
	injector.runs = false;
	old_kvm_hook = NULL;
	for (i = 0; i < MAX_VMS; i++) {
		if (injector.vms[i])
			vm_goes(injector.vms[i]);
	}
	for (i = 0; i < NR_OPS; i++) {
		pr_info("%s: %lu\n", op_names[i], injector.done[i]);
		sum += injector.done[i];
	}
	pr_info("%lu operations, and %lu refused for private memory\n", sum,
		injector.nr_refused);
	return sum;
}
