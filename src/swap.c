// SPDX-License-Identifier: GPL-2.0
#include <linux/rcuwait.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

#include "compat/compat.h"
#include "slots.h"
#include "swap.h"
#include "wrapper/kvm.h"

static struct workqueue_struct *waiters;

/**
 * swap_init() - get ready for swaps
 *
 * Context: Module initialisation.
 * Return: 0 or -ENOMEM.
 */
int swap_init(void)
{
	/* Where the one who waits goes to sleep, so that no other CPU has to be woken. */
	waiters = alloc_workqueue(KBUILD_MODNAME, WQ_PERCPU, 0);

	return waiters ? 0 : -ENOMEM;
}

/**
 * swap_exit() - undo swap_init()
 *
 * Context: Module initialisation that failed, or module exit: no change is under way.
 */
void swap_exit(void)
{
	if (waiters)
		destroy_workqueue(waiters);
}

static bool are_notifiers_active(struct kvm *kvm)
{
	/* KVM counts them under mn_invalidate_lock; who does not have it asks again with it. */
	return data_race(READ_ONCE(kvm->mn_active_invalidate_count));
}

/**
 * slots_lock_out_notifiers() - wait until no MMU notifier is between its start and its end
 * @kvm: the VM
 *
 * New ones are kept from starting until mn_invalidate_lock is released.
 *
 * Context: slots_lock held, which makes this the only waiter, as the rcuwait demands.
 *	Sleeps; returns with mn_invalidate_lock held.
 */
void slots_lock_out_notifiers(struct kvm *kvm)
	__acquires(&kvm->mn_invalidate_lock)
{
	lockdep_assert_held(&kvm->slots_lock);

	for (;;) {
		rcuwait_wait_event(&kvm->mn_memslots_update_rcuwait, !are_notifiers_active(kvm),
				   TASK_UNINTERRUPTIBLE);

		spin_lock(&kvm->mn_invalidate_lock);
		if (!kvm->mn_active_invalidate_count)
			return;
		spin_unlock(&kvm->mn_invalidate_lock);
	}
}

/*
 * A request that KVM does not know, and so neither serves nor clears: a vCPU that has it comes
 * out of the guest and stays out.
 */
#define REQ_STAY_OUT	KVM_ARCH_REQ_FLAGS(63 - KVM_REQUEST_ARCH_BASE, \
					   KVM_REQUEST_WAIT | KVM_REQUEST_NO_WAKEUP)

/* How often another walk may be under way than before, until guests have to stay out. */
#define PATIENCE	100

/* In jiffies, between two of them. */
#define LONGEST_NAP	10

static void let_guests_in(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long id;

	kvm_for_each_vcpu(id, vcpu, kvm)
		kvm_clear_request(REQ_STAY_OUT, vcpu);
}

/**
 * mmu_lock_when_quiet() - take mmu_lock at a moment when nobody is in the middle of a walk
 * @kvm: the VM
 * @can_fail: whether a fatal signal ends the wait
 *
 * Who yields mmu_lock half-way through slots or rmaps and is not under slots_lock keeps
 * mmu_invalidate_in_progress raised: MMU notifiers, which are locked out where the first try
 * fails, and kvm_zap_gfn_range().  A guest can bring about the latter, when it changes MTRRs
 * or what inhibits APICv, so the wait sleeps; and if the vCPUs of a guest relieve each other
 * at that without end, they are kept out of it until those under way are done.
 *
 * Context: slots_lock held.  Sleeps; returns with mmu_lock held for write.
 * Return: 0; or -EINTR, with the lock but at another moment.
 */
