// SPDX-License-Identifier: GPL-2.0
/*
 * Whatever a program can do with a VM and the device, in any order and at the same
 * time, as libFuzzer likes.  The kernel says by itself when that does it harm; here
 * it is checked that the VM works afterwards, and that nobody can reach into
 * another process's.
 *
 *	./fuzz [libFuzzer's options] [corpus or input]...
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"

#include "argument.h"
#include "dirty_ring.h"
#include "input.h"
#include "kcov.h"
#include "memslot_ops.h"
#include "module.h"
#include "ops.h"
#include "other.h"
#include "probe.h"
#include "trace.h"

#define NR_DEVS		4
#define NR_WORKERS	2
#define BUSY_VCPU	1
#define LOG		KVM_MEM_LOG_DIRTY_PAGES

/* Where slots may begin; where the host address is bad, beyond what the busy vCPU touches. */
#define WINDOW		(16UL << 20)
#define BAD_GPA		(PROBE_GPA + (32UL << 20))
#define PROBE_WINDOW	(48UL << 20)
#define ARENA		(1UL << 40)

/* A VM is made anew after so many inputs, and the vendor's module may be. */
#define INPUTS_OF_A_VM	500

enum flavour {
	FLAVOUR_LOG,
	FLAVOUR_MANUAL,
	FLAVOUR_RING,
	NR_FLAVOURS,
};

/* What slots there are, as far as calls that succeeded tell: something to aim at. */
struct hint {
	uint64_t gpa, size;		/* 0: no such slot */
	bool logs;
};

struct world {
	struct probe *p;
	struct kvm_vm *vm;
	enum flavour flavour;
	/* The first is kept; the others come and go, beneath their users. */
	atomic_int dev[NR_DEVS];
	uint32_t ring_index[2];
	struct hint hint[MAX_SLOTS];
	bool has_strangers;		/* slots whose numbers are anybody's guess */
};

static struct world worlds[NR_FLAVOURS];
static char *arena;
static unsigned long nr_inputs, nr_reloads, last_change;
static atomic_ulong nr_made[NR_CALLS], nr_good[NR_CALLS];

static const char *const names[NR_CALLS] = {
	[CALL_SET] = "slots set by KVM",
	[CALL_GROW] = "GROW",
	[CALL_SHRINK] = "SHRINK",
	[CALL_SPLIT] = "SPLIT",
	[CALL_MERGE] = "MERGE",
	[CALL_READONLY] = "SET_READONLY",
	[CALL_RAW] = "other ioctls",
	[CALL_ATTR] = "attributes",
	[CALL_GET_LOG] = "logs read",
	[CALL_CLEAR_LOG] = "logs cleared",
	[CALL_RESET_RINGS] = "rings reset",
	[CALL_OPEN] = "devices made",
	[CALL_CLOSE] = "devices closed",
	[CALL_RUN] = "accesses by a vCPU",
	[CALL_HOST_MEMORY] = "changes of host memory",
	[CALL_FORK] = "from a child",
	[CALL_SEND] = "from another process",
	[CALL_KILL] = "processes killed",
};

/* ------------------------------------------------------------- the calls */

/* Who makes a call: what only one thread may do is not for workers. */
struct caller {
	struct world *w;
	bool alone;
};

static int dev_of(struct world *w, const struct record *r)
{
	return w->dev[(r->how >> 5 & 1) * (1 + r->nr % (NR_DEVS - 1))];
}

/* Of the table of numbers: mostly one that a slot has, or one that could be given to a slot. */
static unsigned int aim(struct world *w, uint8_t byte, bool exists)
{
	unsigned int i, nr = 0, n = exists ? MAX_SLOTS : GOOD_SLOTS;

	if (byte >= 0xf0)
		return byte * 7U % MAX_SLOTS;
	for (i = 0; i < n; i++)
		nr += !w->hint[i].size != exists;
	if (!nr)
		return byte % n;
	nr = byte % nr;
	for (i = 0; !w->hint[i].size == exists || nr--; i++)
		;
	return i;
}

/* The one that begins where another ends; or just any. */
static unsigned int next_to(struct world *w, unsigned int slot, uint8_t byte)
{
	uint64_t end = w->hint[slot].gpa + w->hint[slot].size;
	unsigned int i;

	for (i = 0; i < MAX_SLOTS && byte < 0xf0; i++)
		if (w->hint[i].size && w->hint[i].gpa == end)
			return i;
	return byte % MAX_SLOTS;
}

