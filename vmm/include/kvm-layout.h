/* SPDX-License-Identifier: MIT */
/*
 * libkvm-layout: from one layout of a VM's memslots to another, so that memory
 * that is in both is never missing.
 *
 * A VMM that recomputes its memory map holds slots that go and regions that
 * come.  kvm_layout_plan() turns these into the shortest sequence of the
 * operations of the kernel module kvm_memslot_ops (grow, shrink, split, merge
 * and a read-only toggle) and of KVM's own calls, and says which steps a guest
 * may notice.  kvm_layout_apply() carries it out, or the VMM walks the steps
 * itself.  Where the module is not loaded the same plan is made of deletions
 * and creations.  A VMM that only resizes slots wants kvm_layout_resize().
 *
 * Units: all addresses, sizes and offsets are bytes and multiples of 4 KiB
 * (KVM_LAYOUT_PAGE_SIZE); ranges that end at 2^64 are not supported.  Slots are
 * described as KVM does it, by struct kvm_userspace_memory_region; a number is
 * as_id << 16 | id.
 *
 * Errors: functions that can fail return 0 or a negative errno, and set nothing
 * where they fail, unless they say otherwise.
 *
 * Ownership: what a kvm_layout_*_new() or kvm_layout_plan() has made is freed by
 * the function of the like name; pointers into it are valid until it is freed or
 * changed.  No function keeps a pointer that it was given, but for the hooks
 * while kvm_layout_apply() runs.
 *
 * Threads: there is no hidden state.  Functions may be called at the same time
 * with different objects, and those that take pointers to const with the same
 * ones.  Which threads may change the slots of a VM is said at
 * kvm_layout_apply().
 */
#ifndef KVM_LAYOUT_H
#define KVM_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <linux/kvm.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVM_LAYOUT_PAGE_SIZE	4096

/* KVM's limit of one slot, KVM_MEM_MAX_NR_PAGES. */
#define KVM_LAYOUT_MAX_SIZE	(((UINT64_C(1) << 31) - 1) * KVM_LAYOUT_PAGE_SIZE)

/*
 * What entries of a dirty ring name, in the slot's address space, for pages that
 * SHRINK has removed, with the offset from the start of what it removed.
 */
#define KVM_LAYOUT_REMOVED_ID	0x7fff

/**
 * enum kvm_layout_op - what a step does
 * @KVM_LAYOUT_CREATE: KVM_SET_USER_MEMORY_REGION of a number that is free
 * @KVM_LAYOUT_DELETE: the same with size 0
 * @KVM_LAYOUT_FLAGS: the same for a slot that is there:
 *	KVM_MEM_LOG_DIRTY_PAGES is switched on or off
 * @KVM_LAYOUT_GROW: KVM_MEMSLOT_GROW
 * @KVM_LAYOUT_SHRINK: KVM_MEMSLOT_SHRINK, to 0 where the slot goes
 * @KVM_LAYOUT_SPLIT: KVM_MEMSLOT_SPLIT
 * @KVM_LAYOUT_MERGE: KVM_MEMSLOT_MERGE
 * @KVM_LAYOUT_SET_READONLY: KVM_MEMSLOT_SET_READONLY
 */
enum kvm_layout_op {
	KVM_LAYOUT_CREATE,
	KVM_LAYOUT_DELETE,
	KVM_LAYOUT_FLAGS,
	KVM_LAYOUT_GROW,
	KVM_LAYOUT_SHRINK,
	KVM_LAYOUT_SPLIT,
	KVM_LAYOUT_MERGE,
	KVM_LAYOUT_SET_READONLY,
};

/* All that the module adds, for struct kvm_layout_host. */
#define KVM_LAYOUT_ALL_OPS						\
	(1U << KVM_LAYOUT_GROW | 1U << KVM_LAYOUT_SHRINK |		\
	 1U << KVM_LAYOUT_SPLIT | 1U << KVM_LAYOUT_MERGE |		\
	 1U << KVM_LAYOUT_SET_READONLY)

