// SPDX-License-Identifier: GPL-2.0
/*
 * A slot that logs writes has a bitmap, or its pages are named in the vCPUs' dirty
 * rings by slot number and offset; after an operation either must speak of the new
 * layout.
 *
 * Until the readers of the old set are gone, some of them mark pages in old slots and
 * others in new ones.  So new slots start with bitmaps of their own, and what is in
 * the old ones is added when nobody sets bits there any more; what is in the rings is
 * renamed then.  Nobody reads the log meanwhile: that takes slots_lock.
 */
#include <linux/bitmap.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>

#include "compat/compat.h"
#include "dirty.h"
#include "wrapper/kvm.h"

/* User space can name no such slot; KVM drops an entry that does. */
#define NO_SLOT		KVM_MEM_SLOTS_NUM

static bool keep_bitmaps(const struct layout_change *c)
{
	unsigned int i;

	for (i = 0; i < c->nr_old; i++) {
		if (c->old[i]->dirty_bitmap)
			return true;
	}

	return false;
}

/**
 * dirty_prepare() - give the new slots bitmaps, if the old ones have any
 * @c: the change
 *
 * A slot may log without one, if the VM has dirty rings.
 *
 * Context: slots_lock held; sleeps.
 * Return: 0 or -ENOMEM; change_destroy() frees what was allocated.
 */
int dirty_prepare(struct layout_change *c)
{
	unsigned int i;

	if (!keep_bitmaps(c))
		return 0;

	for (i = 0; i < c->nr_new; i++) {
		struct kvm_memory_slot *new = c->new[i];

		/* The second half is KVM's, for a copy of the first. */
		new->dirty_bitmap = __vcalloc(2, kvm_dirty_bitmap_bytes(new), GFP_KERNEL_ACCOUNT);
		if (!new->dirty_bitmap)
			return -ENOMEM;
	}

	/* Pages that come start as those of a slot that KVM creates. */
	if (c->coming && kvm_dirty_log_manual_protect_and_init_set(c->kvm))
		bitmap_set(c->new[0]->dirty_bitmap, c->coming->base_gfn - c->new[0]->base_gfn,
			   c->coming->npages);

	return 0;
}

static unsigned long bits_at(const unsigned long *map, unsigned long first, unsigned int nr)
{
	unsigned int shift = first % BITS_PER_LONG;
	unsigned long bits = map[BIT_WORD(first)] >> shift;

	if (shift + nr > BITS_PER_LONG)
		bits |= map[BIT_WORD(first) + 1] << (BITS_PER_LONG - shift);

	return bits & BITMAP_LAST_WORD_MASK(nr);
}

/**
 * dirty_fold() - add the bits of one bitmap to another
 * @to: the bitmap that they are added to; others may set bits in it meanwhile
 * @to_first: where in it
 * @from: the bitmap that they come from; it is final
 * @from_first: where in it
 * @nr: how many bits
 *
 * Context: May sleep.
 */
void dirty_fold(unsigned long *to, unsigned long to_first,
		const unsigned long *from, unsigned long from_first, unsigned long nr)
{
	while (nr) {
		unsigned int shift = to_first % BITS_PER_LONG;
		unsigned int n = min_t(unsigned long, nr, BITS_PER_LONG - shift);
		unsigned long bits = bits_at(from, from_first, n) << shift;

		if (bits)
			atomic_long_or(bits, (atomic_long_t *)&to[BIT_WORD(to_first)]);

		to_first += n;
		from_first += n;
		nr -= n;
		cond_resched();
	}
}

static void carry_bits(struct kvm_memory_slot *new, const struct kvm_memory_slot *old)
{
	gfn_t first = max(new->base_gfn, old->base_gfn);
	gfn_t end = min(new->base_gfn + new->npages, old->base_gfn + old->npages);

	if (old->dirty_bitmap && first < end)
		dirty_fold(new->dirty_bitmap, first - new->base_gfn,
			   old->dirty_bitmap, first - old->base_gfn, end - first);
}

static struct kvm_memory_slot *find_id(struct kvm_memory_slot *const *slots, unsigned int nr,
				       u16 id)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (slots[i]->id == id)
			return slots[i];
	}

	return NULL;
}

static struct kvm_memory_slot *find_gfn(struct kvm_memory_slot *const *slots, unsigned int nr,
					gfn_t gfn)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (gfn - slots[i]->base_gfn < slots[i]->npages)
			return slots[i];
	}

	return NULL;
}

/**
 * dirty_rename() - give an entry of a dirty ring the name that its page has in the new layout
 * @c: the change
 * @entry: the entry; user space can write to it at any time
 *
 * Some entries may have been made through new slots.  They cannot be mistaken: an offset
 * that both an old and a new slot of the same number have is the same page in both.
 *
 * KVM drops all of a run of entries if one of them is beyond the end of its slot, and with
 * that the write protection that the others ask for.  So an entry for no page of the slots
 * concerned, which a VMM must have left from an earlier slot of that number, becomes one
 * for no slot.
 *
 * Return: whether the entry changed.
 */