/* A part of a slot, its end or what is close to it, or any number of bytes. */
static uint64_t part_of(const struct hint *hint, uint16_t word)
{
	uint64_t pages = hint->size / PAGE_SIZE;

	if (word >= 0xc000)
		return input_bytes(word);
	if (word >= 0xb000)
		return (pages - 2 + word % 4) * PAGE_SIZE;
	return pages * word / 0xb000 * PAGE_SIZE;
}

static int with_argument(int fd, unsigned long cmd, const struct record *r,
			 const void *argument, size_t size)
{
	return ioctl(fd, cmd, argument_put(input_place(r->how & 31), argument, size));
}

/* One that must not be changed, or does not begin with the number of a slot. */
static int with_other(int fd, unsigned long cmd, const struct record *r,
		      const void *argument, size_t size)
{
	enum place place = input_place(r->how & 31);

	if (place == PLACE_CONTESTED)
		place = PLACE_EDGE;
	return ioctl(fd, cmd, argument_put(place, argument, size));
}

static int call_set(struct world *w, const struct record *r)
{
	uint64_t at = (uint64_t)(r->x % (WINDOW / PAGE_SIZE)) * PAGE_SIZE;
	unsigned int i = aim(w, r->slot, r->more[3] & 1);
	struct kvm_userspace_memory_region region = {
		.slot = input_slots[i],
		.flags = input_flags(r->nr, r->nr & (LOG | KVM_MEM_READONLY)),
		.guest_phys_addr = PROBE_GPA + at,
		.memory_size = input_bytes(r->y),
		.userspace_addr = (uintptr_t)arena + at,
	};
	int ret;

	switch (r->more[0] & 31) {
	case 0 ... 23:
		break;
	case 24 ... 27:
		/* Not what lies beside it in guest memory. */
		region.userspace_addr += r->more[1] * PAGE_SIZE;
		break;
	case 28:
		region.guest_phys_addr = input_bytes(r->more[1] << 8 | r->more[2]);
		break;
	default:
		region.guest_phys_addr = BAD_GPA + at;
		region.userspace_addr = input_bytes(r->more[1] << 8 | r->more[2]);
	}
	/* Both live in the same memory then, of which the guest's code is a part. */
	if (region.guest_phys_addr < PROBE_GPA && region.memory_size)
		region.guest_phys_addr += 64 * GIGA_SIZE;
	ret = with_other(w->vm->fd, KVM_SET_USER_MEMORY_REGION, r, &region,
			 sizeof(region));
	if (!ret)
		w->hint[i] = (struct hint) {
			.gpa = region.guest_phys_addr,
			.size = region.memory_size,
			.logs = region.flags & LOG,
		};
	return ret;
}

static int call_grow(struct world *w, const struct record *r)
{
	struct hint *hint = &w->hint[aim(w, r->slot, true)];
	const struct kvm_memslot_grow grow = {
		.slot = input_slots[hint - w->hint],
		.flags = input_flags(r->nr, 0),
		.memory_size = r->x < 0xc000 ?
			       hint->size + (1 + r->x % 1024) * PAGE_SIZE :
			       input_bytes(r->x),
	};
	int ret = with_argument(dev_of(w, r), KVM_MEMSLOT_GROW, r, &grow,
				sizeof(grow));

	if (!ret)
		hint->size = grow.memory_size;
	return ret;
}

/* Where a slot logs, and not in rings, a bitmap is wanted; mostly. */
static uintptr_t bitmap_for(struct world *w, const struct hint *hint,
			    const struct record *r)
{
	bool wanted = hint->logs && w->flavour != FLAVOUR_RING;

	if (r->more[1] >= 0xe0)
		wanted = !wanted;
	if (!wanted)
		return 0;
	return (uintptr_t)argument_room(input_place(r->more[0])) +
	       (r->more[2] < 0xf0 ? 0 : r->more[2] & 7);
}