/**
 * struct kvm_layout_host - what a host offers a VM
 * @vm_fd: the VM; not owned
 * @dev_fd: its device of the module, or -1
 * @ops: 1 << KVM_LAYOUT_* of what the device offers; 0 without the module
 * @max_pieces: of one split or merge; 2 or more if there is one of these
 * @features: KVM_MEMSLOT_FEATURE_*
 * @nr_slots: in each address space (KVM_CAP_NR_MEMSLOTS)
 * @nr_spaces: address spaces (KVM_CAP_MULTI_ADDRESS_SPACE)
 *
 * Filled in by kvm_layout_host_open().  To plan, only @ops and @max_pieces are
 * read, so that tests may make one up.
 */
struct kvm_layout_host {
	int vm_fd;
	int dev_fd;
	uint32_t ops;
	uint32_t max_pieces;
	uint64_t features;
	uint32_t nr_slots;
	uint32_t nr_spaces;
	uint64_t reserved[4];
};

/**
 * kvm_layout_host_open - see what the running host offers
 * @vm_fd: of KVM_CREATE_VM; must outlive @host
 * @host: filled in
 *
 * Without the module, or with a newer one that this library does not know, this
 * succeeds and @host->ops is 0.  An operation that is missing is one that the
 * plan does without.
 *
 * Return: 0, or what KVM_CREATE_DEVICE failed with although the type is there
 */
int kvm_layout_host_open(int vm_fd, struct kvm_layout_host *host);

/** kvm_layout_host_close - closes @host->dev_fd if there is one */
void kvm_layout_host_close(struct kvm_layout_host *host);

/**
 * struct kvm_layout - the slots of one address space of a VM: the bookkeeping
 *
 * It is opaque.  What is in it is what the VMM has said and kvm_layout_apply()
 * has done; it does not ask KVM, which cannot be asked.
 */
struct kvm_layout;

/**
 * kvm_layout_new - an empty layout
 * @as_id: the address space
 * @first: first id that plans may use for slots that they make
 * @nr: how many there are from @first on; together at most KVM's nr_slots, which is
 *	below KVM_LAYOUT_REMOVED_ID
 *
 * The VMM may itself use numbers out of that range, or in it if it adds these
 * slots.
 *
 * Return: it, or NULL for want of memory or if the numbers make no sense
 */
struct kvm_layout *kvm_layout_new(uint32_t as_id, uint32_t first, uint32_t nr);

/** kvm_layout_free - frees @layout, which may be NULL */
void kvm_layout_free(struct kvm_layout *layout);

/** kvm_layout_copy - Return: a copy of @layout, or NULL for want of memory */
struct kvm_layout *kvm_layout_copy(const struct kvm_layout *layout);

/**
 * kvm_layout_add - note a slot that the VMM has created itself
 * @layout: where
 * @slot: it; copied.  Cheapest in the order of guest addresses
 *
 * Return: 0; -EINVAL if it is empty, not aligned, of another address space or
 * beyond what KVM accepts; -EEXIST if its number or a part of its guest range is
 * taken; -ENOMEM
 */
int kvm_layout_add(struct kvm_layout *layout,
		   const struct kvm_userspace_memory_region *slot);

/**
 * kvm_layout_remove - note that the VMM has deleted a slot itself
 * @layout: where
 * @slot: its number
 *
 * Return: 0 or -ENOENT
 */
int kvm_layout_remove(struct kvm_layout *layout, uint32_t slot);

/**
 * kvm_layout_slots - all slots
 * @layout: of which
 * @nr: set to how many
 *
 * Return: the slots in the order of guest addresses
 */
const struct kvm_userspace_memory_region *
kvm_layout_slots(const struct kvm_layout *layout, size_t *nr);

/** kvm_layout_find - Return: the slot with that number, or NULL */
const struct kvm_userspace_memory_region *
kvm_layout_find(const struct kvm_layout *layout, uint32_t slot);