bool dirty_rename(const struct layout_change *c, struct kvm_dirty_gfn *entry)
{
	u64 offset = READ_ONCE(entry->offset), new_offset = offset;
	u32 name = READ_ONCE(entry->slot);
	const struct kvm_memory_slot *old, *new;
	u16 id = name, new_id = NO_SLOT;

	if (name >> 16 != c->as_id || id == NO_SLOT)
		return false;

	old = find_id(c->old, c->nr_old, id);
	new = find_id(c->new, c->nr_new, id);
	if (!old && !new)
		return false;

	if (old && offset < old->npages) {
		gfn_t gfn = old->base_gfn + offset;

		new = find_gfn(c->new, c->nr_new, gfn);
		new_id = new->id;
		new_offset = gfn - new->base_gfn;
	} else if (new && offset < new->npages) {
		return false;
	}

	if (new_id == id && new_offset == offset)
		return false;

	WRITE_ONCE(entry->slot, c->as_id << 16 | new_id);
	WRITE_ONCE(entry->offset, new_offset);
	return true;
}

static void rename_entries(const struct layout_change *c, struct kvm_dirty_ring *ring)
{
	u32 end = READ_ONCE(ring->dirty_index);
	u32 i;

	/* Pairs with smp_wmb() in kvm_dirty_ring_push(); the vCPU may be adding more. */
	smp_rmb();

	for (i = ring->reset_index; i != end; i++) {
		dirty_rename(c, &ring->dirty_gfns[i & (ring->size - 1)]);
		cond_resched();
	}
}

/**
 * dirty_carry() - bring what the log says of the old layout into the new one
 * @c: the change
 *
 * Context: slots_lock held, which keeps the log from being read; no reader of the old
 *	set is left.  Sleeps.
 */
void dirty_carry(struct layout_change *c)
{
	struct kvm_vcpu *vcpu;
	unsigned long id;
	unsigned int i;

	lockdep_assert_held(&c->kvm->slots_lock);

	for (i = 0; i < c->nr_old * c->nr_new; i++)
		carry_bits(c->new[i % c->nr_new], c->old[i / c->nr_new]);

	if (!c->kvm->dirty_ring_size)
		return;

	kvm_for_each_vcpu(id, vcpu, c->kvm)
		rename_entries(c, &vcpu->dirty_ring);
}

/**
 * dirty_await_leaving() - wait until writes to what leaves that CPUs have noted are in the rings
 * @c: the change; what leaves is zapped
 *
 * With PML, a vCPU that has left the guest learns what it wrote there a little later, when it
 * has begun a new read section; by then it must not have vanished.  It has done so when
 * it is seen to serve a request, to be blocked, or to be out of KVM_RUN.
 *
 * Bitmaps need no such wait: dirty_report_leaving() can name pages without knowing.
 *
 * Context: slots_lock held, and nothing that a vCPU may wait for.  Sleeps.
 */
void dirty_await_leaving(const struct layout_change *c)
{
	struct kvm_vcpu *vcpu;
	unsigned long id;

	if (!c->kvm->dirty_ring_size || !kvm_slot_dirty_track_enabled(c->leaving) ||
	    !compat_uses_pml(c->kvm))
		return;

	/* It makes a vCPU look whether PML is on, and changes nothing. */
	kvm_call(kvm_make_all_cpus_request)(c->kvm, KVM_REQ_UPDATE_CPU_DIRTY_LOGGING);

	kvm_for_each_vcpu(id, vcpu, c->kvm) {
		while (kvm_test_request(KVM_REQ_UPDATE_CPU_DIRTY_LOGGING, vcpu) &&
		       mutex_is_locked(&vcpu->mutex) &&
		       !READ_ONCE(vcpu->stat.generic.blocking))
			schedule_timeout_uninterruptible(1);
	}
}

/**
 * dirty_report_leaving() - give away what is known of writes to what leaves
 * @c: the change; @c->leaving_bits is where the bits go
 *
 * With PML all pages are named, for vCPUs may still know of writes that KVM does not, see
 * dirty_await_leaving().
 *
 * Context: slots_lock held; no reader is left that may hold what left.
 */
void dirty_report_leaving(struct layout_change *c)
{
	if (!c->leaving_bits)
		return;

	if (compat_uses_pml(c->kvm))
		bitmap_set(c->leaving->dirty_bitmap, 0, c->leaving->npages);
	memcpy(c->leaving_bits, c->leaving->dirty_bitmap, kvm_dirty_bitmap_bytes(c->leaving));
}

/**
 * dirty_account() - tell KVM how many slots log writes now: PML is off when none does
 * @c: the change; what is to be told of the end of what leaves is still to come
 *
 * Context: slots_lock held.
 */
void dirty_account(const struct layout_change *c)
{
	if (c->old[0]->flags & KVM_MEM_LOG_DIRTY_PAGES)
		compat_count_logging(c->kvm, (int)change_nr_kept(c) - (int)change_nr_there(c),
				     !!c->leaving, compat_uses_pml(c->kvm));
}