static int call_shrink(struct world *w, const struct record *r)
{
	struct hint *hint = &w->hint[aim(w, r->slot, true)];
	const struct kvm_memslot_shrink shrink = {
		.slot = input_slots[hint - w->hint],
		.flags = input_flags(r->nr, 0),
		.memory_size = part_of(hint, r->x),
		.dirty_bitmap = bitmap_for(w, hint, r),
	};
	int ret = with_argument(dev_of(w, r), KVM_MEMSLOT_SHRINK, r, &shrink,
				sizeof(shrink));

	if (!ret)
		hint->size = shrink.memory_size;
	return ret;
}

#define MAX_LISTED	64

static unsigned int nr_listed(const struct record *r)
{
	return r->nr < 0xe0 ? 1 + r->nr % 4 : r->nr % (MAX_LISTED + 1);
}

static int call_split(struct world *w, const struct record *r)
{
	struct {
		struct kvm_memslot_split split;
		struct kvm_memslot_cut cuts[MAX_LISTED];
	} s = {
		.split.flags = input_flags(r->y >> 8, 0),
		.split.nr_cuts = nr_listed(r),
		.split.pad = input_flags(r->y, 0),
	};
	unsigned int pieces[MAX_LISTED + 1], i;
	uint64_t offset = 0, end;
	struct hint whole;
	int ret;

	pieces[0] = aim(w, r->slot, true);
	whole = w->hint[pieces[0]];
	s.split.slot = input_slots[pieces[0]];
	for (i = 0; i < s.split.nr_cuts; i++) {
		offset += part_of(&whole, i ? r->more[i & 3] << 6 : r->x);
		pieces[i + 1] = aim(w, r->more[i & 3] + i, false);
		s.cuts[i] = (struct kvm_memslot_cut) {
			.offset = offset,
			.slot = input_slots[pieces[i + 1]],
		};
	}
	if (r->nr == 0xff)
		s.split.nr_cuts = input_word(r);
	ret = with_argument(dev_of(w, r), KVM_MEMSLOT_SPLIT, r, &s, sizeof(s));
	if (!ret && input_place(r->how & 31) == PLACE_CONTESTED)
		w->has_strangers = true;
	for (i = 0; !ret && i <= nr_listed(r); i++) {
		offset = i ? s.cuts[i - 1].offset : 0;
		end = i < nr_listed(r) ? s.cuts[i].offset : whole.size;
		w->hint[pieces[i]] = (struct hint) {
			.gpa = whole.gpa + offset,
			.size = end - offset,
			.logs = whole.logs,
		};
	}
	return ret;
}

static int call_merge(struct world *w, const struct record *r)
{
	struct {
		struct kvm_memslot_merge merge;
		uint32_t slots[MAX_LISTED];
	} m = {
		.merge.flags = input_flags(r->y >> 8, 0),
		.merge.nr_slots = nr_listed(r),
		.merge.pad = input_flags(r->y, 0),
	};
	unsigned int pieces[MAX_LISTED + 1], i;
	int ret;

	pieces[0] = aim(w, r->slot, true);
	m.merge.slot = input_slots[pieces[0]];
	for (i = 0; i < m.merge.nr_slots; i++) {
		pieces[i + 1] = next_to(w, pieces[i], r->more[i & 3] + i / 4);
		m.slots[i] = input_slots[pieces[i + 1]];
	}
	if (r->nr == 0xff)
		m.merge.nr_slots = input_word(r);
	ret = with_argument(dev_of(w, r), KVM_MEMSLOT_MERGE, r, &m, sizeof(m));
	for (i = 1; !ret && i <= nr_listed(r); i++) {
		w->hint[pieces[0]].size += w->hint[pieces[i]].size;
		w->hint[pieces[i]].size = 0;
	}
	return ret;
}

static int call_readonly(struct world *w, const struct record *r)
{
	const struct kvm_memslot_set_readonly set = {
		.slot = input_slots[aim(w, r->slot, true)],
		.flags = input_flags(r->nr, 0),
		.readonly = r->x < 0xff00 ? r->x & 1 : r->x,
		.pad = input_flags(r->y, 0),
	};

	return with_argument(dev_of(w, r), KVM_MEMSLOT_SET_READONLY, r, &set,
			     sizeof(set));
}