/** kvm_layout_at - Return: the slot that has the guest address, or NULL */
const struct kvm_userspace_memory_region *
kvm_layout_at(const struct kvm_layout *layout, uint64_t gpa);

/* What a guest, or the VMM's log, may notice of a step. */
/**
 * KVM_LAYOUT_GAP - after this step something is missing that was there before
 * the plan and will be there after it.  Unless the guest is known not to access
 * it, vCPUs must be held out of KVM_RUN from before the first step with this flag
 * to after the next one without.
 */
#define KVM_LAYOUT_GAP		(1U << 0)
/**
 * KVM_LAYOUT_HARVEST - this step discards the dirty log of the slot (@before), so
 * that it must be fetched (KVM_GET_DIRTY_LOG) before if it is still wanted.
 */
#define KVM_LAYOUT_HARVEST	(1U << 1)
/**
 * KVM_LAYOUT_DIRTY_TAIL - a SHRINK of a slot that logs, which can give the last
 * dirty bits of what it removes.
 */
#define KVM_LAYOUT_DIRTY_TAIL	(1U << 2)

/**
 * struct kvm_layout_step - a step of a plan: one call
 * @op: which
 * @flags: KVM_LAYOUT_GAP, KVM_LAYOUT_HARVEST, KVM_LAYOUT_DIRTY_TAIL
 * @before: the slot before the call; its memory_size is 0 if there is none
 * @after: the same slot after it; its memory_size is 0 if there is none then
 * @others: SPLIT: the pieces that get a number, after it; MERGE: the slots that
 *	lose theirs, before it; in the order of guest addresses
 * @nr_others: of these
 */
struct kvm_layout_step {
	enum kvm_layout_op op;
	uint32_t flags;
	struct kvm_userspace_memory_region before;
	struct kvm_userspace_memory_region after;
	const struct kvm_userspace_memory_region *others;
	size_t nr_others;
};

/**
 * struct kvm_layout_move - where pages are before and after a plan
 * @gpa: guest address of the first
 * @size: bytes
 * @from: number of the slot before
 * @to: number of the slot after
 * @from_offset: of the first, from the start of the former slot
 * @to_offset: of the first, from the start of the latter
 * @from_flags: of the former slot
 * @to_flags: of the latter
 *
 * A VMM that keeps bitmaps of its own moves their bits by these.
 */
struct kvm_layout_move {
	uint64_t gpa;
	uint64_t size;
	uint32_t from;
	uint32_t to;
	uint64_t from_offset;
	uint64_t to_offset;
	uint32_t from_flags;
	uint32_t to_flags;
};

/**
 * struct kvm_layout_gap - what is missing for a while though it was there before
 * and will be there after
 * @gpa: its start
 * @size: bytes
 * @first: index of the step that removes it
 * @last: index of the step that brings it back
 * @replaced: it gets another host address, so that nothing else can be done;
 *	else it is for want of an operation on this host
 */
struct kvm_layout_gap {
	uint64_t gpa;
	uint64_t size;
	size_t first;
	size_t last;
	bool replaced;
};

/**
 * enum kvm_layout_mode - what is wanted
 * @KVM_LAYOUT_PARTITION: slots with just the bounds of the regions that come
 * @KVM_LAYOUT_MAP: that guest addresses lead where these regions say, in whatever
 *	slots: what is there already needs no step, and what stays is not merged
 *	unless that saves steps
 */
enum kvm_layout_mode {
	KVM_LAYOUT_PARTITION,
	KVM_LAYOUT_MAP,
};

/**
 * struct kvm_layout_plan - a sequence of steps, and what follows from it
 *
 * It is opaque, and does not change.  In C++ "struct" must be written, for a function
 * has the same name.
 */
struct kvm_layout_plan;