int mmu_lock_when_quiet(struct kvm *kvm, bool can_fail)
	__acquires(&kvm->mmu_lock)
{
	unsigned int changes = 0, nap;
	unsigned long seq;
	int r = 0;

	write_lock(&kvm->mmu_lock);

	while (kvm->mmu_invalidate_in_progress) {
		if (can_fail && fatal_signal_pending(current)) {
			r = -EINTR;
			break;
		}
		seq = kvm->mmu_invalidate_seq;
		write_unlock(&kvm->mmu_lock);

		if (changes >= PATIENCE)
			kvm_call(kvm_make_all_cpus_request)(kvm, REQ_STAY_OUT);

		/* To ask for the lock is what makes a walker yield it: not before it is done. */
		for (nap = 0; nap < LONGEST_NAP; nap++) {
			/* KVM counts under mmu_lock; this says only how long to sleep. */
			if (!data_race(READ_ONCE(kvm->mmu_invalidate_in_progress)))
				break;
			schedule_timeout_uninterruptible(1);
		}

		slots_lock_out_notifiers(kvm);
		write_lock(&kvm->mmu_lock);
		spin_unlock(&kvm->mn_invalidate_lock);
		/* One that goes through much is let go through it. */
		changes += seq != kvm->mmu_invalidate_seq;
	}

	if (changes >= PATIENCE)
		let_guests_in(kvm);

	return r;
}

/**
 * slots_swap() - make the inactive set the active one
 * @kvm: the VM
 * @as_id: the address space
 *
 * From here on new readers meet the new layout.  Those that are inside a read
 * section may go on with the old one until they are gone.
 *
 * A notifier's start and end must meet the same slots, or
 * mmu_invalidate_in_progress would not return to 0: hence the wait for those
 * under way.
 *
 * Context: slots_lock and slots_arch_lock held.
 * Return: the generation while the update is in progress.
 */
u64 slots_swap(struct kvm *kvm, u16 as_id)
{
	struct kvm_memslots *set = slots_inactive(kvm, as_id);

	lockdep_assert_held(&kvm->slots_arch_lock);

	set->generation = __kvm_memslots(kvm, as_id)->generation |
			  KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS;

	slots_lock_out_notifiers(kvm);
	rcu_assign_pointer(kvm->memslots[as_id], set);
	spin_unlock(&kvm->mn_invalidate_lock);

	return set->generation;
}

/**
 * slots_end_update() - end the update that slots_swap() began
 * @kvm: the VM
 * @as_id: the address space
 *
 * Translations cached since then are void once the generation moves on.
 *
 * Context: slots_lock held; nobody uses the set that was swapped out.
 */
void slots_end_update(struct kvm *kvm, u16 as_id)
{
	struct kvm_memslots *set = __kvm_memslots(kvm, as_id);
	u64 generation;

	/* Generations are unique across address spaces: each has its residue. */
	generation = (set->generation & ~KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS) +
		     kvm_arch_nr_memslot_as_ids(kvm);
	kvm_call(kvm_arch_memslots_updated)(kvm, generation);
	/*
	 * Readers of KVM's look at it without a lock, as when KVM ends an update: they find one
	 * generation or the other, and with the former they cache nothing.
	 */
	data_race(set->generation = generation);
}

static void wait_for_readers(struct work_struct *work)
{
	struct readers_wait *wait = container_of(work, struct readers_wait, work);

	synchronize_srcu_expedited(&wait->kvm->srcu);
	/* The wait may be over, and its memory gone, at once. */
	complete_all(&wait->gone);
}

/**
 * readers_wait_begin() - begin to wait until nobody uses the set that was swapped out
 * @wait: the wait, on the caller's stack
 * @kvm: the VM
 *
 * A wait that can be given up for a while, unlike synchronize_srcu().
 */
void readers_wait_begin(struct readers_wait *wait, struct kvm *kvm)
{
	wait->kvm = kvm;
	init_completion(&wait->gone);
	INIT_WORK_ONSTACK(&wait->work, wait_for_readers);
	queue_work(waiters, &wait->work);
}

/**
 * readers_wait_for() - wait for a limited time
 * @wait: the wait
 * @timeout: in jiffies
 *
 * Context: Sleeps.
 * Return: whether they are gone.
 */
bool readers_wait_for(struct readers_wait *wait, unsigned long timeout)
{
	return wait_for_completion_timeout(&wait->gone, timeout);
}

/**
 * readers_wait_end() - wait without a limit
 * @wait: the wait
 *
 * Context: Sleeps; nothing is held that a reader may wait for.
 */
void readers_wait_end(struct readers_wait *wait)
{
	/* Other VMs' readers may keep all threads that there are. */
	if (!completion_done(&wait->gone) && cancel_work_sync(&wait->work))
		synchronize_srcu_expedited(&wait->kvm->srcu);
	destroy_work_on_stack(&wait->work);
}