/* Of the device, but for the five that are what they should be: their slots are known here. */
static int call_raw(struct world *w, const struct record *r)
{
	unsigned long cmd = r->x < 0x8000 ?
			    _IOC(r->x & 3, KVMIO, 0xf0 + (r->x >> 2) % 8, r->y & 0x3fff) :
			    (unsigned long)r->x << 16 | r->y;
	char argument[MAX_ARGUMENT];
	size_t i;

	switch (cmd) {
	case KVM_MEMSLOT_GROW:
	case KVM_MEMSLOT_SHRINK:
	case KVM_MEMSLOT_SPLIT:
	case KVM_MEMSLOT_MERGE:
	case KVM_MEMSLOT_SET_READONLY:
		cmd ^= IOC_INOUT;
	}
	for (i = 0; i < sizeof(argument); i++)
		argument[i] = r->more[i % 4];
	return with_other(dev_of(w, r), cmd, r, argument, sizeof(argument));
}

static int call_attr(struct world *w, const struct record *r)
{
	static const unsigned long cmds[] = {
		KVM_HAS_DEVICE_ATTR, KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR,
	};
	const struct kvm_device_attr attr = {
		.group = KVM_DEV_MEMSLOT_OPS_GRP_OP + r->x % 4,
		.attr = r->nr < 0xf0 ? r->nr % 8 : input_bytes(r->y),
		.flags = input_flags(r->y >> 8, 0),
		.addr = (uintptr_t)argument_room(input_place(r->more[0])),
	};

	return with_other(dev_of(w, r), cmds[r->slot % ARRAY_SIZE(cmds)], r, &attr,
			  sizeof(attr));
}

static int call_get_log(struct world *w, const struct record *r)
{
	const struct kvm_dirty_log log = {
		.slot = input_slots[aim(w, r->slot, true)],
		.dirty_bitmap = argument_room(input_place(r->nr)),
	};

	return with_argument(w->vm->fd, KVM_GET_DIRTY_LOG, r, &log, sizeof(log));
}

static int call_clear_log(struct world *w, const struct record *r)
{
	struct hint *hint = &w->hint[aim(w, r->slot, true)];
	/* Mostly whole words of a bitmap. */
	const uint64_t unit = r->more[0] < 0xf0 ? 64 : 1;
	const struct kvm_clear_dirty_log log = {
		.slot = input_slots[hint - w->hint],
		.first_page = part_of(hint, r->x) / PAGE_SIZE / unit * unit,
		.num_pages = part_of(hint, r->y) / PAGE_SIZE / unit * unit,
		.dirty_bitmap = argument_room(input_place(r->nr)),
	};

	return with_argument(w->vm->fd, KVM_CLEAR_DIRTY_LOG, r, &log,
			     sizeof(log));
}

/* Only where no vCPU looks on. */
static int reset_rings(struct world *w)
{
	int id;

	if (w->flavour == FLAVOUR_RING)
		for (id = 0; id < 2; id++)
			while (ring_harvest(probe_vcpu(w->p, id),
					    &w->ring_index[id], NULL, NULL))
				;
	return ioctl(w->vm->fd, KVM_RESET_DIRTY_RINGS, 0);
}

static int call_open(struct world *w, const struct record *r)
{
	struct kvm_create_device create = {
		.type = r->more[0] < 0xf0 ? memslot_ops_type() : r->more[0] % 16,
		.flags = input_flags(r->y >> 8, r->y & KVM_CREATE_DEVICE_TEST),
	};
	int ret, old;

	ret = ioctl(w->vm->fd, KVM_CREATE_DEVICE, &create);
	if (!ret && !(create.flags & KVM_CREATE_DEVICE_TEST)) {
		old = atomic_exchange(&w->dev[1 + r->nr % (NR_DEVS - 1)],
				      (int)create.fd);
		if (old >= 0)
			close(old);
	}
	return ret;
}

static int close_dev(struct world *w, int i)
{
	int fd = atomic_exchange(&w->dev[i], -1);

	return fd >= 0 ? close(fd) : -1;
}

static int call_run(struct world *w, const struct record *r)
{
	uint64_t gpa = PROBE_GPA + (uint64_t)(r->x % (PROBE_WINDOW / PAGE_SIZE)) * PAGE_SIZE;
	struct probe_result result;

	result = probe_access(w->p, 0, r->nr & 1 ? PROBE_WRITE : PROBE_READ, gpa,
			      r->y);
	while (result.ring_full) {
		reset_rings(w);
		result = probe_go_on(w->p, 0);
	}
	return result.err ? -1 : 0;
}