/**
 * kvm_layout_plan - the way from a layout to another
 * @host: what can be used
 * @layout: the present slots
 * @gone: numbers of those that are not to be there any more as they are
 * @nr_gone: how many
 * @come: what is to be there instead; the numbers in it are ignored.  Flags are
 *	KVM_MEM_LOG_DIRTY_PAGES and KVM_MEM_READONLY
 * @nr_come: how many
 * @mode: one of enum kvm_layout_mode
 * @plan: set to the plan
 *
 * Memory stays if its guest address has the same host address in a slot that
 * goes and in a region that comes.  After each step all that stays is there,
 * read-only as before or as after; logging as before or as after; what comes is
 * there not before, and what goes not after, its own step, and is logged until then.
 * What is replaced (another host address) is missing between two neighbouring steps.
 * A step concerns one of the present slots or one of the wanted ones, never more of
 * both: nothing is merged to be split again, and a slot is split but once.  Of such
 * sequences it is a shortest; where both flags change at once for merged slots, one
 * in some ten thousands takes one step more.  Where the host lacks operations, what cannot be kept
 * is deleted and created, and is among the gaps.
 *
 * A wanted slot gets the number of its first piece if that stays, or else a free
 * one.  Pieces that are merged later need free numbers for a while.
 *
 * The order of @gone and of @come does not matter.  Takes some microseconds and
 * O(n log n) time for n slots.
 *
 * Return: 0; -EINVAL if something is empty, not aligned, overlaps, has other
 * flags, is larger than a slot can be, or is not known; -EOPNOTSUPP if a slot
 * that goes has flags of which this library knows nothing (guest_memfd); -ENOSPC
 * if there are too few free numbers, transient ones included; -ENOMEM
 */
int kvm_layout_plan(const struct kvm_layout_host *host,
		    const struct kvm_layout *layout,
		    const uint32_t *gone, size_t nr_gone,
		    const struct kvm_userspace_memory_region *come,
		    size_t nr_come, enum kvm_layout_mode mode,
		    struct kvm_layout_plan **plan);

/** kvm_layout_plan_free - frees @plan, which may be NULL */
void kvm_layout_plan_free(struct kvm_layout_plan *plan);

/** kvm_layout_plan_steps - Return: the steps; sets @nr to how many there are */
const struct kvm_layout_step *
kvm_layout_plan_steps(const struct kvm_layout_plan *plan, size_t *nr);

/** kvm_layout_plan_gaps - Return: what a guest may miss; sets @nr */
const struct kvm_layout_gap *
kvm_layout_plan_gaps(const struct kvm_layout_plan *plan, size_t *nr);

/**
 * kvm_layout_plan_moves - Return: where what is in both layouts is before and
 * after, if a slot that goes had it; by guest address; sets @nr.  What is missing
 * in between (a gap) is not among these.
 */
const struct kvm_layout_move *
kvm_layout_plan_moves(const struct kvm_layout_plan *plan, size_t *nr);

/**
 * kvm_layout_plan_blinks - Return: whether a guest may notice it, so that vCPUs
 * have to be held (KVM_LAYOUT_GAP says from when to when)
 */
bool kvm_layout_plan_blinks(const struct kvm_layout_plan *plan);

/**
 * kvm_layout_plan_print - print a plan, a line for each step and each gap
 *
 * Return: 0 or -EIO
 */
int kvm_layout_plan_print(const struct kvm_layout_plan *plan, FILE *to);

/**
 * kvm_layout_step_done - note in @layout what a step has done
 *
 * For VMMs that walk the steps themselves: after each one that has succeeded.
 *
 * Return: 0, -ENOMEM, or -EINVAL if it was not a step from this layout
 */
int kvm_layout_step_done(struct kvm_layout *layout,
			 const struct kvm_layout_step *step);

/**
 * kvm_layout_step_call - make the call of one step
 * @host: the VM
 * @step: which
 * @dirty: for KVM_LAYOUT_DIRTY_TAIL: NULL, or room for one bit for each page that
 *	is removed, in whole 64-bit words; bit 0 is the first of them
 *
 * Return: 0, or what the ioctl failed with; nothing has changed then
 */
