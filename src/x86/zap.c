// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's own walks through what is mapped yield mmu_lock, if at all, to those who wait for it on
 * some kernels alone, or with some of their preemption models.  So a slot is zapped in steps,
 * none of which goes through much that is mapped.
 */
#include <linux/sched.h>
#include <linux/sizes.h>

#include "arch.h"
#include "arrays.h"
#include "compat/compat.h"
#include "wrapper/kvm.h"
#include "zap.h"

/* In pages, the length of a step; and as many mappings take no longer, wherever they are. */
#define STEP		((gfn_t)SZ_64M >> PAGE_SHIFT)
/* Where the step before found nothing. */
#define LONG_STEP	((gfn_t)SZ_512M >> PAGE_SHIFT)

/**
 * zap_range() - zap the mappings of a part of a slot
 * @kvm: the VM
 * @slot: the slot
 * @start: the part's first gfn
 * @end: the first gfn after it
 * @may_block: whether mmu_lock may be yielded on the way, after a flush of what was zapped there
 *
 * Context: slots_lock and, for write, mmu_lock held.
 * Return: whether a flush is due.
 */
bool zap_range(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t start, gfn_t end,
	       bool may_block)
{
	struct kvm_gfn_range range = compat_gfn_range(slot, start, end, may_block);

	return kvm_call(kvm_unmap_gfn_range)(kvm, &range);
}

/* An rmap array is the last of three to be made. */
static bool has_rmaps(const struct kvm_memory_slot *slot)
{
	return READ_ONCE(slot->arch.rmap[ARRAY_RMAP_1G]);
}

static bool zap_step(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn, gfn_t end)
{
	bool zapped = false;
	gfn_t past;

	/* Of mappings in the TDP MMU no rmaps know. */
	if (compat_has_tdp_roots(kvm) || !has_rmaps(slot))
		return zap_range(kvm, slot, gfn, end, end - gfn > STEP);

	/* KVM would go through the heads of all pages, and take its time. */
	for (; (gfn = arrays_next_mapped(slot, gfn, end, &past)) < end; gfn = past)
		zapped |= zap_range(kvm, slot, gfn, past, false);

	return zapped;
}

/* How many mappings the VM has, whatever their size. */
static gfn_t nr_mappings(const struct kvm *kvm)
{
	gfn_t nr = 0;
	int i;

	for (i = 0; i < KVM_NR_PAGE_SIZES; i++)
		nr += atomic64_read(&kvm->stat.pages[i]);

	return nr;
}

/*
 * Heads of rmaps are gone through in any case.  But the TDP MMU passes over what has no page
 * tables: a step through that may be long, as long as it does not end in much that is mapped.
 */
static gfn_t step_from(const struct kvm *kvm, const struct kvm_memory_slot *slot, bool in_nothing)
{
	if (has_rmaps(slot))
		return STEP;
	if (nr_mappings(kvm) <= STEP)
		return slot->npages;

	return in_nothing ? LONG_STEP : STEP;
}

static bool is_wanted(rwlock_t *lock)
{
	/* There nobody knows. */
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		return true;

	return rwlock_is_contended(lock) || need_resched();
}

/**
 * arch_layout_flush() - flush what a fault that held an old slot may have taken back
 * @c: the change
 *
 * Context: slots_lock held; no reader of the old set is left.  Takes mmu_lock for a look.
 */
void arch_layout_flush(struct layout_change *c)
{
	bool due;

	write_lock(&c->kvm->mmu_lock);
	due = compat_faults_take_back(c->kvm);
	write_unlock(&c->kvm->mmu_lock);

	if (due)
		kvm_call(kvm_flush_remote_tlbs)(c->kvm);
}

/**
 * arch_layout_zap() - take the mappings of a new slot from the vCPUs
 * @c: the change; @c->zap is the slot
 *
 * No mapping can be made from an old slot any more, so what is zapped stays so, or
 * comes back as the new slot allows.  Whatever was zapped is flushed before anybody else gets
 * mmu_lock.
 *
 * Context: slots_lock held; no reader of the old set is left.  Takes mmu_lock for
 *	write, and yields it.
 */
void arch_layout_zap(struct layout_change *c)
{
	struct kvm_memory_slot *slot = c->zap;
	gfn_t gfn, next, end = slot->base_gfn + slot->npages;
	bool flush = false, zapped = true;
	struct kvm *kvm = c->kvm;

	write_lock(&kvm->mmu_lock);

	for (gfn = slot->base_gfn; gfn < end; gfn = next) {
		next = min(gfn + step_from(kvm, slot, !zapped), end);
		/* What may yield begins when all has been flushed. */
		if (flush && next - gfn > STEP) {
			kvm_call(kvm_flush_remote_tlbs)(kvm);
			flush = false;
		}
		zapped = zap_step(kvm, slot, gfn, next);
		flush |= zapped;
		/* One flush is for many steps, unless somebody waits. */
		if (next < end && zapped && !is_wanted(&kvm->mmu_lock))
			continue;

		if (flush)
			kvm_call(kvm_flush_remote_tlbs)(kvm);
		flush = false;
		if (next < end) {
			write_unlock(&kvm->mmu_lock);
			cond_resched();
			write_lock(&kvm->mmu_lock);
		}
	}

	write_unlock(&kvm->mmu_lock);
}