/* What gives MMU notifiers something to do. */
static int call_host_memory(const struct record *r)
{
	char *at = arena + (uint64_t)(r->x % (WINDOW / PAGE_SIZE)) * PAGE_SIZE;
	size_t size = (1 + r->y % 512) * PAGE_SIZE;

	switch (r->nr % 4) {
	case 0:
		return mprotect(at, size, PROT_READ | PROT_WRITE | PROT_EXEC);
	case 1:
		return mprotect(at, size, PROT_READ | PROT_WRITE);
	case 2:
		return madvise(at, size, MADV_HUGEPAGE);
	default:
		return madvise(at, size, MADV_DONTNEED);
	}
}

static int make(struct world *w, enum call what, const struct record *r)
{
	switch (what) {
	case CALL_SET:
		return call_set(w, r);
	case CALL_GROW:
		return call_grow(w, r);
	case CALL_SHRINK:
		return call_shrink(w, r);
	case CALL_SPLIT:
		return call_split(w, r);
	case CALL_MERGE:
		return call_merge(w, r);
	case CALL_READONLY:
		return call_readonly(w, r);
	case CALL_RAW:
		return call_raw(w, r);
	case CALL_ATTR:
		return call_attr(w, r);
	case CALL_GET_LOG:
		return call_get_log(w, r);
	case CALL_CLEAR_LOG:
		return call_clear_log(w, r);
	case CALL_RESET_RINGS:
		return reset_rings(w);
	case CALL_OPEN:
		return call_open(w, r);
	case CALL_CLOSE:
		return close_dev(w, 1 + r->nr % (NR_DEVS - 1));
	case CALL_RUN:
		return call_run(w, r);
	case CALL_FORK:
		other_inherits(dev_of(w, r), r->nr & 1);
		return 0;
	case CALL_SEND:
		other_receives(dev_of(w, r));
		return 0;
	case CALL_KILL:
		other_dies(r->y % 8192, r->nr);
		return 0;
	default:
		return call_host_memory(r);
	}
}

/* What is for one thread only, and now and then what takes long. */
static bool is_left_out(struct caller *c, enum call what, const struct record *r)
{
	switch (what) {
	case CALL_OPEN:
		return r->x % 8;
	case CALL_RESET_RINGS:
	case CALL_RUN:
	case CALL_SEND:
		return !c->alone;
	case CALL_FORK:
		return !c->alone || r->x % 64;
	case CALL_KILL:
		return !c->alone || r->x % 32;
	default:
		return false;
	}
}

static void carry_out(struct caller *c, const struct record *r)
{
	enum call call = input_call(r);
	int err;

	if (is_left_out(c, call, r))
		return;
	err = make(c->w, call, r) < 0 ? errno : 0;
	nr_made[call]++;
	if (!err)
		nr_good[call]++;
	if (c->alone)
		kcov_note(call << 8 | err);
}

/* ---------------------------------------------------------------- workers */

struct worker {
	pthread_t thread;
	sem_t begins, ended;
	struct caller caller;
	const struct record *records[MAX_RECORDS];
	int nr;
};

static struct worker workers[NR_WORKERS];

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	int i;

	for (;;) {
		while (sem_wait(&worker->begins))
			;
		for (i = 0; i < worker->nr; i++)
			carry_out(&worker->caller, worker->records[i]);
		sem_post(&worker->ended);
	}
	return NULL;
}

static void workers_init(void)
{
	int i;

	for (i = 0; i < NR_WORKERS; i++) {
		sem_init(&workers[i].begins, 0, 0);
		sem_init(&workers[i].ended, 0, 0);
		pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
	}
}

/* ----------------------------------------------------------------- worlds */

/* As many slots as the input wants to begin with, one beside the other. */
static void lay_out(struct world *w, uint8_t header)
{
	unsigned int i, nr = header / INPUT_SLOTS;
	const uint64_t size = WINDOW / 16;

	for (i = 0; i < nr; i++) {
		w->hint[i] = (struct hint) {
			.gpa = PROBE_GPA + i * size,
			.size = size,
			.logs = header & INPUT_LOG,
		};
		slot_must_set(w->vm, input_slots[i], w->hint[i].logs ? LOG : 0,
			      w->hint[i].gpa, size, arena + i * size);
	}
}