int kvm_layout_step_call(const struct kvm_layout_host *host,
			 const struct kvm_layout_step *step, uint64_t *dirty);

/**
 * struct kvm_layout_hooks - what kvm_layout_apply() calls
 * @opaque: passed to all
 * @hold: makes all vCPUs leave KVM_RUN and keeps them out, before a gap; an error
 *	ends the plan there
 * @release: ends that
 * @before: before each step, e.g. to fetch a log (KVM_LAYOUT_HARVEST) or to reap a
 *	ring; an error ends the plan there
 * @after: after each step that succeeded, when the layout is up to date; @dirty is
 *	the last dirty bits of what a SHRINK has removed, or NULL
 *
 * Each may be NULL.  All are called by the thread that calls
 * kvm_layout_apply().
 */
struct kvm_layout_hooks {
	void *opaque;
	int (*hold)(void *opaque);
	void (*release)(void *opaque);
	int (*before)(void *opaque, const struct kvm_layout_step *step);
	void (*after)(void *opaque, const struct kvm_layout_step *step,
		      const uint64_t *dirty);
};

/**
 * kvm_layout_apply - carry a plan out
 * @host: the VM
 * @layout: the one that the plan was made for, unchanged since
 * @plan: what to do
 * @hooks: or NULL
 * @done: or NULL; set to how many steps have been made, in any case
 *
 * If it fails half-way, @layout is what KVM has, and a plan from there leads on
 * or back.  vCPUs that are held stay so, without @hooks->release, only if it fails
 * while something is missing (the step before @done has KVM_LAYOUT_GAP).
 *
 * Threads: no other thread may change the slots of this address space meanwhile.
 * An operation waits for vCPUs that are inside KVM: it must not be called by a
 * thread that they wait for, such as one that resolves userfaults.  While it runs
 * no thread may harvest a dirty ring of the VM or fetch the log of a slot
 * concerned; with rings, harvest in @before and @after of each SHRINK, and see
 * kvm_layout_ring_gpa().
 *
 * Return: 0, or what a step or hook failed with
 */
int kvm_layout_apply(const struct kvm_layout_host *host,
		     struct kvm_layout *layout,
		     const struct kvm_layout_plan *plan,
		     const struct kvm_layout_hooks *hooks, size_t *done);

/**
 * kvm_layout_ring_gpa - the guest address of a dirty ring's entry
 * @layout: the present slots
 * @removed: the last SHRINK since when the ring was empty, or NULL
 * @slot: of the entry
 * @offset: of the entry: pages from the start of the slot
 * @gpa: set to the address
 *
 * SHRINK renames entries of what it removes to number KVM_LAYOUT_REMOVED_ID.  A
 * VMM that uses that as an index reads beyond its slots; this does not.
 *
 * Return: 0, or -ENOENT if there is no such page, so that the entry must be
 * ignored
 */
int kvm_layout_ring_gpa(const struct kvm_layout *layout,
			const struct kvm_layout_step *removed,
			uint32_t slot, uint64_t offset, uint64_t *gpa);

/**
 * kvm_layout_resize - make a slot longer or shorter at its end
 * @host: the VM
 * @slot: the slot; its memory_size is updated on success
 * @size: bytes; 0 deletes it
 * @hooks: for hosts without the module, where the slot is deleted and created
 *	while vCPUs are held; NULL: it is -EOPNOTSUPP there
 *
 * All that a VMM needs that never splits.  The host memory of what is added must
 * be there; that of what has been removed may be unmapped when this returns.
 *
 * Return: 0 or the error of the call.  The slot is as it was then; or, if it had been
 * deleted and could not be created again, @slot->memory_size is 0
 */
int kvm_layout_resize(const struct kvm_layout_host *host,
		      struct kvm_userspace_memory_region *slot, uint64_t size,
		      const struct kvm_layout_hooks *hooks);

#ifdef __cplusplus
}
#endif

#endif /* KVM_LAYOUT_H */