static void world_make(struct world *w, enum flavour flavour)
{
	const struct probe_config config = {
		.nr_vcpus = 2,
		.size = PROBE_WINDOW,
		.ring_size = flavour == FLAVOUR_RING ? ring_size() : 0,
		.program_pages = 1024,
	};
	int i;

	*w = (struct world) { .flavour = flavour };
	w->p = probe_create(&config);
	w->vm = probe_vm(w->p);
	if (flavour == FLAVOUR_MANUAL)
		vm_enable_cap(w->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
			      KVM_DIRTY_LOG_INITIALLY_SET);
	w->dev[0] = memslot_ops_open(w->vm);
	for (i = 1; i < NR_DEVS; i++)
		w->dev[i] = -1;
}

static void world_free(struct world *w)
{
	int i;

	if (!w->p)
		return;
	for (i = 0; i < NR_DEVS; i++)
		close_dev(w, i);
	probe_free(w->p);
	w->p = NULL;
}

static void worlds_free(void)
{
	int i;

	for (i = 0; i < NR_FLAVOURS; i++)
		world_free(&worlds[i]);
}

static void vendor_reload(void)
{
	int err;

	/* A process that was killed may not have gone yet. */
	while ((err = module_unload("kvm_amd")) == EAGAIN)
		usleep(1000);
	TEST_ASSERT(!err, "unloading kvm_amd: %s", strerror(err));
	err = module_load_of_host("kvm_amd", "");
	TEST_ASSERT(!err, "loading kvm_amd: %s", strerror(err));
	nr_reloads++;
}

static struct world *world_of(uint8_t header)
{
	enum flavour flavour = (header & INPUT_FLAVOUR) % NR_FLAVOURS;
	struct world *w = &worlds[flavour];

	if (nr_inputs - last_change >= INPUTS_OF_A_VM) {
		worlds_free();
		if (header & INPUT_RELOAD)
			vendor_reload();
		last_change = nr_inputs;
	}
	if (!w->p)
		world_make(w, flavour);
	return w;
}

/* A full ring may have ended it in its midst. */
static void stop_loop(struct world *w)
{
	probe_stop(w->p);
	while (probe_ring_is_full(w->p, BUSY_VCPU)) {
		reset_rings(w);
		probe_go_on(w->p, BUSY_VCPU);
	}
}

/* By KVM's own call, whatever there is; or the VM as a whole. */
static void delete_all(struct world *w)
{
	unsigned int i;

	if (w->has_strangers) {
		world_free(w);
		world_make(w, w->flavour);
		return;
	}
	for (i = 0; i < MAX_SLOTS; i++)
		slot_set(w->vm, input_slots[i], 0, 0, 0, NULL);
	memset(w->hint, 0, sizeof(w->hint));
}

/* The VM and the device do what they are for. */
static void assert_works(struct world *w)
{
	const uint64_t small = 64 * PAGE_SIZE, large = 100 * PAGE_SIZE;
	const uint32_t id = PROBE_SLOT;
	const struct kvm_memslot_cut cut = { .offset = small, .slot = id + 1 };
	uint64_t *last = (void *)(arena + large - PAGE_SIZE);
	uint64_t gpa = PROBE_GPA + large - PAGE_SIZE, value = nr_inputs;

	reset_rings(w);
	/* Ends what an error may have interrupted. */
	probe_access(w->p, 0, PROBE_READ, PROBE_GPA, 0);
	slot_must_set(w->vm, id, 0, PROBE_GPA, small, arena);
	TEST_ASSERT(probe_is_mmio(w->p, gpa), "memory beyond all slots");
	TEST_ASSERT_EQ(slot_grow(w->dev[0], id, large), 0);
	probe_write(w->p, gpa, value);
	TEST_ASSERT(*last == value, "a write went elsewhere");
	if (nr_inputs % 64) {
		TEST_ASSERT_EQ(slot_shrink(w->dev[0], id, 0, NULL), 0);
	} else {
		TEST_ASSERT_EQ(slot_split(w->dev[0], id, 1, &cut), 0);
		TEST_ASSERT_EQ(slot_set_readonly(w->dev[0], cut.slot, true), 0);
		TEST_ASSERT(probe_access(w->p, 0, PROBE_WRITE, gpa, ~value).nr_writes &&
			    *last == value, "a slot is not read-only");
		TEST_ASSERT_EQ(slot_set_readonly(w->dev[0], cut.slot, false), 0);
		TEST_ASSERT_EQ(slot_merge(w->dev[0], id, 1, &cut.slot), 0);
		TEST_ASSERT(probe_read(w->p, gpa) == value, "a page is another");
		TEST_ASSERT_EQ(slot_shrink(w->dev[0], id, small, NULL), 0);
		slot_must_set(w->vm, id, 0, PROBE_GPA, 0, NULL);
	}
	TEST_ASSERT(probe_is_mmio(w->p, PROBE_GPA), "a slot is left");
}

/* -------------------------------------------------------------- the fuzzer */

static void say_what_was_done(void)
{
	unsigned long made = 0, good = 0;
	int call;

	for (call = 0; call < NR_CALLS; call++) {
		printf("# %-24s %10lu, %10lu successful\n", names[call],
		       nr_made[call], nr_good[call]);
		made += nr_made[call];
		good += nr_good[call];
	}
	printf("# %lu inputs, %lu reloads of the vendor's module\n", nr_inputs,
	       nr_reloads);
	printf("# %lu calls, %lu successful\n", made, good);
	fflush(stdout);
}

/* If the kernel dies, what it dumps says of what. */
static void note_input(const uint8_t *data, size_t size)
{
	static int marker = -2;
	char line[2 * (1 + MAX_RECORDS * sizeof(struct record)) + 16];
	size_t i, at;

	if (marker == -2)
		marker = open(TRACEFS "trace_marker", O_WRONLY | O_CLOEXEC);
	if (marker < 0)
		return;
	at = sprintf(line, "input ");
	for (i = 0; i < size; i++)
		at += sprintf(line + at, "%02x", data[i]);
	if (write(marker, line, at) < 0)
		return;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	setbuf(stdout, NULL);
	other_init();
	TEST_ASSERT(memslot_ops_present(), "the module is not loaded");
	if (!kcov_open())
		printf("# this kernel has no KCOV: what counts is how calls end\n");
	arena = mmap(NULL, ARENA + HUGE_SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(arena != MAP_FAILED, "no guest memory: %s", strerror(errno));
	arena = (char *)align_up((uintptr_t)arena, HUGE_SIZE);
	argument_init();
	workers_init();
	atexit(say_what_was_done);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record r[MAX_RECORDS];
	size_t i, nr = size ? (size - 1) / sizeof(*r) : 0;
	uint8_t header = size ? data[0] : 0;
	struct caller main_thread;
	int id, nr_workers;

	nr = nr < MAX_RECORDS ? nr : MAX_RECORDS;
	memcpy(r, data + 1, nr * sizeof(*r));
	note_input(data, size ? 1 + nr * sizeof(*r) : 0);
	nr_inputs++;
	main_thread = (struct caller) { world_of(header), true };
	nr_workers = header & INPUT_THREADS ? NR_WORKERS : 0;
	for (id = 0; id < nr_workers; id++) {
		workers[id].caller = (struct caller) { main_thread.w, false };
		workers[id].nr = 0;
	}
	for (i = 0; i < nr && nr_workers; i++) {
		id = (r[i].how >> 6) - 1;
		if (id >= 0 && id < nr_workers)
			workers[id].records[workers[id].nr++] = &r[i];
	}

	lay_out(main_thread.w, header);
	argument_meddle(header & INPUT_MEDDLE);
	if (header & INPUT_LOOP) {
		const struct probe_range range = {
			.gpa = PROBE_GPA,
			.nr = WINDOW / PAGE_SIZE / 64,
			.stride = 64,
		};

		probe_loop_ranges(main_thread.w->p, BUSY_VCPU,
				  header & 1 ? PROBE_READ : PROBE_WRITE, &range, 1);
	}
	for (id = 0; id < nr_workers; id++)
		sem_post(&workers[id].begins);

	kcov_begin();
	for (i = 0; i < nr; i++) {
		id = (r[i].how >> 6) - 1;
		if (id < 0 || id >= nr_workers)
			carry_out(&main_thread, &r[i]);
	}
	kcov_end();

	for (id = 0; id < nr_workers; id++)
		while (sem_wait(&workers[id].ended))
			;
	argument_meddle(false);
	stop_loop(main_thread.w);
	delete_all(main_thread.w);
	for (id = 1; id < NR_DEVS; id++)
		close_dev(main_thread.w, id);
	if (!(nr_inputs % 8))
		assert_works(main_thread.w);
	return 0;
}
